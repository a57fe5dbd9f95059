package starlib

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

type assertArgs struct {
	got, want starlark.Value
	message   string
}

type failsArgs struct {
	fn      starlark.Value
	pattern string
}

// failed is the error of an assertion: what was found, and what the test says of it.
func failed(message, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if message != "" {
		text = message + ": " + text
	}
	return &runtime.Error{Fault: runtime.FaultRun, Err: errors.New(text)}
}

func assertBuiltins() []*Builtin {
	two := func(name, doc, first, second string, holds func(a *assertArgs) (bool, error), problem func(a *assertArgs) string) *Builtin {
		return define(Builtin{Name: "assert." + name, Doc: doc}, assertArgs{}, []argument[assertArgs]{
			arg(first, "the value in question", func(a *assertArgs) any { return &a.got }).required(),
			arg(second, "what it is compared with", func(a *assertArgs) any { return &a.want }).required(),
			arg("message", "said with the failure", func(a *assertArgs) any { return &a.message }),
		}, func(_ *call, a *assertArgs) (starlark.Value, error) {
			ok, err := holds(a)
			if err == nil && !ok {
				err = failed(a.message, "%s", problem(a))
			}
			return nil, err
		})
	}
	equal := func(a *assertArgs) (bool, error) { return starlark.Equal(a.got, a.want) }
	return []*Builtin{
		two("eq", "The two are equal.", "got", "want", equal, func(a *assertArgs) string { return difference(a.got, a.want) }),
		two("ne", "The two differ.", "got", "unwanted", func(a *assertArgs) (bool, error) {
			ok, err := equal(a)
			return !ok, err
		}, func(a *assertArgs) string { return "got " + a.got.String() }),
		two("lt", "The first is less than the second.", "got", "bound", func(a *assertArgs) (bool, error) {
			return starlark.Compare(syntax.LT, a.got, a.want)
		}, func(a *assertArgs) string { return fmt.Sprintf("got %v, want less than %v", a.got, a.want) }),
		two("contains", "The second is in the first: a part of a str, an element of a list, a key of a dict.", "got", "part", func(a *assertArgs) (bool, error) {
			v, err := starlark.Binary(syntax.IN, a.want, a.got)
			return err == nil && bool(v.Truth()), err
		}, func(a *assertArgs) string { return fmt.Sprintf("%v is not in %v", a.want, a.got) }),
		define(Builtin{Name: "assert.true", Doc: "The condition holds."}, assertArgs{}, []argument[assertArgs]{
			arg("condition", "what holds", func(a *assertArgs) any { return &a.got }).required(),
			arg("message", "said with the failure", func(a *assertArgs) any { return &a.message }),
		}, func(_ *call, a *assertArgs) (starlark.Value, error) {
			if !a.got.Truth() {
				return nil, failed(a.message, "got %v", a.got)
			}
			return nil, nil
		}),
		define(Builtin{Name: "assert.fails", Returns: "struct", Doc: "The function fails when it is called. Returns the error: its kind, message, hint and, of exit(), exit_code."},
			failsArgs{}, []argument[failsArgs]{
				arg("fn", "without parameters; lambda: f(1) calls one that has some", func(a *failsArgs) any { return &a.fn }).required(),
				arg("pattern", "a regular expression that the message matches", func(a *failsArgs) any { return &a.pattern }),
			}, assertFails),
	}
}

func assertFails(c *call, a *failsArgs) (starlark.Value, error) {
	pattern, err := regexp.Compile(a.pattern)
	if err != nil {
		return nil, err
	}
	v, err := starlark.Call(c.thread, a.fn, nil, nil)
	if cause := context.Cause(c.ctx); cause != nil {
		return nil, cause
	}
	if err == nil {
		return nil, failed("", "%s returned %v, and did not fail", functionName(a.fn), v)
	}
	err = c.locate(c.ctx, err)
	message := err.Error()
	if located := (*SourceError)(nil); errors.As(err, &located) {
		message = located.Err.Error()
	}
	if !pattern.MatchString(message) {
		return nil, failed("", "got error %q, want one that matches %q", message, a.pattern)
	}
	code := starlark.Value(starlark.None)
	if exit := (*Exit)(nil); errors.As(err, &exit) {
		code = starlark.MakeInt(exit.Code)
	}
	return newStruct(starlark.StringDict{
		"kind": starlark.String(runtime.FaultOf(err)), "message": starlark.String(message),
		"hint": starlark.String(strings.Join(hints(err), "; ")), "exit_code": code,
	}), nil
}

func functionName(v starlark.Value) string {
	if fn, ok := v.(starlark.Callable); ok {
		return cmp.Or(fn.Name(), "the function")
	}
	return v.String()
}

// shortValue is up to how many characters two values are shown beside each other.
const shortValue = 60

// difference shows two values that are not equal: texts of several lines by the lines in which they differ.
func difference(got, want starlark.Value) string {
	g, gok := starlark.AsString(got)
	w, wok := starlark.AsString(want)
	if gok && wok && (strings.Contains(g, "\n") || strings.Contains(w, "\n")) {
		return "got (-) is not what is wanted (+)\n" + diff(strings.Split(g, "\n"), strings.Split(w, "\n"))
	}
	g, w = got.String(), want.String()
	if len(g) > shortValue || len(w) > shortValue {
		return "\n  got  " + g + "\n  want " + w
	}
	return fmt.Sprintf("got %s, want %s", g, w)
}

// maxDiff is up to how many lines are compared line by line.
const maxDiff = 2000

// diff shows the lines of which a (-) and b (+) differ: those outside of a longest common subsequence.
func diff(a, b []string) string {
	if len(a) > maxDiff || len(b) > maxDiff {
		return fmt.Sprintf("  %d lines and %d lines", len(a), len(b))
	}
	common := make([][]int, len(a)+1) // [i][j]: how long it is of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var lines []string
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "  - "+a[i])
			i++
		default:
			lines = append(lines, "  + "+b[j])
			j++
		}
	}
	return strings.Join(lines, "\n")
}
