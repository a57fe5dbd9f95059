package starlib

import (
	"fmt"
	"slices"
	"strings"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"
)

// A Stub is a file that tells an editor which builtins there are.
type Stub struct {
	Name string // its path, in slashes
	Text string
}

// Stubs returns the stubs: __builtins__.pyi, which Pyright and Pylance read, and a package for starlark-lsp, whose
// modules are files of their own.
func Stubs() []Stub {
	modules := make(map[string][]*Builtin) // "" are the builtins of no module
	for _, b := range slices.Concat(Builtins(), Own()) {
		module, _, ok := strings.Cut(b.Name, ".")
		if !ok {
			module = ""
		}
		modules[module] = append(modules[module], b)
	}
	var names []string
	for name := range modules {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)

	typed := stubWriter{typed: true}
	typed.printf("%s\nfrom typing import Any, Callable, Iterable, Iterator\n\n", stubHeader)
	typed.types()
	for _, name := range names {
		typed.module(name, modules[name])
	}
	typed.functions(modules[""], "")
	typed.printf("def load(module: str, *names: str, **renamed: str) -> None:\n" +
		"    \"\"\"Brings in names of another file.\"\"\"\n")
	stubs := []Stub{{"__builtins__.pyi", typed.String()}}

	untyped := stubWriter{}
	untyped.printf("%s\n", stubHeader)
	untyped.types()
	untyped.functions(modules[""], "")
	stubs = append(stubs, Stub{"starlark/__init__.py", untyped.String()})
	for _, name := range names {
		s := stubWriter{}
		s.printf("%s\n", stubHeader)
		s.constants(name, "")
		s.functions(modules[name], "")
		stubs = append(stubs, Stub{"starlark/" + name + ".py", s.String()})
	}
	return stubs
}

const stubHeader = "# What recipes of aifb can call: written by aifb stubs.\n"

// A stubWriter writes Python. If it is not typed, it is for who knows the names of types, but nothing of typing.
type stubWriter struct {
	strings.Builder
	typed bool
}

func (s *stubWriter) printf(format string, args ...any) { fmt.Fprintf(s, format, args...) }

// types writes the types, with their attributes and methods.
func (s *stubWriter) types() {
	for _, t := range Types() {
		s.class(t)
	}
	s.timeType("Time", startime.Time{})
	s.timeType("Duration", startime.Duration(0))
	if s.typed {
		s.printf("class struct:\n    \"\"\"A value with attributes of these names.\"\"\"\n" +
			"    def __init__(self, **fields: Any) -> None: ...\n    def __getattr__(self, name: str) -> Any: ...\n\n")
	}
}

func (s *stubWriter) class(t *Type) {
	s.printf("class %s:\n    %s\n", t.Name, docstringOf(t.Doc, "    "))
	for _, a := range t.Attrs {
		s.printf("    %s: %s\n    %s\n", a.Name, s.pythonType(a.Type), docstringOf(a.Doc, "    "))
	}
	if s.typed && t.Name == "Table" {
		s.printf("    def __len__(self) -> int: ...\n    def __iter__(self) -> Iterator[Measurement]: ...\n" +
			"    def __getitem__(self, i: int) -> Measurement: ...\n")
	}
	for _, m := range t.Methods {
		s.function(m, "    ", "self")
	}
	s.printf("\n")
}

// timeType writes a type of Starlark's own module time.
func (s *stubWriter) timeType(name string, v starlark.HasAttrs) {
	s.printf("class %s:\n    \"\"\"Of the module time.\"\"\"\n", name)
	if s.typed {
		for _, op := range []string{"add", "radd", "sub", "mul", "rmul", "truediv", "floordiv"} {
			s.printf("    def __%s__(self, other: Any) -> Any: ...\n", op)
		}
		for _, op := range []string{"lt", "le", "gt", "ge"} {
			s.printf("    def __%s__(self, other: Any) -> bool: ...\n", op)
		}
	}
	for _, attr := range slices.Sorted(slices.Values(v.AttrNames())) {
		switch v, _ := v.Attr(attr); v.(type) { // it has all that it names
		case *starlark.Builtin:
			s.printf("    def %s(self, *args) -> %s:\n        pass\n", attr, s.pythonType("any"))
		default:
			s.printf("    %s: %s\n", attr, typeOf(v))
		}
	}
	s.printf("\n")
}

// module writes a module as a class, which an editor completes just as well.
func (s *stubWriter) module(name string, rows []*Builtin) {
	s.printf("class %s:\n", name)
	s.constants(name, "    ")
	s.functions(rows, "    ")
	s.printf("\n")
}

// constants writes what a module has beside functions.
func (s *stubWriter) constants(module, margin string) {
	m, ok := predeclared()[module].(starlark.HasAttrs)
	if !ok {
		return
	}
	for _, name := range slices.Sorted(slices.Values(m.AttrNames())) {
		switch v, _ := m.Attr(name); v.(type) { // it has all that it names
		case *starlark.Builtin:
		case startime.Duration:
			s.printf("%s%s: Duration\n", margin, name)
		default:
			s.printf("%s%s: %s\n", margin, name, typeOf(v))
		}
	}
}

func (s *stubWriter) functions(rows []*Builtin, margin string) {
	for _, b := range rows {
		if b.Name != "struct" || !s.typed { // it is a class
			s.function(b, margin, "")
		}
	}
}

// function writes the stub of a builtin.
func (s *stubWriter) function(b *Builtin, margin, self string) {
	_, name, ok := strings.Cut(b.Name, ".")
	if !ok {
		name = b.Name
	}
	var params []string
	if self != "" {
		params = append(params, self)
	} else if margin != "" {
		s.printf("%s@staticmethod\n", margin)
	}
	star := false
	for _, p := range b.written() {
		if p.Keyword && p.Rest == "" && !star {
			params, star = append(params, "*"), true
		}
		star = star || p.Rest == "*"
		typ := s.pythonType(p.Type)
		if p.Rest == "**" { // of each of the values
			typ = s.pythonType("any")
		}
		text := p.Rest + p.Name + ": " + typ
		if !p.Required && p.Rest == "" {
			if p.Default == "None" && s.typed {
				text += " | None"
			}
			text += " = " + p.Default
		}
		params = append(params, text)
	}
	s.printf("%sdef %s(%s) -> %s:\n%s    %s\n", margin, name, strings.Join(params, ", "), s.pythonResult(b.Returns), margin,
		docstringOf(b.stubDoc(), margin+"    "))
}

// stubDoc is the doc with what each parameter is, as Python's docstrings have it.
func (b *Builtin) stubDoc() string {
	var s strings.Builder
	s.WriteString(b.Doc)
	args := ""
	for _, p := range b.Params {
		if p.Doc != "" {
			args += "\n  " + p.Rest + p.Name + ": " + p.Doc
		}
	}
	if args != "" {
		s.WriteString("\n\nArgs:" + args)
	}
	return s.String()
}

// docstringOf quotes a doc, with a margin before all lines but the first.
func docstringOf(doc, margin string) string {
	doc = strings.NewReplacer(`\`, `\\`, `"""`, `\"\"\"`).Replace(doc)
	if strings.HasSuffix(doc, `"`) {
		doc = doc[:len(doc)-1] + `\"`
	}
	if !strings.Contains(doc, "\n") {
		return `"""` + doc + `"""`
	}
	var lines []string
	for line := range strings.SplitSeq(doc, "\n") {
		if line != "" {
			line = margin + line
		}
		lines = append(lines, line)
	}
	return `"""` + strings.TrimPrefix(strings.Join(lines, "\n"), margin) + "\n" + margin + `"""`
}

// pythonTypes are the types of the table that Python calls by another name.
var pythonTypes = map[string]string{
	"str": "str", "int": "int", "float": "float", "bool": "bool", "number": "float", "any": "Any", "iterable": "Iterable[Any]",
	"port": "int", "duration": "str | float | Duration", "memory": "str | int", "dict": "dict[str, Any]", "list": "list[Any]",
	"list of str": "str | list[str]", "function": "Callable[..., Any]", "time.Time": "Time",
}

// pythonType is what Python calls a type of the table.
func (s *stubWriter) pythonType(t string) string {
	if p, ok := pythonTypes[t]; ok {
		return s.plain(p)
	}
	if of, ok := strings.CutPrefix(t, "list of "); ok {
		return s.plain("list[" + s.pythonType(of) + "]")
	}
	var all []string
	for alternative := range strings.SplitSeq(strings.ReplaceAll(t, " or ", ","), ",") {
		alternative = strings.TrimSpace(alternative)
		if p, ok := pythonTypes[alternative]; ok {
			alternative = p
		}
		all = append(all, alternative)
	}
	return s.plain(strings.Join(all, " | "))
}

// plain leaves one name of a type, for who cannot read more.
func (s *stubWriter) plain(t string) string {
	if s.typed {
		return t
	}
	t, _, _ = strings.Cut(t, " |")
	t, _, _ = strings.Cut(t, "[")
	return t
}

func (s *stubWriter) pythonResult(t string) string {
	switch t {
	case "":
		return "None"
	case "list of str":
		return s.plain("list[str]")
	}
	return s.pythonType(t)
}
