package starlib

import (
	"errors"
	"fmt"
	"slices"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// checkCalls checks calls of builtins, of methods and of functions against their parameters.
func checkCalls(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		if call, ok := n.(*syntax.CallExpr); ok {
			if b := a.callee(call); b != nil {
				a.checkCall(r, call, b)
			}
		}
	}
}

// callee is the row of what a call calls: of the tables, or of a function of a recipe; or nil.
func (a *analysis) callee(call *syntax.CallExpr) *Builtin {
	if b := a.builtin(call); b != nil {
		return b
	}
	if dot, ok := call.Fn.(*syntax.DotExpr); ok {
		if v, _ := a.static(dot.X); v != nil {
			return a.methods[v.Type()+"."+dot.Name.Name]
		}
	}
	if def, in := a.function(call.Fn); def != nil {
		b := a.rows[def]
		if b == nil {
			b = in.forwarding(functionRow(def), def)
			a.rows[def] = b
		}
		return b
	}
	return nil
}

// forwarding replaces the **name of a function by the parameters that it stands for, if the function does nothing else
// with it than to hand it to a builtin.
func (a *analysis) forwarding(b *Builtin, def *syntax.DefStmt) *Builtin {
	last := len(def.Params) - 1
	if last < 0 {
		return b
	}
	rest, ok := def.Params[last].(*syntax.UnaryExpr)
	if !ok || rest.Op != syntax.STARSTAR {
		return b
	}
	v := a.variable(rest.X.(*syntax.Ident))
	if v == nil || len(v.reads) != 1 {
		return b
	}
	handed, ok := a.parent[v.reads[0]].(*syntax.UnaryExpr)
	if !ok || handed.Op != syntax.STARSTAR {
		return b
	}
	call, ok := a.parent[handed].(*syntax.CallExpr)
	if !ok {
		return b
	}
	to := a.builtin(call)
	if to == nil {
		return b
	}
	own, slots := b.Params[:len(b.Params)-1], to.slots()
	expanded := &Builtin{Name: b.Name, Params: slices.Clone(own)}
	all := slices.Clone(b.slots()[:len(own)])
	for i, p := range to.Params {
		isOwn := slices.ContainsFunc(own, func(o Param) bool { return o.Name == p.Name })
		if p.Rest == "*" || p.Rest == "" && (p.Required || isOwn) {
			continue
		}
		p.Keyword = p.Rest == ""
		expanded.Params, all = append(expanded.Params, p), append(all, slots[i])
	}
	expanded.slots = func() []slot { return slices.Clone(all) }
	return expanded
}

// functionRow is a row for a function of a recipe: it may be given anything.
func functionRow(def *syntax.DefStmt) *Builtin {
	b := &Builtin{Name: def.Name.Name}
	star := false
	for _, p := range def.Params {
		switch p := p.(type) {
		case *syntax.Ident:
			b.Params = append(b.Params, Param{Name: p.Name, Required: true, Keyword: star})
		case *syntax.BinaryExpr: // name = default
			b.Params = append(b.Params, Param{Name: p.X.(*syntax.Ident).Name, Keyword: star})
		case *syntax.UnaryExpr: // *, *name or **name
			star = true
			if id, ok := p.X.(*syntax.Ident); ok {
				b.Params = append(b.Params, Param{Name: id.Name, Rest: p.Op.String()})
			}
		}
	}
	return b.anything()
}

// anything makes the parameters of a row take any value, and returns the row.
func (b *Builtin) anything() *Builtin {
	b.slots = func() []slot {
		return slices.Repeat([]slot{{set: func(string, starlark.Value) error { return nil }}}, len(b.Params))
	}
	return b
}

// checkCall binds what is known of the arguments of a call, as running it would.
func (a *analysis) checkCall(r *reporter, call *syntax.CallExpr, b *Builtin) {
	args, kwargs, open := a.arguments(call)
	slots := b.slots()
	for i, s := range slots {
		slots[i].set = s.setKnown
	}
	bd := &binding{Builtin: b, slots: slots, given: make([]bool, len(slots))}
	bd.positional(args)
	bd.named(kwargs)
	if !open {
		bd.missing()
	}
	for _, err := range bd.errs {
		at := call.Fn
		if e := (*argumentError)(nil); errors.As(err, &e) {
			at = argumentNode(call, e.place)
		}
		r.at(at, runtime.HintOf(err), "%w", err)
	}
}

// arguments returns what is known of the arguments of a call. It is open if there may be more of them.
func (a *analysis) arguments(call *syntax.CallExpr) (args starlark.Tuple, kwargs []starlark.Tuple, open bool) {
	known := func(e syntax.Expr) starlark.Value {
		if v, exact := a.static(e); exact {
			return v
		}
		return unknown{}
	}
	for _, arg := range call.Args {
		switch arg := arg.(type) {
		case *syntax.UnaryExpr:
			if arg.Op == syntax.STAR || arg.Op == syntax.STARSTAR {
				open = true
				continue
			}
			args = append(args, known(arg))
		case *syntax.BinaryExpr:
			if arg.Op == syntax.EQ {
				kwargs = append(kwargs, starlark.Tuple{starlark.String(arg.X.(*syntax.Ident).Name), known(arg.Y)})
				continue
			}
			args = append(args, known(arg))
		default:
			args = append(args, known(arg))
		}
	}
	return args, kwargs, open
}

// setKnown sets what is known of a value, of the values of *name, and of those of **name.
func (s slot) setKnown(path string, v starlark.Value) error {
	switch v := v.(type) {
	case unknown:
		return nil
	case starlark.Tuple:
		if !slices.Contains(v, starlark.Value(unknown{})) {
			return s.set(path, v)
		}
		for i, elem := range v {
			if elem != (unknown{}) && s.typ != "any" {
				if err := s.set(fmt.Sprintf("%s[%d]", path, i), elem); err != nil {
					return err
				}
			}
		}
		return nil
	case *starlark.Dict:
		known := starlark.NewDict(v.Len())
		for k, elem := range starlark.Entries(v) {
			if elem != (unknown{}) {
				known.SetKey(k, elem) // it is a key already
			}
		}
		return s.set(path, known)
	}
	return s.set(path, v)
}

// argumentNode is the argument of a call at a place, or what is called if the call has none there.
func argumentNode(call *syntax.CallExpr, at place) syntax.Expr {
	if args := positional(call); at.index >= 0 && at.index < len(args) {
		return args[at.index]
	}
	for _, arg := range call.Args {
		kw, ok := arg.(*syntax.BinaryExpr)
		if !ok || kw.Op != syntax.EQ || kw.X.(*syntax.Ident).Name != at.name {
			continue
		}
		if at.value {
			return kw.Y
		}
		return kw.X
	}
	return call.Fn
}
