package starlib

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/resolve"
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

// role is what an expression is, if it is a service, client or job for sure.
func (a *analysis) role(e syntax.Expr) runtime.Role {
	v, _ := a.static(e)
	if h, ok := v.(*handle); ok {
		return h.Role
	}
	return ""
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
		message := fmt.Sprintf("%s has no .%s field or method", what, dot.Name.Name)
		hint := runtime.DidYouMean(dot.Name.Name, names)
		if h := habit(message); h != "" {
			hint = h
		}
		r.at(dot.Name, hint, "%s", message)
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
			hint := habit(message)
			if hint == "" {
				hint = "%% is a percent sign"
			}
			r.at(e.X, hint, "%s", message)
		} else if got, known := a.operands(e.Y); known && !byName && got != wants {
			r.at(e.Y, "", "the format wants %s, not %d", plural(wants, "value"), got)
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

func checkComparisons(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		e, ok := n.(*syntax.BinaryExpr)
		if !ok || e.Op != syntax.EQL && e.Op != syntax.NEQ {
			continue
		}
		x, _ := a.static(e.X)
		y, _ := a.static(e.Y)
		_, left := x.(*handle)
		_, right := y.(*handle)
		if x == nil || y == nil || left == right || x == starlark.None || y == starlark.None {
			continue
		}
		r.at(e, ".state, .name and .exit_code are what can be compared", "a %s is never equal to a %s", typeOf(x), typeOf(y))
	}
}

// checkStates checks the states that those of jobs are compared with.
func checkStates(a *analysis, r *reporter) {
	states := []string{"submitted", "refused", string(runtime.Pending), string(runtime.Running), string(runtime.Completed),
		string(runtime.Failed), string(runtime.TimedOut), string(runtime.OutOfMemory), string(runtime.Cancelled), string(runtime.Preempted),
		string(runtime.NodeFailure), string(runtime.Lost)}
	check := func(state, other syntax.Expr) {
		dot, ok := state.(*syntax.DotExpr)
		if !ok || dot.Name.Name != "state" || a.role(dot.X) == "" {
			return
		}
		if text, ok := a.text(other); ok && !slices.Contains(states, text) {
			hint := runtime.DidYouMean(text, states)
			if hint == "" {
				hint = "states are " + strings.Join(states, ", ")
			}
			r.at(other, hint, "no job has the state %q", text)
		}
	}
	for _, n := range a.nodes {
		if e, ok := n.(*syntax.BinaryExpr); ok && (e.Op == syntax.EQL || e.Op == syntax.NEQ) {
			check(e.X, e.Y)
			check(e.Y, e.X)
		}
	}
}

// checkLoadedActs finds calls that act at the top level of a file that is loaded.
func checkLoadedActs(a *analysis, r *reporter) {
	for _, n := range a.nodes {
		call, ok := n.(*syntax.CallExpr)
		if !ok || !a.isLoaded || a.isInFunction(call) {
			continue
		}
		if b := a.builtin(call); b != nil && b.acts {
			r.call(call, "", "%s: not in a file that is loaded; call it from a function", b.Name)
		}
	}
}

// isInFunction reports whether a node runs only when a function is called.
func (a *analysis) isInFunction(n syntax.Node) bool {
	for n = a.parent[n]; n != nil; n = a.parent[n] {
		switch n.(type) {
		case *syntax.DefStmt, *syntax.LambdaExpr:
			return true
		}
	}
	return false
}

// changing are the methods of lists, dicts and sets that change them.
var changing = []string{"append", "extend", "insert", "remove", "clear", "pop", "popitem", "setdefault", "update", "add", "discard"}

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

// checkUnwaited finds jobs of a role that are started and then left alone: their handle is lost, or only looked at.
func checkUnwaited(role runtime.Role) func(*analysis, *reporter) {
	return func(a *analysis, r *reporter) {
		for _, n := range a.nodes {
			call, ok := n.(*syntax.CallExpr)
			if !ok || a.role(call) != role || !a.isLeft(call) {
				continue
			}
			if role == runtime.RoleService {
				r.call(call, "wait_running(x) waits until it answers", "nothing waits for this service, and no client is given it")
			} else {
				r.call(call, "wait_done(x) waits until it has measured", "nothing waits for this client: it is cancelled when the recipe ends")
			}
		}
	}
}

// isLeft reports whether the value of a call goes nowhere that could wait for it.
func (a *analysis) isLeft(call *syntax.CallExpr) bool {
	switch parent := a.parent[call].(type) {
	case *syntax.ExprStmt:
		return true
	case *syntax.AssignStmt:
		id, ok := parent.LHS.(*syntax.Ident)
		if !ok || parent.Op != syntax.EQ {
			return false
		}
		v := a.variable(id)
		return v != nil && !(v.scope == resolve.Global && a.isLoaded) && !slices.ContainsFunc(v.reads, a.mayWait)
	}
	return false
}

// mayWait reports whether a use of a handle may lead to a wait for its job.
func (a *analysis) mayWait(id *syntax.Ident) bool {
	switch parent := a.parent[id].(type) {
	case *syntax.DotExpr, *syntax.ExprStmt:
		return false
	case *syntax.BinaryExpr:
		return parent.Op == syntax.EQ // a keyword argument
	case *syntax.CallExpr:
		return !a.calls(parent, "stop", "print", "warn", "help", "str", "repr", "type")
	}
	return true
}

// checkOutcomes finds jobs that may fail without anybody noticing.
func checkOutcomes(a *analysis, r *reporter) {
	for _, call := range a.builtinCalls("wait_done") {
		check := keywordArg(call, "check")
		if check == nil {
			continue
		}
		if v, exact := a.static(check); v != starlark.False || !exact {
			continue
		}
		for _, arg := range positional(call) {
			if a.role(arg) != "" && a.isUnseen(arg) {
				r.at(arg, "look at its state, or leave out check = False", "if this job fails, nobody notices")
			}
		}
	}
}

// isUnseen reports whether nothing but waits has to do with a job.
func (a *analysis) isUnseen(job syntax.Expr) bool {
	id, ok := job.(*syntax.Ident)
	if !ok {
		_, ok := job.(*syntax.CallExpr)
		return ok
	}
	v := a.variable(id)
	return v != nil && !slices.ContainsFunc(v.reads, func(read *syntax.Ident) bool {
		return !a.calls(a.parent[read], "wait_done", "wait_running", "stop")
	})
}

func checkServiceDone(a *analysis, r *reporter) {
	stopped := make(map[*variable]bool)
	for _, call := range a.builtinCalls("stop") {
		for _, arg := range call.Args {
			if id, ok := arg.(*syntax.Ident); ok {
				stopped[a.variable(id)] = true
			}
		}
	}
	for _, call := range a.builtinCalls("wait_done") {
		for _, arg := range positional(call) {
			if a.role(arg) != runtime.RoleService {
				continue
			}
			if id, ok := arg.(*syntax.Ident); !ok || !stopped[a.variable(id)] {
				r.at(arg, "wait_running waits until it answers; stop ends it", "a service does not end by itself")
			}
		}
	}
}

func checkEmptyWaits(a *analysis, r *reporter) {
	for _, call := range a.builtinCalls("wait_done", "wait_running", "stop") {
		open := slices.ContainsFunc(call.Args, func(arg syntax.Expr) bool {
			u, ok := arg.(*syntax.UnaryExpr)
			return ok && u.Op == syntax.STARSTAR
		})
		if len(positional(call)) == 0 && !open {
			name := predeclaredName(call.Fn)
			r.call(call, name+"(a, b), or a list of jobs", "%s without a job does nothing", name)
		}
	}
}

// checkExport is for recipes whose clients measure for nobody.
func checkExport(a *analysis, r *reporter) {
	clients := a.builtinCalls("client")
	if len(clients) == 0 || a.isLoaded {
		return
	}
	if len(a.builtinCalls("export_csv", "export_json", "measurements", "record", "expect")) > 0 {
		return
	}
	for _, n := range a.nodes {
		switch n := n.(type) {
		case *syntax.DotExpr:
			if slices.Contains([]string{"metric", "measurements", "logs"}, n.Name.Name) {
				return
			}
		case *syntax.CallExpr:
			if id, ok := n.Fn.(*syntax.Ident); ok && a.isLoadedName(id) && a.role(n) == "" {
				return // it may look at them
			}
		case *syntax.ReturnStmt:
			if def := a.around(n); def != nil && def.Name.Name != "main" && a.file.findMain() == nil {
				return // a library
			}
		}
	}
	r.call(clients[0], `export_csv("results.csv"); they are also in the store: aifb export RUN`,
		"what the clients measure is neither exported nor looked at")
}

func (a *analysis) isLoadedName(id *syntax.Ident) bool {
	w, ok := a.sole(id)
	return ok && w.kind == loaded
}

// checkDuplicates finds names that are given twice on one way through a function.
func checkDuplicates(a *analysis, r *reporter) {
	if isYAML(a.file.name) {
		return
	}
	a.duplicates(r, a.file.syntax.Stmts, make(map[string]bool))
	for _, n := range a.nodes {
		if def, ok := n.(*syntax.DefStmt); ok {
			a.duplicates(r, def.Body, make(map[string]bool))
		}
	}
}

func (a *analysis) duplicates(r *reporter, stmts []syntax.Stmt, seen map[string]bool) {
	for _, stmt := range stmts {
		switch s := stmt.(type) {
		case *syntax.DefStmt:
		case *syntax.IfStmt: // of two branches only one is taken
			then, or := maps.Clone(seen), maps.Clone(seen)
			a.duplicates(r, s.True, then)
			a.duplicates(r, s.False, or)
			maps.Copy(seen, then)
			maps.Copy(seen, or)
		case *syntax.ForStmt:
			a.duplicates(r, s.Body, seen)
		case *syntax.WhileStmt:
			a.duplicates(r, s.Body, seen)
		default:
			syntax.Walk(stmt, func(n syntax.Node) bool {
				if !a.calls(n, "service", "client", "job") {
					return true
				}
				call := n.(*syntax.CallExpr)
				at := keywordArg(call, "name")
				if args := positional(call); at == nil && len(args) > 0 && !a.calls(n, "client") {
					at = args[0]
				}
				if name, ok := a.text(at); ok {
					if seen[name] {
						r.at(at, "it is called "+name+"-2 in the results", "there is another job of the name %s", name)
					}
					seen[name] = true
				}
				return true
			})
		}
	}
}

func checkUnusedNames(a *analysis, r *reporter) {
	if isYAML(a.file.name) {
		return
	}
	script := !a.isLoaded && a.file.findMain() == nil && a.actsAtTop()
	for _, v := range a.order {
		w := v.writes
		isLocal := v.scope == resolve.Local || v.scope == resolve.Cell || v.scope == resolve.Free
		if len(w) == 0 || len(v.reads) > 0 || strings.HasPrefix(v.first.Name, "_") || !isLocal && !(script && v.scope == resolve.Global) {
			continue
		}
		for _, w := range w {
			if w.value == nil && !(isLocal && w.kind == defined) || w.value != nil && a.role(w.value) != "" { // of which other lints say more
				continue
			}
			r.at(w.id, "", "nothing reads %s", v.first.Name)
			break
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
		if w := v.writes; len(w) > 0 && w[0].kind == parameter && len(v.reads) == 0 && a.around(w[0].id) == main && isParameter(main, w[0].id) {
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
	if isYAML(a.file.name) {
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
