package starlib

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// A Builtin is a row of the table of builtins: all that is known of a function that recipes call. The table drives the
// binding of arguments and help().
type Builtin struct {
	Name    string // "service", "ready.http", or of a method "mean"
	Doc     string
	Returns string // a type; "" is None
	Params  []Param

	acts  bool // it does something, and so must not be called while a file is being loaded
	plain bool // its errors are the recipe's own words, and go without its name
	call  func(*call, starlark.Tuple, []starlark.Tuple) (starlark.Value, error)
}

// A Param is a parameter of a builtin, or of a recipe's main.
type Param struct {
	Name     string
	Type     string // as help shows it; "" is not known before the recipe runs
	Doc      string
	Default  string // as a recipe, or for main the command line, would write it
	Required bool
	Keyword  bool   // it is only given by its name
	Rest     string // "*" takes the positional arguments that are left, "**" the named ones
}

// An argument is a parameter of a builtin whose arguments are bound to an S. At returns a pointer to where its value
// goes, from which the parameter has its type (see slotOf) and its default.
type argument[S any] struct {
	Param
	at func(*S) any
}

func arg[S any](name, doc string, at func(*S) any) argument[S] {
	return argument[S]{Param{Name: name, Doc: doc}, at}
}

func (a argument[S]) required() argument[S] { a.Required = true; return a }
func (a argument[S]) keyword() argument[S]  { a.Keyword = true; return a }

// rest makes it *name or **name.
func (a argument[S]) rest(stars string) argument[S] { a.Rest = stars; return a }

// define completes a row: a call binds its arguments to a copy of fresh, whose values are the defaults, and runs run.
func define[S any](b Builtin, fresh S, args []argument[S], run func(*call, *S) (starlark.Value, error)) *Builtin {
	slots := func(s *S) []slot {
		all := make([]slot, len(args))
		for i, a := range args {
			all[i] = slotOf(a.at(s))
		}
		return all
	}
	spec := fresh
	for i, s := range slots(&spec) {
		p := args[i].Param
		p.Type = s.typ
		if !p.Required && p.Rest == "" {
			p.Default = s.show()
		}
		b.Params = append(b.Params, p)
	}
	b.call = func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		spec := fresh
		if err := bind(&b, slots(&spec), args, kwargs); err != nil {
			return nil, err
		}
		v, err := run(c, &spec)
		if err != nil && !b.plain {
			err = fmt.Errorf("%s: %w", b.Name, err)
		}
		return v, err
	}
	return &b
}

// value is the builtin as recipes see it.
func (b *Builtin) value() *starlark.Builtin {
	return starlark.NewBuiltin(b.Name, func(t *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple,
		kwargs []starlark.Tuple) (v starlark.Value, err error) {
		defer func() {
			if p := recover(); p != nil {
				v, err = nil, &Internal{Builtin: b.Name, Value: p, Stack: debug.Stack()}
			}
		}()
		c := &call{task: taskOf(t), thread: t, recv: fn.Receiver()}
		if err := context.Cause(c.ctx); err != nil {
			return nil, err
		}
		if b.acts && c.loading {
			return nil, runtime.Faultf(runtime.FaultRecipe, "", "%s: not in a file that is loaded; call it from a function", b.Name)
		}
		if c.env.Step != nil {
			c.step = newStep(c, b, args, kwargs)
			done := c.env.Step(c.step)
			defer func() { done(err) }()
		}
		v, err = b.call(c, args, kwargs)
		if v == nil && err == nil {
			v = starlark.None
		}
		return v, err
	})
}

// An Internal error is a panic in a builtin: a fault of this program.
type Internal struct {
	Builtin string
	Value   any // of the panic
	Stack   []byte
}

func (e *Internal) Error() string { return fmt.Sprintf("internal error in %s: %v", e.Builtin, e.Value) }

// An argumentError is what is wrong with one argument of a call.
type argumentError struct {
	name string // of the argument, if the call gives it by name
	err  error
}

func (e *argumentError) Error() string { return e.err.Error() }
func (e *argumentError) Unwrap() error { return e.err }

// bind puts the arguments of a call into the slots of its parameters. Its error is all that is wrong with them.
func bind(b *Builtin, slots []slot, args starlark.Tuple, kwargs []starlark.Tuple) error {
	bd := &binding{Builtin: b, slots: slots, given: make([]bool, len(slots))}
	bd.positional(args)
	bd.named(kwargs)
	bd.missing()
	if len(bd.errs) == 0 {
		return nil
	}
	return &runtime.Error{Fault: runtime.FaultRecipe, Err: errors.Join(bd.errs...)}
}

// A binding is a bind under way.
type binding struct {
	*Builtin
	slots   []slot
	given   []bool
	unknown []string // names that no parameter has
	errs    []error
}

func (bd *binding) errorf(name, hint, format string, args ...any) {
	err := fmt.Errorf(bd.Name+": "+format, args...)
	if hint != "" {
		err = &runtime.Error{Hint: hint, Err: err}
	}
	bd.errs = append(bd.errs, &argumentError{name, err})
}

// set gives the i-th parameter its value. For a parameter that need not be given, None is as if it were not.
func (bd *binding) set(i int, name string, v starlark.Value) {
	if bd.given[i] {
		bd.errorf(name, "", "%s is given twice", name)
		return
	}
	bd.given[i] = true
	if v == starlark.None && !bd.Params[i].Required {
		return
	}
	path := bd.Params[i].Name
	if bd.Params[i].Rest == "**" {
		path = ""
	}
	if err := bd.slots[i].set(path, v); err != nil {
		bd.errorf(name, runtime.HintOf(err), "%w", err)
	}
}

func (bd *binding) positional(args starlark.Tuple) {
	n := 0
	for i, p := range bd.Params {
		switch {
		case p.Rest == "*":
			bd.set(i, "", args[n:])
			return
		case p.Keyword || p.Rest != "":
			// is not given by position
		case n < len(args):
			bd.set(i, p.Name, args[n])
			n++
		}
	}
	if n < len(args) {
		bd.errorf("", "", "takes %s, not %d", plural(n, "positional argument"), len(args))
	}
}

func (bd *binding) named(kwargs []starlark.Tuple) {
	rest := starlark.NewDict(0)
	restAt := slices.IndexFunc(bd.Params, func(p Param) bool { return p.Rest == "**" })
	for _, kw := range kwargs {
		name := string(kw[0].(starlark.String))
		i := slices.IndexFunc(bd.Params, func(p Param) bool { return p.Rest == "" && p.Name == name })
		switch {
		case i >= 0:
			bd.set(i, name, kw[1])
		case restAt >= 0:
			rest.SetKey(kw[0], kw[1]) // a call has no name twice, and strings can be hashed
		default:
			bd.unknown = append(bd.unknown, name)
			bd.errorf(name, runtime.DidYouMean(name, bd.names()), "there is no parameter %s", name)
		}
	}
	if rest.Len() > 0 {
		bd.set(restAt, "", rest)
	}
}

// missing reports the required parameters that are not given, but not one whose name is given misspelt.
func (bd *binding) missing() {
	for i, p := range bd.Params {
		if bd.given[i] || !p.Required {
			continue
		}
		if !slices.ContainsFunc(bd.unknown, func(word string) bool { return runtime.Suggest(word, bd.names()) == p.Name }) {
			bd.errorf("", "", "%s is missing", p.Name)
		}
	}
}

func (bd *binding) names() (names []string) {
	for _, p := range bd.Params {
		if p.Rest == "" {
			names = append(names, p.Name)
		}
	}
	return names
}

// Signature is how a recipe calls the builtin, such as `warn(message)`.
func (b *Builtin) Signature() string {
	var params []string
	star := false // what follows can only be given by name
	for _, p := range b.Params {
		if p.Keyword && p.Rest == "" && !star {
			params, star = append(params, "*"), true
		}
		star = star || p.Rest == "*"
		text := p.Rest + p.Name
		if !p.Required && p.Rest == "" {
			text += "=" + p.Default
		}
		params = append(params, text)
	}
	text := b.Name + "(" + strings.Join(params, ", ") + ")"
	if b.Returns != "" {
		text += " -> " + b.Returns
	}
	return text
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
