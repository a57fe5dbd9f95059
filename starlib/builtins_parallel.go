package starlib

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// parallel calls a function with each item on a thread of its own. Threads share only what is frozen: the function, the
// items and the results, and the globals, because it is not called before all files have been read.
func parallel(c *call, a *parallelArgs) (starlark.Value, error) {
	if a.limit < 1 {
		return nil, fmt.Errorf("parallel: %w", &runtime.FieldError{Field: "limit", Err: fmt.Errorf("%d calls at once are none", a.limit)})
	}
	var items []starlark.Value
	for item := range starlark.Elements(a.items) {
		items = append(items, item)
	}
	if err := c.share(a.fn, items); err != nil {
		return nil, err
	}
	g := fanOut{call: c, fn: a.fn, key: c.key(), from: c.stack(), items: items,
		results: make([]starlark.Value, len(items)), errs: make([]error, len(items))}
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
	if c.globals != nil && !c.loading {
		reach := make(reach)
		for _, global := range c.globals { // any function looks them up there
			global.Freeze()
			reach.freeze(global)
		}
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
	case nil: // a variable without a value
		return
	case starlark.Tuple: // no key of a map, but in no cycle by itself
		for _, elem := range v {
			r.freeze(elem)
		}
		return
	case *starlark.Function, *starlark.Builtin, *starlark.List, *starlark.Dict, *starlark.Set, *structValue:
		if r[v] {
			return
		}
		r[v] = true
	default: // it cannot change, or not be seen by two threads
		v.Freeze()
		return
	}
	v.Freeze()
	switch v := v.(type) {
	case *starlark.Function:
		for _, names := range []starlark.StringDict{v.Globals(), v.Module().Predeclared()} { // of an expression, all are the latter
			for _, global := range names {
				r.freeze(global)
			}
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
	from    starlark.CallStack // to the call
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
	defer runtime.Rescue(fmt.Sprintf("parallel, item %d", i), &err)
	thread, done := g.run.thread(g.ctx, fmt.Sprintf("%s[%d].", g.key, i), g.loading)
	defer done()
	taskOf(thread).outer = g.from
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
