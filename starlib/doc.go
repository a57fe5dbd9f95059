package starlib

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A Reference is the language, or a part of it, as it is documented.
type Reference struct {
	Builtins []*Builtin `json:"builtins"`
	Types    []*Type    `json:"types,omitempty"`
}

// NewReference returns the whole language, but for what Python has too.
func NewReference() *Reference {
	return &Reference{slices.Concat(Builtins(), TestBuiltins(), Own()), Types()}
}

// Find returns the part that a name means: a builtin, a module, a type, or a method as "Table.mean". The error has
// FaultUsage.
func (r *Reference) Find(name string) (*Reference, error) {
	found := &Reference{}
	var names []string
	for _, b := range r.Builtins {
		names = append(names, b.Name)
		if b.Name == name || strings.HasPrefix(b.Name, name+".") {
			found.Builtins = append(found.Builtins, b)
		}
	}
	for _, t := range r.Types {
		names = append(names, t.Name)
		if t.Name == name {
			found.Types = append(found.Types, t)
		}
		for _, m := range t.Methods {
			method := *m
			method.Name = t.Name + "." + m.Name
			names = append(names, method.Name)
			if method.Name == name {
				found.Builtins = append(found.Builtins, &method)
			}
		}
	}
	if len(found.Builtins)+len(found.Types) == 0 {
		hint := cmp.Or(runtime.DidYouMean(name, names), "aifb doc lists them")
		if starlark.Universe.Has(name) || slices.Contains(languageWords, name) {
			hint = name + " is Starlark's own: https://github.com/google/starlark-go/blob/master/doc/spec.md"
		}
		return nil, runtime.Faultf(runtime.FaultUsage, hint, "there is no builtin or type %s", name)
	}
	return found, nil
}

// WriteIndex writes a line for each builtin and type, by subject.
func (r *Reference) WriteIndex(w io.Writer) error {
	width := 0
	for _, b := range r.Builtins {
		width = max(width, len(b.Name))
	}
	var s strings.Builder
	subject := ""
	for _, b := range r.Builtins {
		if b.Subject != subject {
			subject = b.Subject
			fmt.Fprintf(&s, "%s\n", subject)
		}
		fmt.Fprintf(&s, "  %-*s  %s\n", width, b.Name, summary(b.Doc))
	}
	if len(r.Types) > 0 {
		s.WriteString("types\n")
	}
	for _, t := range r.Types {
		fmt.Fprintf(&s, "  %-*s  %s\n", width, t.Name, summary(t.Doc))
	}
	_, err := io.WriteString(w, s.String())
	return err
}

// summary is the first sentence of a doc.
func summary(doc string) string {
	doc, _, _ = strings.Cut(doc, "\n")
	first, _, more := strings.Cut(doc, ". ")
	if more {
		first += "."
	}
	return first
}

// WriteText writes a page for each builtin and type.
func (r *Reference) WriteText(w io.Writer) error {
	var pages []string
	for _, b := range r.Builtins {
		pages = append(pages, b.page())
	}
	for _, t := range r.Types {
		pages = append(pages, t.page())
	}
	_, err := io.WriteString(w, strings.Join(pages, "\n"))
	return err
}

// page says how to call the builtin, and what each parameter is.
func (b *Builtin) page() string {
	var s strings.Builder
	s.WriteString(b.Signature() + "\n")
	if b.Doc != "" {
		fmt.Fprintf(&s, "\n%s\n", b.Doc)
	}
	if len(b.Params) == 0 {
		return s.String()
	}
	var rows [][]string
	for _, p := range b.Params {
		rows = append(rows, []string{"  " + p.Rest + p.Name, p.Type, p.Doc})
	}
	s.WriteString("\n")
	runtime.WriteTable(&s, []string{"  parameter", "type", ""}, rows)
	return s.String()
}

// page says what can be done with a value of the type.
func (t *Type) page() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n\n%s\n", t.Name, t.Doc)
	var rows [][]string
	for _, a := range t.Attrs {
		rows = append(rows, []string{"  ." + a.Name, a.Type, a.Doc})
	}
	for _, m := range t.Methods {
		rows = append(rows, []string{"  ." + strings.TrimSuffix(m.Signature(), " -> "+m.Returns), m.Returns, m.Doc})
	}
	if len(rows) > 0 {
		s.WriteString("\n")
		runtime.WriteTable(&s, []string{"  attribute", "type", ""}, rows)
	}
	return s.String()
}

// maxSignature is how long a signature may be on one line.
const maxSignature = 100

// Signature is how a recipe calls the builtin, such as `warn(message)`. A long one has several lines.
func (b *Builtin) Signature() string {
	var params []string
	star := false // what follows can only be given by name
	for _, p := range b.written() {
		if p.Keyword && p.Rest == "" && !star {
			params, star = append(params, "*"), true
		}
		star = star || p.Rest == "*"
		text := p.Rest + p.Name
		if !p.Required && p.Rest == "" {
			text += "=" + p.Default
		}
		params = append(params, text)
	}
	result := ")"
	if b.Returns != "" {
		result += " -> " + b.Returns
	}
	if line := b.Name + "(" + strings.Join(params, ", ") + result; len(line) <= maxSignature {
		return line
	}
	var s strings.Builder
	s.WriteString(b.Name + "(")
	column := maxSignature
	for _, p := range params {
		if column += len(p) + 2; column > maxSignature {
			s.WriteString("\n   ")
			column = len(p) + 4
		}
		s.WriteString(" " + p + ",")
	}
	return s.String() + "\n" + result
}

// written are the parameters in the order in which a def would have them: **name is the last.
func (b *Builtin) written() []Param {
	params := slices.Clone(b.Params)
	slices.SortStableFunc(params, func(p, q Param) int { return compareBools(p.Rest == "**", q.Rest == "**") })
	return params
}

// WriteMarkdown writes a chapter for each builtin and type. What is Starlark's own has a line each.
func (r *Reference) WriteMarkdown(w io.Writer) error {
	var s strings.Builder
	subject := ""
	var own [][]string
	for i, b := range r.Builtins {
		if b.Subject != subject {
			subject = b.Subject
			fmt.Fprintf(&s, "## %s%s\n\n", strings.ToUpper(subject[:1]), subject[1:])
		}
		if b.call != nil {
			b.markdown(&s)
			continue
		}
		own = append(own, []string{code(b.Signature()), b.Doc})
		if i == len(r.Builtins)-1 || r.Builtins[i+1].Subject != subject {
			markdownTable(&s, []string{"call", ""}, own)
			own = nil
		}
	}
	if len(r.Types) > 0 {
		s.WriteString("## Types\n\n")
	}
	for _, t := range r.Types {
		t.markdown(&s)
	}
	_, err := io.WriteString(w, strings.TrimSuffix(s.String(), "\n"))
	return err
}

func (b *Builtin) markdown(s *strings.Builder) {
	fmt.Fprintf(s, "### %s\n\n```python\n%s\n```\n\n", b.Name, b.Signature())
	if b.Doc != "" {
		fmt.Fprintf(s, "%s\n\n", b.Doc)
	}
	markdownParams(s, b.Params)
}

func markdownParams(s *strings.Builder, params []Param) {
	var rows [][]string
	for _, p := range params {
		def := code(p.Default)
		if p.Required {
			def = "required"
		}
		rows = append(rows, []string{code(p.Rest + p.Name), p.Type, def, p.Doc})
	}
	markdownTable(s, []string{"parameter", "type", "default", ""}, rows)
}

func (t *Type) markdown(s *strings.Builder) {
	fmt.Fprintf(s, "### %s\n\n%s\n\n", t.Name, t.Doc)
	var rows [][]string
	for _, a := range t.Attrs {
		rows = append(rows, []string{code(a.Name), a.Type, a.Doc})
	}
	for _, m := range t.Methods {
		rows = append(rows, []string{code(strings.TrimSuffix(m.Signature(), " -> "+m.Returns)), m.Returns, m.Doc})
	}
	markdownTable(s, []string{"attribute", "type", ""}, rows)
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func markdownTable(s *strings.Builder, header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	fmt.Fprintf(s, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, row := range rows {
		for _, text := range row {
			s.WriteString("| " + cell.Replace(text) + " ")
		}
		s.WriteString("|\n")
	}
	s.WriteString("\n")
}

// WriteMarkdown writes what the recipe says of itself, its parameters, and the functions that others may load.
func (r *Recipe) WriteMarkdown(w io.Writer) error {
	var s strings.Builder
	fmt.Fprintf(&s, "# %s\n\n", r.file.name)
	if doc := r.Doc(); doc != "" {
		fmt.Fprintf(&s, "%s\n\n", doc)
	}
	if params := r.Params(); len(params) > 0 {
		s.WriteString("## Parameters\n\n")
		markdownParams(&s, params)
	}
	if functions := r.Functions(); len(functions) > 0 {
		s.WriteString("## Functions\n\n")
		for _, b := range functions {
			b.markdown(&s)
		}
	}
	_, err := io.WriteString(w, strings.TrimSuffix(s.String(), "\n"))
	return err
}

// Functions are the functions of the recipe that others may load, but for main, as its docstrings describe them.
func (r *Recipe) Functions() (rows []*Builtin) {
	for _, stmt := range r.file.syntax.Stmts {
		def, ok := stmt.(*syntax.DefStmt)
		if !ok || def == r.main || strings.HasPrefix(def.Name.Name, "_") {
			continue
		}
		row := functionRow(def)
		var docs map[string]string
		row.Doc, docs = splitArgs(docstring(def.Body))
		for i := range row.Params {
			p := &row.Params[i]
			p.Doc = docs[p.Name]
			if value, ok := defaultOf(def, p.Name); ok {
				p.Default, p.Type = "...", ""
				if v, ok := literal(value); ok {
					p.Default, p.Type = v.String(), paramType(v)
				}
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// defaultOf is the default of a parameter, if it has one.
func defaultOf(def *syntax.DefStmt, name string) (syntax.Expr, bool) {
	for _, p := range def.Params {
		if b, ok := p.(*syntax.BinaryExpr); ok && b.X.(*syntax.Ident).Name == name {
			return b.Y, true
		}
	}
	return nil, false
}

// help says what x is for. Without one, it says what there is.
func help(w io.Writer, x starlark.Value) error {
	switch x := x.(type) {
	case nil:
		return NewReference().WriteIndex(w)
	case *starlark.Builtin:
		return helpBuiltin(w, x)
	case *starlark.Function:
		_, err := io.WriteString(w, runningRow(x).page())
		return err
	}
	module := ""
	if _, err := fmt.Sscanf(x.String(), "<module %q>", &module); err == nil && x.Type() == "module" {
		if found, err := NewReference().Find(module); err == nil {
			return found.WriteText(w)
		}
	}
	if i := slices.IndexFunc(Types(), func(t *Type) bool { return t.Name == x.Type() }); i >= 0 {
		_, err := io.WriteString(w, Types()[i].page())
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n", typeOf(x))
	if attrs, ok := x.(starlark.HasAttrs); ok && err == nil {
		_, err = fmt.Fprintf(w, "it has %s\n", strings.Join(attrs.AttrNames(), ", "))
	}
	return err
}

func helpBuiltin(w io.Writer, x *starlark.Builtin) error {
	rows := slices.Concat(Builtins(), TestBuiltins(), Own())
	if x.Receiver() != nil {
		rows = nil
		for _, t := range Types() {
			if t.Name == x.Receiver().Type() {
				rows = t.Methods
			}
		}
	}
	for _, b := range rows {
		_, member, _ := strings.Cut(b.Name, ".")
		if b.Name == x.Name() || x.Receiver() == nil && b.call == nil && member == x.Name() { // Starlark's call themselves "ceil"
			_, err := io.WriteString(w, b.page())
			return err
		}
	}
	return fmt.Errorf("%s is Starlark's own; its specification says what it does", x.Name())
}

// runningRow is a row for a function of a recipe that runs.
func runningRow(fn *starlark.Function) *Builtin {
	b := &Builtin{Name: fn.Name()}
	var docs map[string]string
	b.Doc, docs = splitArgs(strings.TrimSpace(fn.Doc()))
	n := fn.NumParams()
	for i := range n {
		name, _ := fn.Param(i)
		p := Param{Name: name, Doc: docs[name]}
		switch def := fn.ParamDefault(i); {
		case fn.HasKwargs() && i == n-1:
			p.Rest = "**"
		case fn.HasVarargs() && i == n-1 || fn.HasVarargs() && fn.HasKwargs() && i == n-2:
			p.Rest = "*"
		case def == nil:
			p.Required = true
		default:
			p.Default, p.Type = def.String(), paramType(def)
		}
		b.Params = append(b.Params, p)
	}
	return b
}
