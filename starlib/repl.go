package starlib

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A REPL evaluates one statement after the other on a session. What one defines the next ones see.
type REPL struct {
	run     *run
	globals starlark.StringDict
	inputs  int
}

// NewREPL returns a REPL. It knows the builtins, and loads files relative to the current directory.
func NewREPL(session *runtime.Session, env Env, library fs.FS) *REPL {
	l, _ := newLoader("repl", library)
	r := newRun(session, env, l)
	r.prompt = true
	// Starlark's own entry for a REPL has no place for predeclared names.
	return &REPL{run: r, globals: maps.Clone(r.predeclared)}
}

// Eval reads a statement and runs it, or evaluates an expression and prints its value, which _ then is. It calls
// readline for a line, with its newline, until the statement is complete; a compound one ends with an empty line. The
// error is io.EOF if there is no more input. When ctx ends, so does the statement; what was defined before stays.
func (r *REPL) Eval(ctx context.Context, readline func() ([]byte, error)) error {
	r.inputs++
	f := &file{name: fmt.Sprintf("<input %d>", r.inputs)}
	r.run.loader.files[r.run.loader.sibling(f.name)] = f
	ended := false
	stmts, err := r.options().ParseCompoundStmt(f.name, func() ([]byte, error) {
		line, err := readline()
		f.text = append(f.text, line...)
		ended = err != nil
		return line, err
	})
	if err != nil {
		if ended && len(f.text) == 0 {
			return io.EOF
		}
		return joinErrors(r.run.loader.compileErrors(f, err))
	}
	f.syntax = stmts
	thread, done := r.run.thread(ctx, fmt.Sprintf("%d.", r.inputs), false)
	defer done()
	err = r.exec(thread, stmts)
	if eval := (*starlark.EvalError)(nil); err != nil && !errors.As(err, &eval) {
		return joinErrors(r.run.loader.compileErrors(f, err))
	}
	return r.run.locate(ctx, err)
}

func (r *REPL) options() *syntax.FileOptions {
	options := dialect()
	options.LoadBindsGlobally = true
	return options
}

// Leave calls the functions of on_exit, and returns err with their errors.
func (r *REPL) Leave(ctx context.Context, err error) error {
	return joinErrors(Split(err), r.run.leave(ctx, exitTime))
}

// exec runs statements, or prints the value of a sole expression.
func (r *REPL) exec(thread *starlark.Thread, f *syntax.File) (err error) {
	defer Rescue("the REPL", &err)
	if len(f.Stmts) == 1 {
		if e, ok := f.Stmts[0].(*syntax.ExprStmt); ok {
			v, err := starlark.EvalExprOptions(f.Options, thread, e.X, r.globals)
			if err == nil && v != starlark.None {
				r.globals["_"] = v
				_, err = fmt.Fprintln(r.run.env.Stdout, v)
			}
			return err
		}
	}
	return starlark.ExecREPLChunk(f, thread, r.globals)
}
