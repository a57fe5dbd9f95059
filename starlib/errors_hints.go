package starlib

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A habit is what people write who know Python, and what they are told.
type habit struct{ pattern, hint string }

// habits are by the message of Starlark's own that they lead to.
var habits = hintsOf([]habit{
	{`^got (import|from), want primary`, `load("//lib.star", "name") brings in names of a file; json, time and math are there already`},
	{`^got try, want`, `attempt(fn, ...) turns an error into a value`},
	{`^got raise, want`, `fail("...") ends the recipe`},
	{`^got with, want`, "there is no with: on_exit(fn) cleans up at the end"},
	{`^got class, want`, "there are no classes: struct(name = value) has attributes"},
	{`^got global, want`, "a function cannot assign to a global: return the value instead"},
	{`^got nonlocal, want`, "a function cannot assign to a variable of another: return the value instead"},
	{`^got del, want`, "there is no del: d.pop(key), xs.pop(index)"},
	{`^got yield, want`, "there are no generators: return a list"},
	{`^got (async|await), want`, "parallel(fn, items) calls a function with several items at once"},
	{`^got for, want ','|^got for, want '\)'`, "[f(x) for x in xs] is a list"},
	{`^got ',', want ':'`, "set([1, 2]) is a set"},
	{`^got '\{', want ':'`, "a colon ends the line, and the lines of the block are indented"},
	{`^got '\*', want primary`, "there is no * in a list or an assignment: a + b joins lists, xs[1:] is the rest"},
	{`^got '\*\*', want primary`, "a | b joins dicts"},
	{`^got '>', want primary`, "!= is not equal"},
	{`^unexpected input character '@'`, "there are no decorators: f = g(f)"},
	{`^unexpected input character '[“”‘’]'`, "the quotes are \" and '"},
	{`^invalid escape sequence`, `r"\d" is a string whose \ is a \; so is "\\d"`},
	{`^non-ASCII hex escape`, `"\u00ff" is a character`},
	{`^unindent does not match`, "the lines of a block begin in the same column"},
	{`, want indent$`, "the lines of a block are indented"},
	{`^got string literal, want newline`, `+ joins strings: "a" + "b"`},
	{`^got ':', want '\)'|^got '-', want ':'|^got ':', want newline`, "there are no type annotations"},
	{`^got '=', want ':'`, "== compares"},
	{`^got newline, want ':'`, "a colon ends the line"},
	{`^got indent, want`, "the lines of a block begin in the same column"},
	{`^got if, want ':'|^got else, want`, "elif x:"},
	{`^unexpected input character '!'|^got '(&|\|)', want`, "not x, x and y, x or y"},
	{`^unexpected input character '\?'`, "a if condition else b"},
	{`is not UTF-8 text$`, "save the file as UTF-8"},
	{`^load statement must import|^(first operand of load|load operand)`, `load("lib.star", "name")`},
	{`^load statement within`, "load() is at the top level of a file"},
	{`^got '\*\*', want`, "math.pow(x, 2)"},
	{`^got is, want`, "== compares, also with None"},
	{`^conditional expression without else`, "a if condition else b; == compares, there is no is"},
	{`^got (not|in), want`, "not (x in y), or x not in y"},
	{`does not associate with`, "0 < x and x < 9"},
	{`^undefined: true$`, "True"},
	{`^undefined: false$`, "False"},
	{`^undefined: (null|nil|none|undefined)$`, "None"},
	{`^undefined: isinstance$`, `type(x) == "string"`},
	{`^undefined: (map|filter)$`, "[f(x) for x in xs if condition]"},
	{`^undefined: format$`, `fmt(x, ".2f")`},
	{`^undefined: open$`, "read(path) reads a file; export_csv() and export_json() write one"},
	{`^undefined: (os|sys|subprocess)$`, `run("ls") runs a command on the target; job(), service() and client() run there as jobs`},
	{`unknown conversion %\.|format spec features not supported`, `fmt(x, ".2f")`},
	{`^unknown binary op: .*\bSecret\b`, "a Secret is not for showing: give it to a job through env = {...}"},
	{`^unknown binary op: (string \+ |\w+ \+ string)`, "str(x) makes a string"},
	{`string value is not iterable`, `"abc".elems() are its characters`},
	{`^global variable \w+ referenced before assignment`, "the file gives it its value further below: call the function after that"},
	{`^local variable \w+ referenced before assignment`, "a function cannot assign to a global: return the value instead"},
	{`cannot .* frozen|frozen (list|dict|set|hash table)`,
		"what the top level made cannot change in main, nor what parallel shares: make it in the function, and return it"},
	{`during iteration`, "for x in list(xs): goes over a copy"},
	{`^\w+ has no \.(length|len|size)\b`, "len(x)"},
	{`^invalid slice operand (Table|ClusterTable)`, "x.rows() is a list"},
	{`^not enough arguments for format string`, `"%s %s" % (a, b): several go in brackets`},
	{`^too many arguments for format string`, `"%s" % (x,) writes a tuple as one`},
	{`^int: invalid literal with base 10: .*\.`, "int(float(x)) cuts the fraction off"},
	{`^time has no \.sleep$|^undefined: sleep$`, `wait_running() and wait_done() wait for jobs; run("sleep 5") takes its time`},
	{`^keyword argument may not follow \*`, "name = value goes before *args"},
	{`^list has no \.sort\b`, "sorted(xs)"},
	{`^list has no \.(push|add)\b`, "xs.append(x)"},
	{`^string has no \.decode\b|^bytes has no \.decode\b`, "str(b)"},
	{`^dict has no \.iteritems\b|^dict has no \.has_key\b`, "d.items(), key in d"},
	{`^Starlark stack overflow`, "the function calls itself without end"},
	{`^invalid call of non-function`, "the name was given another value before"},
})

// lineHabits are by the line that the parser does not understand.
var lineHabits = hintsOf([]habit{
	{`^\s*assert\b`, `expect(x == 1, "...") is a threshold; if x != 1: fail("...") ends the recipe`},
	{`^\s*print\s+[^(\s]`, "print(x)"},
	{`\b[fF]["']`, `there are no f-strings: "%s" % x`},
	{`\w(\+\+|--)\s*$`, "x += 1"},
	{`:=`, "x = ... is a line of its own"},
	{`\b\d+_\d`, "numbers are written without _"},
})

// hintsOf returns a function that finds the first hint for a text, or "". It compiles the patterns when it has to.
func hintsOf(habits []habit) func(text string) string {
	compiled := sync.OnceValue(func() (patterns []*regexp.Regexp) {
		for _, h := range habits {
			patterns = append(patterns, regexp.MustCompile(h.pattern))
		}
		return patterns
	})
	return func(text string) string {
		for i, p := range compiled() {
			if p.MatchString(text) {
				return habits[i].hint
			}
		}
		return ""
	}
}

// guess is how Starlark itself suggests a name; it does not see that two letters were exchanged.
var guess = regexp.MustCompile(` \(did you mean \.?([^)]+)\?\)$`)

// plain is a message of Starlark's without its suggestion, and that as a hint.
func plain(msg string) (text, hint string) {
	m := guess.FindStringSubmatchIndex(msg)
	if m == nil {
		return msg, ""
	}
	return msg[:m[0]], "did you mean " + msg[m[2]:m[3]] + "?"
}

// didYouMean is the hint for a name or a key that is not there: a suggestion, or the list of what there is, if that is
// short. The prefix is before what is suggested.
func didYouMean(prefix, word string, candidates []string) string {
	const few = 9
	switch s := runtime.Suggest(word, candidates); {
	case s != "":
		return fmt.Sprintf("did you mean %s%s?", prefix, s)
	case len(candidates) == 0 || len(candidates) > few:
		return ""
	}
	return "it has " + strings.Join(candidates, ", ")
}

// resolveError is what is wrong with a name, and what might be meant. The names are those that every file knows.
func (f *file) resolveError(pos syntax.Position, msg string, names []string) (hint string, err error) {
	msg, hint = plain(msg)
	if h := habits(msg); h != "" {
		hint = h
	} else if name, ok := strings.CutPrefix(msg, "undefined: "); ok {
		if h := runtime.DidYouMean(name, slices.Concat(f.scope(pos), names)); h != "" {
			hint = h
		}
	}
	return hint, errors.New(msg)
}

// scope returns the names of the file that are known at a place.
func (f *file) scope(pos syntax.Position) (names []string) {
	syntax.Walk(f.syntax, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.DefStmt:
			names = append(names, n.Name.Name)
			if !contains(n, pos) {
				return false
			}
			names = append(names, bound(n.Params...)...)
		case *syntax.LambdaExpr:
			if !contains(n, pos) {
				return false
			}
			names = append(names, bound(n.Params...)...)
		case *syntax.AssignStmt:
			names = append(names, bound(n.LHS)...)
		case *syntax.ForStmt:
			names = append(names, bound(n.Vars)...)
		case *syntax.ForClause:
			names = append(names, bound(n.Vars)...)
		case *syntax.LoadStmt:
			for _, to := range n.To {
				names = append(names, to.Name)
			}
		}
		return true
	})
	return names
}

func contains(n syntax.Node, pos syntax.Position) bool {
	start, end := n.Span()
	return !before(pos, start) && before(pos, end)
}

func before(a, b syntax.Position) bool { return a.Line < b.Line || a.Line == b.Line && a.Col < b.Col }

// bound returns the names that are assigned to: x; x, y; x = default; *x.
func bound(exprs ...syntax.Expr) (names []string) {
	for _, e := range exprs {
		switch e := e.(type) {
		case *syntax.Ident:
			names = append(names, e.Name)
		case *syntax.BinaryExpr:
			names = append(names, bound(e.X)...)
		case *syntax.UnaryExpr:
			names = append(names, bound(e.X)...)
		case *syntax.ParenExpr:
			names = append(names, bound(e.X)...)
		case *syntax.TupleExpr:
			names = append(names, bound(e.List...)...)
		case *syntax.ListExpr:
			names = append(names, bound(e.List...)...)
		}
	}
	return names
}

var (
	noSuchAttr = regexp.MustCompile(`^([\w.]+) has no \.(\w+) field or method$`)
	noSuchKey  = regexp.MustCompile(`^key "(.*)" not in dict$`)
	noSuchArg  = regexp.MustCompile(`^(?:function (\w+) got an |\w+: )unexpected keyword argument "?(\w+)"?$`)
	badCall    = regexp.MustCompile(`^function (\w+) (got|missing|accepts)\b`)
)

// explain adds to an error of Starlark's own what can be done about it.
func (l *loader) explain(err error, frames []Frame) error {
	msg, hint := plain(err.Error())
	if hint != "" {
		err = errors.New(msg)
	}
	if h := runtime.HintOf(err); h != "" {
		hint = h
	} else if h := habits(msg); h != "" {
		hint = h
	} else if m := noSuchAttr.FindStringSubmatch(msg); m != nil {
		if h := didYouMean(".", m[2], attributes(m[1])); h != "" {
			hint = h
		}
	} else if m := noSuchKey.FindStringSubmatch(msg); m != nil && len(frames) > 0 {
		hint = l.keyHint(m[1], frames[0].at)
	} else if m := noSuchArg.FindStringSubmatch(msg); m != nil {
		if h := runtime.DidYouMean(m[2], l.params(m[1])); h != "" {
			hint = h
		}
		err = &argumentError{place{name: m[2], index: -1}, err}
	}
	return &runtime.Error{Fault: runtime.FaultRun, Hint: hint, Err: err}
}

// begun leaves out the first frame if it is of a call that did not begin, because of its arguments or its depth.
func begun(frames []Frame, err error) []Frame {
	m := badCall.FindStringSubmatch(err.Error())
	if len(frames) > 1 && (m != nil && m[1] == frames[0].Func || err.Error() == "Starlark stack overflow") {
		return frames[1:]
	}
	return frames
}

// attributes returns the names of what a value of one of Starlark's own types has.
func attributes(typ string) []string {
	for _, v := range []starlark.HasAttrs{starlark.String(""), starlark.NewList(nil), new(starlark.Dict), new(starlark.Set), starlark.Bytes(""),
		startime.Duration(0), startime.Time{}} {
		if v.Type() == typ {
			return v.AttrNames()
		}
	}
	return nil
}

// keyHint says what might be meant by a key that a dict does not have. The dict itself is gone: what is known are the
// keys that the file gives to the dict of that name, or else to any.
func (l *loader) keyHint(key string, at syntax.Position) string {
	f := l.named(at.Filename())
	if f == nil {
		return ""
	}
	name := ""
	f.walk(func(n syntax.Node) {
		if x, ok := n.(*syntax.IndexExpr); ok && x.Lbrack == at {
			if id, ok := x.X.(*syntax.Ident); ok {
				name = id.Name
			}
		}
	})
	var own, all []string
	f.walk(func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.AssignStmt:
			if id, ok := n.LHS.(*syntax.Ident); ok && id.Name == name {
				own = append(own, dictKeys(n.RHS)...)
			}
			if x, ok := n.LHS.(*syntax.IndexExpr); ok {
				all = append(all, stringLiteral(x.Y)...)
				if id, ok := x.X.(*syntax.Ident); ok && id.Name == name {
					own = append(own, stringLiteral(x.Y)...)
				}
			}
		case *syntax.DictExpr:
			all = append(all, dictKeys(n)...)
		}
	})
	if s := runtime.Suggest(key, all); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	hint := fmt.Sprintf("%s.get(%q) is None where a key is missing", name, key)
	if name == "" {
		hint = fmt.Sprintf(".get(%q) is None where a key is missing", key)
	}
	if has := didYouMean("", key, own); has != "" {
		hint = has + "; " + hint
	}
	return hint
}

// dictKeys returns the keys of a dict that is written out.
func dictKeys(e syntax.Expr) (keys []string) {
	if dict, ok := e.(*syntax.DictExpr); ok {
		for _, entry := range dict.List {
			keys = append(keys, stringLiteral(entry.(*syntax.DictEntry).Key)...)
		}
	}
	return keys
}

func stringLiteral(e syntax.Expr) []string {
	if l, ok := e.(*syntax.Literal); ok && l.Token == syntax.STRING {
		return []string{l.Value.(string)}
	}
	return nil
}

// params returns the names of the parameters of all functions of that name.
func (l *loader) params(function string) (names []string) {
	for _, f := range l.files {
		if f == nil {
			continue
		}
		f.walk(func(n syntax.Node) {
			if def, ok := n.(*syntax.DefStmt); ok && def.Name.Name == function {
				names = append(names, bound(def.Params...)...)
			}
		})
	}
	return names
}
