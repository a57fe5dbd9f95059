package starlib

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// testSuffix is what the names of files of tests end in.
const testSuffix = "_test.star"

func isTestFile(name string) bool { return strings.HasSuffix(filepath.Base(name), testSuffix) }

// Tests are a file of tests that has been read, and nothing of which was run.
type Tests struct {
	recipe *Recipe
	Names  []string // of its functions test_*, in the order in which it defines them
}

// ReadTests reads a file of tests as Read reads a recipe. The file knows the modules fake and assert besides.
func ReadTests(name string, library fs.FS) (*Tests, error) {
	if !isTestFile(name) {
		return nil, runtime.Faultf(runtime.FaultUsage, "", "%s: the name of a file of tests ends in %s", name, testSuffix)
	}
	r, err := readEntry(name, library, true)
	if err != nil {
		return nil, err
	}
	t := &Tests{recipe: r}
	var errs []*SourceError
	for _, stmt := range r.file.syntax.Stmts {
		def, ok := stmt.(*syntax.DefStmt)
		if !ok || !strings.HasPrefix(def.Name.Name, "test_") || slices.Contains(t.Names, def.Name.Name) {
			continue
		}
		if len(def.Params) > 0 {
			errs = append(errs, r.loader.place(def.Name.NamePos, "", errors.New("a test has no parameters")))
		}
		t.Names = append(t.Names, def.Name.Name)
	}
	if len(errs) > 0 {
		return nil, joinErrors(errs)
	}
	return t, nil
}

// Run runs the file anew, and then the named test, on a session of its own, whose target is the fake one. Its error is
// like that of Recipe.Exec.
func (t *Tests) Run(ctx context.Context, session *runtime.Session, env Env, fake Fake, name string) error {
	run := newRun(session, env, t.recipe.loader)
	run.predeclared, run.fake = predeclare(slices.Concat(Builtins(), TestBuiltins())), fake
	return run.finish(ctx, t.call(ctx, run, name))
}

// call runs the file, which must not act, and the test.
func (t *Tests) call(ctx context.Context, run *run, name string) (err error) {
	defer runtime.Rescue("the test", &err)
	loading, done := run.thread(ctx, t.recipe.file.name, true)
	globals, err := t.recipe.file.program.Init(loading, run.predeclared)
	done()
	if err != nil {
		return err
	}
	run.freeze(globals)
	thread, done := run.thread(ctx, "", false)
	defer done()
	_, err = starlark.Call(thread, globals[name], nil, nil)
	return err
}

// TestBuiltins returns the table of the builtins that only files of tests know.
func TestBuiltins() []*Builtin {
	all := slices.Concat(fakeBuiltins(), assertBuiltins())
	for _, b := range all {
		b.Subject = "tests"
	}
	return all
}
