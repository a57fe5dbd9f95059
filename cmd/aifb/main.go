// Command aifb benchmarks services on HPC clusters. Its recipes are Starlark programs; see package starlib.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func main() {
	os.Exit(run(context.Background(), os.Args, streams{os.Stdin, os.Stdout, os.Stderr}))
}

// streams are where a command reads and writes. Results go to out, all else to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// isTerminal reports whether a person sees w, and wants colours.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// run runs the program and returns its exit code.
func run(ctx context.Context, args []string, std streams) int {
	app := newApp(std)
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err != nil {
		starlib.FormatError(std.err, err, isTerminal(std.err))
	}
	return exitCode(err)
}

func newApp(std streams) *cli.App {
	return &cli.App{
		Name:      "aifb",
		Usage:     "benchmark services on HPC clusters, by recipes",
		UsageText: "aifb COMMAND [flags] [arguments]",
		Description: `A recipe is a Starlark program (or a YAML file) that starts services and clients as jobs, waits and measures:

   aifb exec @aifb//quickstart.star                  on this machine
   aifb exec -t meluxina redis.star clients=1,2,4    on a cluster, over SSH

Exit codes: aifb help exit-codes.`,
		Reader:    std.in,
		Writer:    std.out,
		ErrWriter: std.err,
		Commands: []*cli.Command{
			execCommand(std), replCommand(std),
			runsCommand(std), showCommand(std), logsCommand(std), exportCommand(std), stopCommand(std),
			loadCommand(std), mockCommand(std),
			versionCommand(std), helpCommand(std),
		},
		HideHelpCommand: true,
		Action:          unknownCommand,
		OnUsageError:    usageError,
		ExitErrHandler:  func(*cli.Context, error) {}, // run does it
	}
}

// unknownCommand is what runs if no command does.
func unknownCommand(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowAppHelp(c)
	}
	name := c.Args().First()
	var names []string
	for _, cmd := range c.App.Commands {
		names = append(names, cmd.Name)
	}
	hint := runtime.DidYouMean(name, names)
	if strings.HasSuffix(name, ".star") || strings.HasSuffix(name, ".yaml") {
		hint = "aifb exec " + name
	}
	if hint == "" {
		hint = "aifb help lists the commands"
	}
	return runtime.Faultf(runtime.FaultUsage, hint, "unknown command %q", name)
}

// usageError is for what the command line library finds wrong.
func usageError(c *cli.Context, err error, _ bool) error {
	hint := "aifb " + c.Command.Name + " --help"
	if _, flag, ok := strings.Cut(err.Error(), "flag provided but not defined: -"); ok {
		var names []string
		for _, f := range c.Command.Flags {
			names = append(names, f.Names()...)
		}
		if s := runtime.Suggest(strings.TrimLeft(flag, "-"), names); s != "" {
			hint = "did you mean --" + s + "?"
		}
		err = fmt.Errorf("unknown flag -%s", flag)
	}
	return runtime.Faultf(runtime.FaultUsage, hint, "%w", err)
}

// one returns the only argument.
func one(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", runtime.Faultf(runtime.FaultUsage, "aifb "+c.Command.Name+" --help", "expected one %s, got %d arguments", what, c.NArg())
	}
	return c.Args().First(), nil
}
