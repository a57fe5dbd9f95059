package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func stubsCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "stubs",
		Usage:     "write files from which editors know the builtins",
		ArgsUsage: "DIR",
		Description: `DIR/__builtins__.pyi is for Pyright, and for Pylance in VS Code: DIR is typings, beside the recipes, and .star files are
associated with Python. DIR/starlark is for starlark-lsp: --builtin-paths DIR/starlark.`,
		Action: atMost(1, func(c *cli.Context) error {
			dir := c.Args().First()
			if dir == "" {
				return runtime.Faultf(runtime.FaultUsage, helpHint(c), "there is no directory to write to")
			}
			return writeStubs(std.out, dir)
		}),
	}
}

// writeStubs writes the stubs below dir, and the names of their files to w.
func writeStubs(w io.Writer, dir string) error {
	for _, stub := range starlib.Stubs() {
		name := filepath.Join(dir, filepath.FromSlash(stub.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return runtime.Faultf(runtime.FaultUsage, "", "%w", err)
		}
		err := writeFile(name, func(w io.Writer) error {
			_, err := io.WriteString(w, stub.Text)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintln(w, name)
	}
	return nil
}
