package starlib

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A REPL evaluates one statement after the other on a session. What one defines the next ones see.
type REPL struct {
	run     *run
	names   *names
	inputs  int
	input   *file       // that is being read, for completion
	saved   []statement // those that succeeded
	last    int         // which of saved is the expression that _ is the value of; -1: none
	foreign string      // the recipe that was run, if it is in a language of its own
	open    *openDef
	cluster partitions
}

// A statement is one that has succeeded, as :save writes it.
type statement struct {
	text  string
	load  bool
	named bool // a later one uses its value, as _
}

// An openDef is the input before, if it is a function, which may go on behind an empty line: such a line ends what is
// typed, but not what is pasted.
type openDef struct {
	*file
	saved bool
}

// NewREPL returns a REPL. It knows the builtins, and loads files relative to the current directory.
func NewREPL(session *runtime.Session, env Env, library fs.FS) *REPL {
	l, _ := newLoader("repl", library)
	return newREPL(newRun(session, env, l))
}

// REPL returns a REPL for after the recipe, which its Run runs. It loads files relative to the recipe.
func (r *Recipe) REPL(session *runtime.Session, env Env) *REPL {
	r.file.kept = true
	return newREPL(newRun(session, env, r.loader))
}

func newREPL(r *run) *REPL {
	names := newNames(r.predeclared)
	r.globals = names.all
	return &REPL{run: r, names: names, last: -1, cluster: partitions{ask: r.session.Partitions}}
}

// Close ends what the REPL has under way besides statements.
func (r *REPL) Close() { r.cluster.close() }

// Eval reads a statement and runs it, and prints the values of expressions, the last of which _ then is. It calls
// readline for a line, with its newline, until the statement is complete; a compound one ends with an empty line. A
// line that begins with a colon is a command to the REPL itself, and "x?" is help(x). The error is io.EOF if there is no
// more input, or it is to end. When ctx ends, so does the statement; what was defined before stays.
func (r *REPL) Eval(ctx context.Context, readline func() ([]byte, error)) error {
	first, err := readline()
	if err != nil && len(first) == 0 {
		return io.EOF
	}
	line := strings.TrimSpace(string(first))
	if command, ok := strings.CutPrefix(line, ":"); ok {
		r.open = nil
		return r.command(ctx, command, readline)
	}
	if m := questionForm.FindStringSubmatch(line); m != nil {
		return r.help(ctx, m[1])
	}
	if hint := wordHints[line]; hint != "" && !r.names.isUsers(strings.TrimSuffix(line, "()")) {
		_, err := fmt.Fprintln(r.run.env.Stdout, hint)
		return err
	}
	return r.evalFrom(ctx, first, readline)
}

// questionForm is the form of a question for help.
var questionForm = regexp.MustCompile(`^([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*\?$`)

// wordHints are answers to words that are entered in the hope that they do something.
var wordHints = map[string]string{
	"help": "help() lists the builtins; help(x), or x?, says what x is; :help lists the commands",
	"exit": "exit(), :quit or Ctrl-D leave",
	"quit": "exit(), :quit or Ctrl-D leave",

	"quit()": "exit(), :quit or Ctrl-D leave",
}

// evalFrom reads a statement whose first line is there, and runs it.
func (r *REPL) evalFrom(ctx context.Context, first []byte, readline func() ([]byte, error)) error {
	if len(bytes.TrimSpace(first)) == 0 {
		if r.open != nil {
			r.open.text = append(r.open.text, first...)
		}
		return nil
	}
	r.inputs++
	f := &file{name: fmt.Sprintf("<input %d>", r.inputs), kept: true}
	r.run.loader.files[r.run.loader.sibling(f.name)] = f
	r.input = f
	defer func() { r.input = nil }()
	before, lines, indented := r.open, [][]byte{first}, first[0] == ' ' || first[0] == '\t'
	if r.open = nil; indented && before != nil {
		lines = append(bytes.SplitAfter(before.text, []byte("\n")), first)
	}
	if bytes.HasPrefix(lines[0], []byte("def ")) {
		r.open = &openDef{file: f}
	}
	if err := f.read(lines, readline); err != nil {
		errs := r.run.loader.compileErrors(f, err)
		if indented && r.open == nil {
			errs[0].Err = &runtime.Error{Hint: "an empty line, or an error, has ended the statement before; :load FILE reads a whole file", Err: errs[0].Err}
		}
		return joinErrors(errs)
	}
	t, done := r.run.thread(ctx, fmt.Sprintf("%d.", r.inputs), false)
	defer done()
	saved := len(r.saved)
	err := r.perform(ctx, t, f, true)
	if err == nil && r.open != nil {
		r.open.saved = true
		if len(lines) > 1 && before.saved {
			r.saved = slices.Delete(r.saved, saved-1, saved) // it is part of this
		}
	}
	return err
}

// read reads the text of a statement, until it is complete or there is no more, and parses it. Of the lines that are given
// an empty one ends no statement.
func (f *file) read(given [][]byte, readline func() ([]byte, error)) error {
	var last error // of readline
	_, incomplete := dialect().ParseCompoundStmt(f.name, func() (line []byte, err error) {
		for more := true; more; f.text = append(f.text, line...) {
			if len(given) > 0 {
				line, given = given[0], given[1:]
			} else if line, last = readline(); last != nil {
				return nil, last
			}
			more = len(f.text) > 0 && f.isNoEnd(line, len(given) > 0)
		}
		return line, nil
	})
	var err error
	if f.syntax, err = dialect().Parse(f.name, f.text, 0); err == nil && !errors.Is(last, io.EOF) {
		err = incomplete
	}
	return err
}

// isNoEnd reports whether a line that follows the text is a comment, which Starlark's parser takes for the empty line at
// the end of a statement, or if there is more an empty line.
func (f *file) isNoEnd(line []byte, more bool) bool {
	line = bytes.TrimSpace(line)
	return (bytes.HasPrefix(line, []byte("#")) || more && len(line) == 0) && cursorAt(string(f.text)).quote == 0
}

// perform runs the statements of a file, one after the other, as far as they succeed. If echo it prints the values of
// expressions.
func (r *REPL) perform(ctx context.Context, t *starlark.Thread, f *file, echo bool) (err error) {
	defer runtime.Rescue("the REPL", &err)
	f.syntax.Options = dialect()
	f.syntax.Options.LoadBindsGlobally = true
	later, err := r.names.declare(f.syntax)
	if err != nil {
		return joinErrors(r.suggest(r.run.loader.compileErrors(f, err)))
	}
	r.warnOf(f, later)
	r.forgetLoaded(f.syntax)
	for _, stmt := range f.syntax.Stmts {
		v, err := r.names.exec(t, f.syntax, stmt)
		if err == nil && v != nil && v != starlark.None && echo {
			r.names.all["_"] = v
			err = show(r.run.env.Stdout, v)
		}
		if err != nil {
			return r.undefined(r.run.locate(ctx, err))
		}
		r.remember(f, stmt, echo && v != nil && v != starlark.None)
	}
	return nil
}

// suggest adds to errors without a hint which of the user's own names may be meant.
func (r *REPL) suggest(errs []*SourceError) []*SourceError {
	for _, e := range errs {
		name, ok := strings.CutPrefix(e.Err.Error(), "undefined: ")
		if !ok || len(name) < 2 || runtime.HintOf(e.Err) != "" {
			continue
		}
		if hint := runtime.DidYouMean(name, r.names.readable()); hint != "" {
			e.Err = &runtime.Error{Hint: hint, Err: e.Err}
		}
	}
	return errs
}

// warnOf tells of names in functions that are not defined yet, or misspelt.
func (r *REPL) warnOf(f *file, later resolve.ErrorList) {
	for _, e := range r.suggest(r.run.loader.compileErrors(f, later)) {
		text := e.Error() + " so far"
		if hint := runtime.HintOf(e.Err); hint != "" {
			text += "; " + hint
		}
		r.run.warn(text)
	}
}

// undefinedForm is what Starlark says when a function comes to a name of which we promised that it would be there.
var undefinedForm = regexp.MustCompile(`internal error: predeclared variable (\S+) is uninitialized`)

// undefined puts the error of a name that is still not defined into better words.
func (r *REPL) undefined(err error) error {
	located := (*SourceError)(nil)
	if !errors.As(err, &located) {
		return err
	}
	if m := undefinedForm.FindStringSubmatch(located.Err.Error()); m != nil {
		located.Err = &runtime.Error{Fault: runtime.FaultRun, Err: fmt.Errorf("undefined: %s", m[1])}
		r.suggest([]*SourceError{located})
	}
	return err
}

// forgetLoaded has the files that are loaded from now on read anew: the user may have changed them.
func (r *REPL) forgetLoaded(f *syntax.File) {
	if !slices.ContainsFunc(f.Stmts, isLoad) {
		return
	}
	maps.DeleteFunc(r.run.loader.files, func(id fileID, f *file) bool { return f == nil || !f.kept && !id.library })
	clear(r.run.modules)
}

// remember keeps a statement that succeeded for :save. Its value is _ now if isLast.
func (r *REPL) remember(f *file, stmt syntax.Stmt, isLast bool) {
	if isLast && f.source(stmt) == "_" {
		return // it says nothing new
	}
	if r.last >= 0 && usesLast(stmt) {
		r.saved[r.last].named = true
	}
	r.saved = append(r.saved, statement{text: f.source(stmt), load: isLoad(stmt)})
	switch {
	case isLast:
		r.last = len(r.saved) - 1
	case slices.Contains(bindings(stmt), "_"):
		r.last = -1
	}
}

// source returns the text of a statement, with the comments on its lines if there is no other.
func (f *file) source(stmt syntax.Stmt) string {
	if len(f.syntax.Stmts) == 1 {
		return strings.TrimRight(string(f.text), "\n ")
	}
	start, end := stmt.Span()
	return strings.TrimRight(string(f.text[f.offset(start):f.offset(end)]), "\n ")
}

// offset returns where in the text a position is.
func (f *file) offset(pos syntax.Position) int {
	at, line := 0, int32(1)
	for ; line < pos.Line; line++ {
		i := strings.IndexByte(string(f.text[at:]), '\n')
		if i < 0 {
			return len(f.text)
		}
		at += i + 1
	}
	col := int32(1)
	for i := range string(f.text[at:]) {
		if col == pos.Col {
			return at + i
		}
		col++
	}
	return len(f.text)
}

// Flush waits until all jobs that were started are submitted, or were refused, which is then its error.
func (r *REPL) Flush(ctx context.Context) error { return r.run.locate(ctx, r.run.session.Flush(ctx)) }

// Refused waits until a job was refused that no statement waited for, and returns the error of that.
func (r *REPL) Refused(ctx context.Context) error {
	return r.run.locate(ctx, r.run.session.Refused(ctx))
}

// Run runs a recipe as [Recipe.Exec] does. Its globals are there afterwards, also after an error.
func (r *REPL) Run(ctx context.Context, recipe *Recipe, given []string) error {
	if _, err := recipe.Resolve(Given{Args: given}); err != nil {
		return err
	}
	for _, w := range recipe.file.warnings {
		r.run.warn(w)
	}
	if recipe.file.isYAML() {
		r.foreign = recipe.file.name
	}
	if err := r.run.end(ctx, r.exec(ctx, recipe, given)); err != nil {
		return err
	}
	return r.run.unmet()
}

// exec runs the statements and main.
func (r *REPL) exec(ctx context.Context, recipe *Recipe, given []string) (err error) {
	defer runtime.Rescue("the recipe", &err)
	t, done := r.run.thread(ctx, "", false)
	defer done()
	if err := r.perform(ctx, t, recipe.file, false); err != nil || recipe.main == nil {
		return err
	}
	r.run.freeze(r.names.all) // as in a run without a prompt
	return recipe.callMain(t, r.names.all["main"], given)
}

// Leave calls the functions of on_exit, and returns err with their errors.
func (r *REPL) Leave(ctx context.Context, err error) error {
	return joinErrors(Split(err), r.run.leave(ctx, exitTime))
}

// timed runs a statement and says how long it took.
func (r *REPL) timed(ctx context.Context, text string, readline func() ([]byte, error)) error {
	begin := time.Now()
	err := r.evalFrom(ctx, []byte(text+"\n"), readline)
	if err == nil {
		_, err = fmt.Fprintf(r.run.env.Stdout, "took %v\n", time.Since(begin).Round(time.Microsecond))
	}
	return err
}

// help answers "name?". It evaluates names and attributes only.
func (r *REPL) help(ctx context.Context, path string) error {
	v, err := r.names.lookup(path)
	if err != nil {
		return err
	}
	t, done := r.run.thread(ctx, "help", false)
	defer done()
	_, err = starlark.Call(t, r.run.predeclared["help"], starlark.Tuple{v}, nil)
	if eval := (*starlark.EvalError)(nil); errors.As(err, &eval) {
		return eval.Unwrap()
	}
	return err
}
