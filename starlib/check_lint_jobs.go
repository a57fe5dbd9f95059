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

// role is what an expression is, if it is a service, client or job for sure.
func (a *analysis) role(e syntax.Expr) runtime.Role {
	v, _ := a.static(e)
	if h, ok := v.(*handle); ok {
		return h.Role
	}
	return ""
}

// checkCommands finds jobs that give nothing to run, and services that answer on a port that they do not have.
func checkCommands(a *analysis, r *reporter) {
	for _, call := range a.builtinCalls("service", "client", "job") {
		_, kwargs, open := a.arguments(call)
		names := a.builtin(call).names()
		misspelt := slices.ContainsFunc(kwargs, func(kw starlark.Tuple) bool {
			return !slices.Contains(names, string(kw[0].(starlark.String)))
		})
		if open || misspelt {
			continue // what seems to be missing may be there
		}
		if keywordArg(call, "command") == nil && keywordArg(call, "args") == nil && keywordArg(call, "image") == nil {
			r.call(call, "command = a line for /bin/sh, image = a container",
				"there is nothing to run: no command, no args, no image")
		}
		ready := keywordArg(call, "ready")
		if ready != nil && a.calls(ready, "ready.tcp", "ready.http") && keywordArg(call, "port") == nil {
			r.at(ready, "port = 0 takes a free one", "%s needs a port", predeclaredName(ready.(*syntax.CallExpr).Fn))
		}
	}
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
	states := []string{"submitted", "refused", string(runtime.Pending), string(runtime.Running)}
	for _, o := range []runtime.Outcome{runtime.Completed, runtime.Failed, runtime.TimedOut, runtime.OutOfMemory,
		runtime.Cancelled, runtime.Preempted, runtime.NodeFailure, runtime.Lost} {
		states = append(states, string(o))
	}
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
				r.call(call, "wait_done(x) waits until it has measured",
					"nothing waits for this client: it is cancelled when the recipe ends")
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
	if len(a.builtinCalls("export_csv", "export_json", "measurements", "record", "expect", "run", "read", "download")) > 0 {
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
	if a.file.isYAML() {
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
