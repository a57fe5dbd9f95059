package starlib

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// A run is a recipe, or a REPL, that is running.
type run struct {
	session     *runtime.Session
	env         Env
	loader      *loader
	predeclared starlark.StringDict
	modules     map[*file]starlark.StringDict // the files that were loaded and run
	origins     *origins
	exits       *exits
	loose       bool                // there are globals that could not be frozen
	fake        Fake                // of a test
	globals     starlark.StringDict // of a REPL, where they are not frozen after a statement; nil: it is none
}

func newRun(session *runtime.Session, env Env, l *loader) *run {
	if env.Create == nil {
		env.Create = runtime.WriteFile
	}
	if env.Stdout == nil {
		env.Stdout = io.Discard
	}
	env.Stdout = &lockedWriter{w: env.Stdout}
	return &run{session: session, env: env, loader: l, predeclared: predeclared(),
		modules: make(map[*file]starlark.StringDict),
		origins: &origins{calls: make(map[string]starlark.CallStack)}, exits: new(exits)}
}

func (r *run) warn(text string) {
	if r.env.Warn != nil {
		r.env.Warn(text)
	}
}

// A lockedWriter is for several threads: what one writes at once stays together.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// A task is what one thread works on.
type task struct {
	*run
	ctx     context.Context
	loading bool               // the thread runs a file that is loaded, which must not act
	outer   starlark.CallStack // the calls that led to the thread; nil: it was not started by a recipe
	deeds   int                // how many calls of it acted so far
}

const taskKey = "aifb" // of the thread-local *task

func taskOf(t *starlark.Thread) *task { return t.Local(taskKey).(*task) }

// A call is what a builtin has of its surroundings.
type call struct {
	*task
	thread *starlark.Thread
	recv   starlark.Value // of a method
	step   *Step          // nil: nobody is told of it
}

// stack is where the builtin was called, and all that led there.
func (c *call) stack() starlark.CallStack {
	stack := c.thread.CallStack()
	stack.Pop() // the builtin itself
	return slices.Concat(c.outer, stack)
}

// thread returns a thread that ends when ctx does. The caller calls done when nothing runs on it any more.
func (r *run) thread(ctx context.Context, name string, loading bool) (t *starlark.Thread, done func()) {
	t = &starlark.Thread{Name: name, Load: r.load}
	if r.session != nil && r.session.Clock != nil {
		startime.SetNow(t, func() (time.Time, error) { return r.session.Clock.Now(), nil })
	}
	t.SetLocal(taskKey, &task{run: r, ctx: ctx, loading: loading})
	stop := context.AfterFunc(ctx, func() { t.Cancel("the run was cancelled") })
	return t, func() { stop() }
}

// load is what load() does: it runs the file, once.
func (r *run) load(t *starlark.Thread, module string) (starlark.StringDict, error) {
	pos := t.CallFrame(0).Pos
	f, errs := r.loader.load(r.loader.fileID(pos.Filename()), module)
	if len(errs) > 0 {
		return nil, joinErrors(errs)
	}
	if globals, ok := r.modules[f]; ok {
		return globals, nil
	}
	ctx := taskOf(t).ctx
	thread, done := r.thread(ctx, f.name, true)
	defer done()
	globals, err := f.program.Init(thread, r.predeclared)
	if err != nil {
		return nil, r.locate(ctx, err)
	}
	r.freeze(globals)
	r.modules[f] = globals
	return globals, nil
}
