package starlib

import (
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
	"go.yaml.in/yaml/v3"
)

// What a recipe in YAML has of a program: params, which are main's, ${{ NAME }}, which is the value of one, and types,
// which are functions of the library.

// A yamlParam is a parameter that the file declares.
type yamlParam struct {
	name, doc string
	key       *yaml.Node
	value     syntax.Expr
	used      bool
}

// mainParams returns the parameters under the key params.
func (p *yamlParser) mainParams(top yamlMap) (params []yamlParam) {
	f, ok := top.get("params")
	if !ok || yamlIsNull(f.value) {
		return nil
	}
	if f.value.Kind != yaml.MappingNode {
		p.errorf(f.value, "write NAME: default", "params must be a map, not %s", yamlDescribe(f.value))
		return nil
	}
	for _, f := range p.fields(f.value) {
		name := f.key.Value
		switch _, err := dialect().ParseExpr("", name, 0); {
		case err != nil || !yamlName.MatchString(name):
			p.errorf(f.key, "letters, digits and _, such as num_clients", "params: %s is not a name", yamlShort(name))
		case slices.Contains(yamlWords, name):
			p.errorf(f.key, "", "params: the name %s has a meaning of its own", name)
		case refersAny(f.value):
			p.errorf(f.value, "", "params: a default cannot refer to another parameter")
		default:
			params = append(params, yamlParam{name: name, doc: yamlComment(f), key: f.key, value: p.typed(f.value)})
		}
	}
	return params
}

// yamlWords are the names that the calls which a file means are made of.
var yamlWords = []string{"main", "service", "client", "wait_running", "wait_done", "print", "measurements", "range", "str",
	"True", "False", "None", yamlMissing}

var yamlName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// yamlComment is what the comment beside a key says, or else that before it.
func yamlComment(f yamlField) string {
	for _, comment := range []string{f.value.LineComment, f.key.LineComment, f.key.HeadComment} {
		if text := uncomment(comment); text != "" {
			return strings.Join(strings.Fields(text), " ")
		}
	}
	return ""
}

// uncomment takes the # off the lines of a comment, and leaves out rules.
func uncomment(comment string) string {
	var lines []string
	for line := range strings.Lines(comment) {
		line = strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(line), "#"))
		if line == "" || strings.Trim(line, "=-*") != "" {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// main is the function of the parameters whose body the statements are.
func (p *yamlParser) main(stmts []syntax.Stmt) *syntax.DefStmt {
	at := p.params[0].key
	def := &syntax.DefStmt{Def: p.at(at), Name: p.ident(at, "main"), Lparen: p.at(at), Rparen: p.at(at)}
	doc := ""
	for _, param := range p.params {
		def.Params = append(def.Params, p.keyword(param.key, param.name, param.value))
		if param.doc != "" {
			doc += "\n      " + param.name + ": " + param.doc
		}
	}
	if doc != "" {
		def.Body = []syntax.Stmt{&syntax.ExprStmt{X: p.docstring(at, "\n    Args:"+doc+"\n    ")}}
	}
	def.Body = append(def.Body, stmts...)
	return def
}

// docstring is a string over several lines.
func (p *yamlParser) docstring(at *yaml.Node, text string) *syntax.Literal {
	if strings.Contains(text, "\n") && !strings.HasSuffix(text, " ") {
		text += "\n"
	}
	raw := `"""` + strings.NewReplacer(`\`, `\\`, `"""`, `\"\"\"`).Replace(text) + `"""`
	if strings.HasSuffix(text, `"`) {
		raw = syntax.Quote(text, false)
	}
	return &syntax.Literal{Token: syntax.STRING, TokenPos: p.at(at), Raw: raw, Value: text}
}

// variable is a name for a variable that no parameter has.
func (p *yamlParser) variable(name string) string {
	for slices.ContainsFunc(p.params, func(param yamlParam) bool { return param.name == name }) {
		name += "_"
	}
	return name
}

// checkParams finds parameters that nothing refers to, or that hide a type.
func (p *yamlParser) checkParams() {
	for _, param := range p.params {
		switch {
		case slices.ContainsFunc(p.types, func(t yamlType) bool { return t.entry.name == param.name }):
			p.errorf(param.key, "", "params: %s is the type of a job already", param.name)
		case !param.used:
			p.warnf(param.key, "params: nothing refers to %s; ${{ %s }} does", param.name, param.name)
		}
	}
}

// reference is ${{ NAME }} in a text.
var reference = regexp.MustCompile(`\$\{\{[^{}]*\}\}`)

// refers reports whether a text refers to parameters.
func refers(s string) bool { return strings.Contains(s, "${{") }

// whole reports whether a text is one reference and nothing else, and so of the type of the parameter.
func whole(s string) bool { return reference.FindString(s) == s && s != "" }

func refersAny(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && refers(n.Value) || slices.ContainsFunc(n.Content, refersAny)
}

// textExpr is a string, or the expression that puts parameters into it. It is nil if that is wrong, which was reported.
func (p *yamlParser) textExpr(at *yaml.Node, s string) syntax.Expr {
	if !refers(s) {
		return p.str(at, s)
	}
	var values []syntax.Expr
	good := true
	format := reference.ReplaceAllStringFunc(strings.ReplaceAll(s, "%", "%%"), func(ref string) string {
		name := strings.TrimSpace(strings.Trim(ref, "${}"))
		if v := p.refer(at, name); v != nil {
			values = append(values, v)
		} else {
			good = false
		}
		return "%s"
	})
	switch {
	case !good:
		return nil
	case refers(format):
		p.errorf(at, "it is ${{ NAME }}, and NAME is one of params", "a ${{ has no }}")
		return nil
	case whole(s):
		return values[0]
	case len(values) == 1:
		return p.binary(at, p.str(at, format), syntax.PERCENT, values[0])
	}
	tuple := &syntax.TupleExpr{Lparen: p.at(at), List: values, Rparen: p.at(at)}
	return p.binary(at, p.str(at, format), syntax.PERCENT, &syntax.ParenExpr{Lparen: p.at(at), X: tuple, Rparen: p.at(at)})
}

// stringExpr is textExpr where nothing but a string will do.
func (p *yamlParser) stringExpr(at *yaml.Node, s string) syntax.Expr {
	e := p.textExpr(at, s)
	switch p.typeOf(e) {
	case "int", "float", "bool":
		return p.call(at, "str", e)
	}
	return e
}

// typeOf is the type of the default of the parameter that an expression is; "" if it is none.
func (p *yamlParser) typeOf(e syntax.Expr) string {
	id, ok := e.(*syntax.Ident)
	if !ok {
		return ""
	}
	i := slices.IndexFunc(p.params, func(param yamlParam) bool { return param.name == id.Name })
	if v, ok := literal(p.params[i].value); ok {
		return typeOf(v)
	}
	return ""
}

// refer is the parameter of that name.
func (p *yamlParser) refer(at *yaml.Node, name string) syntax.Expr {
	var names []string
	for i := range p.params {
		if p.params[i].name == name {
			p.params[i].used = true
			return p.ident(at, name)
		}
		names = append(names, p.params[i].name)
	}
	hint := paramHint(name, names)
	if len(names) == 0 {
		hint = "declare it: params: {NAME: default}"
	}
	p.errorf(at, hint, "${{ %s }}: there is no such parameter", yamlShort(name))
	return nil
}

// A yamlType is a type that the file names.
type yamlType struct {
	at    *yaml.Node
	entry *libraryEntry
}

// entry is the function of the library that a type means; nil if there is none, which was reported.
func (p *yamlParser) entry(f yamlField, kind string) *libraryEntry {
	name, ok := p.text(f)
	if !ok {
		return nil
	}
	if p.entries == nil && p.library != nil {
		p.entries = libraryEntries(p.library)
	}
	var names []string
	for i := range p.entries {
		e := &p.entries[i]
		if e.client != (kind == "client") {
			if e.name == name {
				p.errorf(f.value, "", "%s is no type of a %s", name, kind)
				return nil
			}
			continue
		}
		if e.name == name {
			return e
		}
		names = append(names, e.name)
	}
	hint := "those of a " + kind + " are " + strings.Join(names, ", ")
	if len(names) == 0 {
		hint = "give image and command"
	}
	if similar := p.suggest(name, slices.Values(names)); similar != "" {
		hint = similar[:len(similar)-1] + "? " + hint
	}
	p.errorf(f.value, hint, "there is no type %s in the library", yamlShort(name))
	return nil
}

// settings returns the arguments of a function of the library that settings gives.
func (p *yamlParser) settings(f yamlField, entry *libraryEntry, given map[string]string) (args []syntax.Expr) {
	if yamlIsNull(f.value) {
		return nil
	}
	if f.value.Kind != yaml.MappingNode {
		p.errorf(f.value, "write NAME: value", "settings must be a map, not %s", yamlDescribe(f.value))
		return nil
	}
	var names []string
	for _, param := range entry.params {
		if param.Name != "service" && param.Name != "name" {
			names = append(names, param.Name)
		}
	}
	for _, f := range p.fields(f.value) {
		name := f.key.Value
		switch {
		case !slices.Contains(names, name) && needless(name) != "":
			p.warnf(f.key, "settings: %s has no effect: %s", name, needless(name))
		case !slices.Contains(names, name):
			p.errorf(f.key, paramHint(name, names), "settings: %s has no %s", entry.name, yamlShort(name))
		case given[name] != "":
			p.errorf(f.key, "", "settings: %s says the same as %s above; give one of them", name, given[name])
		case !yamlIsNull(f.value):
			if v := p.setting(f, entry.param(name)); v != nil {
				args = append(args, p.keyword(f.key, name, v))
			}
		}
	}
	return args
}

// setting is the value of a setting: of the type of what the parameter is if it is not given. It is nil if it has
// another, which was reported.
func (p *yamlParser) setting(f yamlField, param *mainParam) syntax.Expr {
	n, want := f.value, ""
	if param.value != nil {
		want = typeOf(param.value)
	}
	switch scalar := n.Kind == yaml.ScalarNode; {
	case scalar && want == "str":
		return p.stringExpr(n, n.Value)
	case scalar && want == "bool" && yaml11.MatchString(n.Value):
		return p.ident(n, map[bool]string{true: "True", false: "False"}[yaml11True.MatchString(n.Value)])
	}
	v := p.typed(n)
	if v == nil || yamlMayBe(want, p.typeOfValue(v)) {
		return v
	}
	hint := ""
	if refers(n.Value) {
		hint = "it takes a ${{ NAME }} alone, whose default is one"
	}
	p.errorf(n, hint, "settings: %s must be %s, not %s", f.key.Value, yamlTypeNames[want], yamlDescribe(n))
	return nil
}

// yamlTypeNames says of types what the user of YAML calls them.
var yamlTypeNames = map[string]string{"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a single value",
	"list": "a list", "dict": "a map"}

// yamlMayBe reports whether a value of one type may be given where another is wanted.
func yamlMayBe(want, got string) bool {
	return yamlTypeNames[want] == "" || got == want || got == "NoneType" || want == "float" && got == "int"
}

// typeOfValue is the type of what typed returns.
func (p *yamlParser) typeOfValue(e syntax.Expr) string {
	if v, ok := literal(e); ok {
		return typeOf(v)
	}
	switch e.(type) {
	case *syntax.Ident:
		return p.typeOf(e)
	case *syntax.ListExpr:
		return "list"
	case *syntax.DictExpr:
		return "dict"
	}
	return "str"
}

// needless says why nothing here needs a setting that the seed's recipes have; "" if that is not so.
func needless(setting string) string {
	switch setting {
	case "warmup_delay", "warmup_seconds", "max_retries":
		return "clients start once the service answers"
	case "host":
		return "a service listens on all addresses of its node"
	case "key_size_bytes":
		return "redis-benchmark makes the keys"
	case "POSTGRES_PASSWORD":
		return "auth says who may connect; with trust, everybody"
	}
	return ""
}

var (
	yamlInt   = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$|^0x[0-9a-fA-F]+$|^0o[0-7]+$`)
	yamlFloat = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
	yaml11    = regexp.MustCompile(`^(?i:yes|no|on|off|y|n)$`)

	yaml11True = regexp.MustCompile(`^(?i:yes|on|y)$`)
)

// typed is a value whose type is what it looks like, by the core schema of YAML 1.2. It is nil if something is wrong,
// which was reported.
func (p *yamlParser) typed(n *yaml.Node) syntax.Expr {
	if !p.spend(n) {
		return nil
	}
	at, good := p.at(n), true
	switch n.Kind {
	case yaml.SequenceNode:
		list := &syntax.ListExpr{Lbrack: at, Rbrack: at}
		for _, item := range p.items(n) {
			v := p.typed(item)
			list.List, good = append(list.List, v), good && v != nil
		}
		if good {
			return list
		}
	case yaml.MappingNode:
		dict := &syntax.DictExpr{Lbrace: at, Rbrace: at}
		for _, f := range p.fields(n) {
			v := p.typed(f.value)
			dict.List = append(dict.List, &syntax.DictEntry{Key: p.str(f.key, f.key.Value), Colon: at, Value: v})
			good = good && v != nil
		}
		if good {
			return dict
		}
	case yaml.ScalarNode:
		return p.typedScalar(n)
	}
	return nil
}

func (p *yamlParser) typedScalar(n *yaml.Node) syntax.Expr {
	s := n.Value
	switch lower := strings.ToLower(s); {
	case n.Style&^yaml.FlowStyle != 0: // in quotes, over several lines, or with a tag
		return p.textExpr(n, s)
	case yamlIsNull(n):
		return p.ident(n, "None")
	case lower == "true":
		return p.ident(n, "True")
	case lower == "false":
		return p.ident(n, "False")
	case octalLooking.MatchString(s):
		p.errorf(n, "without the 0 it is decimal, with 0o octal, in quotes a string", "%s may be decimal or octal", yamlShort(s))
		return nil
	case yamlInt.MatchString(s):
		return p.number(n, s)
	case yamlFloat.MatchString(s):
		return p.float(n, s)
	case yaml11.MatchString(s):
		p.warnf(n, "%s is a string here; write true or false, or put it in quotes", s)
	}
	return p.textExpr(n, s)
}

// number is a whole number of any size.
func (p *yamlParser) number(n *yaml.Node, s string) syntax.Expr {
	digits, negative := strings.CutPrefix(strings.TrimPrefix(s, "+"), "-")
	big, _ := new(big.Int).SetString(digits, 0)
	lit := &syntax.Literal{Token: syntax.INT, TokenPos: p.at(n), Raw: big.String(), Value: big}
	if big.IsInt64() {
		lit.Value = big.Int64()
	}
	return p.signed(n, lit, negative)
}

func (p *yamlParser) float(n *yaml.Node, s string) syntax.Expr {
	digits, negative := strings.CutPrefix(strings.TrimPrefix(s, "+"), "-")
	x, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		p.errorf(n, "", "%s is too large a number", yamlShort(s))
		return nil
	}
	return p.signed(n, &syntax.Literal{Token: syntax.FLOAT, TokenPos: p.at(n), Raw: starlark.Float(x).String(), Value: x}, negative)
}

func (p *yamlParser) signed(n *yaml.Node, lit *syntax.Literal, negative bool) syntax.Expr {
	if !negative {
		return lit
	}
	return &syntax.UnaryExpr{OpPos: p.at(n), Op: syntax.MINUS, X: lit}
}
