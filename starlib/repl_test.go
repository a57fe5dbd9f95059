package starlib

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
)

// enter has a REPL evaluate lines, and returns what it showed. It stops where the REPL does.
func enter(t *testing.T, lines string) (shown string, r *REPL) {
	t.Helper()
	var out bytes.Buffer
	session := &runtime.Session{Target: runtime.Target{Name: "nowhere"}}
	r = NewREPL(session, Env{Stdout: &out, Warn: func(text string) { out.WriteString("warning: " + text + "\n") }}, library)
	t.Cleanup(r.Close)
	evalAll(t.Context(), r, &out, lines)
	return out.String(), r
}

func evalAll(ctx context.Context, r *REPL, out *bytes.Buffer, lines string) {
	in := bufio.NewReader(strings.NewReader(lines))
	for {
		err := r.Eval(ctx, func() ([]byte, error) {
			line, err := in.ReadBytes('\n')
			if len(line) > 0 {
				err = nil
			}
			return line, err
		})
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			FormatError(out, err, Style{})
		}
	}
}

func TestREPLEval(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, lines, want string }{
		{"values", "1 + 2\n_ * 10\nNone\n_\n\"a\"\n", "3\n30\n30\n\"a\"\n"},
		{"several on a line", "a = 1; a + 1; a = 5; _ + a\n", "2\n7\n"},
		{"rebinding", "n = 3\ndef f(x):\n    return x * n\n\nn = 4\nf(2)\n", "8\n"},
		{"rebinding from itself", "n = 3\ndef f(): return n\n\nn = n + 1\nn += 1\nf()\nn, m = 7, n\nf(), m\n", "5\n(7, 5)\n"},
		{"rebinding in a loop", "n = 0\ndef f(): return n\n\nfor n in [1, 2]:\n    m = n\n    print(f(), m)\n\nf()\n", "1 1\n2 2\n2\n"},
		{"rebinding in branches", "n = 0\ndef f(): return n\n\nif True:\n    n = 1\n    print(f())\n    while n < 3:\n        n += 1\n        print(f())\n\n",
			"1\n2\n3\n"},
		{"redefinition", "def g(): return 1\n\ndef f(): return g()\n\ndef g(): return 2\n\nf()\n", "2\n"},
		{"mutual", "def odd(n): pass\n\ndef even(n): return n == 0 or odd(n - 1)\n\ndef odd(n): return n != 0 and even(n - 1)\n\neven(10), odd(10)\n",
			"(True, False)\n"},
		{"recursion", "def fac(n): return 1 if n < 2 else n * fac(n - 1)\n\nfac(5)\n", "120\n"},
		{"closures", "n = 1\ndef make(k):\n    def add(x): return x + k + n\n    return add\n\nadd = make(10)\nn = 100\nadd(1)\nfs = [lambda: n]\nn = 5\nfs[0]()\n",
			"111\n5\n"},
		{"defaults stay", "n = 1\ndef f(x = n): return x\n\nn = 2\nf()\n", "1\n"},
		{"defaults are evaluated once", "def f(x = print(\"once\")): pass\n\nf()\nf()\n", "once\n"},
		{"mutation", "xs = []\nxs.append(1)\ndef f(): xs.append(2)\n\nf()\nxs\n", "[1, 2]\n"},
		{"builtins can be replaced, and come back", "def f(): return sum([1])\n\ndef sum(x): return \"mine\"\n\nf()\n:reset\nsum([2])\nf\n",
			"\"mine\"\n2\n" + "error: undefined: f\n  --> <input 5>:1:1\n     1 | f\n       | ^\n"},
		{"defined later", "def even(n): return n == 0 or odd(n - 1)\n\neven(0)\neven(1)\ndef odd(n): return n != 0 and even(n - 1)\n\neven(8)\n",
			"warning: <input 1>:1:31: undefined: odd so far; did you mean ord?\nTrue\n" +
				"error: undefined: odd\n  --> <input 1>:1:31 in even\n     1 | def even(n): return n == 0 or odd(n - 1)\n" +
				"       |                               ^^^\n  --> <input 3>:1:1\n  hint: did you mean ord?\nTrue\n"},
		{"an empty line in a block", "for i in [1]:\n    i\n\n    print(i)\n",
			"error: got indent, want primary expression\n  --> <input 2>:1:5\n     1 |     print(i)\n       |     ^^^^^\n" +
				"  hint: an empty line, or an error, has ended the statement before; :load FILE reads a whole file\n"},
		{"empty lines in a function", "def f(n):\n    \"\"\"\n    Says\n\n    more.\n    \"\"\"\n    if n:\n        return 1\n\n\n    # comment\n\n    x = [\n\n    ]\n\n    return 2 // n\n\nf(1), f(0)\n",
			"error: floored division by zero\n  --> <input 4>:17:14 in f\n    17 |     return 2 // n\n       |              ^\n  --> <input 5>:1:7\n"},
		{"defaults are not later", "def f(x = nosuch): pass\n\n",
			"error: undefined: nosuch\n  --> <input 1>:1:11\n     1 | def f(x = nosuch): pass\n       |           ^^^^^^\n"},
		{"an error keeps what is there", "a = 1; fail(\"no\"); b = 2\na\nb\n",
			"error: no\n  --> <input 1>:1:8\n     1 | a = 1; fail(\"no\"); b = 2\n       |        ^^^^\n1\n" +
				"error: undefined: b\n  --> <input 3>:1:1\n     1 | b\n       | ^\n"},
		{"nothing runs that has an error", "a = print(1); nosuch\n",
			"error: undefined: nosuch\n  --> <input 1>:1:15\n     1 | a = print(1); nosuch\n       |               ^^^^^^\n"},
		{"suggestions know the user's names", "throughput = 1\nthrougput\n",
			"error: undefined: througput\n  --> <input 2>:1:1\n     1 | througput\n       | ^^^^^^^^^\n  hint: did you mean throughput?\n"},
		{"frames", "def f():\n    return 1 + \"a\"\n\nn = 1\nf()\n",
			"error: unknown binary op: int + string\n  --> <input 1>:2:14 in f\n     2 |     return 1 + \"a\"\n       |              ^\n" +
				"  --> <input 3>:1:1\n  hint: str(x) makes a string\n"},
		{"tables", "[struct(a = 1, b = \"x\"), struct(a = 20, b = \"y\")]\n[struct(a = 1), struct(b = 1)]\n[]\n()\n",
			" a  b\n 1  x\n20  y\n[struct(a = 1), struct(b = 1)]\n[]\n()\n"},
		{"builtins", "warn\n", "warn(message)\nwarn? says more\n"},
		{"questions", "warn?\nx = struct(y = [])\nx.y ?\nwarm?\nx.z?\nx.y.append(1)?\n",
			"warn(message)\n\nSays something on stderr.\n\n  parameter  type\n  message    str   what to say\n" +
				"list\nit has append, clear, extend, index, insert, pop, remove\n" +
				"error: undefined: warm\n  hint: did you mean warn?\nerror: struct has no attribute z\n" +
				"error: unexpected input character '?'\n  --> <input 2>:1:14\n     1 | x.y.append(1)?\n       |              ^\n  hint: a if condition else b\n"},
		{"words", "exit\nhelp\nexit = 1\nexit\n", wordHints["exit"] + "\n" + wordHints["help"] + "\n1\n"},
		{"commands", ":quti\n:nonsense\n:save\n:vars x\n:quit\n1\n",
			"error: unknown command :quti\n  hint: did you mean :quit?\n" +
				"error: unknown command :nonsense\n  hint: there are :help :vars :load :save :time :reset :quit\n" +
				"error: that is not how :save is used\n  hint: :save FILE\n" +
				"error: that is not how :vars is used\n  hint: :vars\n"},
		{"vars", ":vars\nxs = [1, 2]\ndef f(): pass\n\n1\n:vars\n", "1\nname  type      value\nf     function  <function f>\nxs    list      [1, 2]\n"},
		{"words", "quit()\nquit\ndef quit(): return 1\n\nquit()\n", "exit(), :quit or Ctrl-D leave\nexit(), :quit or Ctrl-D leave\n1\n"},
		{"time", ":time fail(\"slow\")\n", "error: slow\n  --> <input 1>:1:1\n     1 | fail(\"slow\")\n       | ^^^^\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, _ := enter(t, test.lines)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A recipe that was run before has a docstring of its own.
func TestREPLSaveDocstring(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s.star")
	shown, _ := enter(t, "\"\"\"Mine.\"\"\"\nx = 1\n:save "+file+"\n")
	text, err := os.ReadFile(file)
	if want := "\"\"\"Mine.\"\"\"\nx = 1\n"; string(text) != want {
		t.Errorf("got %q, %v; the REPL showed\n%s", text, err, shown)
	}
}

// What was entered and succeeded is saved as a recipe that does the same.
func TestREPLSave(t *testing.T) {
	t.Parallel()
	const lines = `load("@aifb//lib.star", "boom")
load("@aifb//lib.star", "boom")
n = 3  # of them
def f(x):
    # a comment

    return x * n

n = 4; nosuch
n = 5; fail("this is not saved"); n = 6
f(2)
_
y = _ + 1; print(y)
def g(x):
    y = x

    return y

for i in range(2):
    print("i is", i)

1 // 0
_ = 7
print(_ + n)
`
	file := filepath.Join(t.TempDir(), "s.star")
	shown, r := enter(t, lines+":save "+file+"\n:save "+file+"\n:save! "+file+"\n")
	const want = `"""A session of aifb repl on nowhere."""

load("@aifb//lib.star", "boom")
n = 3  # of them
def f(x):
    # a comment

    return x * n
n = 5
_ = f(2)
y = _ + 1
print(y)
def g(x):
    y = x

    return y
for i in range(2):
    print("i is", i)
_ = 7
print(_ + n)
`
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; the REPL showed\n%s", err, shown)
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if want := "error: save: " + file + " is there already\n  hint: :save! " + file + " replaces it\n"; !strings.Contains(shown, want) {
		t.Errorf("the REPL does not show %q, but\n%s", want, shown)
	}
	recipe, err := Read(file, library)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := recipe.Exec(t.Context(), new(runtime.Session), Env{Stdout: &out}, nil); err != nil {
		t.Fatal(err)
	}
	if want := "11\ni is 0\ni is 1\n12\n"; out.String() != want {
		t.Errorf("the saved recipe prints %q, want %q; the REPL showed\n%s", out.String(), want, shown)
	}
	if len(r.saved) == 0 {
		t.Error("nothing is left to save")
	}
}

func TestREPLSaveNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s.star")
	shown, _ := enter(t, ":save "+file+"\ndef main(): pass\n\n:save "+file+"\n:save /nosuch/x.star\n:save x.yaml\n")
	if want := "error: save: nothing has succeeded so far\n" +
		"warning: " + file + " has a main, which aifb exec calls after all other statements\n" +
		file + ": 1 statement; aifb exec " + file + " runs it\n"; !strings.HasPrefix(shown, want) {
		t.Errorf("got\n%s\nwant\n%s", shown, want)
	}
	for _, want := range []string{"/nosuch/x.star: no such file", "save: x.yaml is not a .star file"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the REPL does not show %q, but\n%s", want, shown)
		}
	}
}

// A file that is loaded is read anew each time, also after it could not be read.
func TestREPLLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	recipe, err := Read(filepath.Join(write(t, map[string]string{"r.star": ""}), "r.star"), library)
	if err != nil {
		t.Fatal(err)
	}
	recipe.loader.dir, recipe.loader.root = dir, dir
	var out bytes.Buffer
	r := recipe.REPL(new(runtime.Session), Env{Stdout: &out})
	for _, text := range []string{"", "x = 1\n", "x = 2\n", "x = nosuch\n", "x = 3\n"} {
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, "a.star"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		evalAll(t.Context(), r, &out, "load(\"a.star\", \"x\")\nx\n")
	}
	shown := strings.ReplaceAll(out.String(), dir+"/", "")
	var errs []string
	for line := range strings.Lines(shown) {
		if strings.HasPrefix(line, "error") || !strings.HasPrefix(line, " ") {
			errs = append(errs, strings.TrimSuffix(line, "\n"))
		}
	}
	want := []string{"error: load a.star: a.star: no such file or directory", "error: undefined: x", "1", "2", "error: undefined: nosuch", "2", "3"}
	if diff := cmp.Diff(want, errs); diff != "" {
		t.Errorf("-want +got:\n%s\n%s", diff, shown)
	}
}

// A recipe that was run leaves its globals, whose rebinding its functions see.
func TestREPLRun(t *testing.T) {
	t.Parallel()
	const text = `
load("@aifb//lib.star", "boom")
def main(n = 1):
    print("main", helper(n))
    if n > 2:
        boom(n)
def helper(n):
    return n * factor
factor = 10
`
	dir := write(t, map[string]string{"r.star": text, "r.yaml": "service: {name: db}\n"})
	for _, test := range []struct{ param, after, want string }{
		{"n=2", "factor = 100\nhelper(3)\nmain()\nboom\n", "main 20\n300\nmain 100\n<function boom>\n"},
		{"n=3", "factor\n", "main 30\nerror: no 3\n  --> r.star:6:9 in main\n     6 |         boom(n)\n       |         ^^^^\n" +
			"10\n"},
	} {
		recipe, err := Read(filepath.Join(dir, "r.star"), library)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		r := recipe.REPL(new(runtime.Session), Env{Stdout: &out})
		if err := r.Run(t.Context(), recipe, []string{test.param}); err != nil {
			FormatError(&out, err, Style{})
		}
		evalAll(t.Context(), r, &out, test.after)
		if diff := cmp.Diff(test.want, strings.ReplaceAll(out.String(), dir+"/", "")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.param, diff)
		}
	}
}

// :load runs the statements of a file, which loads relative to itself, and shows its errors at its own lines.
func TestREPLLoadCommand(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"r.star":       "",
		"sub/a.star":   "load(\"b.star\", \"b\")\n\"not printed\"\ndef main(): return helper()\ndef helper(): return n * b\nn = 2\n",
		"sub/b.star":   "b = 10\n",
		"sub/bad.star": "ok = 1\nfail(\"no\")\nnever = 1\n",
	})
	recipe, err := Read(filepath.Join(dir, "r.star"), library)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r := recipe.REPL(new(runtime.Session), Env{Stdout: &out})
	evalAll(t.Context(), r, &out, strings.ReplaceAll(":load DIR/sub/a.star\nmain()\nn = 3\nmain()\n:load DIR/sub/bad.star\nok\nnever\n"+
		":load nosuchfile.star\n:load x.yaml\n", "DIR", dir))
	want := "20\n30\nerror: no\n  --> sub/bad.star:2:1\n     2 | fail(\"no\")\n       | ^^^^\n1\n" +
		"error: undefined: never\n  --> <input 7>:1:1\n     1 | never\n       | ^^^^^\n" +
		"error: nosuchfile.star: no such file or directory\nerror: load x.yaml: not a .star file\n  hint: aifb exec -i runs recipes in YAML too\n"
	if diff := cmp.Diff(want, strings.ReplaceAll(out.String(), dir+"/", "")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A handle outlives the statement that made it.
func TestHandleWaiting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := &handle{Handle: new(runtime.Handle), ctx: ctx}
	for _, over := range []bool{false, true} {
		if over {
			cancel()
		}
		got, done := h.waiting()
		if _, limited := got.Deadline(); got.Err() != nil || limited != over {
			t.Errorf("the statement is over: %v; the context has ended: %v; is limited: %v", over, got.Err(), limited)
		}
		done()
	}
}
