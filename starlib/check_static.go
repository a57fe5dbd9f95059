package starlib

import (
	"slices"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A variable is a name of a file or of a function: all that is bound to it, and all that reads it.
type variable struct {
	first  *syntax.Ident // where it is bound first
	scope  resolve.Scope
	writes []binder
	reads  []*syntax.Ident
}

// A binder is a place that gives a variable a value.
type binder struct {
	id    *syntax.Ident
	kind  binderKind
	value syntax.Expr     // of an assignment to the sole name; nil: not known
	def   *syntax.DefStmt // of a def
	load  *syntax.LoadStmt
}

type binderKind int

const (
	assigned binderKind = iota
	parameter
	looped // by a for, or in a comprehension
	defined
	loaded
)

// An unknown is a value that is not known before the recipe runs.
type unknown struct{ opaque }

func (unknown) Type() string          { return "unknown" }
func (unknown) String() string        { return "unknown" }
func (unknown) Hash() (uint32, error) { return 0, nil }

// names finds the variables of a file that has been resolved.
func (a *analysis) names() {
	syntax.Walk(a.file.syntax, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.AssignStmt:
			a.assign(n)
		case *syntax.DefStmt:
			a.write(binder{id: n.Name, kind: defined, def: n})
			a.params(n.Params)
		case *syntax.LambdaExpr:
			a.params(n.Params)
		case *syntax.ForStmt:
			a.writeAll(n.Vars, looped)
		case *syntax.ForClause:
			a.writeAll(n.Vars, looped)
		case *syntax.LoadStmt:
			for _, to := range n.To {
				a.write(binder{id: to, kind: loaded, load: n})
			}
		}
		return true
	})
	syntax.Walk(a.file.syntax, func(n syntax.Node) bool {
		if id, ok := n.(*syntax.Ident); ok && !a.bound[id] {
			if v := a.variable(id); v != nil {
				v.reads = append(v.reads, id)
			}
		}
		return true
	})
}

func (a *analysis) assign(n *syntax.AssignStmt) {
	if id, ok := n.LHS.(*syntax.Ident); ok && n.Op == syntax.EQ {
		a.write(binder{id: id, value: n.RHS})
		return
	}
	a.writeAll(n.LHS, assigned)
}

func (a *analysis) params(params []syntax.Expr) {
	for _, p := range params {
		switch p := p.(type) {
		case *syntax.Ident:
			a.write(binder{id: p, kind: parameter})
		case *syntax.BinaryExpr: // name = default
			a.write(binder{id: p.X.(*syntax.Ident), kind: parameter})
		case *syntax.UnaryExpr:
			if id, ok := p.X.(*syntax.Ident); ok {
				a.write(binder{id: id, kind: parameter})
			}
		}
	}
}

// writeAll is for the targets of an assignment: x, (x, y), x[0], x.y. In the latter two nothing is bound.
func (a *analysis) writeAll(target syntax.Expr, kind binderKind) {
	switch t := target.(type) {
	case *syntax.Ident:
		a.write(binder{id: t, kind: kind})
	case *syntax.ParenExpr:
		a.writeAll(t.X, kind)
	case *syntax.TupleExpr:
		for _, x := range t.List {
			a.writeAll(x, kind)
		}
	case *syntax.ListExpr:
		for _, x := range t.List {
			a.writeAll(x, kind)
		}
	}
}

func (a *analysis) write(w binder) {
	if v := a.variable(w.id); v != nil {
		a.bound[w.id] = true
		v.writes = append(v.writes, w)
	}
}

// variable is the variable that an identifier means, or nil if it means none of the file's.
func (a *analysis) variable(id *syntax.Ident) *variable {
	b, ok := id.Binding.(*resolve.Binding)
	if !ok || b.First == nil {
		return nil
	}
	v := a.vars[b.First]
	if v == nil {
		v = &variable{first: b.First, scope: b.Scope}
		a.vars[b.First] = v
		a.order = append(a.order, v)
	}
	return v
}

// sole is what binds the variable that an identifier means, if one place alone does.
func (a *analysis) sole(id *syntax.Ident) (binder, bool) {
	v := a.variable(id)
	if v == nil || len(v.writes) != 1 {
		return binder{}, false
	}
	return v.writes[0], true
}

// predeclaredName returns the name that an expression is, "a" or "a.b", if it is one of ours or Starlark's own and not
// the recipe's.
func predeclaredName(e syntax.Expr) string {
	switch e := e.(type) {
	case *syntax.Ident:
		if b, ok := e.Binding.(*resolve.Binding); ok && (b.Scope == resolve.Predeclared || b.Scope == resolve.Universal) {
			return e.Name
		}
	case *syntax.DotExpr:
		if module := predeclaredName(e.X); module != "" {
			return module + "." + e.Name.Name
		}
	}
	return ""
}

// builtin is the row of what a call calls, or nil.
func (a *analysis) builtin(call *syntax.CallExpr) *Builtin {
	if name := predeclaredName(call.Fn); name != "" {
		return a.builtins[name]
	}
	return nil
}

// calls reports whether an expression is a call of one of the builtins named.
func (a *analysis) calls(e syntax.Node, names ...string) bool {
	call, ok := e.(*syntax.CallExpr)
	return ok && slices.Contains(names, predeclaredName(call.Fn))
}

// function is the function of a recipe that an expression names, and the file that it is in; or nil.
func (a *analysis) function(e syntax.Expr) (*syntax.DefStmt, *analysis) {
	id, ok := e.(*syntax.Ident)
	if !ok {
		return nil, nil
	}
	w, ok := a.sole(id)
	switch {
	case !ok:
	case w.kind == defined:
		return w.def, a
	case w.kind == loaded:
		if from := a.load(w.load); from != nil {
			return from.global(loadedName(w))
		}
	}
	return nil, nil
}

// loadedName is the name that a loaded variable has in its file.
func loadedName(w binder) string {
	for i, to := range w.load.To {
		if to == w.id {
			return w.load.From[i].Name
		}
	}
	return ""
}

// global is the function of that name, if nothing else can be meant by it.
func (a *analysis) global(name string) (*syntax.DefStmt, *analysis) {
	for _, v := range a.order {
		if v.first.Name == name && v.scope == resolve.Global && len(v.writes) == 1 && v.writes[0].kind == defined {
			return v.writes[0].def, a
		}
	}
	return nil, nil
}

// A staticValue is what is known of the value of an expression. If it is not exact, only its type is right; a nil value
// may be anything.
type staticValue struct {
	value starlark.Value
	exact bool
}

// static returns what is known of the value of an expression without running anything.
func (a *analysis) static(e syntax.Expr) (v starlark.Value, exact bool) {
	s, ok := a.statics[e]
	if !ok {
		a.statics[e] = staticValue{} // of what depends on itself nothing is known
		s.value, s.exact = a.findStatic(e)
		a.statics[e] = s
	}
	return s.value, s.exact
}

func (a *analysis) findStatic(e syntax.Expr) (v starlark.Value, exact bool) {
	if v, ok := literal(e); ok && !isContainer(e) {
		return v, true
	}
	switch e := e.(type) {
	case *syntax.ParenExpr:
		return a.static(e.X)
	case *syntax.ListExpr:
		elems, exact := a.staticAll(e.List)
		return starlark.NewList(elems), exact
	case *syntax.TupleExpr:
		elems, exact := a.staticAll(e.List)
		return starlark.Tuple(elems), exact
	case *syntax.DictExpr:
		return a.staticDict(e)
	case *syntax.Comprehension:
		if e.Curly {
			return starlark.NewDict(0), false
		}
		return starlark.NewList(nil), false
	case *syntax.BinaryExpr:
		return a.staticText(e)
	case *syntax.Ident:
		return a.staticName(e)
	case *syntax.CallExpr:
		return a.staticCall(e)
	}
	return nil, false
}

func isContainer(e syntax.Expr) bool {
	switch e := e.(type) {
	case *syntax.ListExpr, *syntax.TupleExpr, *syntax.DictExpr:
		return true
	case *syntax.ParenExpr:
		return isContainer(e.X)
	}
	return false
}

func (a *analysis) staticAll(exprs []syntax.Expr) (elems []starlark.Value, exact bool) {
	for _, x := range exprs {
		v, exact := a.static(x)
		if !exact {
			return nil, false
		}
		elems = append(elems, v)
	}
	return elems, true
}

func (a *analysis) staticDict(e *syntax.DictExpr) (v starlark.Value, exact bool) {
	d := starlark.NewDict(len(e.List))
	for _, x := range e.List {
		entry := x.(*syntax.DictEntry)
		k, exactKey := a.static(entry.Key)
		v, exactValue := a.static(entry.Value)
		if !exactKey || !exactValue || d.SetKey(k, v) != nil {
			return starlark.NewDict(0), false
		}
	}
	return d, true
}

// staticText knows that "..." % x is a text, and so is "..." + x.
func (a *analysis) staticText(e *syntax.BinaryExpr) (v starlark.Value, exact bool) {
	if e.Op != syntax.PERCENT && e.Op != syntax.PLUS {
		return nil, false
	}
	if left, _ := a.static(e.X); left != nil {
		if _, ok := left.(starlark.String); ok {
			return starlark.String(""), false
		}
	}
	return nil, false
}

// staticName follows a name that is bound once. The content of what can change is not known.
func (a *analysis) staticName(id *syntax.Ident) (v starlark.Value, exact bool) {
	if name := predeclaredName(id); name != "" {
		return a.modules[name], false
	}
	w, ok := a.sole(id)
	if !ok || w.value == nil {
		return nil, false
	}
	v, exact = a.static(w.value)
	switch v.(type) {
	case *starlark.List, *starlark.Dict, starlark.Tuple:
		exact = false
	}
	return v, exact
}

// staticCall knows what builtins return, and functions that do nothing else than return that.
func (a *analysis) staticCall(call *syntax.CallExpr) (v starlark.Value, exact bool) {
	if b := a.builtin(call); b != nil {
		example := a.examples[b.Returns]
		return example.value, example.exact
	}
	def, in := a.function(call.Fn)
	if def == nil {
		return nil, false
	}
	var results []syntax.Expr
	for _, stmt := range def.Body {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			if r, ok := n.(*syntax.ReturnStmt); ok {
				results = append(results, r.Result)
			}
			_, nested := n.(*syntax.DefStmt)
			return !nested
		})
	}
	if len(results) != 1 || results[0] == nil {
		return nil, false
	}
	v, _ = in.static(results[0])
	if _, ok := v.(*handle); !ok { // anything else may depend on the arguments
		return nil, false
	}
	return v, true
}

// examples are values of the types that builtins return, and whether one is as good as another: those that recipes only
// pass on are.
func examples() map[string]staticValue {
	all := map[string]staticValue{
		"Ready": {&readyValue{}, true}, "Metric": {&metricValue{}, true}, "Table": {newTable(nil), true},
		"ClusterTable": {newClusterTable(runtime.Table{Name: runtime.TableQueue}), true}, "Secret": {&secretValue{}, true},
		"str": {starlark.String(""), false}, "float": {starlark.Float(0), false}, "int": {starlark.MakeInt(0), false},
	}
	for _, role := range []runtime.Role{runtime.RoleService, runtime.RoleClient, runtime.RoleJob} {
		h := &handle{Handle: &runtime.Handle{Name: string(role), Role: role}, methods: make(starlark.StringDict)}
		for _, b := range handleMethods() {
			h.methods[b.Name] = b.value()
		}
		all[h.Type()] = staticValue{h, true}
	}
	return all
}
