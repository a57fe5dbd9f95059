package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/peterh/liner"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

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
			&cli.BoolFlag{Name: "keep", Usage: "leave jobs and their files on the target"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say more on stderr"}},
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			cfg, err := readConfig(c)
			if err != nil {
				return err
			}
			start := runtime.RunStart{Recipe: "(repl)", Target: targetName(c, cfg, "")}
			return withSession(c, std, cfg, start, func(ctx context.Context, s *runtime.Session, caught *signals) error {
				lines, closeLines := openLines(std)
				defer closeLines()
				repl := starlib.NewREPL(s, starlib.Env{Stdout: std.out, Warn: s.Warn}, recipes.FS)
				return interact(ctx, std, repl, lines, caught)
			})
		},
	}
}

// errAborted is what reading a line returns if the user gave the line up.
var errAborted = liner.ErrPromptAborted

// interact evaluates statements until there are no more, or exit() is called. An error of one is shown, and is not the
// end.
func interact(ctx context.Context, std streams, repl *starlib.REPL, readline func(first bool) (string, error), caught *signals) error {
	for ctx.Err() == nil {
		first, aborted := true, false
		scope, done := caught.scope(ctx)
		err := repl.Eval(scope, func() ([]byte, error) {
			line, err := readline(first)
			first, aborted = false, errors.Is(err, errAborted)
			if err != nil {
				return nil, err
			}
			return []byte(line + "\n"), nil
		})
		done()
		switch exit := (*starlib.Exit)(nil); {
		case aborted, err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &exit):
			if exit.Code == 0 {
				return nil
			}
			return err
		default:
			starlib.FormatError(std.err, err, isTerminal(std.err))
		}
	}
	return nil
}

// openLines returns how to read a line: on a terminal with editing and a history that is kept, else as it comes.
func openLines(std streams) (readline func(first bool) (string, error), done func()) {
	if f, ok := std.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) && isTerminal(std.out) {
		return openTerminal(std)
	}
	lines := bufio.NewReader(std.in)
	return func(bool) (string, error) {
		line, err := lines.ReadString('\n')
		if err != nil && line == "" {
			return "", err
		}
		return trimNewline(line), nil
	}, func() {}
}

func trimNewline(line string) string {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		return line[:n-1]
	}
	return line
}

func openTerminal(std streams) (readline func(first bool) (string, error), done func()) {
	history := filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "aifb", "history")
	editor := liner.NewLiner()
	editor.SetCtrlCAborts(true)
	if f, err := os.Open(history); err == nil {
		editor.ReadHistory(f) // a history that cannot be read is none
		f.Close()
	}
	readline = func(first bool) (string, error) {
		prompt := "... "
		if first {
			prompt = ">>> "
		}
		line, err := editor.Prompt(prompt)
		if err == nil && line != "" {
			editor.AppendHistory(line)
		}
		return line, err
	}
	return readline, func() {
		err := os.MkdirAll(filepath.Dir(history), 0o700)
		if err == nil {
			err = runtime.WriteFile(history, func(w io.Writer) error { _, err := editor.WriteHistory(w); return err })
		}
		editor.Close()
		if err != nil {
			fmt.Fprintf(std.err, "the history was not kept: %v\n", err)
		}
	}
}
