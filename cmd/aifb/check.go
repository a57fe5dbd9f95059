package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func checkCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:        "check",
		Usage:       "find mistakes in recipes without running them",
		ArgsUsage:   "FILE...",
		Description: checkDescription(),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text, json, or github for annotations in GitHub Actions"},
			boolFlag("strict", "take warnings for errors"),
		},
		Action: func(c *cli.Context) error { return checkRecipes(c, std) },
	}
}

func checkDescription() string {
	var b strings.Builder
	b.WriteString(`FILE is a .star or .yaml recipe, a directory, in which all .star files are checked, or - for what is read from stdin.
Nothing is contacted. A warning alone is no reason to fail; with --strict it is.

Beside syntax, names and what is loaded it finds what follows. At the end of a line, # check: ignore NAME silences it.

`)
	var rows [][]string
	for _, l := range lints() {
		rows = append(rows, []string{"   " + l.Name, l.Severity, l.Doc})
	}
	runtime.WriteTable(&b, []string{"   name", "", ""}, rows)
	return strings.TrimRight(b.String(), "\n")
}

// A findingsWriter writes what was found in one of the formats.
type findingsWriter func(w io.Writer, found []*starlib.Finding, color bool) error

func checkRecipes(c *cli.Context, std streams) error {
	formats := map[string]findingsWriter{"text": writeFindings, "json": writeFindingsJSON, "github": writeFindingsGitHub}
	write := formats[c.String("format")]
	if write == nil {
		return runtime.Faultf(runtime.FaultUsage, "text, json or github", "there is no format %q", c.String("format"))
	}
	if c.NArg() == 0 {
		return runtime.Faultf(runtime.FaultUsage, helpHint(c), "there is nothing to check")
	}
	names, err := recipeFiles(c.Args().Slice())
	if err != nil {
		return err
	}
	found, err := starlib.Check(names, recipes.FS)
	if werr := write(std.out, found, wantsColour(std.out)); werr != nil {
		return werr
	}
	if err != nil {
		return err
	}
	return verdict(std.err, len(names), found, c.Bool("strict"))
}

// verdict says on stderr how it went. It is an error if a recipe is wrong.
func verdict(w io.Writer, files int, found []*starlib.Finding, strict bool) error {
	warnings := 0
	for _, f := range found {
		if f.Warning {
			warnings++
		}
	}
	summary := fmt.Sprintf("%s and %s in %s",
		runtime.Plural(len(found)-warnings, "error"), runtime.Plural(warnings, "warning"), runtime.Plural(files, "recipe"))
	if len(found) > warnings || strict && warnings > 0 {
		return runtime.Faultf(runtime.FaultRecipe, "", "there are %s", summary)
	}
	fmt.Fprintln(w, summary)
	return nil
}

// recipeFiles replaces directories by the recipes below them, but for those that are hidden.
func recipeFiles(args []string) (names []string, err error) {
	for _, arg := range args {
		if arg == "-" {
			arg = stdin
		}
		info, err := os.Stat(arg)
		if err != nil || !info.IsDir() { // of a file that is not there, Check says more
			names = append(names, arg)
			continue
		}
		before := len(names)
		err = filepath.WalkDir(arg, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return runtime.Faultf(runtime.FaultUsage, "", "%w", err)
			case e.IsDir() && strings.HasPrefix(e.Name(), ".") && path != arg:
				return fs.SkipDir
			case !e.IsDir() && filepath.Ext(path) == ".star":
				names = append(names, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(names) == before {
			return nil, runtime.Faultf(runtime.FaultUsage, "", "%s: there are no .star files", arg)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func writeFindings(w io.Writer, found []*starlib.Finding, color bool) error {
	for _, f := range found {
		if err := f.Write(w, color); err != nil {
			return err
		}
	}
	return nil
}

// mistake is the form of check --format json. Columns count characters, from 1; end is behind the last.
type mistake struct {
	Path     string `json:"path"`
	Line     int    `json:"line"`
	Col      int    `json:"col"`
	End      int    `json:"end"`
	Severity string `json:"severity"`
	Lint     string `json:"lint"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

func newMistake(f *starlib.Finding) mistake {
	place := f.Place()
	line, col := int(place.Pos.Line), int(place.Pos.Col)
	return mistake{place.Pos.Filename(), line, col, col + place.Width, severity(f.Warning), f.Lint, f.Err.Error(), runtime.HintOf(f.Err)}
}

func writeFindingsJSON(w io.Writer, found []*starlib.Finding, _ bool) error {
	list := make([]mistake, len(found))
	for i, f := range found {
		list[i] = newMistake(f)
	}
	return writeJSON(w, struct {
		Version  int       `json:"version"`
		Findings []mistake `json:"findings"`
	}{1, list})
}

// writeFindingsGitHub writes workflow commands, which GitHub Actions shows at the lines of a pull request.
func writeFindingsGitHub(w io.Writer, found []*starlib.Finding, _ bool) error {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, f := range found {
		j := newMistake(f)
		message := j.Message
		if j.Hint != "" {
			message += "\nhint: " + j.Hint
		}
		_, err := fmt.Fprintf(w, "::%s file=%s,line=%d,col=%d,endColumn=%d,title=%s::%s\n",
			j.Severity, property.Replace(j.Path), j.Line, j.Col, j.End, property.Replace(j.Lint), data.Replace(message))
		if err != nil {
			return err
		}
	}
	return nil
}
