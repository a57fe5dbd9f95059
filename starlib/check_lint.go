package starlib

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A Lint looks for one kind of mistake. The comment "# check: ignore NAME" silences it on its line.
type Lint struct {
	Name    string
	Doc     string
	Warning bool // a recipe with that mistake runs
	find    func(*analysis, *reporter)
}

// Lints returns all lints, errors first.
func Lints() []*Lint {
	const warning = true
	return []*Lint{
		{"call", "arguments that a builtin, a method or a function does not take", !warning, checkCalls},
		{"attribute", "an attribute that a value does not have", !warning, checkAttributes},
		{"format", `a conversion that "..." % x does not know, or another number of values`, !warning, checkFormats},
		{"pattern", "a regular expression that is none", !warning, checkPatterns},
		{"no-command", "a service, client or job with nothing to run, or that cannot be seen to answer", !warning, checkCommands},
		{"handle-compared", "a service, client or job compared with another kind of value", !warning, checkComparisons},
		{"loaded-acts", "a job that is started while a file is being loaded", !warning, checkLoadedActs},
		{"frozen", "main changes a list or a dict of the top level", !warning, checkFrozen},

		{"unwaited-service", "a service that nothing waits for, and no client is given", warning, checkUnwaited(runtime.RoleService)},
		{"unwaited-client", "a client that nothing waits for: it is cancelled when the recipe ends", warning, checkUnwaited(runtime.RoleClient)},
		{"unchecked-outcome", "wait_done(check = False) of a job whose state nothing looks at", warning, checkOutcomes},
		{"service-done", "wait_done of a service, which does not end by itself", warning, checkServiceDone},
		{"waits-for-nothing", "wait_done() and its like without a job", warning, checkEmptyWaits},
		{"no-export", "what clients measure is neither exported nor looked at", warning, checkExport},
		{"unknown-state", "a state that no job can have", warning, checkStates},
		{"duplicate-name", "two services or jobs of one name", warning, checkDuplicates},
		{"unused-name", "a local name that nothing reads", warning, checkUnusedNames},
		{"unused-load", "a loaded name that nothing reads", warning, checkUnusedLoads},
		{"unused-parameter", "a parameter of main that nothing reads", warning, checkUnusedParameters},
		{"main-parameter", "a parameter of main that the command line cannot give", warning, checkMainParameters},
		{"main-called", "main is called by the file itself, and so twice", warning, checkMainCalled},
		{"docstring-args", "a docstring about a parameter that there is not", warning, checkDocstrings},
		{"shadowed-builtin", "a name that hides a builtin", warning, checkShadowed},
		{"no-effect", "an expression whose value is lost", warning, checkNoEffect},
		{"unreachable", "what no run gets to", warning, checkUnreachable},
		{"ignore", "a comment that silences a lint that there is not", warning, checkIgnores},
	}
}

// builtinCalls yields the calls of the builtins named, in the order of the file.
func (a *analysis) builtinCalls(names ...string) (calls []*syntax.CallExpr) {
	for _, n := range a.nodes {
		if a.calls(n, names...) {
			calls = append(calls, n.(*syntax.CallExpr))
		}
	}
	return calls
}

// keywordArg returns the value that a call gives a parameter by name, or nil.
func keywordArg(call *syntax.CallExpr, name string) syntax.Expr {
	for _, arg := range call.Args {
		if kw, ok := arg.(*syntax.BinaryExpr); ok && kw.Op == syntax.EQ && kw.X.(*syntax.Ident).Name == name {
			return kw.Y
		}
	}
	return nil
}

// positional returns the arguments that a call does not give by name.
func positional(call *syntax.CallExpr) (args []syntax.Expr) {
	for _, arg := range call.Args {
		if kw, ok := arg.(*syntax.BinaryExpr); !ok || kw.Op != syntax.EQ {
			args = append(args, arg)
		}
	}
	return args
}

func checkAttributes(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		dot, ok := n.(*syntax.DotExpr)
		if !ok {
			continue
		}
		v, _ := a.static(dot.X)
		if v == nil || v == starlark.None {
			continue
		}
		var names []string
		if has, ok := v.(starlark.HasAttrs); ok {
			names = has.AttrNames()
		}
		if slices.Contains(names, dot.Name.Name) {
			continue
		}
		what := typeOf(v)
		if name := predeclaredName(dot.X); name != "" {
			what = name
		}
		hint := habits(fmt.Sprintf("%s has no .%s field or method", v.Type(), dot.Name.Name)) // as Starlark says it
		if hint == "" {
			hint = runtime.DidYouMean(dot.Name.Name, names)
		}
		r.at(dot.Name, hint, "%s has no .%s", what, dot.Name.Name)
	}
}

var conversion = regexp.MustCompile(`%(?:%|(\(\w*\))?(.?))`)

// checkFormats checks "..." % x.
func checkFormats(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		e, ok := n.(*syntax.BinaryExpr)
		if !ok || e.Op != syntax.PERCENT {
			continue
		}
		text, ok := a.text(e.X)
		if !ok {
			continue
		}
		wants, byName, message := conversions(text)
		if message != "" {
			hint := habits(message)
			if hint == "" {
				hint = "%% is a percent sign"
			}
			r.at(e.X, hint, "%s", message)
		} else if got, known := a.operands(e.Y); known && !byName && got != wants {
			r.at(e.Y, "", "the format wants %s, not %d", runtime.Plural(wants, "value"), got)
		}
	}
}

// conversions counts the conversions of a format. The message is Starlark's for the first that it does not know.
func conversions(format string) (n int, byName bool, message string) {
	for _, m := range conversion.FindAllStringSubmatch(format, -1) {
		switch {
		case m[0] == "%%":
			continue
		case m[2] == "":
			return n, byName, "incomplete format"
		case !strings.Contains("sridoxXeEfFgGc", m[2]):
			return n, byName, "unknown conversion %" + m[2]
		}
		n++
		byName = byName || m[1] != ""
	}
	return n, byName, ""
}

// operands is how many values the right side of "..." % x is.
func (a *analysis) operands(e syntax.Expr) (n int, known bool) {
	for {
		paren, ok := e.(*syntax.ParenExpr)
		if !ok {
			break
		}
		e = paren.X
	}
	if t, ok := e.(*syntax.TupleExpr); ok {
		return len(t.List), true
	}
	v, _ := a.static(e)
	switch v.(type) {
	case starlark.String, starlark.Int, starlark.Float, starlark.Bool, *starlark.List:
		return 1, true
	}
	return 0, false
}

// checkPatterns compiles the regular expressions that are known.
func checkPatterns(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		call, ok := n.(*syntax.CallExpr)
		if !ok {
			continue
		}
		b := a.builtin(call)
		if b == nil || !slices.ContainsFunc(b.Params, func(p Param) bool { return p.Name == "pattern" }) {
			continue
		}
		at := keywordArg(call, "pattern")
		if args := positional(call); at == nil && len(args) > 0 && b.Params[0].Name == "pattern" {
			at = args[0]
		}
		if at == nil {
			continue
		}
		if text, ok := a.text(at); ok {
			if _, err := regexp.Compile(text); err != nil {
				r.at(at, "", "%s: %w", b.Name, err)
			}
		}
	}
}

// text is the value of an expression, if it is a str that is known.
func (a *analysis) text(e syntax.Expr) (string, bool) {
	if e == nil {
		return "", false
	}
	v, exact := a.static(e)
	s, ok := v.(starlark.String)
	return string(s), ok && exact
}

// checkNoEffect finds statements that are an expression in which nothing is called.
func checkNoEffect(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		e, ok := n.(*syntax.ExprStmt)
		if !ok {
			continue
		}
		if l, ok := e.X.(*syntax.Literal); ok && l.Token == syntax.STRING { // a docstring, or a comment
			continue
		}
		effect := false
		syntax.Walk(e.X, func(n syntax.Node) bool {
			_, call := n.(*syntax.CallExpr)
			effect = effect || call
			return true
		})
		if effect {
			continue
		}
		hint := ""
		if b := a.builtins[predeclaredName(e.X)]; b != nil {
			hint = "call it: " + b.Name + "(...)"
		} else if def, _ := a.function(e.X); def != nil {
			hint = "call it: " + def.Name.Name + "(...)"
		}
		r.at(e.X, hint, "this does nothing")
	}
}

// checkUnreachable finds statements behind one that ends its block.
func checkUnreachable(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		for _, block := range blocks(n) {
			for i, stmt := range block {
				if i > 0 && a.ends(block[i-1]) {
					r.at(stmt, "", "no run gets here")
					break
				}
			}
		}
	}
}

func blocks(n syntax.Node) [][]syntax.Stmt {
	switch n := n.(type) {
	case *syntax.File:
		return [][]syntax.Stmt{n.Stmts}
	case *syntax.DefStmt:
		return [][]syntax.Stmt{n.Body}
	case *syntax.IfStmt:
		return [][]syntax.Stmt{n.True, n.False}
	case *syntax.ForStmt:
		return [][]syntax.Stmt{n.Body}
	case *syntax.WhileStmt:
		return [][]syntax.Stmt{n.Body}
	}
	return nil
}

// ends reports whether what follows a statement is never reached.
func (a *analysis) ends(stmt syntax.Stmt) bool {
	switch s := stmt.(type) {
	case *syntax.ReturnStmt:
		return true
	case *syntax.BranchStmt:
		return s.Token != syntax.PASS
	case *syntax.ExprStmt:
		return a.calls(s.X, "fail", "exit")
	case *syntax.IfStmt:
		return len(s.True) > 0 && len(s.False) > 0 && a.ends(s.True[len(s.True)-1]) && a.ends(s.False[len(s.False)-1])
	}
	return false
}

// checkIgnores finds comments that silence what there is not.
func checkIgnores(a *analysis, r *reporter) {
	var names []string
	for _, l := range a.lints {
		names = append(names, l.Name)
	}
	for line, ignored := range a.ignored {
		pos := syntax.MakePosition(&a.file.name, int32(line), 1)
		for _, name := range ignored {
			if !slices.Contains(names, name) {
				r.span(pos, pos, "", runtime.DidYouMean(name, names), "there is no lint %s", name)
			}
		}
		if len(ignored) == 0 {
			r.span(pos, pos, "", "# check: ignore unused-name", "it does not say which lint to ignore")
		}
	}
}
