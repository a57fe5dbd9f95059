package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// A person is who can be asked, at the terminal.
type person struct {
	turn    chan struct{} // holds a token while somebody has the terminal
	outputs []*output     // which wait meanwhile
}

// newPerson returns nil if there is nobody to ask: what comes from a pipe is not for a question that nobody saw.
func newPerson(app *cli.App) *person {
	if !isTerminal(app.Reader) {
		return nil
	}
	p := &person{turn: make(chan struct{}, 1)}
	for _, w := range []io.Writer{app.Writer, app.ErrWriter} {
		if o, ok := w.(*output); ok {
			p.outputs = append(p.outputs, o)
		}
	}
	return p
}

// take waits until the caller has the terminal.
func (p *person) take(ctx context.Context) (release func(), err error) {
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// lend gives the terminal to use, which may run a program there, while nothing else is printed.
func (p *person) lend(ctx context.Context, use func() error) error {
	release, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	for _, o := range p.outputs {
		o.hold()
		defer o.release()
	}
	err = use()
	if died := (*exec.ExitError)(nil); errors.As(err, &died) {
		if status, ok := died.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGINT {
			return &interrupted{syscall.SIGINT} // Ctrl-C is for both
		}
	}
	return err
}

// ask puts a question and returns the answer, which is shown as it is typed only if echo. Ctrl-C and Ctrl-D are what
// Ctrl-C is elsewhere.
func (p *person) ask(ctx context.Context, prompt string, echo bool) (answer string, err error) {
	err = p.lend(ctx, func() (err error) {
		answer, err = readAnswer(ctx, prompt, echo)
		return err
	})
	if errors.Is(err, io.EOF) {
		syscall.Kill(os.Getpid(), syscall.SIGINT) // for all that runs, not for this question only
		err = &interrupted{syscall.SIGINT}
	}
	return answer, err
}

// readAnswer has the terminal in raw mode until there is an answer, or ctx ends.
func readAnswer(ctx context.Context, prompt string, echo bool) (answer string, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer tty.Close()
	restore, err := makeRaw(tty)
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	defer restore()
	defer context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Now()) })()
	before, last := "", prompt
	if i := strings.LastIndexByte(prompt, '\n'); i >= 0 {
		before, last = prompt[:i+1], prompt[i+1:]
	}
	screen := term.NewTerminal(tty, last)
	if _, err := io.WriteString(screen, before); err != nil {
		return "", err
	}
	if echo {
		answer, err = screen.ReadLine()
	} else {
		answer, err = screen.ReadPassword(last)
	}
	if err != nil {
		io.WriteString(tty, "\r\n")
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

// makeRaw does without File.Fd, after which a read would not end at a deadline.
func makeRaw(tty *os.File) (restore func(), err error) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var state *term.State
	err1 := raw.Control(func(fd uintptr) { state, err = term.MakeRaw(int(fd)) })
	if err := errors.Join(err1, err); err != nil {
		return nil, err
	}
	return func() { raw.Control(func(fd uintptr) { term.Restore(int(fd), state) }) }, nil
}
