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
			Doc: "Calls a function and turns its error into a value: struct(ok, value, error). The error has kind (such as \"recipe failed\" or \"timeout\"), message, hint, job and exit_code. Ctrl-C, a time-out of the run and exit() are not caught."},
			attemptArgs{}, []argument[attemptArgs]{
				arg("fn", "to call", func(a *attemptArgs) any { return &a.fn }).required(),
				arg("args", "for it", func(a *attemptArgs) any { return &a.args }).rest("*"),
				arg("kwargs", "for it", func(a *attemptArgs) any { return &a.kwargs }).rest("**"),
			}, attempt),
		define(Builtin{Name: "parallel", plain: true, Returns: "list",
			Doc: "Calls a function with each of the items, several at once, and returns what it returned, in their order. What the calls share cannot change any more: each returns its results. After an error no new call begins, those that run go on to their end, and all errors are reported."},
			parallelArgs{limit: 4}, []argument[parallelArgs]{
				arg("fn", "to call with an item", func(a *parallelArgs) any { return &a.fn }).required(),
				arg("items", "a list, or what else a loop goes over", func(a *parallelArgs) any { return &a.items }).required(),
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
	if context.Cause(c.ctx) != nil || errors.As(err, new(*Exit)) || errors.As(err, new(*runtime.Internal)) {
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
	if e := (*runtime.CommandFailed)(nil); errors.As(err, &e) {
		code = starlark.MakeInt(e.Code)
	}
	return newStruct(starlark.StringDict{
		"kind": starlark.String(runtime.FaultOf(err)), "message": starlark.String(Message(err)),
		"hint": textOrNone(Hint(err)), "job": job, "exit_code": code,
	})
}

// within says what an error happened in. Its place stays.
func within(what string, err error) error {
	e := *asSource(err)
	e.Err = fmt.Errorf("%s: %w", what, e.Err)
	return &e
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
	c.exits.push(exitHook{a.fn, c.key(), c.stack()})
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
			if n := len(r.exits.hooks); n > 0 {
				cause = fmt.Errorf("%w; %d more were not called", cause, n)
			}
			return append(errs, &SourceError{Frames: r.loader.frames(h.stack), Err: cause})
		}
		for _, err := range Split(r.place(err, r.loader.frames(h.stack))) {
			errs = append(errs, within("on_exit", err))
		}
	}
}

func (r *run) callHook(ctx context.Context, h exitHook) (err error) {
	defer runtime.Rescue("on_exit", &err)
	thread, done := r.thread(ctx, h.key+".", false)
	defer done()
	taskOf(thread).outer = h.stack
	_, err = starlark.Call(thread, h.fn, nil, nil)
	return err
}

func expect(c *call, a *expectArgs) (starlark.Value, error) {
	d := c.deed()
	if !a.condition {
		if frames := c.loader.frames(c.origins.get(d.Key)); len(frames) > 0 {
			d.Pos = frames[0].Pos.String()
		}
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
