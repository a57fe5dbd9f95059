package starlib

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
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
	}
	return nil, false
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

// element returns what the elements of a list are like. Those of an empty list are strings.
func element(v starlark.Value) (starlark.Value, bool) {
	list, ok := v.(starlark.Indexable)
	if _, isString := v.(starlark.String); !ok || isString {
		return nil, false
	}
	if list.Len() == 0 {
		return starlark.String(""), true
	}
	return list.Index(0), true
}

// showParam writes a value as the command line does.
func showParam(v starlark.Value) string {
	if list, ok := v.(starlark.Iterable); ok {
		var elems []string
		for e := range starlark.Elements(list) {
			elems = append(elems, showParam(e))
		}
		return strings.Join(elems, ",")
	}
	if s, ok := starlark.AsString(v); ok {
		return s
	}
	return v.String()
}

// checkParams checks name=value arguments against main, and returns the values of all parameters.
func (r *Recipe) checkParams(given []string) (map[string]string, error) {
	values := make(map[string]string)
	var names []string
	for _, p := range r.params {
		names = append(names, p.Name)
		if !p.Required && p.value != nil {
			values[p.Name] = p.Default
		}
	}
	var errs []error
	bad := func(hint, format string, args ...any) {
		errs = append(errs, runtime.Faultf(runtime.FaultUsage, hint, format, args...))
	}
	seen := make(map[string]bool)
	for _, arg := range given {
		name, text, ok := strings.Cut(arg, "=")
		p := r.param(name)
		switch {
		case !ok:
			bad("parameters are given as name=value", "%q is no parameter", arg)
			continue
		case p == nil:
			bad(paramHint(name, names), "%s has no parameter %q", r.file.name, name)
			continue
		case seen[name]:
			bad("", "parameter %s is given twice", name)
		}
		seen[name], values[name] = true, text
		if p.value != nil {
			if _, err := parseParam(text, p.value); err != nil {
				bad("", "parameter %s: %w", name, err)
			}
		}
	}
	for _, p := range r.params {
		if p.Required && !seen[p.Name] {
			bad("aifb exec "+r.file.name+" --help", "parameter %s is missing", p.Name)
		}
	}
	return values, errors.Join(errs...)
}

func (r *Recipe) param(name string) *mainParam {
	for i := range r.params {
		if r.params[i].Name == name {
			return &r.params[i]
		}
	}
	return nil
}

func paramHint(name string, names []string) string {
	if hint := runtime.DidYouMean(name, names); hint != "" {
		return hint
	}
	if len(names) == 0 {
		return "it has none"
	}
	return "it has " + strings.Join(names, ", ")
}

// parseParam reads a value that is of the type of the default.
func parseParam(text string, def starlark.Value) (starlark.Value, error) {
	if elem, ok := element(def); ok {
		var elems []starlark.Value
		for part := range strings.SplitSeq(strings.Trim(text, "[]"), ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			v, err := parseParam(part, elem)
			if err != nil {
				return nil, err
			}
			elems = append(elems, v)
		}
		return starlark.NewList(elems), nil
	}
	switch def.(type) {
	case starlark.Int:
		n, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("got %q, want int", text)
		}
		return starlark.MakeInt64(n), nil
	case starlark.Float:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("got %q, want float", text)
		}
		return starlark.Float(f), nil
	case starlark.Bool:
		b, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			return nil, fmt.Errorf("got %q, want True or False", text)
		}
		return starlark.Bool(b), nil
	case starlark.String, starlark.NoneType:
		return starlark.String(text), nil
	}
	return nil, fmt.Errorf("a %s cannot be given on the command line", typeOf(def))
}

// mainArguments turns name=value arguments, which checkParams has seen, into keyword arguments.
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
			return nil, runtime.Faultf(runtime.FaultUsage, "", "parameter %s: %w", name, err)
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
