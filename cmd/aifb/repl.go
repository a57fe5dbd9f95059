package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func replCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:  "repl",
		Usage: "evaluate the language of recipes line by line, on a target",
		Description: `The value of an expression is printed, and _ is it afterwards. help() lists the builtins, NAME? says what one is for, and
:help lists the commands, such as :save FILE. Ctrl-C stops what runs; Ctrl-D leaves, and asks what is to become of the
jobs that still run.

What comes from a pipe is evaluated to its end, also after an error; the exit code is then that of the first. The jobs that
still run at the end are cancelled, unless --keep is given.`,
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
				repl := starlib.NewREPL(s, starlib.Env{Stdout: std.out, Warn: s.Warn}, recipes.FS)
				return converse(ctx, c, std, cfg.person, repl, s, caught, nil)
			})
		}),
	}
}

// converse has a person, or a pipe, enter statements until there are no more, after first has run.
func converse(ctx context.Context, c *cli.Context, std streams, p *person, repl *starlib.REPL, s *runtime.Session,
	caught *signals, first func(context.Context) error) error {
	defer repl.Close()
	lines, err := openLines(std, p, repl.Complete)
	if err != nil {
		return err
	}
	defer lines.close()
	d := &dialog{std: std, repl: repl, session: s, lines: lines, caught: caught, keep: c.Bool("keep")}
	if first != nil {
		d.runFirst(ctx, first)
	}
	err = repl.Leave(ctx, d.run(ctx))
	if d.keep {
		c.Set("keep", "true") // as if it had been given
	}
	return err
}

// A dialog is what goes on at the prompt.
type dialog struct {
	std     streams
	repl    *starlib.REPL
	session *runtime.Session
	lines   lineReader
	caught  *signals
	keep    bool  // what still runs at the end
	first   error // what went wrong, and decides the exit code
	failed  int   // how many statements did
}

// runFirst runs a recipe, of which the prompt comes behind.
func (d *dialog) runFirst(ctx context.Context, first func(context.Context) error) {
	scope, done := d.caught.scope(ctx)
	defer done()
	if err := first(scope); err != nil && ctx.Err() == nil {
		d.show(err)
		d.count(err)
	}
}

// run evaluates statements until there are no more, or one says so. An error of one is shown, and is not the end. Ctrl-C
// is the end only of a statement, if a person is there to enter another.
func (d *dialog) run(ctx context.Context) error {
	if d.lines.interactive() {
		fmt.Fprintln(d.std.err, "help() lists the builtins, :help the commands; Tab completes; Ctrl-C stops what runs; Ctrl-D leaves")
		defer d.caught.idle()() // between two statements
	}
	for ctx.Err() == nil {
		err := d.eval(ctx)
		exit := (*starlib.Exit)(nil)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.As(err, &exit) && exit.Code != 0:
			if d.mayLeave(ctx) {
				return exit
			}
		case exit != nil || err == io.EOF: // one that wraps it is of a connection, say
			if d.mayLeave(ctx) {
				return d.end(ctx)
			}
		default:
			d.show(err)
			if !d.lines.interactive() {
				d.count(err)
			}
		}
	}
	return nil
}

func (d *dialog) show(err error) {
	starlib.FormatError(d.std.err, err, starlib.Style{Colour: wantsColour(d.std.err)})
}

func (d *dialog) count(err error) {
	if d.failed++; d.first == nil {
		d.first = err
	}
}

// end returns what becomes of the program when there is no more to evaluate.
func (d *dialog) end(ctx context.Context) error {
	if !d.lines.interactive() {
		if err := d.repl.Flush(ctx); err != nil && ctx.Err() == nil {
			d.show(err)
			d.count(err)
		}
	}
	if d.failed == 0 {
		return nil
	}
	text := "it failed, as shown above"
	if d.failed > 1 {
		text = fmt.Sprintf("%d statements failed, as shown above", d.failed)
	}
	return &runtime.Error{Fault: runtime.FaultOf(d.first), Err: &shownError{text, d.first}}
}

// A shownError is for errors that were shown already. The first of them decides the exit code.
type shownError struct {
	text  string
	first error
}

func (e *shownError) Error() string { return e.text }

// eval evaluates a statement. That the user gave it up before it was complete is no error.
func (d *dialog) eval(ctx context.Context) error {
	first, aborted := true, false
	scope, done := ctx, func() {}
	if d.lines.interactive() {
		scope, done = d.caught.scope(ctx)
	}
	defer done()
	err := d.repl.Eval(scope, func() ([]byte, error) {
		if d.lines.interactive() {
			defer d.caught.idle()()
		}
		line, err := d.readLine(ctx, first)
		first, aborted = false, errors.Is(err, errAborted)
		if err != nil {
			return nil, err
		}
		return []byte(line + "\n"), nil
	})
	if aborted {
		return nil
	}
	return err
}

// readLine reads a line, and tells meanwhile what became of jobs.
func (d *dialog) readLine(ctx context.Context, first bool) (string, error) {
	if d.lines.interactive() {
		defer d.tellRefused(ctx)()
	}
	return readLine(ctx, d.lines, first)
}

func readLine(ctx context.Context, lines lineReader, first bool) (string, error) {
	return await(ctx, func() (string, error) { return lines.read(ctx, first) })
}

// await reads a line, or gives up when ctx ends. The read itself cannot be broken off: it has a goroutine of its own, which
// then ends with the next line, or with the program.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		line, err := read()
		got <- result{line, err}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// tellRefused shows why jobs were refused that nobody waits for, until done.
func (d *dialog) tellRefused(ctx context.Context) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			err := d.repl.Refused(ctx)
			if refused := (*runtime.RefusedError)(nil); !errors.As(err, &refused) {
				return
			}
			d.show(err)
		}
	}()
	return func() { cancel(); <-ended }
}

// mayLeave asks a person what is to become of the jobs that still run, and whether that is wanted at all.
func (d *dialog) mayLeave(ctx context.Context) bool {
	t, ok := d.lines.(*terminal)
	jobs := d.session.Unended()
	if !ok || d.keep || len(jobs) == 0 {
		return true
	}
	for _, j := range jobs {
		fmt.Fprintf(d.std.err, "%s %s: %s\n", j.Role, j.Job.Name, j.String())
	}
	for {
		answer, err := await(ctx, func() (string, error) {
			return t.ask(ctx, "They still run: cancel, keep, or stay here? [C/k/s] ")
		})
		if err != nil {
			return !errors.Is(err, errAborted)
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "", "c", "cancel":
			return true
		case "k", "keep":
			d.keep = true
			return true
		case "s", "stay":
			return false
		}
	}
}
