package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func paramsFlag() cli.Flag {
	return &cli.StringFlag{Name: "params", Usage: "a `FILE` in YAML or JSON with values of the recipe's parameters", TakesFile: true}
}

// readRecipe reads the recipe of that name, and what the command line says of its parameters. The recipe is nil with an
// error, and if only its help was asked for, which is then shown.
func readRecipe(c *cli.Context, std streams, name string) (recipe *starlib.Recipe, start runtime.RunStart, err error) {
	if name == "-" {
		name = stdin
	}
	if recipe, err = starlib.Read(name, recipes.FS); err != nil {
		return nil, start, err
	}
	if c.Bool(recipeHelpFlag) {
		return nil, start, recipeHelp(std.out, name, recipe)
	}
	start = runtime.RunStart{Recipe: name, SHA256: recipe.SHA256()}
	if err := setParams(c, recipe, &start); err != nil {
		return nil, start, err
	}
	return recipe, start, nil
}

// setParams resolves the parameters of a recipe, which the arguments behind the first, the environment and --params give,
// and says in start what they are.
func setParams(c *cli.Context, recipe *starlib.Recipe, start *runtime.RunStart) error {
	arguments, err := recipe.Resolve(starlib.Given{File: c.String("params"), Env: os.Environ(), Args: c.Args().Tail()})
	if err != nil {
		return err
	}
	start.Params, start.Sources = make(map[string]string), make(map[string]string)
	for _, a := range arguments {
		start.Params[a.Name] = a.Value
		if a.Source != "" {
			start.Args = append(start.Args, a.Name+"="+a.Value)
			start.Sources[a.Name] = a.Source
		}
	}
	return nil
}

// recipeHelp shows what a recipe says of itself.
func recipeHelp(w io.Writer, name string, r *starlib.Recipe) error {
	var b strings.Builder
	if doc := strings.TrimSpace(r.Doc()); doc != "" {
		fmt.Fprintf(&b, "%s\n\n", doc)
	}
	fmt.Fprintf(&b, "Usage: aifb exec %s [name=value ...]\n", name)
	if params := r.Params(); len(params) > 0 {
		b.WriteString("\nParameters:\n")
		var rows [][]string
		for _, p := range params {
			def := p.Default
			if p.Required {
				def = "(required)"
			}
			rows = append(rows, []string{"  " + p.Name, p.Type, def, p.Doc})
		}
		runtime.WriteTable(&b, []string{"  name", "type", "default", ""}, rows)
		b.WriteString("\nA value is taken from name=value, else from AIFB_PARAM_NAME, else from the file of --params.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
