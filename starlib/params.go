package starlib

import (
	"math/big"
	"regexp"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A mainParam is a parameter of main, and its default if that is a literal.
type mainParam struct {
	Param
	value starlark.Value // nil: it is required, or not known before the recipe runs
}

// mainParams reads the parameters of main from its definition.
func mainParams(def *syntax.DefStmt) (params []mainParam) {
	_, docs := splitArgs(docstring(def.Body))
	for _, p := range def.Params {
		switch p := p.(type) {
		case *syntax.Ident:
			params = append(params, mainParam{Param: Param{Name: p.Name, Type: "str", Required: true, Doc: docs[p.Name]}})
		case *syntax.BinaryExpr: // name = default
			name := p.X.(*syntax.Ident).Name
			m := mainParam{Param: Param{Name: name, Doc: docs[name]}}
			if v, ok := literal(p.Y); ok {
				m.value, m.Type, m.Default = v, paramType(v), showParam(v)
			}
			params = append(params, m)
		}
	}
	return params
}

// literal returns the value of an expression that is one without running anything.
func literal(e syntax.Expr) (starlark.Value, bool) {
	switch e := e.(type) {
	case *syntax.Literal:
		switch v := e.Value.(type) {
		case string:
			return starlark.String(v), true
		case int64:
			return starlark.MakeInt64(v), true
		case *big.Int:
			return starlark.MakeBigInt(v), true
		case float64:
			return starlark.Float(v), true
		}
	case *syntax.Ident:
		v, ok := map[string]starlark.Value{"True": starlark.True, "False": starlark.False, "None": starlark.None}[e.Name]
		return v, ok
	case *syntax.ParenExpr:
		return literal(e.X)
	case *syntax.UnaryExpr:
		if v, ok := literal(e.X); ok && e.Op == syntax.MINUS {
			v, err := starlark.Unary(syntax.MINUS, v)
			return v, err == nil
		}
	case *syntax.ListExpr:
		return literals(e.List)
	case *syntax.TupleExpr:
		return literals(e.List)
	case *syntax.DictExpr:
		return literalDict(e)
	}
	return nil, false
}

func literalDict(e *syntax.DictExpr) (starlark.Value, bool) {
	dict := starlark.NewDict(len(e.List))
	for _, x := range e.List {
		entry := x.(*syntax.DictEntry)
		key, ok := literal(entry.Key)
		value, ok2 := literal(entry.Value)
		if !ok || !ok2 || dict.SetKey(key, value) != nil {
			return nil, false
		}
	}
	return dict, true
}

func literals(exprs []syntax.Expr) (starlark.Value, bool) {
	var elems []starlark.Value
	for _, x := range exprs {
		v, ok := literal(x)
		if !ok {
			return nil, false
		}
		elems = append(elems, v)
	}
	return starlark.NewList(elems), true
}

func paramType(v starlark.Value) string {
	if elem, ok := element(v); ok {
		return "list of " + paramType(elem)
	}
	if v == starlark.None {
		return "str"
	}
	return typeOf(v)
}

// element returns what the elements of a list are like: the first of them, or a float if some of its numbers are. Those
// of an empty list are strings.
func element(v starlark.Value) (starlark.Value, bool) {
	list, ok := v.(starlark.Indexable)
	if _, isString := v.(starlark.String); !ok || isString {
		return nil, false
	}
	if list.Len() == 0 {
		return starlark.String(""), true
	}
	first := list.Index(0)
	for i := range list.Len() {
		if f, ok := list.Index(i).(starlark.Float); ok && typeOf(first) == "int" {
			return f, true
		}
	}
	return first, true
}

func (r *Recipe) param(name string) *mainParam {
	for i := range r.params {
		if r.params[i].Name == name {
			return &r.params[i]
		}
	}
	return nil
}

// mainArguments turns name=value arguments, which Resolve has seen, into keyword arguments.
func mainArguments(main *starlark.Function, given []string) (kwargs []starlark.Tuple, err error) {
	defaults := make(map[string]starlark.Value)
	for i := range main.NumParams() {
		name, _ := main.Param(i)
		if defaults[name] = main.ParamDefault(i); defaults[name] == nil {
			defaults[name] = starlark.String("")
		}
	}
	for _, arg := range given {
		name, text, _ := strings.Cut(arg, "=")
		v, err := parseParam(text, defaults[name])
		if err != nil {
			return nil, runtime.Faultf(runtime.FaultUsage, runtime.HintOf(err), "parameter %s: %w", name, err)
		}
		kwargs = append(kwargs, starlark.Tuple{starlark.String(name), v})
	}
	return kwargs, nil
}

// docstring returns the string that a body begins with, or "".
func docstring(stmts []syntax.Stmt) string {
	if len(stmts) > 0 {
		if e, ok := stmts[0].(*syntax.ExprStmt); ok {
			if l, ok := e.X.(*syntax.Literal); ok && l.Token == syntax.STRING {
				return strings.TrimSpace(l.Value.(string))
			}
		}
	}
	return ""
}

var argsHeading = regexp.MustCompile(`(?m)^[ \t]*Args:[ \t]*$`)

// splitArgs splits a docstring in Google's style into its text and what it says of each parameter, under Args.
func splitArgs(doc string) (text string, args map[string]string) {
	args = make(map[string]string)
	before, after := doc, ""
	if at := argsHeading.FindStringIndex(doc); at != nil {
		before, after = doc[:at[0]], doc[at[1]:]
	}
	last, margin := "", -1
	for line := range strings.Lines(after) {
		text := strings.TrimSpace(line)
		if text == "" {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		if margin < 0 {
			margin = indent
		}
		if indent < margin { // another heading, such as Returns:
			break
		}
		name, about, ok := strings.Cut(text, ": ")
		switch {
		case ok && indent == margin && !strings.Contains(name, " "):
			last = strings.TrimLeft(name, "*")
			args[last] = about
		case last != "":
			args[last] += " " + text
		}
	}
	return strings.TrimSpace(before), args
}
