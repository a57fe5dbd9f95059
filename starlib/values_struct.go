package starlib

import (
	"fmt"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A structValue is what struct() returns: Starlark's struct, which suggests what is meant by an attribute that it has
// not.
type structValue struct{ *starlarkstruct.Struct }

// rowValue returns a row of a table, which cannot change. What is its type's name.
func rowValue(what string, attrs starlark.StringDict) starlark.Value {
	s := &structValue{starlarkstruct.FromStringDict(starlark.String(what), attrs)}
	s.Freeze()
	return s
}

func newStruct(attrs starlark.StringDict) *structValue {
	return &structValue{starlarkstruct.FromStringDict(starlarkstruct.Default, attrs)}
}

func makeStruct(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	v, err := starlarkstruct.Make(t, b, args, kwargs)
	if err != nil {
		return nil, err
	}
	return &structValue{v.(*starlarkstruct.Struct)}, nil
}

func (s *structValue) Attr(name string) (starlark.Value, error) {
	v, err := s.Struct.Attr(name)
	if _, ok := err.(starlark.NoSuchAttrError); ok || v == nil && err == nil {
		return nil, noAttribute("struct", ".", name, s.AttrNames())
	}
	return v, err
}

// String does as Starlark's own, which goes on for ever if the struct is in itself; what leads back to it is left out.
func (s *structValue) String() string {
	if !holds(s, s, make(visited)) {
		return s.Struct.String()
	}
	var attrs []string
	for _, name := range s.AttrNames() {
		text := "..."
		if v, _ := s.Struct.Attr(name); v != starlark.Value(s) && !holds(v, s, make(visited)) {
			text = v.String()
		}
		attrs = append(attrs, name+" = "+text)
	}
	return "struct(" + strings.Join(attrs, ", ") + ")"
}

// holds reports whether a value has a struct in it.
func holds(v starlark.Value, s *structValue, seen visited) bool {
	switch v.(type) {
	case starlark.Tuple:
	case *starlark.List, *starlark.Dict, *starlark.Set, *structValue:
		if seen[v] {
			return false
		}
		seen[v] = true
	default:
		return false
	}
	for part := range parts(v) {
		if part == starlark.Value(s) || holds(part, s, seen) {
			return true
		}
	}
	return false
}

func (s *structValue) CompareSameType(op syntax.Token, y starlark.Value, depth int) (bool, error) {
	other, ok := y.(*structValue)
	if !ok {
		return op == syntax.NEQ, nil
	}
	return s.Struct.CompareSameType(op, other.Struct, depth)
}

func (s *structValue) Binary(op syntax.Token, y starlark.Value, side starlark.Side) (starlark.Value, error) {
	other, ok := y.(*structValue)
	if !ok {
		return nil, nil
	}
	v, err := s.Struct.Binary(op, other.Struct, side)
	if sum, ok := v.(*starlarkstruct.Struct); ok {
		return &structValue{sum}, err
	}
	return v, err
}

// A module is a named collection of builtins, which suggests what is meant by one that it has not.
type module struct{ *starlarkstruct.Module }

func (m module) Attr(name string) (starlark.Value, error) {
	if v := m.Members[name]; v != nil {
		return v, nil
	}
	return nil, noAttribute(m.Name, m.Name+".", name, m.AttrNames())
}

// noAttribute is the error of a value that does not have an attribute. The prefix is before those that it has.
func noAttribute(what, prefix, name string, names []string) error {
	return &runtime.Error{Hint: didYouMean(prefix, name, names), Err: fmt.Errorf("%s has no .%s", what, name)}
}
