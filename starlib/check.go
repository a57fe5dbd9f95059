package starlib

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// A Finding is something in a recipe that is wrong, or that is likely to be.
type Finding struct {
	Lint    string // what kind it is: "syntax", "name", "load", or the name of a Lint
	Warning bool   // the recipe runs nevertheless
	*SourceError
}

// Check reads recipes and all that they load, and returns what can be found without running them, by file and place.
// Its error is for files that cannot be read, and has FaultUsage.
//
// A file that another one of them loads is checked as that: what it loads itself is below the same directory.
func Check(names []string, library fs.FS) ([]*Finding, error) {
	c := newChecker()
	var roots []*reading
	var errs []error
	for _, name := range names {
		r, err := c.read(name, library)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		roots = append(roots, r)
	}
	isLoaded := make(map[string]bool)
	for _, r := range roots {
		for _, path := range r.loaded() {
			isLoaded[path] = true
		}
	}
	slices.SortStableFunc(roots, func(a, b *reading) int { return compareBools(isLoaded[a.path()], isLoaded[b.path()]) })
	for _, r := range roots {
		if !c.seen[r.path()] { // two files that load each other are both loaded
			c.check(r)
		}
	}
	slices.SortStableFunc(c.findings, func(a, b *Finding) int {
		byFile := strings.Compare(a.Place().Pos.Filename(), b.Place().Pos.Filename())
		return cmp.Or(byFile, compareErrors(a.SourceError, b.SourceError))
	})
	return c.findings, errors.Join(errs...)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Place is where the finding is.
func (f *Finding) Place() Frame { return userFirst(f.Frames)[0] }

// Write writes the finding for a person, as FormatError does an error, with the name that silences it.
func (f *Finding) Write(w io.Writer, color bool) error {
	named := *f.SourceError
	if slices.ContainsFunc(Lints(), func(l *Lint) bool { return l.Name == f.Lint }) {
		named.Err = fmt.Errorf("%w [%s]", f.Err, f.Lint)
	}
	var b strings.Builder
	FormatError(&b, &named, Style{Colour: color})
	text := b.String()
	if f.Warning {
		text = strings.Replace(text, "error:", "warning:", 1)
		text = strings.Replace(text, "\x1b[1;31mwarning:", "\x1b[1;33mwarning:", 1)
	}
	_, err := io.WriteString(w, text)
	return err
}

// A checker checks many recipes. What it knows of the language it knows for all of them.
type checker struct {
	builtins map[string]*Builtin       // by name; also Starlark's own
	methods  map[string]*Builtin       // by type and name, "Table.mean"
	modules  map[string]starlark.Value // json, ready, ...
	known    func(name string) bool    // a name is predeclared
	lints    []*Lint
	rows     map[*syntax.DefStmt]*Builtin // of functions
	examples map[string]staticValue       // of what builtins return
	seen     map[string]bool              // paths of files that were checked
	reported map[string]bool
	findings []*Finding
}

func newChecker() *checker {
	all := slices.Concat(Builtins(), TestBuiltins())
	names := predeclare(all)
	c := &checker{
		builtins: make(map[string]*Builtin), methods: make(map[string]*Builtin), modules: make(map[string]starlark.Value),
		known: predeclared().Has, lints: Lints(), rows: make(map[*syntax.DefStmt]*Builtin), examples: examples(),
		seen: make(map[string]bool), reported: make(map[string]bool),
	}
	for _, b := range slices.Concat(all, Own()) {
		c.builtins[b.Name] = b
		if module, _, ok := strings.Cut(b.Name, "."); ok {
			c.modules[module] = names[module]
		}
	}
	for _, t := range Types() {
		for _, m := range t.Methods {
			c.methods[t.Name+"."+m.Name] = m
		}
	}
	return c
}

// A reading is a recipe that was read, with what it loads.
type reading struct {
	loader   *loader
	entry    fileID
	errs     []*SourceError
	analyses map[*file]*analysis
}

func (c *checker) read(name string, library fs.FS) (*reading, error) {
	l, id := newLoader(name, library)
	l.tests = isTestFile(name)
	text, err := l.readEntry(name, id)
	if err != nil {
		return nil, err
	}
	_, errs := l.parse(id, text)
	return &reading{loader: l, entry: id, errs: errs, analyses: make(map[*file]*analysis)}, nil
}

// path identifies the recipe's file, whatever directory it was read from.
func (r *reading) path() string { return r.absolute(r.entry) }

func (r *reading) absolute(id fileID) string {
	if id.library {
		return r.loader.name(id)
	}
	path, err := filepath.Abs(r.loader.name(id))
	if err != nil {
		return r.loader.name(id)
	}
	return path
}

// loaded are the paths of the files that the recipe loads.
func (r *reading) loaded() (paths []string) {
	for id := range r.loader.files {
		if id != r.entry {
			paths = append(paths, r.absolute(id))
		}
	}
	return paths
}

// check reports what is wrong with a recipe and the user's own files that it loads.
func (c *checker) check(r *reading) {
	for _, err := range r.errs {
		if len(err.Frames) == 0 { // of the file as a whole
			name := r.loader.name(r.entry)
			err.Frames = []Frame{r.loader.frame(syntax.MakePosition(&name, 1, 1), "")}
		}
		c.add(&Finding{Lint: kindOf(err), SourceError: err})
	}
	for id, f := range r.loader.files {
		path := r.absolute(id)
		if f == nil || c.seen[path] || id.library && id != r.entry {
			continue
		}
		c.seen[path] = true
		if a := c.analyze(r, f); a != nil {
			a.isLoaded = id != r.entry
			a.run()
		}
	}
}

// kindOf says what kind of error it is that a recipe cannot be read.
func kindOf(err *SourceError) string {
	switch text := err.Err.Error(); {
	case strings.HasPrefix(text, "load"):
		return "load"
	case strings.HasPrefix(text, "undefined: "):
		return "name"
	}
	return "syntax"
}

// add keeps a finding, unless it is known already: a file may be loaded by several.
func (c *checker) add(f *Finding) {
	key := f.Place().Pos.String() + f.Err.Error()
	if !c.reported[key] {
		c.reported[key] = true
		c.findings = append(c.findings, f)
	}
}

// An analysis is what is known of a file.
type analysis struct {
	*checker
	reading  *reading
	file     *file
	isLoaded bool                        // the file is not the recipe itself
	vars     map[*syntax.Ident]*variable // by where they are bound first
	order    []*variable                 // the same, in the order of the file
	bound    map[*syntax.Ident]bool      // the identifiers that do not read their variable
	parent   map[syntax.Node]syntax.Node
	nodes    []syntax.Node               // in the order of the file
	statics  map[syntax.Expr]staticValue // what is known so far
	ignored  map[int][]string            // the lints that a comment silences, by line
}

// analyze returns the analysis of a file of the reading, or nil if its syntax is wrong.
func (c *checker) analyze(r *reading, f *file) *analysis {
	if a, ok := r.analyses[f]; ok {
		return a
	}
	if f == nil || f.syntax == nil || f.syntax.Module == nil {
		return nil
	}
	a := &analysis{
		checker: c, reading: r, file: f, vars: make(map[*syntax.Ident]*variable), bound: make(map[*syntax.Ident]bool),
		parent: make(map[syntax.Node]syntax.Node), statics: make(map[syntax.Expr]staticValue),
	}
	r.analyses[f] = a
	var open []syntax.Node
	syntax.Walk(f.syntax, func(n syntax.Node) bool {
		if n == nil {
			open = open[:len(open)-1]
			return true
		}
		if len(open) > 0 {
			a.parent[n] = open[len(open)-1]
		}
		a.nodes, open = append(a.nodes, n), append(open, n)
		return true
	})
	a.names()
	return a
}

// load is the analysis of the file that a statement loads, or nil.
func (a *analysis) load(stmt *syntax.LoadStmt) *analysis {
	l := a.reading.loader
	id, err := l.resolve(l.fileID(a.file.name), stmt.ModuleName())
	if err != nil {
		return nil
	}
	return a.analyze(a.reading, l.files[id])
}

// run reports all findings of the file.
func (a *analysis) run() {
	a.readIgnored()
	for _, w := range a.file.warnings {
		a.add(&Finding{Lint: "yaml", Warning: true, SourceError: a.yamlWarning(w)})
	}
	for _, l := range a.lints {
		l.find(a, &reporter{a, l})
	}
}

// yamlWarning places a warning of the form "file:line:col: message".
func (a *analysis) yamlWarning(text string) *SourceError {
	rest, ok := strings.CutPrefix(text, a.file.name+":")
	pos := syntax.MakePosition(&a.file.name, 1, 1)
	if _, err := fmt.Sscanf(rest, "%d:%d:", &pos.Line, &pos.Col); ok && err == nil {
		_, text, _ = strings.Cut(rest, ": ")
	}
	return a.reading.loader.place(pos, "", errors.New(text))
}

// A reporter reports the findings of one lint in one file.
type reporter struct {
	*analysis
	lint *Lint
}

// at reports a finding at a node.
func (r *reporter) at(n syntax.Node, hint, format string, args ...any) {
	start, end := n.Span()
	r.span(start, end, r.functionAround(n), hint, format, args...)
}

// call reports a finding at the name of what is called.
func (r *reporter) call(call *syntax.CallExpr, hint, format string, args ...any) {
	r.at(call.Fn, hint, format, args...)
}

func (r *reporter) span(start, end syntax.Position, fn, hint, format string, args ...any) {
	if slices.Contains(r.ignored[int(start.Line)], r.lint.Name) {
		return
	}
	frame := r.reading.loader.frame(start, fn)
	if end.Line == start.Line && !r.file.isYAML() {
		frame.Pos, frame.Width = start, max(int(end.Col-start.Col), 1)
	}
	err := recipeError(hint, fmt.Errorf(format, args...))
	err.Frames = []Frame{frame}
	r.add(&Finding{Lint: r.lint.Name, Warning: r.lint.Warning, SourceError: err})
}

// functionAround is the name of the function that a node is in, or "".
func (a *analysis) functionAround(n syntax.Node) string {
	if def := a.around(n); def != nil {
		return def.Name.Name
	}
	return ""
}

// around is the function that a node is in, or nil.
func (a *analysis) around(n syntax.Node) *syntax.DefStmt {
	for n = a.parent[n]; n != nil; n = a.parent[n] {
		if def, ok := n.(*syntax.DefStmt); ok {
			return def
		}
	}
	return nil
}

var ignoreComment = regexp.MustCompile(`#\s*check:\s*ignore\b([-\w\s,]*)`)

// readIgnored finds the comments that silence lints on their lines: # check: ignore unused-name
func (a *analysis) readIgnored() {
	a.ignored = make(map[int][]string)
	if !strings.Contains(string(a.file.text), "ignore") {
		return
	}
	for i, line := range strings.Split(string(a.file.text), "\n") {
		if m := ignoreComment.FindStringSubmatch(line); m != nil {
			a.ignored[i+1] = strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' })
		}
	}
}
