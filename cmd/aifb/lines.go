package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/peterh/liner"

	"github.com/aifb/aifb/runtime"
)

// A lineReader reads what is entered into the REPL.
type lineReader interface {
	read(first bool) (string, error) // the first line of a statement or a further one; errAborted is Ctrl-C
	interactive() bool
	close()
}

// errAborted is what reading a line returns if the user gave it up.
var errAborted = liner.ErrPromptAborted

// openLines returns how to read a line: on a terminal with editing and a history that is kept, else as it comes.
func openLines(std streams, p *person) (lineReader, error) {
	if p != nil && isTerminal(std.out) {
		return openTerminal(std, p)
	}
	return pipe{bufio.NewReader(std.in)}, nil
}

// A pipe has no person at its other end.
type pipe struct{ in *bufio.Reader }

func (p pipe) interactive() bool { return false }
func (p pipe) close()            {}

func (p pipe) read(bool) (string, error) {
	line, err := p.in.ReadString('\n')
	if err == io.EOF && line != "" {
		err = nil
	}
	return strings.TrimSuffix(line, "\n"), err
}

// A terminal is in the editor's mode as long as it waits for a line, and else as it was found: what runs can be
// interrupted, and whatever ends the program leaves the terminal usable.
type terminal struct {
	std             streams
	person          *person
	editor          *liner.State
	normal, editing liner.ModeApplier
	history         string // the file
}

func openTerminal(std streams, p *person) (*terminal, error) {
	t := &terminal{std: std, person: p, history: filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "aifb", "history")}
	var err1, err2 error
	t.normal, err1 = liner.TerminalMode()
	t.editor = liner.NewLiner()
	t.editing, err2 = liner.TerminalMode()
	if err := errors.Join(err1, err2, t.normal.ApplyMode()); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	t.editor.SetCtrlCAborts(true)
	if f, err := os.Open(t.history); err == nil {
		t.editor.ReadHistory(f) // a history that cannot be read is none
		f.Close()
	}
	return t, nil
}

func (t *terminal) interactive() bool { return true }

func (t *terminal) read(first bool) (string, error) {
	prompt := "... "
	if first {
		prompt = ">>> "
	}
	release, err := t.person.take(context.Background()) // whoever asks something is answered first
	if err != nil {
		return "", err
	}
	defer release()
	t.editing.ApplyMode()
	defer t.normal.ApplyMode()
	line, err := t.editor.Prompt(prompt)
	if err == io.EOF {
		fmt.Fprintln(t.std.out) // behind the prompt
	}
	if err == nil && line != "" {
		t.editor.AppendHistory(line)
	}
	return line, err
}

// close keeps the history. A read may still wait for its line.
func (t *terminal) close() {
	t.editor.Close()
	err := os.MkdirAll(filepath.Dir(t.history), 0o700)
	if err == nil {
		err = runtime.WriteFile(t.history, func(w io.Writer) error { _, err := t.editor.WriteHistory(w); return err })
	}
	if err != nil {
		fmt.Fprintf(t.std.err, "the history was not kept: %v\n", err)
	}
}
