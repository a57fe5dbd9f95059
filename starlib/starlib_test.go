package starlib

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.starlark.net/starlark"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
)

// write makes files in a directory of the test's, and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var library = fstest.MapFS{"lib.star": {Data: []byte("def boom(x):\n    fail(\"no\", x)\n")}}

// exec runs a recipe of one file, in a session without a target, and returns what it printed and its error as the user sees it.
func exec(t *testing.T, text string, given ...string) (stdout, rendered string, err error) {
	t.Helper()
	dir := write(t, map[string]string{"r.star": text})
	var out, shown bytes.Buffer
	r, err := Read(filepath.Join(dir, "r.star"), library)
	if err == nil {
		err = r.Exec(t.Context(), new(runtime.Session), Env{Stdout: &out}, given)
	}
	if err != nil {
		FormatError(&shown, err, Style{})
	}
	return out.String(), strings.ReplaceAll(shown.String(), dir+string(filepath.Separator), ""), err
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, recipe, want string }{
		{"undefined", "def main():\n    pritn(1)\n    servce(2)\n", `error: undefined: pritn
  --> r.star:2:5
     2 |     pritn(1)
       |     ^^^^^
  hint: did you mean print?
error: undefined: servce
  --> r.star:3:5
     3 |     servce(2)
       |     ^^^^^^
  hint: did you mean service?
`},
		{"syntax", "import os\n", `error: got import, want primary expression
  --> r.star:1:1
     1 | import os
       | ^^^^^^
  hint: load("//lib.star", "name") brings in names of a file; json, time and math are there already
`},
		{"all arguments", "x = service(\"a\", prot = 1, mem = \"4 apples\")\n", `error: service: there is no parameter prot
  --> r.star:1:18
     1 | x = service("a", prot = 1, mem = "4 apples")
       |                  ^^^^
  hint: did you mean port?
error: service: mem: "4 apples" is not an amount of memory such as 4G or 512M
  --> r.star:1:34
     1 | x = service("a", prot = 1, mem = "4 apples")
       |                                  ^^^^^^^^^^
`},
		{"pattern", "re.search(\"(\", \"x\")\n", "error: re.search: pattern: error parsing regexp: missing closing ): `(`\n" + `  --> r.star:1:11
     1 | re.search("(", "x")
       |           ^^^
`},
		{"of the library", "load(\"@aifb//lib.star\", \"boom\")\ndef main():\n    y = boom(3)\n", `error: no 3
  --> r.star:3:9 in main
     3 |     y = boom(3)
       |         ^^^^
`},
		{"run time", "def f(x):\n    return 1 // x\n\nf(0)\n", `error: floored division by zero
  --> r.star:2:14 in f
     2 |     return 1 // x
       |              ^
  --> r.star:4:1
`},
		{"a habit", "print(\"%.2f\" % 1.5)\n", `error: unknown conversion %.
  --> r.star:1:14
     1 | print("%.2f" % 1.5)
       |              ^
  hint: fmt(x, ".2f")
`},
		{"a loaded name", "load(\"@aifb//lib.star\", \"bomo\")\n", `error: load: @aifb//lib.star has no bomo
  --> r.star:1:26
     1 | load("@aifb//lib.star", "bomo")
       |                          ^^^^
  hint: did you mean boom?
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, got, err := exec(t, test.recipe)
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
			if f := runtime.FaultOf(err); f != runtime.FaultRecipe && f != runtime.FaultRun {
				t.Errorf("fault %q", f)
			}
		})
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	const recipe = `
def main(name, n = 3, rate = 1.5, on = False, clients = [1, 2], tags = ()):
    """Measures.

    Args:
      name: of it
      n: how often
    """
    print(name, n + 1, rate * 2, on, clients, tags)
`
	for _, test := range []struct {
		given []string
		want  string // what it prints, or the error
	}{
		{[]string{"name=x"}, "x 4 3.0 False [1, 2] ()"},
		{[]string{"name=a=b", "n=7", "rate=2", "on=true", "clients=4,8", "tags=u,v"}, `a=b 8 4.0 True [4, 8] ("u", "v")`},
		{nil, "parameter name is missing"},
		{[]string{"name=x", "cleints=1"}, `has no parameter "cleints"`},
		{[]string{"name=x", "n=many"}, `parameter n: got "many", want int`},
		{[]string{"name=x", "clients=1,b"}, `parameter clients: got "b", want int`},
		{[]string{"name=x", "n"}, `"n" is no parameter`},
		{[]string{"name=x", "name=y"}, "parameter name is given twice"},
	} {
		out, _, err := exec(t, recipe, test.given...)
		if err == nil && strings.TrimSpace(out) != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %q, %v; want %s", test.given, out, err, test.want)
		}
		if err != nil && runtime.FaultOf(err) != runtime.FaultUsage {
			t.Errorf("%q: fault %q", test.given, runtime.FaultOf(err))
		}
	}
	dir := write(t, map[string]string{"r.star": recipe})
	r, err := Read(filepath.Join(dir, "r.star"), library)
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Params(); r.Doc() != "Measures." || p[0].Doc != "of it" || !p[0].Required || p[4].Type != "list of int" || p[4].Default != "1,2" {
		t.Errorf("doc %q, params %+v", r.Doc(), p)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ call, want string }{
		{`fmt(3.14159, ".2f")`, "3.14"}, {`fmt(1234567, ",d")`, "1,234,567"}, {`fmt(-1234567.5, ",.1f")`, "-1,234,567.5"},
		{`fmt(0.256, ".1%")`, "25.6%"}, {`fmt(7, "03d")`, "007"}, {`fmt(-7, "04d")`, "-007"}, {`fmt(2.5, "8.1f")`, "     2.5"},
		{`fmt("x", ">3") + "|"`, "  x|"}, {`fmt("x", "3s") + "|"`, "x  |"}, {`fmt(5, ".1f")`, "5.0"}, {`fmt(1e6, ".2e")`, "1.00e+06"},
		{`fmt(1, "+d")`, "+1"}, {`fmt(1.5, "d")`, "error"}, {`fmt("x", ".2f")`, "error"}, {`fmt(1, "z")`, "error"},
		{`round(2.5)`, "2"}, {`round(3.14159, 2)`, "3.14"}, {`sum([1, 2.5])`, "3.5"}, {`re.findall("a(.)", "abac")`, `["b", "c"]`},
		{`re.search("(x)(y)?", "ax")`, `["x", "x", ""]`}, {`re.sub("a(.)", "<$1>", "abac")`, "<b><c>"}, {`re.search("q", "x")`, "None"},
	} {
		out, _, err := exec(t, "print("+test.call+")\n")
		if got := strings.TrimSuffix(out, "\n"); err == nil && got != test.want || err != nil && test.want != "error" {
			t.Errorf("%s = %q, %v; want %q", test.call, got, err, test.want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var recs []runtime.Record
	for _, v := range []float64{4, 1, 3, 2} {
		recs = append(recs, runtime.Record{Kind: runtime.KindMeasurement, Metric: "x", Value: v, Labels: map[string]string{"n": "1"}})
	}
	r := newRun(nil, Env{}, nil)
	thread, done := r.thread(t.Context(), "test", false)
	defer done()
	for expr, want := range map[string]string{
		"t.mean()": "2.5", "t.median()": "2.5", "t.percentile(25)": "1.75", "t.percentile(100)": "4.0", "t.min()": "1.0", "t.sum()": "10.0",
		"len(t)": "4", "[r.value for r in t]": "[4.0, 1.0, 3.0, 2.0]", "t.rows()[0].labels[\"n\"]": `"1"`, "bool(t)": "True", "t.count()": "4",
	} {
		v, err := starlark.EvalOptions(dialect(), thread, "x", expr, starlark.StringDict{"t": newTable(recs)})
		if err != nil || v.String() != want {
			t.Errorf("%s = %v, %v; want %s", expr, v, err, want)
		}
	}
	if _, err := starlark.EvalOptions(dialect(), thread, "x", "t.mean()", starlark.StringDict{"t": newTable(nil)}); err == nil {
		t.Error("the mean of nothing is no error")
	}
}

// A recipe ends with its context, and with the context's cause.
func TestCancel(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"r.star": "while True:\n    pass\n"})
	r, err := Read(filepath.Join(dir, "r.star"), library)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Millisecond, func() { cancel(cause) })
	if err := r.Exec(ctx, new(runtime.Session), Env{}, nil); err != cause {
		t.Errorf("error %v", err)
	}
}

func TestExit(t *testing.T) {
	t.Parallel()
	_, _, err := exec(t, "exit(11)\n")
	if e := (*Exit)(nil); !errors.As(err, &e) || e.Code != 11 {
		t.Errorf("exit(11): %v", err)
	}
	if _, _, err := exec(t, "exit()\n"); err != nil {
		t.Errorf("exit(): %v", err)
	}
	if _, _, err := exec(t, "exit(3)\n"); runtime.FaultOf(err) != runtime.FaultRun {
		t.Errorf("exit(3): %v", err)
	}
}

func TestREPL(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := NewREPL(nil, Env{Stdout: &out}, library)
	lines := strings.SplitAfter("x = 1\ndef f(y):\n    return x + y\n\nf(2)\n_ + 1\nnosuch\nload('@aifb//lib.star', 'boom')\nboom\n", "\n")
	readline := func() ([]byte, error) {
		line := lines[0]
		lines = lines[1:]
		return []byte(line), nil
	}
	var errs []string
	for len(lines) > 1 {
		if err := r.Eval(t.Context(), readline); err != nil {
			errs = append(errs, err.Error())
		}
	}
	if want := "3\n4\n<function boom>\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if len(errs) != 1 || !strings.Contains(errs[0], "undefined: nosuch") {
		t.Errorf("errors %q", errs)
	}
}

// Every builtin and every parameter says what it is for.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, b := range Builtins() {
		if b.Doc == "" {
			t.Errorf("%s has no doc", b.Name)
		}
	}
	out, _, err := exec(t, "help(wait_done)\nhelp()\n")
	if err != nil || !strings.Contains(out, "wait_done(*jobs, timeout=None, queue_timeout=None, check=True)") {
		t.Errorf("help: %v\n%s", err, out)
	}
}
