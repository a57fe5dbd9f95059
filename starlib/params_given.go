package starlib

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
	"go.yaml.in/yaml/v3"

	"github.com/aifb/aifb/runtime"
)

// Given is what gives the parameters of a recipe, each more than the one before it.
type Given struct {
	File string   // its name; in YAML or JSON, a map whose keys are parameters; "" is none
	Env  []string // NAME=value, as os.Environ has it: AIFB_PARAM_N is the parameter n
	Args []string // name=value
}

// paramPrefix is before the names of parameters in the environment, where they are in upper case.
const paramPrefix = "AIFB_PARAM_"

// An Argument is the value of a parameter.
type Argument struct {
	Name   string
	Value  string // as the command line writes it
	Source string // who gives it, such as "params.yaml:3"; "" is the default
}

// Resolve returns the values of main's parameters, in its order. Its error has FaultUsage, and is all that is wrong with
// what is given. A default that is not known before the recipe runs is left out.
func (r *Recipe) Resolve(given Given) ([]Argument, error) {
	if err := r.runnable(); err != nil {
		return nil, err
	}
	res := &resolution{Recipe: r, values: make(map[string]Argument)}
	if given.File != "" {
		res.file(given.File)
	}
	res.env(given.Env)
	res.args(given.Args)
	var all []Argument
	for _, p := range r.params {
		a, ok := res.values[p.Name]
		switch {
		case ok:
			all = append(all, a)
		case p.value != nil:
			all = append(all, Argument{Name: p.Name, Value: p.Default})
		case p.Required && !res.failed[p.Name] && !res.unread:
			res.errorf("aifb exec "+r.file.name+" --help", "parameter %s is missing", p.Name)
		}
	}
	return all, errors.Join(res.errs...)
}

// runnable says what is wrong with a recipe that would do nothing.
func (r *Recipe) runnable() error {
	var names []string
	for _, stmt := range r.file.syntax.Stmts {
		switch s := stmt.(type) {
		case *syntax.DefStmt:
			names = append(names, s.Name.Name)
		case *syntax.LoadStmt:
		case *syntax.ExprStmt, *syntax.AssignStmt:
			if calls(s) {
				return nil
			}
		default:
			return nil
		}
	}
	if r.main != nil || len(names) == 0 {
		return nil
	}
	hint := "call one of them, or define main"
	if runtime.Suggest("main", names) != "" {
		hint = fmt.Sprintf("is %s meant to be main?", runtime.Suggest("main", names))
	} else if strings.HasPrefix(r.file.name, libraryPrefix) {
		hint = fmt.Sprintf("it is for recipes: load(%q, %q)", r.file.name, names[0])
	}
	return runtime.Faultf(runtime.FaultRecipe, hint, "%s does nothing: it only defines %s", r.file.name, strings.Join(names, ", "))
}

// calls reports whether a statement calls anything.
func calls(stmt syntax.Stmt) (found bool) {
	syntax.Walk(stmt, func(n syntax.Node) bool {
		_, ok := n.(*syntax.CallExpr)
		found = found || ok
		return !found
	})
	return found
}

// A resolution is a Resolve under way.
type resolution struct {
	*Recipe
	values map[string]Argument
	failed map[string]bool // parameters whose value in the file is wrong, and so not missing
	unread bool            // nobody knows what is in the file
	errs   []error
}

func (r *resolution) errorf(hint, format string, args ...any) {
	r.errs = append(r.errs, runtime.Faultf(runtime.FaultUsage, hint, format, args...))
}

func (r *resolution) names() (names []string) {
	for _, p := range r.params {
		names = append(names, p.Name)
	}
	return names
}

// set gives a parameter its value as a text. The error goes below what, unless the default is only known when the recipe
// runs.
func (r *resolution) set(p *mainParam, value, source, what string) {
	r.values[p.Name] = Argument{p.Name, value, source}
	def := p.value
	if p.Required {
		def = starlark.String("")
	}
	if def == nil {
		return
	}
	if _, err := parseParam(value, def); err != nil {
		r.errorf(runtime.HintOf(err), "%s: %w", what, err)
	}
}

func (r *resolution) args(args []string) {
	seen := make(map[string]bool)
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		p := r.param(name)
		switch {
		case !ok:
			r.errorf("parameters are given as name=value", "%q is no parameter", arg)
		case p == nil:
			r.errorf(paramHint(name, r.names()), "%s has no parameter %q", r.Recipe.file.name, name)
		case seen[name]:
			r.errorf("", "parameter %s is given twice", name)
		default:
			seen[name] = true
			r.set(p, text, "the command line", "parameter "+name)
		}
	}
}

func (r *resolution) env(env []string) {
	params := make(map[string][]string) // by variable
	var variables []string
	for _, name := range r.names() {
		v := paramPrefix + strings.ToUpper(name)
		params[v] = append(params[v], name)
		variables = append(variables, v)
	}
	for _, pair := range slices.Sorted(slices.Values(env)) {
		variable, text, ok := strings.Cut(pair, "=")
		if !ok || !strings.HasPrefix(variable, paramPrefix) {
			continue
		}
		switch names := params[variable]; len(names) {
		case 1:
			r.set(r.param(names[0]), text, variable, variable)
		case 0:
			r.errorf(paramHint(variable, variables), "%s has no parameter for the environment's %s", r.Recipe.file.name, variable)
		default:
			r.errorf("give it as name=value", "%s may be %s", variable, strings.Join(names, " or "))
		}
	}
}

// file takes the values of a file in YAML, of which JSON is a part.
func (r *resolution) file(name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		r.errorf("", "--params %s: %w", name, plainFileError(err))
		r.unread = true
		return
	}
	p := &yamlParser{file: name, what: "parameter file", rootHint: "it has NAME: value for each parameter"}
	if root := p.parse(text); root != nil && p.check(root, map[*yaml.Node]bool{}) {
		r.fields(p, root)
	} else {
		r.unread = true
	}
	r.errs = append(r.errs, p.placed(text, runtime.FaultUsage)...)
}

func (r *resolution) fields(p *yamlParser, root *yaml.Node) {
	r.failed = make(map[string]bool)
	for _, f := range p.fields(root) {
		param := r.param(f.key.Value)
		if param == nil {
			p.errorf(f.key, paramHint(f.key.Value, r.names()), "%s has no parameter %s", r.Recipe.file.name, yamlShort(f.key.Value))
		} else if v, ok := p.paramValue(f, param); ok {
			r.values[param.Name] = Argument{param.Name, showParam(v), fmt.Sprintf("%s:%d", p.file, p.at(f.key).Line)}
		} else {
			r.failed[param.Name] = true
		}
	}
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

// paramValue reads a value that is of the type of the parameter's default. Scalars are taken as they are written, so
// that 10:00:00 and 1.10 can be strings, but what is in quotes is nothing else.
func (p *yamlParser) paramValue(f yamlField, param *mainParam) (starlark.Value, bool) {
	def := param.value
	switch {
	case yamlIsNull(f.value):
		p.errorf(f.key, "leave the key out for the default", "%s has no value", param.Name)
		return nil, false
	case param.Required:
		def = starlark.String("")
	case def == nil && f.value.Kind == yaml.SequenceNode:
		def = starlark.NewList(nil)
	case def == nil && f.value.Kind == yaml.MappingNode:
		def = starlark.NewDict(0)
	case def == nil:
		def = starlark.String("") // what it is to be is seen when the recipe runs
	}
	before := len(p.faults) + p.hidden
	v := p.valueLike(f.value, param.Name, def)
	return v, v != nil && len(p.faults)+p.hidden == before
}

// valueLike reads a value that is of the type of def; path is what an error calls it. It is nil if that was reported.
func (p *yamlParser) valueLike(n *yaml.Node, path string, def starlark.Value) starlark.Value {
	if !p.spend(n) {
		return nil
	}
	if elem, ok := element(def); ok && n.Kind == yaml.SequenceNode {
		var elems []starlark.Value
		for i, item := range p.items(n) {
			if v := p.valueLike(item, fmt.Sprintf("%s[%d]", path, i), elem); v != nil {
				elems = append(elems, v)
			}
		}
		return starlark.NewList(elems)
	}
	if like, ok := def.(*starlark.Dict); ok && n.Kind == yaml.MappingNode {
		dict := starlark.NewDict(0)
		for _, f := range p.fields(n) {
			key := starlark.String(f.key.Value)
			if v := p.valueLike(f.value, path+"."+yamlShort(f.key.Value), dictElement(like, key)); v != nil {
				dict.SetKey(key, v) // a string can be hashed
			}
		}
		return dict
	}
	v, err := scalarLike(n, def)
	if err != nil {
		p.errorf(n, runtime.HintOf(err), "%s: %v", path, err)
		return nil
	}
	return v
}

// scalarLike reads a scalar; for a list it is its only element.
func scalarLike(n *yaml.Node, def starlark.Value) (starlark.Value, error) {
	if n.Kind != yaml.ScalarNode || yamlIsNull(n) {
		return nil, fmt.Errorf("got %s, want %s", yamlDescribe(n), paramType(def))
	}
	if elem, ok := element(def); ok {
		v, err := scalarLike(n, elem)
		if err != nil {
			return nil, err
		}
		return starlark.NewList([]starlark.Value{v}), nil
	}
	switch def.(type) {
	case starlark.String, starlark.NoneType:
		return starlark.String(n.Value), nil
	case *starlark.Dict:
		return nil, wrongParam(n.Value, "dict", "write KEY: value in lines of their own below it")
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		return nil, wrongParam(n.Value, paramType(def), "without quotes")
	}
	return parseParam(n.Value, def)
}
