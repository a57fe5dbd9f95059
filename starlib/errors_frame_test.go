package starlib

import (
	"fmt"
	"strings"
	"testing"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/google/go-cmp/cmp"
)

// The caret stands under what is at fault.
func TestCaret(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ recipe, meant string }{
		{`service("x", mem = "4 apples")`, `"4 apples"`},
		{`service("x", meme = "4G")`, "meme"},
		{`service(7, command = "x")`, "7"},
		{`service("x", "y", "z")`, `"y"`},
		{`service("a b", command = "x")`, `"a b"`},
		{`service("x", command = "x", nodes = 1 - 2)`, "1 - 2"},
		{`service("x", name = "y")`, "name"},
		{`service(command = "x")`, "service"},
		{`ready.http(path = 7)`, "7"},
		{`ready.log()`, "ready.log"},
		{`wait_done([1])`, "[1]"},
		{`stop([], [], "x")`, `"x"`},
		{`stop(*["x"])`, `*["x"]`},
		{`stop([], *["x"])`, `*["x"]`},
		{`service(**{"name": 7, "command": "x"})`, `**{"name": 7, "command": "x"}`},
		{`record("x", 1, host = "h", node = [1])`, "[1]"},
		{`record("x", y = 1)`, "record"},
		{`fmt(1.5, "d")`, "fmt"},
		{`exit(3)`, "3"},
		{`parallel(len, [], limit = 0)`, "0"},
		{`[1, 2][2 + 3]`, "2 + 3"},
		{`{"a": 1}["b"]`, `"b"`},
		{`struct(a = 1).b`, "b"},
		{`"x".upper().lowr()`, "lowr"},
		{`[x for x in 3]`, "for"},
		{`len(3)`, "len"},
		{`sorted([1], kye = len)`, "kye"},
		{`(lambda x: x)(1, 2)`, "(lambda x: x)"},
		{`1 + "x"`, "+"},
		{`-"x"`, "-"},
		{`1 +`, ""},
		{`x = 1 2`, "2"},
		{`x = "ä" "ö"`, `"`},
		{`load("nosuch.star", "x")`, `"nosuch.star"`},
		{`load("@aifb//lib.star", "y")`, "y"},
	} {
		_, rendered, err := exec(t, test.recipe+"\n")
		lines := strings.Split(rendered, "\n")
		if err == nil || len(lines) < 4 || !strings.HasPrefix(lines[2], "     1 | ") {
			t.Errorf("%s: %v\n%s", test.recipe, err, rendered)
			continue
		}
		line, carets := []rune(lines[2]), []rune(lines[3])
		got := ""
		for i, c := range carets {
			if c == '^' && i < len(line) {
				got += string(line[i])
			}
		}
		if got != test.meant {
			t.Errorf("%s\n%sthe caret is under %q, want %q", test.recipe, rendered, got, test.meant)
		}
	}
}

func TestExcerptOfLongLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x, ", 1000)
	for _, recipe := range []string{"f = [" + long + "]\n", "f = [0, " + long + "servce(1)]\n"} {
		_, rendered, err := exec(t, recipe)
		for _, line := range strings.Split(rendered, "\n") {
			if len(line) > maxExcerpt+20 {
				t.Errorf("%v: a line of %d characters", err, len(line))
			}
		}
		if !strings.Contains(rendered, "... ") {
			t.Errorf("shown is %s", rendered)
		}
	}
}

// A recursion is shown once, whatever its shape; other frames beyond what is kept are left out of the middle.
func TestElision(t *testing.T) {
	t.Parallel()
	name := "r.star"
	call := func(fn string, line int) starlark.CallFrame {
		return starlark.CallFrame{Name: fn, Pos: syntax.MakePosition(&name, int32(line), 1)}
	}
	show := func(stack starlark.CallStack) (shown string) {
		for _, f := range new(loader).frames(stack) {
			shown += fmt.Sprint(f.Func, f.Pos.Line, " ")
			if f.Skipped > 0 {
				shown += fmt.Sprintf("(%d) ", f.Skipped)
			}
		}
		return shown
	}
	var self, mutual, distinct starlark.CallStack
	self, mutual = append(self, call("main", 1)), append(mutual, call("main", 1))
	for i := range 1000 {
		self = append(self, call("f", 2))
		mutual = append(mutual, call("f", 2), call("g", 3), call("h", 4))
		distinct = append(distinct, call("f", i))
	}
	if d := cmp.Diff("f2 (999) main1 ", show(self)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("h4 g3 f2 (2997) main1 ", show(mutual)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("f2 f2 main1 ", show(self[:3])); d != "" {
		t.Error(d)
	}
	frames := new(loader).frames(distinct)
	if len(frames) != maxStack || frames[0].Pos.Line != 999 || frames[maxStack-1].Pos.Line != 0 || frames[2*maxStack/3-1].Skipped != 1000-maxStack {
		t.Errorf("%d frames: %v", len(frames), frames)
	}
}
