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
		if !endless(v) {
			v.Freeze()
		}
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
