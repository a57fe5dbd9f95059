package starlib

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// A Builtin is a row of the table of builtins: all that is known of a function that recipes call. The table drives the
// binding of arguments, help(), the reference, completion, stubs for editors, and what can be checked of a call.
type Builtin struct {
	Name    string  `json:"name"`              // "service", "ready.http", or of a method "mean"
	Subject string  `json:"subject,omitempty"` // the heading that it goes under; "" of a method
	Doc     string  `json:"doc"`
	Returns string  `json:"returns,omitempty"` // a type; "" is None
	Params  []Param `json:"params,omitempty"`

	acts  bool          // it does something, and so must not be called while a file is being loaded
	plain bool          // its errors are the recipe's own words, and go without its name
	slots func() []slot // of a call's parameters
	call  func(*call, starlark.Tuple, []starlark.Tuple) (starlark.Value, error)
}

// A Param is a parameter of a builtin, or of a recipe's main.
type Param struct {
	Name     string `json:"name"`
	Type     string `json:"type,omitempty"` // as help shows it; "" is not known before the recipe runs
	Doc      string `json:"doc,omitempty"`
	Default  string `json:"default,omitempty"` // as a recipe, or for main the command line, would write it
	Required bool   `json:"required,omitempty"`
	Keyword  bool   `json:"keyword,omitempty"` // it is only given by its name
	Rest     string `json:"rest,omitempty"`    // "*" takes the positional arguments that are left, "**" the named ones
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
	b.slots = func() []slot { s := fresh; return slots(&s) }
	b.call = func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		spec := fresh
		if err := bind(&b, slots(&spec), args, kwargs); err != nil {
			return nil, err
		}
		v, err := run(c, &spec)
		if err != nil {
			err = b.explain(err)
		}
		return v, err
	}
	return &b
}

// value is the builtin as recipes see it.
func (b *Builtin) value() *starlark.Builtin {
	return starlark.NewBuiltin(b.Name, func(t *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple,
		kwargs []starlark.Tuple) (v starlark.Value, err error) {
		defer runtime.Rescue(b.Name, &err)
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

// A place is an argument of a call.
type place struct {
	name  string // by which it is given, or under which its parameter is known; "" if there is none
	index int    // among the positional arguments; -1: it is given by its name, or is missing
	value bool   // what is wrong is the value, and not that it is there
}

// explain says which builtin an error is of, and of which of its arguments, if it is of one.
func (b *Builtin) explain(err error) error {
	if !b.plain {
		err = fmt.Errorf("%s: %w", b.Name, err)
	}
	if field := (*runtime.FieldError)(nil); errors.As(err, &field) {
		err = &argumentError{b.place(field.Field), err}
	}
	return err
}

// place is where a call has the value of a parameter.
func (b *Builtin) place(param string) place {
	index := 0
	for _, p := range b.Params {
		switch {
		case p.Name == param && !p.Keyword:
			return place{name: param, index: index, value: true}
		case !p.Keyword:
			index++
		}
	}
	return place{name: param, index: -1, value: true}
}

// An argumentError is what is wrong with one argument of a call.
type argumentError struct {
	place
	err error
}

func (e *argumentError) Error() string { return e.err.Error() }
func (e *argumentError) Unwrap() error { return e.err }

// bind puts the arguments of a call into the slots of its parameters. Its error is a join of all that is wrong with
// them.
func bind(b *Builtin, slots []slot, args starlark.Tuple, kwargs []starlark.Tuple) error {
	bd := &binding{Builtin: b, slots: slots, given: make([]bool, len(slots))}
	bd.positional(args)
	bd.named(kwargs)
	bd.missing()
	return errors.Join(bd.errs...)
}

// A binding is a bind under way.
type binding struct {
	*Builtin
	slots   []slot
	given   []bool
	unknown []string // names that no parameter has
	errs    []error
}

func (bd *binding) errorf(at place, hint, format string, args ...any) {
	err := runtime.Faultf(runtime.FaultRecipe, hint, bd.Name+": "+format, args...)
	bd.errs = append(bd.errs, &argumentError{at, err})
}

// set gives the i-th parameter its value. For a parameter that need not be given, None is as if it were not.
func (bd *binding) set(i int, at place, v starlark.Value) {
	if bd.given[i] {
		at.value = false
		bd.errorf(at, "", "%s is given twice", at.name)
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
		bd.errorf(at.within(bd.Params[i], v, err), runtime.HintOf(err), "%w", err)
	}
}

// within returns the one argument that the error is of, where a parameter takes all that are left.
func (at place) within(p Param, rest starlark.Value, err error) place {
	n := 0
	switch _, scanned := fmt.Sscanf(err.Error(), p.Name+"[%d]", &n); {
	case p.Rest == "*" && scanned == nil:
		at.index += n
	case p.Rest == "**":
		for name := range starlark.Elements(rest.(*starlark.Dict)) {
			if name := string(name.(starlark.String)); strings.HasPrefix(err.Error(), name+":") || strings.HasPrefix(err.Error(), name+"[") {
				at.name = name
			}
		}
	}
	return at
}

func (bd *binding) positional(args starlark.Tuple) {
	n := 0
	for i, p := range bd.Params {
		switch {
		case p.Rest == "*":
			bd.set(i, place{index: n, value: true}, args[n:])
			return
		case p.Keyword || p.Rest != "":
			// is not given by position
		case n < len(args):
			bd.set(i, place{name: p.Name, index: n, value: true}, args[n])
			n++
		}
	}
	if n < len(args) {
		hint := ""
		if i := slices.IndexFunc(bd.Params, func(p Param) bool { return p.Keyword }); i >= 0 {
			hint = fmt.Sprintf("the others are given by their names, such as %s = ...", bd.Params[i].Name)
		}
		bd.errorf(place{index: n, value: true}, hint, "takes %s, not %d", runtime.Plural(n, "positional argument"), len(args))
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
			bd.set(i, place{name: name, index: -1, value: true}, kw[1])
		case restAt >= 0:
			rest.SetKey(kw[0], kw[1]) // a call has no name twice, and strings can be hashed
		default:
			bd.unknown = append(bd.unknown, name)
			hint := runtime.DidYouMean(name, bd.names())
			if slices.ContainsFunc(bd.Params, func(p Param) bool { return p.Rest == "*" && p.Name == name }) {
				hint = "they are given without a name"
			}
			bd.errorf(place{name: name, index: -1}, hint, "there is no parameter %s", name)
		}
	}
	if rest.Len() > 0 {
		bd.set(restAt, place{index: -1, value: true}, rest)
	}
}

// missing reports the required parameters that are not given, but not one whose name is given misspelt.
func (bd *binding) missing() {
	for i, p := range bd.Params {
		if bd.given[i] || !p.Required {
			continue
		}
		if !slices.ContainsFunc(bd.unknown, func(word string) bool { return runtime.Suggest(word, bd.names()) == p.Name }) {
			bd.errorf(place{index: -1}, "", "%s is missing", p.Name)
		}
	}
}

// names are those by which a call can give parameters.
func (b *Builtin) names() (names []string) {
	for _, p := range b.Params {
		if p.Rest == "" {
			names = append(names, p.Name)
		}
	}
	return names
}
