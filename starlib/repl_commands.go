package starlib

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A replCommand is a line to the REPL itself.
type replCommand struct{ name, args, doc string }

// replCommands returns the commands, without their colons. Those that are not commands stand for themselves.
func replCommands() []replCommand {
	return []replCommand{
		{"help", "", "this list; help() lists the builtins"},
		{"vars", "", "what you have defined"},
		{"load", "FILE", "run the statements of a file here; its main is there, and not called"},
		{"save", "FILE", "write the statements that succeeded as a recipe; :save! replaces a file"},
		{"time", "STATEMENT", "run it, and say how long it took"},
		{"reset", "", "forget what you have defined; jobs go on"},
		{"quit", "", "leave, as exit() and Ctrl-D do"},
	}
}

// command runs the command in a line, without its colon.
func (r *REPL) command(ctx context.Context, line string, readline func() ([]byte, error)) error {
	name, arg, _ := strings.Cut(line, " ")
	arg = strings.TrimSpace(arg)
	if c := findCommand(strings.TrimSuffix(name, "!")); c != nil && (c.args == "") != (arg == "") {
		return runtime.Faultf(runtime.FaultUsage, strings.TrimSpace(":"+c.name+" "+c.args), "that is not how :%s is used", name)
	}
	switch name {
	case "help":
		return r.commandHelp()
	case "vars":
		return r.vars()
	case "load":
		return r.load(ctx, arg)
	case "save", "save!":
		return r.save(arg, name == "save!")
	case "time":
		return r.timed(ctx, arg, readline)
	case "reset":
		r.names.reset()
		r.saved, r.last = nil, -1
		return nil
	case "quit":
		return io.EOF
	}
	var names []string
	for _, c := range replCommands() {
		names = append(names, ":"+c.name)
	}
	hint := runtime.DidYouMean(":"+name, names)
	if hint == "" {
		hint = "there are " + strings.Join(names, " ")
	}
	return runtime.Faultf(runtime.FaultUsage, hint, "unknown command :%s", name)
}

func findCommand(name string) *replCommand {
	for _, c := range replCommands() {
		if c.name == name {
			return &c
		}
	}
	return nil
}

func (r *REPL) commandHelp() error {
	var rows [][]string
	for _, c := range replCommands() {
		rows = append(rows, []string{strings.TrimSpace(":" + c.name + " " + c.args), c.doc})
	}
	rows = append(rows,
		[]string{"NAME?", "what it is for, as help(NAME): service?"},
		[]string{"_", "the last value that was printed"},
		[]string{"Tab", "completes names, parameters, attributes, keys, files to load, partitions"},
		[]string{"Ctrl-C", "stops what runs, and keeps what is there"})
	return runtime.WriteTable(r.run.env.Stdout, []string{"command", ""}, rows)
}

// vars lists what the user has defined.
func (r *REPL) vars() error {
	var rows [][]string
	for _, name := range r.names.list() {
		v := r.names.all[name]
		text, _, more := strings.Cut(v.String(), "\n")
		if runes := []rune(text); len(runes) > 60 {
			text, more = string(runes[:60]), true
		}
		if more {
			text += "..."
		}
		rows = append(rows, []string{name, typeOf(v), text})
	}
	if len(rows) == 0 {
		return nil
	}
	return runtime.WriteTable(r.run.env.Stdout, []string{"name", "type", "value"}, rows)
}

// load runs the statements of a file as if they were entered.
func (r *REPL) load(ctx context.Context, name string) error {
	if ext := filepath.Ext(name); ext != ".star" {
		return runtime.Faultf(runtime.FaultUsage, "aifb exec -i runs recipes in YAML too", "load %s: not a .star file", name)
	}
	l := r.run.loader
	id := l.sibling(filepath.ToSlash(name))
	if below, err := relative(l.dir, name); err == nil {
		id = l.sibling(filepath.ToSlash(below)) // where it finds what it loads
	}
	text, err := l.readEntry(name, id)
	if err != nil {
		return err
	}
	f := &file{name: name, text: text, kept: true}
	l.files[id] = f
	if err := f.parse(l.library); err != nil {
		return joinErrors(l.compileErrors(f, err))
	}
	r.inputs++
	t, done := r.run.thread(ctx, fmt.Sprintf("%d.", r.inputs), false)
	defer done()
	return r.perform(ctx, t, f, false)
}

// relative returns the path of a file from a directory.
func relative(dir, name string) (string, error) {
	from, err1 := filepath.Abs(dir)
	to, err2 := filepath.Abs(name)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	return filepath.Rel(from, to)
}

// save writes the statements that succeeded as a recipe.
func (r *REPL) save(name string, replace bool) error {
	if r.foreign != "" {
		return runtime.Faultf(runtime.FaultUsage, "", "save: %s is YAML, whose statements cannot be saved", r.foreign)
	}
	if len(r.saved) == 0 {
		return runtime.Faultf(runtime.FaultUsage, "", "save: nothing has succeeded so far")
	}
	if filepath.Ext(name) != ".star" {
		return runtime.Faultf(runtime.FaultUsage, "", "save: %s is not a .star file", name)
	}
	text := r.recipe()
	// What it loads is relative to where it is to be.
	l, id := newLoader(name, r.run.loader.library)
	f, errs := l.parse(id, text)
	if len(errs) > 0 {
		err := runtime.Faultf(runtime.FaultUsage, "", "save: what was entered is no recipe in %s", name)
		return errors.Join(err, joinErrors(errs))
	}
	err := writeSaved(name, text, replace)
	if errors.Is(err, fs.ErrExist) {
		return runtime.Faultf(runtime.FaultUsage, ":save! "+name+" replaces it", "save: %s is there already", name)
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	if f.findMain() != nil {
		r.run.warn(name + " has a main, which aifb exec calls after all other statements")
	}
	_, err = fmt.Fprintf(r.run.env.Stdout, "%s: %s; aifb exec %s runs it\n", name, runtime.Plural(len(r.saved), "statement"), name)
	return err
}

func writeSaved(name string, text []byte, replace bool) error {
	if replace {
		return runtime.WriteFile(name, func(w io.Writer) error { _, err := w.Write(text); return err })
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// recipe is the text of the recipe that the statements make. What it loads comes once.
func (r *REPL) recipe() []byte {
	var b bytes.Buffer
	target := strings.NewReplacer(`"`, "", `\`, "", "\n", "").Replace(r.run.session.Target.Name)
	if !strings.HasPrefix(r.saved[0].text, `"`) || r.saved[0].named { // it begins with no docstring
		fmt.Fprintf(&b, "\"\"\"A session of aifb repl on %s.\"\"\"\n\n", target)
	}
	loaded := make(map[string]bool)
	for _, s := range r.saved {
		if s.load && loaded[s.text] {
			continue
		}
		loaded[s.text] = true
		if s.named {
			b.WriteString("_ = ")
		}
		b.WriteString(s.text + "\n")
	}
	return b.Bytes()
}

// isLoad reports whether a statement is one of load.
func isLoad(stmt syntax.Stmt) bool { _, ok := stmt.(*syntax.LoadStmt); return ok }
