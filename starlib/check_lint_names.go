package starlib

import (
	"maps"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// changing are the methods of lists, dicts and sets that change them.
var changing = []string{
	"append", "extend", "insert", "remove", "clear", "pop", "popitem", "setdefault", "update", "add", "discard",
}

// checkFrozen finds changes, in main and the functions that it calls, of what the top level made.
func checkFrozen(a *analysis, r *reporter) {
	main := a.file.findMain()
	if main == nil {
		return
	}
	reached := a.reached(main)
	change := func(n syntax.Node, e syntax.Expr) {
		id, ok := e.(*syntax.Ident)
		if !ok || !reached[a.around(n)] {
			return
		}
		w, ok := a.sole(id)
		if v := a.variable(id); !ok || v.writes[0].kind != assigned || a.around(w.id) != nil {
			return
		}
		switch v, _ := a.static(id); v.(type) {
		case *starlark.List, *starlark.Dict:
			r.at(n, "what the top level made cannot change in main: make it in main", "%s is frozen when main runs", id.Name)
		}
	}
	for _, n := range a.nodes {
		switch n := n.(type) {
		case *syntax.CallExpr:
			if dot, ok := n.Fn.(*syntax.DotExpr); ok && slices.Contains(changing, dot.Name.Name) {
				change(dot, dot.X)
			}
		case *syntax.AssignStmt:
			if index, ok := n.LHS.(*syntax.IndexExpr); ok {
				change(index, index.X)
			}
		}
	}
}

// reached are the functions that a function calls, or those call, and itself.
func (a *analysis) reached(from *syntax.DefStmt) map[*syntax.DefStmt]bool {
	all := map[*syntax.DefStmt]bool{from: true}
	for list := []*syntax.DefStmt{from}; len(list) > 0; list = list[1:] {
		syntax.Walk(list[0], func(n syntax.Node) bool {
			if call, ok := n.(*syntax.CallExpr); ok {
				if def, in := a.function(call.Fn); def != nil && in == a && !all[def] {
					all[def] = true
					list = append(list, def)
				}
			}
			return true
		})
	}
	return all
}

func checkUnusedNames(a *analysis, r *reporter) {
	if a.file.isYAML() {
		return
	}
	script := !a.isLoaded && a.file.findMain() == nil && a.actsAtTop()
	for _, v := range a.order {
		isLocal := v.scope == resolve.Local || v.scope == resolve.Cell || v.scope == resolve.Free
		if len(v.reads) > 0 || strings.HasPrefix(v.first.Name, "_") || !isLocal && !(script && v.scope == resolve.Global) {
			continue
		}
		for _, w := range v.writes {
			isValue := w.value != nil && a.role(w.value) == "" // of jobs, other lints say more
			if isValue || isLocal && w.kind == defined {
				r.at(w.id, "", "nothing reads %s", v.first.Name)
				break
			}
		}
	}
}

// actsAtTop reports whether the top level starts jobs, waits or exports: then it is a program, and no library.
func (a *analysis) actsAtTop() bool {
	return slices.ContainsFunc(a.nodes, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || a.isInFunction(call) {
			return false
		}
		b := a.builtin(call)
		return b != nil && b.acts
	})
}

func checkUnusedLoads(a *analysis, r *reporter) {
	for _, v := range a.order {
		if len(v.writes) > 0 && v.writes[0].kind == loaded && len(v.reads) == 0 && a.isThere(v.writes[0]) {
			r.at(v.writes[0].id, "", "nothing reads %s", v.first.Name)
		}
	}
}

// isThere reports whether the file that a name is loaded from has it: if not, that was reported.
func (a *analysis) isThere(w binder) bool {
	from := a.load(w.load)
	return from != nil && slices.ContainsFunc(from.order, func(v *variable) bool {
		return v.scope == resolve.Global && v.first.Name == loadedName(w)
	})
}

func checkUnusedParameters(a *analysis, r *reporter) {
	main := a.file.findMain()
	if main == nil {
		return
	}
	for _, v := range a.order {
		if len(v.reads) == 0 && isParameter(main, v.first) {
			r.at(v.first, "", "nothing reads the parameter %s", v.first.Name)
		}
	}
}

func isParameter(def *syntax.DefStmt, id *syntax.Ident) bool {
	return slices.ContainsFunc(def.Params, func(p syntax.Expr) bool {
		if b, ok := p.(*syntax.BinaryExpr); ok {
			p = b.X
		}
		return p == syntax.Expr(id)
	})
}

// checkMainParameters finds *args and **kwargs of main.
func checkMainParameters(a *analysis, r *reporter) {
	if main := a.file.findMain(); main != nil {
		for _, p := range main.Params {
			if u, ok := p.(*syntax.UnaryExpr); ok && u.X != nil {
				r.at(u, "name them: each is given as name=value", "main is never given %s%s", u.Op, u.X.(*syntax.Ident).Name)
			}
		}
	}
}

func checkMainCalled(a *analysis, r *reporter) {
	main := a.file.findMain()
	for _, n := range a.nodes {
		if call, ok := n.(*syntax.CallExpr); ok && main != nil && !a.isInFunction(call) {
			if def, _ := a.function(call.Fn); def == main {
				r.call(call, "", "aifb calls main itself: here it runs a second time")
			}
		}
	}
}

// checkDocstrings compares what docstrings have under Args with the parameters.
func checkDocstrings(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		def, ok := n.(*syntax.DefStmt)
		if !ok || len(def.Body) == 0 {
			continue
		}
		_, args := splitArgs(docstring(def.Body))
		names := functionRow(def).Params
		for _, name := range slices.Sorted(maps.Keys(args)) {
			if slices.ContainsFunc(names, func(p Param) bool { return p.Name == name }) {
				continue
			}
			var candidates []string
			for _, p := range names {
				candidates = append(candidates, p.Name)
			}
			start, end := argLine(def.Body[0].(*syntax.ExprStmt).X.(*syntax.Literal), name)
			r.span(start, end, def.Name.Name, runtime.DidYouMean(name, candidates), "%s has no parameter %s", def.Name.Name, name)
		}
	}
}

// argLine is where a docstring says something of a parameter.
func argLine(doc *syntax.Literal, name string) (start, end syntax.Position) {
	start = doc.TokenPos
	for i, line := range strings.Split(doc.Raw, "\n") {
		text := strings.TrimLeft(line, " \t*")
		if strings.HasPrefix(text, name+":") && i > 0 {
			start.Line, start.Col = start.Line+int32(i), int32(len(line)-len(text)+1)
			break
		}
	}
	end = start
	end.Col += int32(len(name))
	return start, end
}

func checkShadowed(a *analysis, r *reporter) {
	if a.file.isYAML() {
		return
	}
	for _, v := range a.order {
		name := v.first.Name
		if len(v.writes) == 0 || !a.known(name) && !starlark.Universe.Has(name) {
			continue
		}
		if k := v.writes[0].kind; k == assigned || k == defined || k == loaded {
			r.at(v.writes[0].id, "give it another name", "%s hides the builtin of that name", name)
		}
	}
}
