package starlib

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// Complete returns what may stand in a line of the statement that is being entered, from the byte start on, in place of
// what is there up to the byte pos. Nothing is called for it, and only the partitions of the target are asked for, for a
// moment.
func (r *REPL) Complete(line string, pos int) (start int, candidates []string) {
	var before string
	if r.input != nil {
		before = string(r.input.text)
	}
	if command, ok := strings.CutPrefix(line[:pos], ":"); ok && before == "" {
		return r.completeCommand(command)
	}
	p := cursorAt(before + line[:pos])
	start = pos - len(p.word)
	switch {
	case p.comment || start < 0: // a text that began on an earlier line
		return pos, nil
	case p.quote != 0:
		candidates = r.completeText(p, line[pos:])
	case strings.Contains(p.word, "."):
		dot := strings.LastIndexByte(p.word, '.')
		start += dot + 1
		candidates = r.completeAttribute(p.word[:dot], p.word[dot+1:])
	default:
		candidates = r.completeName(p)
	}
	return start, candidates
}

// A cursor is where in a statement completion happens.
type cursor struct {
	word    string // the name, or the text in quotes, that ends there
	quote   byte   // that the text is in; 0: none
	comment bool
	call    *openCall // the innermost bracket that is open
}

// An openCall is a call, or another bracket, up to where completion happens.
type openCall struct {
	name  string   // a path, such as "ready.http"; "": it is no call
	given []string // the names of its arguments
	param string   // the name of the argument that is being entered; "" is not named
	of    string   // a path, of what the bracket is an index; "": it is none
	args  int      // how many came before
	text  string   // the first, if it is a text
	fresh bool     // nothing of the argument is there yet but for a word
}

// cursorAt finds out what is around the end of a text.
func cursorAt(text string) cursor {
	open := []*openCall{{}} // the brackets that are open, within the statement itself
	last := ""              // the name just before, or ""
	for i := 0; i < len(text); {
		call := open[len(open)-1]
		c := text[i]
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case c == '#':
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				return cursor{comment: true}
			}
			i += end
		case c == '"' || c == '\'':
			body, length := quoted(text[i:])
			if length < 0 {
				return cursor{word: body, quote: c, call: call}
			}
			if call.args == 0 && call.fresh {
				call.text = body
			}
			last, call.fresh = "", false
			i += length
		case isPath(rune(c)):
			n := nameLength(text[i:])
			if i+n == len(text) {
				return cursor{word: text[i:], call: call}
			}
			last, call.fresh = text[i:i+n], false
			i += n
		default:
			i += call.operator(text[i:], last)
			switch c {
			case '(':
				open = append(open, &openCall{name: last, fresh: true})
			case '[':
				open = append(open, &openCall{of: last, fresh: true})
			case '{':
				open = append(open, &openCall{})
			case ')', ']', '}':
				open = open[:max(len(open)-1, 1)]
			}
			last = ""
		}
	}
	return cursor{call: open[len(open)-1]}
}

// operator notes an operator of the call's arguments, which a text begins with, and returns its length.
func (c *openCall) operator(text, last string) int {
	c.fresh = false
	switch {
	case len(text) > 1 && text[1] == '=' && strings.IndexByte("=!<>", text[0]) >= 0:
		return 2
	case text[0] == ',':
		c.args, c.param, c.fresh = c.args+1, "", true
	case text[0] == '=':
		c.param, c.given = last, append(c.given, last)
	}
	return 1
}

// isPath reports whether a character may be of a path of names, such as "ready.http".
func isPath(r rune) bool { return r == '.' || isName(r) }

// nameLength is how much of the beginning of a text is a path of names.
func nameLength(text string) int {
	if i := strings.IndexFunc(text, func(r rune) bool { return !isPath(r) }); i >= 0 {
		return i
	}
	return len(text)
}

// quoted returns the body of the string literal that a text begins with, and the length of the literal; -1: it is open.
func quoted(text string) (body string, length int) {
	mark := text[:1]
	if long := strings.Repeat(mark, 3); strings.HasPrefix(text, long) {
		mark = long
	}
	for i := len(mark); i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case strings.HasPrefix(text[i:], mark):
			return text[len(mark):i], i + len(mark)
		case text[i] == '\n' && len(mark) == 1:
			return "", i
		}
	}
	return text[len(mark):], -1
}

// completeCommand completes a line of which command stands behind the colon.
func (r *REPL) completeCommand(line string) (start int, candidates []string) {
	name, arg, hasArg := strings.Cut(line, " ")
	if !hasArg {
		for _, c := range replCommands() {
			text := c.name
			if c.args != "" {
				text += " "
			}
			candidates = append(candidates, text)
		}
		return 1, withPrefix(candidates, name)
	}
	start = len(":") + len(name) + len(" ")
	switch strings.TrimSuffix(name, "!") {
	case "load", "save":
		return start, withPrefix(starFiles(os.DirFS("."), arg), arg)
	}
	return start, nil
}

// completeText completes what is in quotes: a file to load, a name that it has, or a partition.
func (r *REPL) completeText(p cursor, after string) (candidates []string) {
	end := string(p.quote)
	if strings.HasPrefix(after, end) {
		end = ""
	}
	switch {
	case p.call.name == "load" && p.call.args == 0:
		candidates = r.loadable(p.word)
		for i, name := range candidates {
			if !strings.HasSuffix(name, "/") {
				candidates[i] += end
			}
		}
	case p.call.name == "load":
		candidates = wrap("", r.loadableNames(p.call.text), end)
	case p.call.of != "" && p.call.fresh:
		candidates = r.keys(p.call.of, p.quote, end, after)
	case p.call.param == "partition":
		candidates = wrap("", r.cluster.get(), end)
	}
	return withPrefix(candidates, p.word)
}

// keys returns the keys of a dict that are texts without escapes, each with the end of the index.
func (r *REPL) keys(path string, quote byte, end, after string) (keys []string) {
	v, err := r.names.lookup(path)
	dict, ok := v.(*starlark.Dict)
	if err != nil || !ok {
		return nil
	}
	if end != "" && after == "" {
		end += "]"
	}
	for _, key := range dict.Keys() {
		text, ok := starlark.AsString(key)
		if ok && syntax.Quote(text, false) == `"`+text+`"` && strings.IndexByte(text, quote) < 0 {
			keys = append(keys, text+end)
		}
	}
	return keys
}

func wrap(front string, texts []string, end string) (all []string) {
	for _, t := range texts {
		all = append(all, front+t+end)
	}
	return all
}

// loadable returns the files and directories that load() may mean by something that begins with prefix.
func (r *REPL) loadable(prefix string) []string {
	l := r.run.loader
	names := l.libraryNames()
	if rest, ok := strings.CutPrefix(prefix, "//"); ok {
		return wrap("//", starFiles(os.DirFS(l.root), rest), "")
	}
	return append(names, starFiles(os.DirFS(l.dir), prefix)...)
}

// starFiles returns the .star files of the directory that prefix is in, and its directories.
func starFiles(root fs.FS, prefix string) (names []string) {
	dir := path.Dir(prefix + "x")
	entries, _ := fs.ReadDir(root, dir) // one that cannot be read has nothing to offer
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			names = append(names, name+"/")
		case path.Ext(name) == ".star":
			names = append(names, name)
		}
	}
	return names
}

// loadableNames returns the names that a file has for load().
func (r *REPL) loadableNames(module string) (names []string) {
	l, _ := newLoader(filepath.Join(r.run.loader.dir, "repl"), r.run.loader.library)
	f, errs := l.load(l.sibling("repl"), module)
	if len(errs) > 0 || f == nil {
		return nil
	}
	for _, global := range f.syntax.Module.(*resolve.Module).Globals {
		if name := global.First.Name; !strings.HasPrefix(name, "_") {
			names = append(names, name)
		}
	}
	return names
}

// completeAttribute completes an attribute of what a path of names is.
func (r *REPL) completeAttribute(base, prefix string) (candidates []string) {
	v, err := r.names.lookup(base)
	if err != nil {
		return nil
	}
	for _, name := range withPrefix(attrNames(v), prefix) {
		if callable(attribute(v, name)) {
			name += "("
		}
		candidates = append(candidates, name)
	}
	return candidates
}

// completeName completes a name: of a parameter first.
func (r *REPL) completeName(p cursor) (candidates []string) {
	if p.call.fresh {
		for _, name := range r.params(p.call.name) {
			if !slices.Contains(p.call.given, name) {
				candidates = append(candidates, name+"=")
			}
		}
		candidates = withPrefix(candidates, p.word)
	}
	if p.word == "" {
		return candidates
	}
	all := slices.Collect(maps.Keys(starlark.Universe))
	for name := range r.names.all {
		if !strings.HasSuffix(name, ")") && !starlark.Universe.Has(name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	for _, name := range withPrefix(append(all, languageWords...), p.word) {
		if v, err := r.names.lookup(name); err == nil && callable(v) {
			name += "("
		} else if err == nil && isModule(v) {
			name += "."
		}
		candidates = append(candidates, name)
	}
	return candidates
}

func callable(v starlark.Value) bool { _, ok := v.(starlark.Callable); return ok }

func isModule(v starlark.Value) bool { return v.Type() == "module" }

// languageWords are those of the language.
var languageWords = []string{"and", "break", "continue", "def", "elif", "else", "for", "if", "in", "lambda", "load", "not",
	"or", "pass", "return", "while"}

// params returns the names of the parameters that a call may give by name.
func (r *REPL) params(path string) (names []string) {
	v, err := r.names.lookup(path)
	if err != nil {
		return nil
	}
	if b := builtinOf(v); b != nil {
		return (&binding{Builtin: b}).names()
	}
	if f, ok := v.(*starlark.Function); ok {
		n := f.NumParams()
		if f.HasVarargs() {
			n--
		}
		if f.HasKwargs() {
			n--
		}
		for i := range n {
			name, _ := f.Param(i)
			names = append(names, name)
		}
	}
	return names
}

func withPrefix(texts []string, prefix string) (some []string) {
	for _, t := range texts {
		if strings.HasPrefix(t, prefix) {
			some = append(some, t)
		}
	}
	return some
}
