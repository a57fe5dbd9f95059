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
	"syscall"
	"unicode/utf8"

	"github.com/peterh/liner"

	"github.com/aifb/aifb/runtime"
)

// A lineReader reads what is entered into the REPL.
type lineReader interface {
	// read reads the first line of a statement, or a further one. Its error is errAborted after Ctrl-C.
	read(ctx context.Context, first bool) (string, error)
	interactive() bool
	close()
}

// errAborted is what reading a line returns if the user gave it up.
var errAborted = liner.ErrPromptAborted

// A completer returns what may stand in a line from the byte start on, in place of what is there up to the byte pos.
type completer func(line string, pos int) (start int, candidates []string)

// openLines returns how to read a line: on a terminal with editing, completion and a history that is kept, else as it
// comes.
func openLines(std streams, p *person, complete completer) (lineReader, error) {
	if p != nil && isTerminal(std.out) {
		return openTerminal(std, p, complete)
	}
	return pipe{bufio.NewReader(std.in)}, nil
}

// A pipe has no person at its other end.
type pipe struct{ in *bufio.Reader }

func (p pipe) interactive() bool { return false }
func (p pipe) close()            {}

func (p pipe) read(context.Context, bool) (string, error) {
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
	complete        completer
	entered         []string // the lines of the statement so far
	more            []string // its next ones, if it is one of the history
}

func openTerminal(std streams, p *person, complete completer) (*terminal, error) {
	t := &terminal{std: std, person: p, complete: complete,
		history: filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "aifb", "history")}
	var err1, err2 error
	t.normal, err1 = liner.TerminalMode()
	t.editor = liner.NewLiner()
	t.editing, err2 = liner.TerminalMode()
	if err := errors.Join(err1, err2, t.normal.ApplyMode()); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	t.editor.SetCtrlCAborts(true)
	t.editor.SetTabCompletionStyle(liner.TabPrints)
	t.readHistory()
	return t, nil
}

func (t *terminal) interactive() bool { return true }

// newline stands in a line of the history for the end of a line of its statement. The editor knows single lines only.
const newline = "⏎"

func (t *terminal) read(ctx context.Context, first bool) (string, error) {
	prompt := "... "
	if first {
		t.remember()
		prompt = ">>> "
	}
	if len(t.more) > 0 {
		line := t.more[0]
		t.more = t.more[1:]
		return line, nil
	}
	t.editor.SetWordCompleter(t.completeWord)
	line, err := t.prompt(ctx, prompt)
	if err != nil {
		t.entered = nil
		return "", err
	}
	lines := strings.Split(line, newline)
	t.entered = append(t.entered, lines...)
	if len(lines) > 1 {
		t.more = append(lines[1:], "") // which ends a compound statement
	}
	return lines[0], nil
}

// ask puts a question, whose answer is not for the history.
func (t *terminal) ask(ctx context.Context, question string) (string, error) {
	t.editor.SetWordCompleter(nil)
	return t.prompt(ctx, question)
}

// prompt has a line edited. What is printed meanwhile comes above it.
func (t *terminal) prompt(ctx context.Context, prompt string) (string, error) {
	release, err := t.person.take(context.Background()) // whoever asks something is answered first
	if err != nil {
		return "", err
	}
	defer release()
	t.editing.ApplyMode()
	defer t.normal.ApplyMode()
	if liner.TerminalSupported() {
		redraw := func() {
			if ctx.Err() == nil {
				syscall.Kill(os.Getpid(), syscall.SIGWINCH) // at which the editor draws its line
			}
		}
		defer t.std.out.edited(redraw)()
		defer t.std.err.edited(redraw)()
	}
	line, err := t.editor.Prompt(prompt)
	if err == io.EOF {
		fmt.Fprintln(os.Stdout) // behind the prompt
	}
	return line, err
}

// completeWord completes for the editor, which counts in runes. At the beginning of a further line Tab indents.
func (t *terminal) completeWord(line string, pos int) (head string, candidates []string, tail string) {
	at := len(string([]rune(line)[:pos]))
	if len(t.entered) > 0 && strings.TrimSpace(line[:at]) == "" {
		return line[:at], []string{"    "}, line[at:]
	}
	start, candidates := t.complete(line, at)
	return line[:start], candidates, line[at:]
}

// readHistory fills the history from the file. One that cannot be read is none.
func (t *terminal) readHistory() {
	text, _ := os.ReadFile(t.history)
	all := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	last := all[max(len(all)-liner.HistoryLimit, 0):]
	if len(all) > 4*liner.HistoryLimit {
		runtime.WriteFile(t.history, func(w io.Writer) error { _, err := fmt.Fprintln(w, strings.Join(last, "\n")); return err })
	}
	for _, line := range last {
		if line != "" && utf8.ValidString(line) {
			t.editor.AppendHistory(line)
		}
	}
}

// remember adds the statement that was entered last to the history, at once: whatever ends the program, and however many
// there are at a time, nothing of it is lost.
func (t *terminal) remember() {
	for len(t.entered) > 0 && strings.TrimSpace(t.entered[len(t.entered)-1]) == "" {
		t.entered = t.entered[:len(t.entered)-1]
	}
	line := strings.Join(t.entered, newline)
	t.entered, t.more = nil, nil
	if line == "" {
		return
	}
	t.editor.AppendHistory(line)
	if err := appendLine(t.history, line); err != nil {
		fmt.Fprintf(t.std.err, "the history is not kept: %v\n", err)
		t.history = os.DevNull
	}
}

func appendLine(name, line string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// close leaves the editor. A read may still wait for its line.
func (t *terminal) close() {
	t.editor.Close()
}
