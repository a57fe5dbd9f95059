// Command aifb benchmarks services on HPC clusters. Its recipes are Starlark programs; see package starlib.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
)

func main() {
	setHome()
	os.Exit(run(context.Background(), os.Args, streams{os.Stdin, &output{w: os.Stdout}, &output{w: os.Stderr}}))
}

// setHome sets $HOME, if it is not set, to what the user's account says: so it may be under cron and in containers.
func setHome() {
	if os.Getenv("HOME") != "" {
		return
	}
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		os.Setenv("HOME", u.HomeDir)
	}
}

// run runs the program and returns its exit code.
func run(ctx context.Context, args []string, std streams) int {
	err := runApp(ctx, args, std)
	if err == nil {
		err = std.out.failed()
	}
	if err != nil {
		reportError(std, err, slices.Contains(args, "--json"))
	}
	return exitCode(err)
}

func runApp(ctx context.Context, args []string, std streams) (err error) {
	defer runtime.Rescue("aifb", &err)
	app := newApp(std)
	return app.RunContext(ctx, flagsFirst(app, args))
}

func newApp(std streams) *cli.App {
	app := &cli.App{
		Name:      "aifb",
		Usage:     "benchmark services on HPC clusters, by recipes",
		UsageText: "aifb COMMAND [flags] [arguments]",
		Description: `A recipe is a Starlark program (or a YAML file) that starts services and clients as jobs, waits and measures:

   aifb exec @aifb//quickstart.star                        on this machine
   aifb doctor -t meluxina                                 what is there, of a host of ~/.ssh/config
   aifb exec -t meluxina @aifb//redis.star clients=1,2,4   on that cluster
   aifb show                                               what was measured; aifb export for CSV

aifb doc @aifb// lists the recipes that are here, aifb doc what a recipe of yours may use. The config file: aifb help
config. Exit codes: aifb help exit-codes.`,
		Reader:    std.in,
		Writer:    std.out,
		ErrWriter: std.err,
		Commands: []*cli.Command{
			execCommand(std), planCommand(std), checkCommand(std), testCommand(std), replCommand(std),
			convertCommand(std), docCommand(std), stubsCommand(std),
			runsCommand(std), showCommand(std), statusCommand(std), logsCommand(std), exportCommand(std), compareCommand(std),
			stopCommand(std), resumeCommand(std), gcCommand(std), doctorCommand(std),
			{Name: "load", Usage: `generate load; in a recipe, command = "$AIFB load ..."`,
				Subcommands: []*cli.Command{loadHTTPCommand(std)}},
			{Name: "mock", Usage: "serve something to measure, where there is no real service",
				Subcommands: []*cli.Command{mockHTTPCommand(std)}},
			versionCommand(std), helpCommand(std),
		},
		Flags: []cli.Flag{
			boolFlag("help", "show help", "h"),
			boolFlag("version", "print the version"),
		},
		EnableBashCompletion: true,
		HideHelpCommand:      true, // it is ours
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return printVersion(std.out)
			}
			return unknownCommand(c)
		},
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {}, // run does it
	}
	complete(app.Commands)
	return app
}

// complete sets what all commands have in common.
func complete(commands []*cli.Command) {
	for _, cmd := range commands {
		cmd.HideHelpCommand = true
		cmd.OnUsageError = usageError
		if cmd.Action == nil {
			cmd.Action = unknownCommand
		}
		cmd.Action = withFlags(cmd.Action)
		complete(cmd.Subcommands)
	}
}

// unknownCommand is what runs if none of the commands of a command does: it shows help, if there is no argument either.
func unknownCommand(c *cli.Context) error {
	switch {
	case c.Args().Present():
		return unknown(c.Args().First(), c.Command.Subcommands, helpHint(c))
	case c.Command.HelpName == c.App.HelpName:
		return cli.ShowAppHelp(c)
	}
	return cli.ShowSubcommandHelp(c)
}

func unknown(name string, commands []*cli.Command, hint string) error {
	var names []string
	for _, cmd := range commands {
		names = append(names, cmd.Name)
	}
	if strings.HasSuffix(name, ".star") || strings.HasSuffix(name, ".yaml") {
		hint = "aifb exec " + name
	}
	return runtime.Faultf(runtime.FaultUsage, cmp.Or(runtime.DidYouMean(name, names), hint), "unknown command %q", name)
}

// helpHint is the hint where only the help of a command can help.
func helpHint(c *cli.Context) string { return c.Command.HelpName + " --help" }

var wrongValue = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-(\S+): `)

// dashes writes a flag as it is written: the library has one dash for all.
func dashes(flag string) string {
	if len(flag) > 1 {
		return "--" + flag
	}
	return "-" + flag
}

// form says what the values of a flag look like.
func form(flags []cli.Flag, name string) string {
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		switch f.(type) {
		case *cli.DurationFlag:
			return "a duration such as 90s, 30m or 1h30m"
		case *cli.IntFlag, *cli.Int64Flag:
			return "a whole number"
		case *cli.BoolFlag:
			return "true or false"
		}
	}
	return "a value of it"
}

// usageError is for what the command line library finds wrong.
func usageError(c *cli.Context, err error, _ bool) error {
	hint := helpHint(c)
	if m := wrongValue.FindStringSubmatch(err.Error()); m != nil {
		err = fmt.Errorf("%s %s is not %s", dashes(m[2]), m[1], form(c.Command.Flags, m[2]))
	} else if _, flag, ok := strings.Cut(err.Error(), "flag needs an argument: -"); ok {
		err = fmt.Errorf("%s needs a value", dashes(flag))
	}
	if _, flag, ok := strings.Cut(err.Error(), "flag provided but not defined: -"); ok {
		var names []string
		for _, f := range c.Command.Flags {
			names = append(names, f.Names()[0])
		}
		if s := runtime.Suggest(strings.TrimLeft(flag, "-"), names); s != "" {
			hint = "did you mean --" + s + "?"
		}
		if flag == "json" && slices.Contains(names, "format") {
			hint = "--format json"
		}
		err = fmt.Errorf("unknown flag %s", dashes(flag))
	}
	return runtime.Faultf(runtime.FaultUsage, hint, "%w", err)
}

// atMost refuses more than n arguments.
func atMost(n int, action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() > n {
			return runtime.Faultf(runtime.FaultUsage, helpHint(c), "unexpected argument %q", c.Args().Get(n))
		}
		return action(c)
	}
}
