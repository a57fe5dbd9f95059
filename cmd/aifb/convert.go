package main

import (
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func convertCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "print the Starlark that a recipe in YAML means",
		ArgsUsage: "RECIPE.yaml",
		Description: `What is printed is a recipe that starts the same jobs, with the parameters of params. What the YAML asks for in vain is
said in comments at its head.`,
		Action: atMost(1, func(c *cli.Context) error {
			name := c.Args().First()
			if name == "" {
				return runtime.Faultf(runtime.FaultUsage, helpHint(c), "there is no recipe to convert")
			}
			if strings.HasSuffix(name, ".star") {
				return runtime.Faultf(runtime.FaultUsage, "aifb exec "+name+" runs it", "%s is Starlark already", name)
			}
			recipe, err := starlib.Read(name, recipes.FS)
			if err != nil {
				return err
			}
			_, err = io.WriteString(std.out, recipe.Starlark())
			return err
		}),
	}
}
