package starlib

import (
	"fmt"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A structValue is what struct() returns: Starlark's struct, which suggests what is meant by an attribute that it has
// not.
type structValue struct{ *starlarkstruct.Struct }

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
