package starlib

import (
	"fmt"
	"io"
	"slices"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// show prints the value of an expression: a list of structs as a table, jobs each on a line, all else as Starlark writes
// it.
func show(w io.Writer, v starlark.Value) error {
	switch v := v.(type) {
	case *starlark.Builtin:
		if b := builtinOf(v); b != nil {
			_, err := fmt.Fprintf(w, "%s\n%s? says more\n", b.Signature(), b.Name)
			return err
		}
	case *starlark.List:
		return showList(w, v)
	case starlark.Tuple:
		return showList(w, v)
	}
	_, err := fmt.Fprintln(w, v)
	return err
}

func showList(w io.Writer, list starlark.Indexable) error {
	header, rows := structRows(list)
	if header != nil {
		return runtime.WriteTable(w, header, rows)
	}
	handles := list.Len() > 0
	for i := range list.Len() {
		_, ok := list.Index(i).(*handle)
		handles = handles && ok
	}
	if !handles {
		_, err := fmt.Fprintln(w, list)
		return err
	}
	for i := range list.Len() {
		if _, err := fmt.Fprintln(w, list.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

// A structLike is a struct, whoever made it.
type structLike interface {
	starlark.HasAttrs
	Constructor() starlark.Value
}

// structRows makes a table of structs that have the same fields; else the header is nil.
func structRows(list starlark.Indexable) (header []string, rows [][]string) {
	for i := range list.Len() {
		s, ok := list.Index(i).(structLike)
		if !ok || i > 0 && !slices.Equal(s.AttrNames(), header) {
			return nil, nil
		}
		header = s.AttrNames()
		var row []string
		for _, name := range header {
			v, _ := s.Attr(name) // it is one of its names
			text, ok := starlark.AsString(v)
			if !ok {
				text = v.String()
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	return header, rows
}

// builtinOf returns the row of the table of builtins that a value is made from, or nil.
func builtinOf(v starlark.Value) *Builtin {
	b, ok := v.(*starlark.Builtin)
	if !ok {
		return nil
	}
	rows := Builtins()
	switch b.Receiver().(type) {
	case nil:
	case *handle:
		rows = handleMethods()
	case *table:
		rows = tableMethods()
	default:
		return nil
	}
	i := slices.IndexFunc(rows, func(row *Builtin) bool { return row.Name == b.Name() })
	if i < 0 {
		return nil
	}
	return rows[i]
}
