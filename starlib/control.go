package starlib

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

type attemptArgs struct {
	fn     starlark.Callable
	args   starlark.Tuple
	kwargs starlark.Value // a dict; nil if there are none
}

type parallelArgs struct {
	fn    starlark.Callable
	items starlark.Iterable
	limit int
}

type exitHookArgs struct{ fn starlark.Callable }

type expectArgs struct {
	condition bool
	message   string
}

func controlBuiltins() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "attempt", plain: true, Returns: "struct",
			Doc: "Calls a function and turns its error into a value: struct(ok, value, error). The error has kind, message, hint, job and exit_code. Ctrl-C, a time-out of the run and exit() are not caught."},
			attemptArgs{}, []argument[attemptArgs]{
				arg("fn", "to call", func(a *attemptArgs) any { return &a.fn }).required(),
				arg("args", "for it", func(a *attemptArgs) any { return &a.args }).rest("*"),
				arg("kwargs", "for it", func(a *attemptArgs) any { return &a.kwargs }).rest("**"),
			}, attempt),
		define(Builtin{Name: "parallel", plain: true, Returns: "list",
			Doc: "Calls a function with each of the items, several at once, and returns what it returned, in their order. What the calls share cannot change any more: each returns its results. After an error no new call begins, those that run go on to their end, and all errors are reported."},
			parallelArgs{limit: 4}, []argument[parallelArgs]{
				arg("fn", "to call with an item", func(a *parallelArgs) any { return &a.fn }).required(),
				arg("items", "", func(a *parallelArgs) any { return &a.items }).required(),
				arg("limit", "how many calls run at once", func(a *parallelArgs) any { return &a.limit }),
			}, parallel),
		define(Builtin{Name: "on_exit", acts: true,
			Doc: "Has a function called when the recipe ends, also when it fails or is interrupted, before its jobs are cancelled. The last one is called first. All of them together have a minute."},
			exitHookArgs{}, []argument[exitHookArgs]{
				arg("fn", "to call, without arguments", func(a *exitHookArgs) any { return &a.fn }).required(),
			}, onExit),
		define(Builtin{Name: "expect", acts: true,
			Doc: "Checks a threshold. If it is not met, that is said at once, and the recipe goes on; at its end it has failed with exit code 5."},
			expectArgs{}, []argument[expectArgs]{
				arg("condition", "what should be True", func(a *expectArgs) any { return &a.condition }).required(),
				arg("message", "what it means that it is not", func(a *expectArgs) any { return &a.message }).required(),
			}, expect),
	}
}

func attempt(c *call, a *attemptArgs) (starlark.Value, error) {
	v, err := starlark.Call(c.thread, a.fn, a.args, keywords(a.kwargs))
	if err == nil {
		return newStruct(starlark.StringDict{"ok": starlark.True, "value": v, "error": starlark.None}), nil
	}
	if context.Cause(c.ctx) != nil || errors.As(err, new(*Exit)) || errors.As(err, new(*Internal)) {
		return nil, err
	}
	return newStruct(starlark.StringDict{"ok": starlark.False, "value": starlark.None, "error": errorValue(c.place(err, nil))}), nil
}

// keywords are the named arguments of a call that are in a dict.
func keywords(dict starlark.Value) (kwargs []starlark.Tuple) {
	if d, ok := dict.(*starlark.Dict); ok {
		kwargs = d.Items()
	}
	return kwargs
}

// errorValue is an error as recipes see it.
func errorValue(err error) starlark.Value {
	job, code := starlark.Value(starlark.None), starlark.Value(starlark.None)
	if e := (*runtime.RefusedError)(nil); errors.As(err, &e) {
		job = starlark.String(e.Name)
	}
	if e := (*runtime.JobError)(nil); errors.As(err, &e) {
		job = starlark.String(e.Name)
		if e.Status.Exited {
			code = starlark.MakeInt(e.Status.Code)
		}
	}
	return newStruct(starlark.StringDict{
		"kind": starlark.String(runtime.FaultOf(err)), "message": starlark.String(Message(err)),
		"hint": textOrNone(Hint(err)), "job": job, "exit_code": code,
	})
}

// parallel calls a function with each item on a thread of its own. Threads share only what is frozen: the function, the
// items and the results, and the globals, because it is not called before all files have been read.
func parallel(c *call, a *parallelArgs) (starlark.Value, error) {
	if a.limit < 1 {
		return nil, &argumentError{place{index: 2, name: "limit", value: true},
			runtime.Faultf(runtime.FaultRecipe, "", "parallel: limit: %d calls at once are none", a.limit)}
	}
	var items []starlark.Value
	for item := range starlark.Elements(a.items) {
		items = append(items, item)
	}
	if err := c.share(a.fn, items); err != nil {
		return nil, err
	}
	g := fanOut{call: c, fn: a.fn, key: c.key(), items: items, results: make([]starlark.Value, len(items)), errs: make([]error, len(items))}
	var workers sync.WaitGroup
	for range min(a.limit, len(items)) {
		workers.Go(g.work)
	}
	workers.Wait()
	if err := context.Cause(c.ctx); err != nil {
		return nil, err
	}
	if err := g.err(); err != nil {
		return nil, err
	}
	return starlark.NewList(g.results), nil
}

// share freezes what threads are about to share, or says why that cannot be.
func (c *call) share(fn starlark.Value, items []starlark.Value) error {
	fn.Freeze()
	for _, item := range items {
		item.Freeze()
	}
	if c.prompt && !c.loading {
		reach := make(reach)
		reach.freeze(fn)
		for _, item := range items {
			reach.freeze(item)
		}
		return nil
	}
	for i := range c.thread.CallStackDepth() {
		if c.thread.CallFrame(i).Name == "<toplevel>" {
			return runtime.Faultf(runtime.FaultRecipe, "put it into main(), which is called when the file has been read",
				"parallel: not while a file is being read: its globals can still change")
		}
	}
	return nil
}

// reach are the functions and collections that were visited on the way from a value to all that it reaches.
type reach map[starlark.Value]bool

// freeze freezes all that a value reaches, also the globals of functions, which Freeze leaves out.
func (r reach) freeze(v starlark.Value) {
	switch v := v.(type) {
	case starlark.Tuple: // no value of a map, but in no cycle by itself
		for _, elem := range v {
			r.freeze(elem)
		}
		return
	case *starlark.Function, *starlark.Builtin, *starlark.List, *starlark.Dict, *starlark.Set, *structValue:
		if r[v] {
			return
		}
		r[v] = true
	default:
		return
	}
	v.Freeze()
	switch v := v.(type) {
	case *starlark.Function:
		for _, global := range v.Globals() {
			global.Freeze()
			r.freeze(global)
		}
		for i := range v.NumFreeVars() {
			_, free := v.FreeVar(i)
			r.freeze(free)
		}
		for i := range v.NumParams() {
			r.freeze(v.ParamDefault(i))
		}
	case *starlark.Builtin:
		r.freeze(v.Receiver())
	case *structValue:
		for _, name := range v.AttrNames() {
			attr, _ := v.Attr(name)
			r.freeze(attr)
		}
	case *starlark.Dict:
		for key, value := range v.Entries() {
			r.freeze(key)
			r.freeze(value)
		}
	case starlark.Iterable:
		for elem := range starlark.Elements(v) {
			r.freeze(elem)
		}
	}
}

// A fanOut is a call of parallel under way.
type fanOut struct {
	*call
	fn      starlark.Callable
	key     string
	items   []starlark.Value
	results []starlark.Value
	errs    []error

	mu     sync.Mutex
	next   int  // the item that begins next
	failed bool // none begins any more
}

// work calls the function with one item after the other.
func (g *fanOut) work() {
	for {
		i, ok := g.begin()
		if !ok {
			return
		}
		v, err := g.item(i)
		if err != nil {
			g.fail(i, err)
			continue
		}
		v.Freeze()
		g.results[i] = v
	}
}

func (g *fanOut) begin() (i int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed || g.next == len(g.items) || g.ctx.Err() != nil {
		return 0, false
	}
	g.next++
	return g.next - 1, true
}

func (g *fanOut) fail(i int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed, g.errs[i] = true, err
}

func (g *fanOut) item(i int) (v starlark.Value, err error) {
	defer Rescue(fmt.Sprintf("parallel, item %d", i), &err)
	thread, done := g.run.thread(g.ctx, fmt.Sprintf("%s[%d].", g.key, i), g.loading)
	defer done()
	return starlark.Call(thread, g.fn, starlark.Tuple{g.items[i]}, nil)
}

// err is all errors of the items, each with its place. If there is none but exit(), that is the error.
func (g *fanOut) err() error {
	var errs []error
	exit := (*Exit)(nil)
	for i, err := range g.errs {
		if err == nil || errors.As(err, &exit) {
			continue
		}
		for _, err := range Split(g.place(err, nil)) {
			errs = append(errs, within(fmt.Sprintf("item %d (%s)", i, short(g.items[i])), err))
		}
	}
	if len(errs) == 0 && exit != nil {
		return exit
	}
	return joinErrors(errs)
}

// within says what an error happened in. Its place stays.
func within(what string, err error) error {
	e := *asSource(err)
	e.Err = fmt.Errorf("%s: %w", what, e.Err)
	return &e
}

// short is a value in an error, which may be long.
func short(v starlark.Value) string {
	text, ok := starlark.AsString(v)
	if !ok {
		text = v.String()
	}
	if r := []rune(text); len(r) > 40 {
		return string(r[:37]) + "..."
	}
	return text
}

// exits are the functions to call when the recipe ends.
type exits struct {
	mu    sync.Mutex
	hooks []exitHook
}

type exitHook struct {
	fn    starlark.Callable
	key   string // of the call of on_exit
	stack starlark.CallStack
}

func (e *exits) push(h exitHook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hooks = append(e.hooks, h)
}

func (e *exits) pop() (h exitHook, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := len(e.hooks) - 1
	if last < 0 {
		return h, false
	}
	h, e.hooks = e.hooks[last], e.hooks[:last]
	return h, true
}

func onExit(c *call, a *exitHookArgs) (starlark.Value, error) {
	stack := c.thread.CallStack()
	stack.Pop() // on_exit itself
	c.exits.push(exitHook{a.fn, c.key(), stack})
	return nil, nil
}

// exitTime is how long all functions of on_exit may take together.
const exitTime = time.Minute

// leave calls the functions of on_exit, also if ctx has ended, and returns their errors.
//
// If aifb is killed meanwhile, they are called again when the run is resumed. What they did before is then not done
// again: the threads are named after the calls of on_exit, and so their deeds have the same keys.
func (r *run) leave(ctx context.Context, limit time.Duration) (errs []error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit,
		runtime.Faultf(runtime.FaultTimeout, "", "on_exit: the functions did not end within %v", limit))
	defer cancel()
	for {
		h, ok := r.exits.pop()
		if !ok {
			return errs
		}
		err := r.callHook(ctx, h)
		if exit := (*Exit)(nil); err == nil || errors.As(err, &exit) {
			continue // it ends already
		}
		if cause := context.Cause(ctx); cause != nil {
			return append(errs, &SourceError{Frames: r.loader.frames(h.stack), Err: cause})
		}
		for _, err := range Split(r.place(err, r.loader.frames(h.stack))) {
			errs = append(errs, within("on_exit", err))
		}
	}
}

func (r *run) callHook(ctx context.Context, h exitHook) (err error) {
	defer Rescue("on_exit", &err)
	thread, done := r.thread(ctx, h.key+".", false)
	defer done()
	_, err = starlark.Call(thread, h.fn, nil, nil)
	return err
}

func expect(c *call, a *expectArgs) (starlark.Value, error) {
	d := c.deed()
	if !a.condition {
		d.Pos = c.loader.frames(c.origins.get(d.Key))[0].Pos.String()
		c.warn(fmt.Sprintf("%s: not met: %s", d.Pos, a.message))
	}
	return nil, c.session.Expect(c.ctx, d, a.condition, a.message)
}

// unmet is the error of a run that has not met its thresholds, or nil.
func (r *run) unmet() error {
	var errs []error
	for _, u := range r.session.Unmet() {
		err := runtime.Faultf(runtime.FaultThreshold, "", "expect: %s", u.Message)
		errs = append(errs, &SourceError{Frames: r.loader.frames(r.origins.get(u.Deed.Key)), Err: err})
	}
	return joinErrors(errs)
}
