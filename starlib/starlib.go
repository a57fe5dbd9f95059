// Package starlib is the language of recipes: Starlark with a table of builtins, and YAML that means the same calls.
//
// [Read] reads a recipe and all that it loads, and finds what can be found without running it. [Recipe.Exec] runs it
// on a session. [FormatError] shows what went wrong, with the lines of the recipe.
//
// The files, by what their names begin with:
//
//	bind, builtins   the table of builtins: how arguments are bound, and a row for each
//	types, values    the table of types, and the values themselves
//	starlib, load    a recipe, and the files that it loads
//	params           the parameters of main, and where their values are from
//	run              a recipe that runs: threads, and the keys by which its deeds are known again
//	errors           where in a recipe an error is, and what can be done about it
//	yaml             recipes in YAML, as the same statements, and as Starlark
//	check            what is wrong with a recipe, found without running it
//	doc, stubs       the reference, and what editors are told
//	repl             the prompt: names, completion, commands
//	tests            tests of recipes: fake and assert
package starlib

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// dialect is the language of every file, wherever it comes from.
func dialect() *syntax.FileOptions {
	return &syntax.FileOptions{Set: true, While: true, TopLevelControl: true, GlobalReassign: true, Recursion: true}
}

// A Recipe is a program that has been read, and nothing of which was run.
type Recipe struct {
	loader *loader
	file   *file
	main   *syntax.DefStmt // nil: its statements are the program
	params []mainParam
}

// Read reads the recipe in the named file, and the files that it loads. The name "@aifb//x.star" means x.star of the
// library; a name that ends in .yaml or .yml is a recipe in YAML. The error of a file that does not exist has
// FaultUsage; all other errors have FaultRecipe and are all that is wrong, in as many *SourceErrors.
func Read(name string, library fs.FS) (*Recipe, error) {
	r, err := readEntry(name, library, false)
	if err != nil {
		return nil, err
	}
	if r.main = r.file.findMain(); r.main != nil {
		r.params = mainParams(r.main)
	}
	return r, nil
}

// readEntry reads a file, which may be one of tests, and what it loads.
func readEntry(name string, library fs.FS, tests bool) (*Recipe, error) {
	l, id := newLoader(name, library)
	l.tests = tests
	text, err := l.readEntry(name, id)
	if err != nil {
		return nil, err
	}
	f, errs := l.parse(id, text)
	if len(errs) > 0 {
		return nil, joinErrors(errs)
	}
	return &Recipe{loader: l, file: f}, nil
}

// Doc is the docstring of the recipe, or else that of its main without the parameters.
func (r *Recipe) Doc() string {
	doc := docstring(r.file.syntax.Stmts)
	if doc == "" && r.main != nil {
		doc, _ = splitArgs(docstring(r.main.Body))
	}
	return doc
}

// Params are the parameters of main. See [Given] for who gives them.
func (r *Recipe) Params() []Param {
	var params []Param
	for _, p := range r.params {
		params = append(params, p.Param)
	}
	return params
}

// SHA256 is the hash of the recipe's text, in hexadecimal.
func (r *Recipe) SHA256() string {
	sum := sha256.Sum256(r.file.text)
	return hex.EncodeToString(sum[:])
}

// Target is the target that a recipe in YAML names, or "".
func (r *Recipe) Target() string { return r.file.target }

// An Env is what a recipe has of the process that runs it.
type Env struct {
	Stdout io.Writer    // for print and help
	Warn   func(string) // told what went wrong without ending the recipe, by several threads; may be nil

	// Step, if not nil, is told of each call of a builtin before it is made, by several threads. What it returns is called
	// after it.
	Step func(*Step) (done func(error))

	// Create makes a file on this machine of what write writes, whole or not at all; nil is runtime.WriteFile.
	Create func(name string, write func(io.Writer) error) error
}

// Exec runs the recipe: its statements, and then main, if it has one, with the given parameters (name=value).
//
// Its error is a *SourceError, if it happened in the recipe, or a join of several, and keeps the types of the errors
// below. When ctx ends so does the recipe, with context.Cause(ctx). After exit(code) it is an *Exit, or nil if the code
// is 0. At the end, whatever it is, the functions of on_exit are called; their errors are added. If nothing else went
// wrong, the thresholds that were not met are the error.
func (r *Recipe) Exec(ctx context.Context, session *runtime.Session, env Env, given []string) error {
	if _, err := r.Resolve(Given{Args: given}); err != nil {
		return err
	}
	run := newRun(session, env, r.loader)
	for _, w := range r.file.warnings {
		run.warn(w)
	}
	return run.finish(ctx, r.exec(ctx, run, given))
}

// finish calls what is to be called at the end of a recipe that has ended with err, and returns all that went wrong.
func (r *run) finish(ctx context.Context, err error) error {
	if err = joinErrors(Split(r.end(ctx, err)), r.leave(ctx, exitTime)); err != nil {
		return err
	}
	return r.unmet()
}

// exec runs the statements and main.
func (r *Recipe) exec(ctx context.Context, run *run, given []string) (err error) {
	defer runtime.Rescue("the recipe", &err)
	thread, done := run.thread(ctx, "", false)
	defer done()
	globals, err := r.file.program.Init(thread, run.predeclared)
	run.freeze(globals)
	if err == nil && r.main != nil {
		err = r.callMain(thread, globals["main"], given)
	}
	return err
}

// end is the error of a recipe that has ended with err. Of what it started, nobody may have asked what became of it.
func (r *run) end(ctx context.Context, err error) error {
	if e := (*Exit)(nil); errors.As(err, &e) {
		if e.Code == 0 {
			return nil
		}
		return e
	}
	if err == nil {
		err = r.session.Flush(ctx)
	}
	return r.locate(ctx, err)
}

func (r *Recipe) callMain(thread *starlark.Thread, v starlark.Value, given []string) error {
	main, ok := v.(*starlark.Function)
	if !ok {
		return runtime.Faultf(runtime.FaultRecipe, "", "main is %s by now, and not a function", typeOf(v))
	}
	kwargs, err := mainArguments(main, given)
	if err == nil {
		_, err = starlark.Call(thread, main, nil, kwargs)
	}
	return err
}

// An Exit is the end of a recipe by exit(code).
type Exit struct{ Code int }

func (e *Exit) Error() string { return "exit(" + starlark.MakeInt(e.Code).String() + ")" }
