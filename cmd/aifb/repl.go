package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func replCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:  "repl",
		Usage: "evaluate the language of recipes line by line, on a target",
		Description: `The value of an expression is printed, and _ is it afterwards. help() lists the builtins. Ctrl-C stops what runs; Ctrl-D
leaves, which cancels the jobs that still run, unless --keep is given.`,
		Flags: []cli.Flag{targetFlag(), storeFlag(), configFlag(),
			boolFlag("keep", "leave jobs and their files on the target"),
			boolFlag("verbose", "say more on stderr", "v")},
		Action: atMost(0, func(c *cli.Context) error {
			cfg, err := readConfig(c)
			if err != nil {
				return err
			}
			start := runtime.RunStart{Recipe: "(repl)", Target: targetName(c, cfg, "")}
			return withSession(c, std, cfg, start, "", func(ctx context.Context, s *runtime.Session, caught *signals) error {
				lines, err := openLines(std, cfg.person)
				if err != nil {
					return err
				}
				defer lines.close()
				if lines.interactive() {
					fmt.Fprintln(std.err, "help() lists the builtins; Ctrl-C stops what runs; Ctrl-D leaves")
				}
				repl := starlib.NewREPL(s, starlib.Env{Stdout: std.out, Warn: s.Warn}, recipes.FS)
				return repl.Leave(ctx, interact(ctx, std, repl, lines, caught))
			})
		}),
	}
}

// interact evaluates statements until there are no more, or exit() is called. An error of one is shown, and is not the
// end. Ctrl-C is the end only of a statement, if a person is there to enter another.
func interact(ctx context.Context, std streams, repl *starlib.REPL, lines lineReader, caught *signals) error {
	if lines.interactive() {
		defer caught.idle()() // between two statements
	}
	for ctx.Err() == nil {
		first, aborted := true, false
		scope, done := ctx, func() {}
		if lines.interactive() {
			scope, done = caught.scope(ctx)
		}
		err := repl.Eval(scope, func() ([]byte, error) {
			if lines.interactive() {
				defer caught.idle()()
			}
			line, err := readLine(ctx, lines, first)
			first, aborted = false, errors.Is(err, errAborted)
			if err != nil {
				return nil, err
			}
			return []byte(line + "\n"), nil
		})
		done()
		switch exit := (*starlib.Exit)(nil); {
		case aborted, err == nil:
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil
		case errors.As(err, &exit):
			if exit.Code == 0 {
				return nil
			}
			return err
		default:
			starlib.FormatError(std.err, err, starlib.Style{Colour: wantsColour(std.err)})
		}
	}
	return nil
}

// readLine reads a line, or gives up when ctx ends. The read itself cannot be broken off: it has a goroutine of its own,
// which then ends with the next line, or with the program.
func readLine(ctx context.Context, lines lineReader, first bool) (string, error) {
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		line, err := lines.read(first)
		got <- result{line, err}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
