package starlib

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// names are the global names of a REPL. A function looks up a name here each time it uses it, and so sees what the name
// means by then, and not what it meant when the function was defined.
//
// Starlark has no such thing: the globals of a module belong to the module. But names that are predeclared are looked up
// in the map that was given, when they are used. So each statement is a module of its own, for which all names are
// predeclared but those that it binds itself; what it binds goes into the map as soon as it is bound.
type names struct {
	all      starlark.StringDict // also those of bindName and valueName
	builtin  starlark.StringDict // what they were in the beginning
	declared map[string]bool     // bound by a statement of the input that is being run, if perhaps later
}

const (
	bindName  = "(bind)"  // the function that puts a name into the map
	valueName = "(value)" // what the value of an expression is bound to
	oldSuffix = "(old)"   // behind a name: its value before the statement that binds it
)

func newNames(predeclared starlark.StringDict) *names {
	n := &names{all: maps.Clone(predeclared), builtin: predeclared}
	n.all["_"] = starlark.None
	n.all[bindName] = starlark.NewBuiltin(bindName, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple,
		_ []starlark.Tuple) (starlark.Value, error) {
		for i := 0; i < len(args); i += 2 {
			n.all[string(args[i].(starlark.String))] = args[i+1]
		}
		return starlark.None, nil
	})
	return n
}

func (n *names) known(name string) bool { return n.all.Has(name) || n.declared[name] }

// isUsers reports whether the user has bound a name. _ is not the user's.
func (n *names) isUsers(name string) bool {
	v, ok := n.all[name]
	return ok && name != "_" && !strings.HasSuffix(name, ")") && v != n.builtin[name]
}

// list returns the names that the user has bound, sorted.
func (n *names) list() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name := range n.all {
			if n.isUsers(name) && !yield(name) {
				return
			}
		}
	})
}

// readable returns the names that a statement may use.
func (n *names) readable() []string { return slices.Concat(n.list(), n.builtin.Keys(), universe()) }

// reset forgets what the user has bound.
func (n *names) reset() {
	for _, name := range n.list() {
		delete(n.all, name)
		if v, ok := n.builtin[name]; ok {
			n.all[name] = v
		}
	}
	n.all["_"] = starlark.None
}

// declare checks the statements of an input, which may use each other's names in functions. A function may also use names
// that are not defined yet; declare returns what it would say of them.
func (n *names) declare(f *syntax.File) (later resolve.ErrorList, err error) {
	n.declared = make(map[string]bool)
	_, err = starlark.FileProgram(f, n.known)
	if all := (resolve.ErrorList)(nil); errors.As(err, &all) {
		var wrong resolve.ErrorList
		for _, e := range all {
			name, ok := strings.CutPrefix(e.Msg, "undefined: ")
			if !ok || !inFunction(f, e.Pos) {
				wrong = append(wrong, e)
				continue
			}
			n.declared[name] = true
			later = append(later, e)
		}
		if wrong != nil {
			return nil, wrong
		}
		_, err = starlark.FileProgram(f, n.known)
	}
	if err != nil {
		return nil, err
	}
	for _, global := range f.Module.(*resolve.Module).Globals {
		n.declared[global.First.Name] = true
	}
	return later, nil
}

// inFunction reports whether a position is in the body of a function.
func inFunction(f *syntax.File, pos syntax.Position) (inside bool) {
	before := func(p, q syntax.Position) bool { return p.Line < q.Line || p.Line == q.Line && p.Col <= q.Col }
	syntax.Walk(f, func(n syntax.Node) bool {
		if def, ok := n.(*syntax.DefStmt); ok {
			start, _ := def.Body[0].Span()
			_, end := def.Span()
			inside = inside || before(start, pos) && before(pos, end)
		}
		return true
	})
	return inside
}

// exec runs a statement of a file, which declare has seen. If it is an expression it returns its value.
func (n *names) exec(t *starlark.Thread, f *syntax.File, stmt syntax.Stmt) (starlark.Value, error) {
	start, _ := stmt.Span()
	if e, ok := stmt.(*syntax.ExprStmt); ok {
		stmt = &syntax.AssignStmt{OpPos: start, Op: syntax.EQ, LHS: &syntax.Ident{NamePos: start, Name: valueName}, RHS: e.X}
	}
	part := &syntax.File{Path: f.Path, Options: f.Options}
	for _, name := range bindings(stmt) {
		old, ok := n.all[name]
		if !ok {
			continue
		}
		n.all[name+oldSuffix] = old
		defer delete(n.all, name+oldSuffix)
		part.Stmts = append(part.Stmts, &syntax.AssignStmt{OpPos: start, Op: syntax.EQ,
			LHS: &syntax.Ident{NamePos: start, Name: name}, RHS: &syntax.Ident{NamePos: start, Name: name + oldSuffix}})
	}
	part.Stmts = append(part.Stmts, publish([]syntax.Stmt{stmt}, true)...)
	program, err := starlark.FileProgram(part, n.known)
	if err != nil {
		return nil, err
	}
	globals, err := program.Init(t, n.all)
	value := globals[valueName]
	delete(globals, valueName)
	maps.Copy(n.all, globals)
	return value, err
}

// publish has the statements in the blocks of compound statements put what they bind into the map at once: a function
// that a loop calls sees the loop's variable.
func publish(stmts []syntax.Stmt, top bool) (all []syntax.Stmt) {
	for _, stmt := range stmts {
		all = append(all, stmt)
		switch s := stmt.(type) {
		case *syntax.IfStmt:
			s.True, s.False = publish(s.True, false), publish(s.False, false)
		case *syntax.WhileStmt:
			s.Body = publish(s.Body, false)
		case *syntax.ForStmt:
			s.Body = append(bindCalls(bound(s.Vars), s.For), publish(s.Body, false)...)
		default:
			if start, _ := stmt.Span(); !top {
				all = append(all, bindCalls(bindings(stmt), start)...)
			}
		}
	}
	return all
}

// bindCalls returns the statement that puts names into the map, if there are any.
func bindCalls(names []string, pos syntax.Position) []syntax.Stmt {
	if len(names) == 0 {
		return nil
	}
	call := &syntax.CallExpr{Fn: &syntax.Ident{NamePos: pos, Name: bindName}, Lparen: pos, Rparen: pos}
	for _, name := range names {
		call.Args = append(call.Args,
			&syntax.Literal{Token: syntax.STRING, TokenPos: pos, Raw: strconv.Quote(name), Value: name},
			&syntax.Ident{NamePos: pos, Name: name})
	}
	return []syntax.Stmt{&syntax.ExprStmt{X: call}}
}

// bindings returns the global names that a statement at the top level binds.
func bindings(stmt syntax.Stmt) (names []string) {
	inner := func(blocks ...[]syntax.Stmt) {
		for _, block := range blocks {
			for _, s := range block {
				names = append(names, bindings(s)...)
			}
		}
	}
	switch s := stmt.(type) {
	case *syntax.AssignStmt:
		names = bound(s.LHS)
	case *syntax.DefStmt:
		names = []string{s.Name.Name}
	case *syntax.LoadStmt:
		for _, to := range s.To {
			names = append(names, to.Name)
		}
	case *syntax.ForStmt:
		names = bound(s.Vars)
		inner(s.Body)
	case *syntax.WhileStmt:
		inner(s.Body)
	case *syntax.IfStmt:
		inner(s.True, s.False)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// usesLast reports whether a statement that has been run uses _ as it was before.
func usesLast(stmt syntax.Stmt) (uses bool) {
	syntax.Walk(stmt, func(n syntax.Node) bool {
		if id, ok := n.(*syntax.Ident); ok && id.Name == "_" {
			b, ok := id.Binding.(*resolve.Binding)
			uses = uses || ok && b.Scope == resolve.Predeclared
		}
		return true
	})
	return uses
}

// lookup returns the value of a path of names, such as "metric.csv". It calls nothing, and asks no job.
func (n *names) lookup(path string) (starlark.Value, error) {
	parts := strings.Split(path, ".")
	v, ok := n.all[parts[0]]
	if !ok {
		v, ok = starlark.Universe[parts[0]]
	}
	if !ok {
		return nil, runtime.Faultf(runtime.FaultRecipe, runtime.DidYouMean(parts[0], n.readable()), "undefined: %s", parts[0])
	}
	for _, name := range parts[1:] {
		attr := attribute(v, name)
		if attr == nil {
			hint := runtime.DidYouMean(name, attrNames(v))
			return nil, runtime.Faultf(runtime.FaultRecipe, hint, "%s has no attribute %s", typeOf(v), name)
		}
		v = attr
	}
	return v, nil
}

// attribute returns an attribute of a value, or nil if there is none, or it takes its time.
func attribute(v starlark.Value, name string) starlark.Value {
	if h, ok := v.(*handle); ok && name == "job_id" && h.State().ID == "" {
		return nil // it waits until the job is submitted
	}
	if v, ok := v.(starlark.HasAttrs); ok {
		attr, err := v.Attr(name)
		if err == nil {
			return attr
		}
	}
	return nil
}

// attrNames returns the names of a value's attributes.
func attrNames(v starlark.Value) []string {
	if v, ok := v.(starlark.HasAttrs); ok {
		return v.AttrNames()
	}
	return nil
}
