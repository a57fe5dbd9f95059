package starlib

import (
	"iter"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// freeze freezes globals when their file has been read. Those that cannot be frozen stay as they are.
func (r *run) freeze(globals starlark.StringDict) {
	known := make(freezing)
	for _, v := range globals {
		if known.endless(v, make(visited)) {
			r.loose = true
		} else {
			v.Freeze()
		}
	}
}

// endless reports whether starlark-go would never come to the end of freezing a value. It marks lists and their like when it
// has frozen them, but not functions; and a function within another that calls itself has itself in a variable.
func endless(v starlark.Value) bool { return make(freezing).endless(v, make(visited)) }

// visited are values that were seen on the way, but for tuples, which are no keys, and are in no cycle by themselves.
type visited map[starlark.Value]bool

// freezing is which values are endless, of those that it is known of.
type freezing map[starlark.Value]bool

// endless does as Freeze does. The path is that to v from the last value that it would have marked.
func (f freezing) endless(v starlark.Value, path visited) bool {
	switch v.(type) {
	case starlark.Tuple:
		return f.anyEndless(v, path)
	case *starlark.List, *starlark.Dict, *starlark.Set:
		if yes, ok := f[v]; ok {
			return yes
		}
		f[v] = false // where it is met again, it is marked
		f[v] = f.anyEndless(v, make(visited))
		return f[v]
	case *starlark.Function, *starlark.Builtin, *structValue:
		if yes, ok := f[v]; ok || path[v] {
			return yes || path[v]
		}
		path[v] = true
		f[v] = f.anyEndless(v, path)
		delete(path, v)
		return f[v]
	}
	return false
}

func (f freezing) anyEndless(v starlark.Value, path visited) bool {
	for part := range parts(v) {
		if f.endless(part, path) {
			return true
		}
	}
	return false
}

// parts are the values that a value holds; one of a variable without a value is nil.
func parts(v starlark.Value) iter.Seq[starlark.Value] {
	return func(yield func(starlark.Value) bool) {
		switch v := v.(type) {
		case *starlark.Function:
			for i := range v.NumFreeVars() {
				if _, free := v.FreeVar(i); !yield(free) {
					return
				}
			}
			for i := range v.NumParams() {
				if !yield(v.ParamDefault(i)) {
					return
				}
			}
		case *starlark.Builtin:
			yield(v.Receiver())
		case *structValue:
			for _, name := range v.AttrNames() {
				if attr, _ := v.Attr(name); !yield(attr) {
					return
				}
			}
		case *starlark.Dict:
			for key, value := range v.Entries() {
				if !yield(key) || !yield(value) {
					return
				}
			}
		case starlark.Iterable:
			starlark.Elements(v)(yield)
		}
	}
}

// share freezes what threads are about to share, or says why that cannot be.
func (c *call) share(fn starlark.Value, items []starlark.Value) error {
	reach := reach{make(visited), c.globals != nil || c.loose}
	if c.globals == nil || c.loading {
		for i := range c.thread.CallStackDepth() {
			if c.thread.CallFrame(i).Name == "<toplevel>" {
				return runtime.Faultf(runtime.FaultRecipe, "put it into main(), which is called when the file has been read",
					"parallel: not while a file is being read: its globals can still change")
			}
		}
	}
	for _, global := range c.globals { // of a REPL: any function looks them up there
		if err := reach.freeze(global); err != nil {
			return err
		}
	}
	for _, v := range append([]starlark.Value{fn}, items...) {
		if err := reach.freeze(v); err != nil {
			return err
		}
	}
	return nil
}

// A reach is what was visited on the way from a value to all that it reaches.
type reach struct {
	visited
	globals bool // those of functions, which Freeze leaves out, are not frozen yet
}

// freeze freezes all that a value reaches.
func (r reach) freeze(v starlark.Value) error {
	switch v := v.(type) {
	case nil: // a variable without a value
		return nil
	case starlark.Tuple:
	case *starlark.Function, *starlark.Builtin, *structValue: // these cannot change themselves
		if r.visited[v] {
			return nil
		}
		r.visited[v] = true
	case *starlark.List, *starlark.Dict, *starlark.Set:
		if r.visited[v] {
			return nil
		}
		r.visited[v] = true
		if endless(v) {
			return runtime.Faultf(runtime.FaultRecipe, "define the function at the top level of the file",
				"parallel: it would share a %s with a function that calls itself and is within another", typeOf(v))
		}
		v.Freeze()
		if !r.globals {
			return nil
		}
	default: // it cannot change, or not be seen by two threads
		v.Freeze()
		return nil
	}
	if f, ok := v.(*starlark.Function); ok && r.globals {
		for _, names := range []starlark.StringDict{f.Globals(), f.Module().Predeclared()} { // of an expression, all are the latter
			for _, global := range names {
				if err := r.freeze(global); err != nil {
					return err
				}
			}
		}
	}
	for part := range parts(v) {
		if err := r.freeze(part); err != nil {
			return err
		}
	}
	return nil
}
