package starlib

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/syntax"
	"go.yaml.in/yaml/v3"

	"github.com/aifb/aifb/runtime"
)

// A yamlRecipe is a recipe in YAML, turned into the calls that it means.
type yamlRecipe struct {
	File     *syntax.File // its nodes have the YAML's lines and columns, so that an error needs no translation
	Target   string       // configuration.target, or ""
	Warnings []string     // each as file:line:col: message
}

// parseYAML reads a recipe in YAML; its types are functions of the library. Its errors are all that is wrong with the
// file: a join of a *runtime.Error for each, of a syntax.Error. A file whose YAML cannot be parsed has one. The time and
// memory that it takes are bounded, whatever src is.
//
// Scalars are taken as they are written: 10:00:00 is ten hours, no is "no", 1.10 is "1.10". Only the values of params, and
// of settings whose type the library does not say, are numbers or truth values if they look like it.
func parseYAML(name string, src []byte, library fs.FS) (*yamlRecipe, error) {
	p := &yamlParser{file: name, what: "recipe", rootHint: "it has service: and client:", library: library}
	recipe := &yamlRecipe{}
	if root := p.parse(src); root != nil && p.check(root, map[*yaml.Node]bool{}) {
		recipe.File = &syntax.File{Path: name, Options: &syntax.FileOptions{}}
		recipe.File.Stmts, recipe.Target = p.recipe(root)
	}
	recipe.Warnings = p.warnings
	if err := p.err(); err != nil {
		return nil, err
	}
	return recipe, nil
}

// A yamlKey is a key of a map. Those of services and clients say which parameter of the builtin they become, if any.
type yamlKey struct {
	name  string
	param string
	value func(*yamlParser, yamlField) syntax.Expr // nil: nothing to pass on, or a fault that was reported
}

var yamlTopKeys = []yamlKey{
	{name: "configuration"}, {name: "service"}, {name: "services"}, {name: "client"}, {name: "clients"},
	{name: "benchmarks"}, {name: "params"},
}

var yamlServiceKeys = append([]yamlKey{
	{"port", "port", yamlNumber(0, 65535)},
}, yamlJobKeys...)

var yamlClientKeys = append([]yamlKey{
	{"service", "", nil},
	{"num_clients", "count", yamlNumber(1, yamlMaxNumber)},
}, yamlJobKeys...)

var yamlJobKeys = []yamlKey{
	{"name", "name", (*yamlParser).stringValue},
	{"type", "", nil},
	{"settings", "", nil},
	{"image", "image", (*yamlParser).imageValue},
	{"command", "command", (*yamlParser).stringValue},
	{"env", "env", (*yamlParser).envValue},
	{"environment", "env", (*yamlParser).envValue},
	{"partition", "partition", (*yamlParser).stringValue},
	{"account", "account", (*yamlParser).stringValue},
	{"time_limit", "time", (*yamlParser).timeValue},
	{"nodes", "nodes", yamlNumber(1, yamlMaxNumber)},
	{"num_gpus", "gpus", yamlNumber(0, yamlMaxNumber)},
	{"gpus_per_node", "gpus", yamlNumber(0, yamlMaxNumber)},
	{"cpus_per_task", "cpus", yamlNumber(1, yamlMaxNumber)},
	{"memory", "mem", (*yamlParser).memoryValue},
	{"constraints", "constraint", (*yamlParser).stringValue},
	{"exclude_nodes", "exclude", (*yamlParser).stringValue},
	{"volumes", "binds", (*yamlParser).listValue},
	{"modules", "modules", (*yamlParser).listValue},
	{"pre_run_commands", "setup", (*yamlParser).listValue},
}

// recipe returns the calls that the file means, and its target: all services start, then all clients, and what they
// measured is printed. With params they are the body of main.
func (p *yamlParser) recipe(root *yaml.Node) (stmts []syntax.Stmt, target string) {
	top := p.known(root, "a recipe", yamlTopKeys)
	p.params = p.mainParams(top)
	target = p.configuration(top)
	services := p.services(top)
	clients, bench := p.clients(top, services)
	p.checkParams()
	if len(p.faults) > 0 {
		return nil, ""
	}
	if len(services)+len(clients) == 0 {
		p.errorf(root, "", "there is nothing to run: no service and no client")
		return nil, ""
	}
	stmts = p.start(stmts, services, "wait_running")
	stmts = p.start(stmts, clients, "wait_done")
	if len(clients) > 0 {
		at := clients[0].section
		stmts = append(stmts, &syntax.ExprStmt{X: p.call(at, "print", p.call(at, "measurements"))})
	}
	if bench.metrics != nil {
		stmts = append(stmts, &syntax.ExprStmt{X: p.call(bench.metricsAt, yamlMissing, bench.metrics)})
	}
	if len(p.params) > 0 {
		stmts = []syntax.Stmt{p.main(stmts)}
	}
	stmts = append(p.loads(bench), stmts...)
	if p.doc != "" {
		stmts = append([]syntax.Stmt{&syntax.ExprStmt{X: p.docstring(root, p.doc)}}, stmts...)
	}
	return stmts, target
}

// yamlMissing is the function of the library that warns of metrics which were not measured.
const yamlMissing = "warn_missing"

// loads returns the statements that load the functions of the library which are called.
func (p *yamlParser) loads(bench yamlBenchmarks) (stmts []syntax.Stmt) {
	load := func(at *yaml.Node, module string, names ...string) {
		pos := p.at(at)
		stmt := &syntax.LoadStmt{Load: pos, Module: p.str(at, module).(*syntax.Literal), Rparen: pos}
		for _, name := range names {
			stmt.From, stmt.To = append(stmt.From, p.ident(at, name)), append(stmt.To, p.ident(at, name))
		}
		stmts = append(stmts, stmt)
	}
	for i, t := range p.types {
		if slices.ContainsFunc(p.types[:i], func(u yamlType) bool { return u.entry.module == t.entry.module }) {
			continue
		}
		var names []string
		for _, u := range p.types[i:] {
			if u.entry.module == t.entry.module && !slices.Contains(names, u.entry.name) {
				names = append(names, u.entry.name)
			}
		}
		load(t.at, t.entry.module, names...)
	}
	if bench.metrics != nil {
		load(bench.metricsAt, libraryPrefix+"yaml.star", yamlMissing)
	}
	return stmts
}

func (p *yamlParser) configuration(top yamlMap) (target string) {
	f, ok := top.get("configuration")
	if !ok {
		return ""
	}
	if f, ok := p.known(f.value, "configuration", []yamlKey{{name: "target"}}).get("target"); ok {
		target, _ = p.text(f)
	}
	return target
}

// A yamlJob is a service or a client of the file.
type yamlJob struct {
	section  *yaml.Node    // the key that it is below
	at       *yaml.Node    // the same, or the item of a list
	variable string        // of the Starlark that holds it
	name     string        // of a service
	keys     yamlMap       // nil if it is no map, which was reported
	entry    *libraryEntry // that its type means; nil: it says itself what to run
	image    syntax.Expr   // the argument for the image of its type, if it only has a command
	start    syntax.Expr
}

// start appends the calls that start the jobs, and one that waits for all of them.
func (p *yamlParser) start(stmts []syntax.Stmt, jobs []*yamlJob, wait string) []syntax.Stmt {
	if len(jobs) == 0 {
		return stmts
	}
	var started []syntax.Expr
	for _, j := range jobs {
		at := p.at(j.at)
		stmts = append(stmts, &syntax.AssignStmt{OpPos: at, Op: syntax.EQ, LHS: p.ident(j.at, j.variable), RHS: j.start})
		started = append(started, p.ident(j.section, j.variable))
	}
	return append(stmts, &syntax.ExprStmt{X: p.call(jobs[0].section, wait, started...)})
}

func (p *yamlParser) services(top yamlMap) []*yamlJob {
	jobs := p.jobs(top, "service", "svc", yamlServiceKeys)
	named := map[string]*yamlJob{}
	for _, j := range jobs {
		if j.keys == nil {
			continue
		}
		args := p.arguments(j, yamlServiceKeys)
		fn := "service"
		if j.entry != nil {
			fn = j.entry.name
		}
		j.name = fn
		if f, ok := j.keys.get("name"); ok {
			j.name = f.value.Value
		} else if j.entry == nil {
			args = append([]syntax.Expr{p.keyword(j.at, "name", p.str(j.at, j.name))}, args...)
		}
		if first := named[j.name]; first != nil {
			p.errorf(j.at, "give each a name", "there are two services of the name %s; the first is at %s",
				yamlShort(j.name), p.lineCol(first.at))
		}
		named[j.name] = j
		j.start = p.call(j.at, fn, args...)
	}
	return jobs
}

func (p *yamlParser) clients(top yamlMap, services []*yamlJob) ([]*yamlJob, yamlBenchmarks) {
	jobs := p.jobs(top, "client", "clients", yamlClientKeys)
	bench := p.benchmarks(top, len(jobs))
	named := map[string]*yamlJob{}
	for _, s := range services {
		named[s.name] = s
	}
	for _, j := range jobs {
		measured := p.measured(j, services, named)
		args := append(p.serviceArgument(j, measured), p.arguments(j, yamlClientKeys)...)
		if _, ok := j.keys.get("num_clients"); !ok && bench.count != nil {
			args = append(args, bench.count)
		}
		if _, ok := j.keys.get("account"); !ok {
			args = append(args, p.accountOf(measured)...)
		}
		fn := "client"
		if j.entry != nil {
			fn = j.entry.name
			if len(measured) == 0 {
				p.errorf(j.at, "", "%s measures a service, and there is none", fn)
			}
		}
		j.start = p.call(j.at, fn, args...)
		if bench.delay != nil {
			j.start = p.delayed(j, bench)
		}
	}
	return jobs, bench
}

// accountOf is the argument for the account of the first service: it also pays for the clients that name no other.
func (p *yamlParser) accountOf(services []*yamlJob) []syntax.Expr {
	if len(services) > 0 {
		if f, ok := services[0].keys.get("account"); ok {
			return []syntax.Expr{p.keyword(f.key, "account", p.textExpr(f.value, f.value.Value))}
		}
	}
	return nil
}

// jobs returns what is below the key kind, or below its plural as a list.
func (p *yamlParser) jobs(top yamlMap, kind, variable string, keys []yamlKey) (jobs []*yamlJob) {
	if f, ok := top.get(kind); ok {
		if f.value.Kind == yaml.SequenceNode {
			p.errorf(f.value, "", "%s is one; a list of them goes under %ss", kind, kind)
		} else {
			jobs = append(jobs, &yamlJob{section: f.key, at: f.key, keys: p.known(f.value, "a "+kind, keys)})
		}
	}
	if f, ok := top.get(kind + "s"); ok {
		if f.value.Kind != yaml.SequenceNode {
			p.errorf(f.value, "each begins with a dash", "%ss must be a list, not %s", kind, yamlDescribe(f.value))
		}
		for _, item := range p.items(f.value) {
			jobs = append(jobs, &yamlJob{section: f.key, at: item, keys: p.known(item, "a "+kind, keys)})
		}
	}
	for i, j := range jobs {
		if j.variable = p.variable(variable); len(jobs) > 1 {
			j.variable = p.variable(variable + strconv.Itoa(i+1))
		}
		p.checkJob(j, kind)
	}
	return jobs
}

// checkJob checks what needs more than one key of the job.
func (p *yamlParser) checkJob(j *yamlJob, kind string) {
	if j.keys == nil {
		return
	}
	_, command := j.keys.get("command")
	_, image := j.keys.get("image")
	f, typed := j.keys.get("type")
	switch {
	case typed && command:
		if entry := p.entry(f, kind); entry != nil && !image {
			j.image = p.imageOf(f, entry)
		}
	case typed:
		j.entry = p.entry(f, kind)
	case !command && !image:
		p.errorf(j.at, "", "a %s needs a command, an image or a type", kind)
	}
	if j.entry != nil {
		p.types = append(p.types, yamlType{f.value, j.entry})
	}
	if f, ok := j.keys.get("settings"); ok && (command || !typed) {
		p.warnf(f.key, "settings has no effect: it is for what type starts, and here command does")
	}
}

// imageOf is the argument for the image that a type has if nothing else is said, or nil.
func (p *yamlParser) imageOf(f yamlField, entry *libraryEntry) syntax.Expr {
	if image := entry.param("image"); image != nil && image.value != nil {
		return p.keyword(f.key, "image", p.str(f.value, image.Default))
	}
	return nil
}

// arguments returns the keyword arguments that the job's keys become, in the order of the file.
func (p *yamlParser) arguments(j *yamlJob, keys []yamlKey) (args []syntax.Expr) {
	given := map[string]string{} // parameter to key
	if j.image != nil {
		args = append(args, j.image)
	}
	for _, f := range j.keys {
		key := keys[slices.IndexFunc(keys, func(k yamlKey) bool { return k.name == f.key.Value })]
		if key.value == nil {
			continue
		}
		if other := given[key.param]; other != "" {
			p.errorf(f.key, "", "%s says the same as %s; give one of them", key.name, other)
		}
		given[key.param] = key.name
		value := key.value(p, f)
		if value == nil {
			continue
		}
		if key.name == "gpus_per_node" {
			value = p.timesNodes(value, j.keys)
		}
		args = append(args, p.keyword(f.key, key.param, value))
	}
	if f, ok := j.keys.get("settings"); ok && j.entry != nil {
		args = append(args, p.settings(f, j.entry, given)...)
	}
	return args
}

// timesNodes makes of GPUs per node, which the builtins do not have, those of the job.
func (p *yamlParser) timesNodes(gpus syntax.Expr, keys yamlMap) syntax.Expr {
	f, ok := keys.get("nodes")
	if !ok {
		return gpus
	}
	if nodes := yamlNumber(1, yamlMaxNumber)(p, f); nodes != nil {
		return p.binary(f.value, gpus, syntax.STAR, nodes)
	}
	return gpus
}

// measured returns the services that the client measures: those that it names, or all.
func (p *yamlParser) measured(j *yamlJob, services []*yamlJob, named map[string]*yamlJob) (measured []*yamlJob) {
	f, ok := j.keys.get("service")
	if !ok {
		return services
	}
	for _, n := range p.texts(f) {
		if s := named[n.Value]; s != nil {
			measured = append(measured, s)
		} else {
			p.errorf(n, p.suggest(n.Value, maps.Keys(named)), "there is no service of the name %s", yamlShort(n.Value))
		}
	}
	return measured
}

// serviceArgument is the first argument of client: a service, a list of several, or nothing.
func (p *yamlParser) serviceArgument(j *yamlJob, measured []*yamlJob) []syntax.Expr {
	at := j.at
	if f, ok := j.keys.get("service"); ok {
		at = f.value
	}
	var list []syntax.Expr
	for _, s := range measured {
		if !p.spend(at) {
			break
		}
		list = append(list, p.ident(at, s.variable))
	}
	if len(list) > 1 {
		return []syntax.Expr{&syntax.ListExpr{Lbrack: p.at(at), List: list, Rbrack: p.at(at)}}
	}
	return list
}

func (p *yamlParser) stringValue(f yamlField) syntax.Expr {
	if s, ok := p.text(f); ok {
		return p.stringExpr(f.value, s)
	}
	return nil
}

// imageValue takes an image without a scheme for one of a registry, as docker does. What names a SIF file stays.
func (p *yamlParser) imageValue(f yamlField) syntax.Expr {
	s, ok := p.text(f)
	if !ok {
		return nil
	}
	if whole(s) {
		return p.stringExpr(f.value, s)
	}
	if !strings.Contains(s, "://") && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "~/") {
		if strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".sif") {
			hint := "write /path/to/image.sif or ~/image.sif"
			p.errorf(f.value, hint, "image: a SIF file on the target needs an absolute path")
			return nil
		}
		s = "docker://" + s
	}
	return p.textExpr(f.value, s)
}

// timeValue takes a plain number for minutes, as Slurm does.
func (p *yamlParser) timeValue(f yamlField) syntax.Expr {
	s, ok := p.text(f)
	if !ok {
		return nil
	}
	if refers(s) {
		e := p.stringExpr(f.value, s)
		if call, ok := e.(*syntax.CallExpr); ok && p.typeOf(call.Args[0]) == "int" {
			return p.binary(f.value, call, syntax.PLUS, p.str(f.value, "m"))
		}
		return e
	}
	if yamlWholeNumber.MatchString(s) {
		s += "m"
	}
	d, err := runtime.ParseDuration(s)
	switch {
	case err != nil:
		p.errorf(f.value, "", "time_limit: %s is not a duration such as 01:30:00, 90m or 1h30m", yamlShort(s))
		return nil
	case d <= 0:
		p.errorf(f.value, "", "time_limit must be more than zero")
		return nil
	}
	return p.str(f.value, s)
}

func (p *yamlParser) memoryValue(f yamlField) syntax.Expr {
	s, ok := p.text(f)
	if !ok {
		return nil
	}
	if refers(s) {
		return p.stringExpr(f.value, s)
	}
	b, err := runtime.ParseBytes(s)
	switch {
	case err != nil:
		p.errorf(f.value, "a plain number is MiB", "memory: %s is not an amount of memory such as 64G or 512M", yamlShort(s))
		return nil
	case b <= 0:
		p.errorf(f.value, "", "memory must be more than zero")
		return nil
	}
	return p.str(f.value, s)
}

// listValue takes a single string for a list of one.
func (p *yamlParser) listValue(f yamlField) syntax.Expr {
	if f.value.Kind == yaml.ScalarNode && whole(f.value.Value) {
		return p.listExpr(f.value)
	}
	list := &syntax.ListExpr{Lbrack: p.at(f.value), Rbrack: p.at(f.value)}
	for _, n := range p.texts(f) {
		list.List = append(list.List, p.stringExpr(n, n.Value))
	}
	if len(list.List) == 0 {
		return nil
	}
	return list
}

// listExpr is a parameter that is a list, or the only element of one.
func (p *yamlParser) listExpr(at *yaml.Node) syntax.Expr {
	e := p.textExpr(at, at.Value)
	if t := p.typeOf(e); e == nil || t == "list" || t == "NoneType" {
		return e
	}
	return &syntax.ListExpr{Lbrack: p.at(at), List: []syntax.Expr{p.stringExpr(at, at.Value)}, Rbrack: p.at(at)}
}

func (p *yamlParser) envValue(f yamlField) syntax.Expr {
	if yamlIsNull(f.value) {
		return nil
	}
	if f.value.Kind != yaml.MappingNode {
		p.errorf(f.value, "write NAME: value", "%s must be a map, not %s", f.key.Value, yamlDescribe(f.value))
		return nil
	}
	dict := &syntax.DictExpr{Lbrace: p.at(f.value), Rbrace: p.at(f.value)}
	for _, v := range p.fields(f.value) {
		switch {
		case v.value.Kind != yaml.ScalarNode:
			p.errorf(v.value, "", "%s: %s must be a string, not %s", f.key.Value, yamlShort(v.key.Value), yamlDescribe(v.value))
		case yamlIsNull(v.value):
			p.errorf(v.key, `write "" for an empty one`, "%s: %s has no value", f.key.Value, yamlShort(v.key.Value))
		default:
			key, value := p.str(v.key, v.key.Value), p.stringExpr(v.value, v.value.Value)
			dict.List = append(dict.List, &syntax.DictEntry{Key: key, Colon: p.at(v.key), Value: value})
		}
	}
	return dict
}

const yamlMaxNumber = 999999999

// yamlNumber takes whole numbers from least to most, in quotes or not.
func yamlNumber(least, most int64) func(*yamlParser, yamlField) syntax.Expr {
	return func(p *yamlParser, f yamlField) syntax.Expr {
		s, ok := p.text(f)
		if !ok {
			return nil
		}
		if refers(s) {
			e := p.textExpr(f.value, s)
			if e != nil && p.typeOf(e) != "int" {
				p.errorf(f.value, "it takes a ${{ NAME }} alone, whose default is one", "%s must be a whole number", f.key.Value)
			}
			return e
		}
		n, err := strconv.ParseInt(s, 10, 64)
		switch {
		case !yamlWholeNumber.MatchString(strings.TrimPrefix(s, "-")):
			p.errorf(f.value, "", "%s must be a whole number, not %s", f.key.Value, yamlShort(s))
			return nil
		case err != nil || n < least || n > most:
			limits := fmt.Sprintf("%d or more", least)
			if n > most {
				limits = fmt.Sprintf("%d at most", most)
			}
			p.errorf(f.value, "", "%s must be %s, not %s", f.key.Value, limits, yamlShort(s))
			return nil
		}
		return p.num(f.value, n)
	}
}

func (p *yamlParser) call(at *yaml.Node, fn string, args ...syntax.Expr) *syntax.CallExpr {
	return &syntax.CallExpr{Fn: p.ident(at, fn), Lparen: p.at(at), Args: args, Rparen: p.at(at)}
}

func (p *yamlParser) keyword(at *yaml.Node, name string, value syntax.Expr) syntax.Expr {
	return &syntax.BinaryExpr{X: p.ident(at, name), OpPos: p.at(at), Op: syntax.EQ, Y: value}
}

func (p *yamlParser) binary(at *yaml.Node, x syntax.Expr, op syntax.Token, y syntax.Expr) *syntax.BinaryExpr {
	return &syntax.BinaryExpr{X: x, OpPos: p.at(at), Op: op, Y: y}
}

func (p *yamlParser) ident(at *yaml.Node, name string) *syntax.Ident {
	return &syntax.Ident{NamePos: p.at(at), Name: name}
}

func (p *yamlParser) str(at *yaml.Node, s string) syntax.Expr {
	return &syntax.Literal{Token: syntax.STRING, TokenPos: p.at(at), Raw: syntax.Quote(s, false), Value: s}
}

func (p *yamlParser) num(at *yaml.Node, n int64) syntax.Expr {
	return &syntax.Literal{Token: syntax.INT, TokenPos: p.at(at), Raw: strconv.FormatInt(n, 10), Value: n}
}
