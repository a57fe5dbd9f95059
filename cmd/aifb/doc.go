package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func docCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "doc",
		Usage:     "show what the builtins of recipes do, or a recipe",
		ArgsUsage: "[NAME | RECIPE]",
		Description: `NAME is a builtin (service), a module (ready), a type (Table) or a method (Table.mean); RECIPE a file, or one of those that
come with aifb, such as @aifb//redis.star; @aifb// lists those. Without an argument, all builtins and types are listed.`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "format", Value: "text", Usage: "text, markdown or json"}},
		Action: atMost(1, func(c *cli.Context) error {
			name, format := c.Args().First(), c.String("format")
			if format != "text" && format != "markdown" && format != "json" {
				return runtime.Faultf(runtime.FaultUsage, "text, markdown or json", "there is no format %q", format)
			}
			if name == "@aifb//" {
				return libraryDoc(std.out, format)
			}
			if isRecipe(name) {
				return recipeDoc(std.out, name, format)
			}
			return languageDoc(std.out, name, format)
		}),
	}
}

// isRecipe reports whether a name can only be that of a recipe.
func isRecipe(name string) bool {
	return strings.ContainsAny(name, "@/") || slices.Contains([]string{".star", ".yaml", ".yml"}, filepath.Ext(name))
}

// reference is the form of doc --format json.
type reference struct {
	Version int `json:"version"`
	*starlib.Reference
	Lints []lint `json:"lints,omitempty"`
}

type lint struct {
	Name     string `json:"name"`
	Severity string `json:"severity"`
	Doc      string `json:"doc"`
}

func lints() (list []lint) {
	for _, l := range starlib.Lints() {
		list = append(list, lint{l.Name, severity(l.Warning), l.Doc})
	}
	return list
}

func severity(warning bool) string {
	if warning {
		return "warning"
	}
	return "error"
}

func languageDoc(w io.Writer, name, format string) error {
	ref, all := starlib.NewReference(), name == ""
	if !all {
		var err error
		if ref, err = ref.Find(name); err != nil {
			return err
		}
	}
	switch {
	case format == "json" && all:
		return writeJSON(w, reference{1, ref, lints()})
	case format == "json":
		return writeJSON(w, reference{1, ref, nil})
	case format == "markdown" && all:
		return writeReference(w, ref)
	case format == "markdown":
		return ref.WriteMarkdown(w)
	case !all:
		return ref.WriteText(w)
	}
	if err := ref.WriteIndex(w); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\naifb doc NAME says more of each. aifb doc @aifb// lists the recipes that come with aifb.")
	return err
}

// writeReference writes the whole reference, which is recipes/REFERENCE.md.
func writeReference(w io.Writer, ref *starlib.Reference) error {
	fmt.Fprint(w, `# What recipes can call

This is what `+"`aifb doc --format markdown`"+` prints. Beside it a recipe has what
[Starlark](https://github.com/google/starlark-go/blob/master/doc/spec.md) has, with sets, `+"`while`"+` and recursion.

A duration is a text such as "90s", "1h30m" or "01:30:00", or a number of seconds; memory a text such as "4G", or a number
of MiB; a port a number, where 0 is one that is free. A list of str may be given as a single one. What has a default may be
given None, which is as if it were not given.

`)
	if err := ref.WriteMarkdown(w); err != nil {
		return err
	}
	fmt.Fprint(w, `
## What aifb check finds

Beside syntax, names and what is loaded. `+"`# check: ignore NAME`"+` at the end of a line silences it there.

| name | severity | |
|---|---|---|
`)
	for _, l := range lints() {
		if _, err := fmt.Fprintf(w, "| %s | %s | %s |\n", l.Name, l.Severity, l.Doc); err != nil {
			return err
		}
	}
	return nil
}

// recipeDocument is the form of doc RECIPE --format json.
type recipeDocument struct {
	Version   int                `json:"version"`
	Recipe    string             `json:"recipe"`
	Doc       string             `json:"doc"`
	Params    []starlib.Param    `json:"params,omitempty"`
	Functions []*starlib.Builtin `json:"functions,omitempty"`
}

// libraryDocument is the form of doc @aifb// --format json.
type libraryDocument struct {
	Version int                   `json:"version"`
	Recipes []starlib.LibraryFile `json:"recipes"`
}

// libraryDoc lists the recipes that come with aifb.
func libraryDoc(w io.Writer, format string) error {
	switch format {
	case "json":
		return writeJSON(w, libraryDocument{1, starlib.LibraryFiles(recipes.FS)})
	case "markdown":
		for _, f := range starlib.LibraryFiles(recipes.FS) {
			if _, err := fmt.Fprintf(w, "- `%s`: %s\n", f.Name, f.Doc); err != nil {
				return err
			}
		}
		return nil
	}
	_, err := fmt.Fprint(w, starlib.LibraryIndex(recipes.FS), "\naifb doc NAME says more of each.\n")
	return err
}

func recipeDoc(w io.Writer, name, format string) error {
	r, err := starlib.Read(name, recipes.FS)
	if err != nil {
		return err
	}
	functions := &starlib.Reference{Builtins: r.Functions()}
	switch format {
	case "json":
		return writeJSON(w, recipeDocument{1, name, r.Doc(), r.Params(), functions.Builtins})
	case "markdown":
		return r.WriteMarkdown(w)
	}
	if err := recipeHelp(w, name, r); err != nil || len(functions.Builtins) == 0 {
		return err
	}
	fmt.Fprint(w, "\nFunctions that other recipes can load:\n\n")
	return functions.WriteText(w)
}
