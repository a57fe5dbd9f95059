package starlib

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.starlark.net/starlark"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
)

// A memory is a store in memory.
type memory struct {
	mu   sync.Mutex
	recs []runtime.Record
}

func (m *memory) Append(_ context.Context, recs ...runtime.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recs = append(m.recs, recs...)
	return nil
}

func (m *memory) Records(context.Context, runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(yield func(runtime.Record, error) bool) {
		for _, rec := range m.recs {
			if !yield(rec, nil) {
				return
			}
		}
	}
}

func (m *memory) Close() error { return nil }

// A trial is a recipe to be run, in a session that only has a store. It knows builtins that no other recipe does:
// block(), which waits for an hour, sleep(ms), boom(), which panics, and begun(), which calls begun.
type trial struct {
	recipe   *Recipe
	run      *run
	store    *memory
	out      *bytes.Buffer
	begun    func()
	warnings []string
	mu       sync.Mutex
}

func newTrial(t testing.TB, text string) *trial {
	t.Helper()
	dir := write(t, map[string]string{"r.star": text})
	tr := &trial{store: new(memory), out: new(bytes.Buffer)}
	extra := starlark.StringDict{
		"boom": starlark.NewBuiltin("boom", func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error) {
			panic("boom")
		}),
		"begun": starlark.NewBuiltin("begun", func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error) {
			tr.begun()
			return starlark.None, nil
		}),
		"block": pausing("block").value(),
		"sleep": pausing("sleep").value(),
	}
	l, id := newLoader(filepath.Join(dir, "r.star"), library)
	l.known = func(name string) bool { return predeclared().Has(name) || extra.Has(name) }
	f, errs := l.parse(id, []byte(text))
	if len(errs) > 0 {
		t.Fatal(joinErrors(errs))
	}
	tr.recipe = &Recipe{loader: l, file: f, main: f.findMain()}
	session := &runtime.Session{Run: "run", Store: tr.store}
	if err := session.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.run = newRun(session, Env{Stdout: tr.out, Warn: func(text string) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.warnings = append(tr.warnings, text)
	}}, l)
	for name, v := range extra {
		tr.run.predeclared[name] = v
	}
	return tr
}

// pausing is a builtin that waits for some milliseconds, or else for an hour.
func pausing(name string) *Builtin {
	return define(Builtin{Name: name}, measurement{value: 3600_000}, []argument[measurement]{
		arg("ms", "", func(m *measurement) any { return &m.value }),
	}, func(c *call, m *measurement) (starlark.Value, error) {
		return nil, runtime.Pause(c.ctx, time.Duration(m.value*float64(time.Millisecond)))
	})
}

// exec runs the recipe and returns what it printed and its error as a user sees it.
func (tr *trial) exec(ctx context.Context) (stdout, rendered string, err error) {
	var shown bytes.Buffer
	if err = tr.run.finish(ctx, tr.recipe.exec(ctx, tr.run, nil)); err != nil {
		FormatError(&shown, err, Style{})
	}
	return tr.out.String(), clean(shown.String(), tr.recipe), err
}

// clean leaves out the directory of the recipe.
func clean(text string, r *Recipe) string {
	return strings.ReplaceAll(text, r.loader.dir+string(filepath.Separator), "")
}

func TestControl(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, recipe, stdout, errors string }{
		{"attempt", `
def f(x, y = 1):
    return x // y

def main():
    r = attempt(f, 4, y = 2)
    print(r.ok, r.value, r.error)
    r = attempt(f, 4, y = 0)
    print(r.ok, r.value, r.error.kind, r.error.message, r.error.hint, r.error.job, r.error.exit_code, sep = "|")
    print(attempt(fail, "no", "way").error.message)
    print(attempt(service, "x").error.message)
    print(attempt(f, z = 1).error)
    print(attempt(lambda: attempt(f, 1, 0)).value.ok)
`, `True 2 None
False|None|recipe failed|floored division by zero|None|None|None
no way
service: start x: command: there is nothing to run: no command, no args, no image
struct(exit_code = None, hint = None, job = None, kind = "recipe failed", message = "function f got an unexpected keyword argument \"z\"")
False
`, ""},
		{"attempt does not catch exit()", "def f():\n    exit(11)\nattempt(f)\nprint(1)\n", "", ""},
		{"attempt of what is called", "attempt(print(1))\n", "1\n", `error: attempt: fn: got NoneType, want function
  --> r.star:1:9
     1 | attempt(print(1))
       |         ^^^^^^^^
  hint: give the function without calling it, f and not f(); lambda: f(x) is one that has the arguments
`},
		{"parallel keeps the order", `
def f(n):
    sleep(10 - n)
    return [n * n]

def main():
    rs = parallel(f, range(8), limit = 8)
    print(rs, parallel(f, []))
    rs.append(1)
    rs[0].append(1)
`, "[[0], [1], [4], [9], [16], [25], [36], [49]] []\n", `error: append: cannot append to frozen list
  --> r.star:10:11 in main
    10 |     rs[0].append(1)
       |           ^^^^^^
  hint: what the top level made cannot change in main, nor what parallel shares: make it in the function, and return it
`},
		{"parallel reports all errors", `
def f(n):
    sleep(1)
    return {"a": 1, "b": 2}[n]

def main():
    parallel(f, ["a", "x", "y", "b"])
`, "", `error: item 1 (x): key "x" not in dict
  --> r.star:4:29 in f
     4 |     return {"a": 1, "b": 2}[n]
       |                             ^
  --> r.star:7:5 in main
  hint: .get("x") is None where a key is missing
error: item 2 (y): key "y" not in dict
  --> r.star:4:29 in f
     4 |     return {"a": 1, "b": 2}[n]
       |                             ^
  --> r.star:7:5 in main
  hint: .get("y") is None where a key is missing
`},
		{"parallel begins nothing after an error", `
def f(n):
    sleep(n); print(n)
    if n == 1:
        fail("one")
    sleep(10)
    print(n, "ended")

def main():
    parallel(f, range(9), limit = 2)
`, "0\n1\n0 ended\n", `error: item 1 (1): one
  --> r.star:5:9 in f
     5 |         fail("one")
       |         ^^^^
`},
		{"what is shared cannot change", `
def main():
    results = []
    parallel(lambda n: results.append(n), [1])
`, "", `error: item 0 (1): append: cannot append to frozen list
  --> r.star:4:24 in lambda
     4 |     parallel(lambda n: results.append(n), [1])
       |                        ^^^^^^^^^^^^^^
  --> r.star:4:5 in main
  hint: what the top level made cannot change in main, nor what parallel shares: make it in the function, and return it
`},
		{"parallel while a file is read", "def f():\n    parallel(print, [1])\n\nf()\n", "", `error: parallel: not while a file is being read: its globals can still change
  --> r.star:2:5 in f
     2 |     parallel(print, [1])
       |     ^^^^^^^^
  --> r.star:4:1
  hint: put it into main(), which is called when the file has been read
`},
		{"limit", "def main():\n    parallel(print, [1], limit = 0)\n", "", `error: parallel: limit: 0 calls at once are none
  --> r.star:2:34 in main
     2 |     parallel(print, [1], limit = 0)
       |                                  ^
`},
		{"exit in parallel", "def main():\n    parallel(lambda n: exit(12), [1, 2])\n", "", ""},
		{"an error outranks exit in parallel", `
def f(n):
    sleep(n)
    if n == 1:
        exit(0)
    fail("late")

def main():
    parallel(f, [1, 5])
`, "", `error: item 1 (5): late
  --> r.star:6:5 in f
     6 |     fail("late")
       |     ^^^^
`},
		{"on_exit", `
def bad():
    print("bad")
    1 // 0

def main():
    on_exit(lambda: print("last"))
    on_exit(bad)
    on_exit(lambda: on_exit(lambda: print("within")))
    fail("first")
`, "within\nbad\nlast\n", `error: first
  --> r.star:10:5 in main
    10 |     fail("first")
       |     ^^^^
error: on_exit: floored division by zero
  --> r.star:4:7 in bad
     4 |     1 // 0
       |       ^
  --> r.star:8:5 in main
`},
		{"on_exit after exit", "on_exit(lambda: print(1))\non_exit(lambda: exit(13))\nexit()\n", "1\n", ""},
		{"on_exit fails after success", "def f():\n    fail(\"no\")\non_exit(f)\n", "", `error: on_exit: no
  --> r.star:2:5 in f
     2 |     fail("no")
       |     ^^^^
`},
		{"expect", `
def main():
    for n in [1, 2, 3]:
        expect(n < 2, "%d is too much" % n)
    print("went on")
`, "went on\n", `error: expect: 2 is too much
  --> r.star:4:9 in main
     4 |         expect(n < 2, "%d is too much" % n)
       |         ^^^^^^
error: expect: 3 is too much
  --> r.star:4:9 in main
     4 |         expect(n < 2, "%d is too much" % n)
       |         ^^^^^^
`},
		{"builtins as functions", `
def main():
    on_exit(service)
    attempt(record, "n", 1)
    parallel(export_json, ["/no/such/x", "/no/such/y"], limit = 1)
`, "", `error: item 0 (/no/such/x): export_json: write /no/such/x: no such file or directory
  --> r.star:5:5 in main
     5 |     parallel(export_json, ["/no/such/x", "/no/such/y"], limit = 1)
       |     ^^^^^^^^
  hint: the measurements are in the store: aifb export writes them elsewhere
error: on_exit: service: name is missing
  --> r.star:3:5 in main
     3 |     on_exit(service)
       |     ^^^^^^^
`},
		{"expect in parallel", `
def main():
    parallel(lambda n: expect(n != 1, "not one"), [1, 2])
    parallel(lambda n: record("n", n), [1, 2])
    parallel(record, [])
`, "", `error: expect: not one
  --> r.star:3:24 in lambda
     3 |     parallel(lambda n: expect(n != 1, "not one"), [1, 2])
       |                        ^^^^^^
  --> r.star:3:5 in main
`},
		{"an error outranks expect", "expect(False, \"x\")\nfail(\"y\")\n", "", `error: y
  --> r.star:2:1
     2 | fail("y")
       | ^^^^
`},
		{"expect does not take what is no condition", "expect(3, \"x\")\n", "", `error: expect: condition: got int, want bool
  --> r.star:1:8
     1 | expect(3, "x")
       |        ^
`},
		{"a panic", "boom()\n", "", "error: internal error in the recipe: boom\n"},
		{"a panic in parallel", "def main():\n    parallel(lambda n: boom(), [1])\n", "", "error: item 0 (1): internal error in parallel, item 0: boom\n"},
		{"a panic in attempt", "attempt(boom)\n", "", "error: internal error in attempt: boom\n"},
		{"a panic in on_exit", "on_exit(boom)\n", "", "error: on_exit: internal error in on_exit: boom\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				out, got, err := newTrial(t, test.recipe).exec(t.Context())
				if internal := (*runtime.Internal)(nil); errors.As(err, &internal) {
					if !strings.Contains(got, "this is a fault of aifb; please report it with:\ngoroutine ") {
						t.Errorf("no text to report: %s", got)
					}
					got, _, _ = strings.Cut(got, "  ")
				}
				if d := cmp.Diff(test.stdout, out); d != "" {
					t.Errorf("stdout: %s", d)
				}
				if d := cmp.Diff(test.errors, got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestFaultsOfControl(t *testing.T) {
	t.Parallel()
	for recipe, want := range map[string]runtime.Fault{
		"expect(False, \"x\")\n":          runtime.FaultThreshold,
		"expect(False, \"x\")\nexit()\n":  runtime.FaultThreshold,
		"expect(False, \"x\")\n1 // 0\n":  runtime.FaultRun,
		"expect(True, \"x\")\n":           "",
		"attempt(1)\n":                    runtime.FaultRecipe,
		"on_exit(lambda: fail(\"no\"))\n": runtime.FaultRun,
	} {
		if _, _, err := newTrial(t, recipe).exec(t.Context()); runtime.FaultOf(err) != want {
			t.Errorf("%q: fault %q, want %q", recipe, runtime.FaultOf(err), want)
		}
	}
	for _, recipe := range []string{"attempt(exit, 11)\n", "def main():\n    parallel(exit, [11])\n", "on_exit(lambda: exit(12))\nexit(11)\n"} {
		if _, _, err := newTrial(t, recipe).exec(t.Context()); !errors.As(err, new(*Exit)) || err.(*Exit).Code != 11 {
			t.Errorf("%q: %v, want exit(11)", recipe, err)
		}
	}
}

// A threshold that is not met is said at once, with its place, and is an event of the run.
func TestExpectIsRemembered(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, "def main():\n    expect(False, \"too slow\")\n    expect(True, \"fine\")\n")
	tr.exec(t.Context())
	if d := cmp.Diff([]string{"r.star:2:5: not met: too slow"}, tr.cleanWarnings()); d != "" {
		t.Error(d)
	}
	var st runtime.RunState
	for _, rec := range tr.store.recs {
		if err := st.Apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	if len(st.Unmet) != 1 || st.Unmet[0].Message != "too slow" || clean(st.Unmet[0].Deed.Pos, tr.recipe) != "r.star:2:5" {
		t.Errorf("unmet %+v", st.Unmet)
	}
}

func (tr *trial) cleanWarnings() (texts []string) {
	for _, w := range tr.warnings {
		texts = append(texts, clean(w, tr.recipe))
	}
	return texts
}

// Deeds have their keys from the calls that led to them, however the threads interleave; no two have the same.
func TestDeedsInParallel(t *testing.T) {
	t.Parallel()
	const recipe = `
def leaf(x):
    sleep(x[1])
    record("m", x[0])
    return attempt(record, "n", x[0]).ok

def branch(x):
    n, delays = x
    record("before", n)
    got = parallel(leaf, [(10 * n + i, d) for i, d in enumerate(delays)], limit = 2)
    on_exit(lambda: record("exit", n))
    record("after", n)
    return got

def main():
    record("first", 0)
    parallel(branch, [(0, %s), (1, %s), (2, %s)], limit = 3)
    record("last", 0)
`
	keysOf := func(delays ...any) map[string]string {
		keys := make(map[string]string) // to what was recorded
		synctest.Test(t, func(t *testing.T) {
			tr := newTrial(t, fmt.Sprintf(recipe, delays...))
			if _, shown, err := tr.exec(t.Context()); err != nil {
				t.Fatal(shown)
			}
			recs := tr.store.recs
			for i, rec := range recs {
				var d runtime.Deed
				if rec.Kind != runtime.KindDeed {
					continue
				}
				if err := json.Unmarshal(rec.Data, &d); err != nil {
					t.Fatal(err)
				}
				if keys[d.Key] != "" {
					t.Errorf("two deeds have the key %s", d.Key)
				}
				keys[d.Key] = fmt.Sprint(recs[i-1].Metric, " ", recs[i-1].Value)
			}
		})
		return keys
	}
	a, b := keysOf("[1, 2, 3]", "[5, 1, 9]", "[3, 3, 1]"), keysOf("[9, 1, 1]", "[2, 7, 1]", "[1, 9, 5]")
	if len(a) != 2+3*(3+3*2) {
		t.Errorf("%d deeds", len(a))
	}
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("the keys depend on which thread is faster: %s", d)
	}
	if a["2[1].2[0].1"] != "m 10" {
		t.Errorf("keys %v", a)
	}
}

// A run that was killed while functions of on_exit were called calls them again when it is resumed, but what they did
// is not done again.
func TestOnExitWhenResumed(t *testing.T) {
	t.Parallel()
	const recipe = "def main():\n    on_exit(lambda: record(\"done\", 1))\n    expect(False, \"x\")\n    record(\"m\", 1)\n"
	tr := newTrial(t, recipe)
	tr.exec(t.Context())
	again := newTrial(t, recipe)
	again.store.recs = slices.Clone(tr.store.recs)
	again.run.session = &runtime.Session{Run: "run", Store: again.store}
	if err := again.run.session.Reopen(t.Context(), again.store.Records(t.Context(), runtime.Query{})); err != nil {
		t.Fatal(err)
	}
	_, shown, err := again.exec(t.Context())
	if runtime.FaultOf(err) != runtime.FaultThreshold || strings.Count(shown, "error:") != 1 || !strings.Contains(shown, "--> r.star:3:5 in main") {
		t.Errorf("resumed: %s", shown)
	}
	if n := len(again.run.session.Measurements(runtime.Where{})); n != 2 {
		t.Errorf("%d measurements, want 2", n)
	}
	if calls := again.run.session.Forgotten(); len(calls) > 0 {
		t.Errorf("forgotten: %v", calls)
	}
}

// Whatever runs ends at once with its context, and with its cause; the functions of on_exit are called all the same.
func TestCancelEverything(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"while True:\n        pass", "block()", "attempt(block)", "parallel(lambda n: block(), range(8), 4)",
		"parallel(lambda n: [attempt(block) for _ in range(1000)], range(8))",
		"parallel(lambda n: parallel(lambda m: block(), [1, 2]), [1, 2])",
		"[x for x in range(1 << 40)]", "sum(range(1 << 30))",
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			tr := newTrial(t, "def main():\n    on_exit(lambda: print(\"cleaned\", attempt(sleep, 1).ok))\n    begun()\n    "+body+"\n    print(\"went on\")\n")
			cause := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			var since time.Time
			tr.begun = func() { time.AfterFunc(20*time.Millisecond, func() { since = time.Now(); cancel(cause) }) }
			out, _, err := tr.exec(ctx)
			if took := time.Since(since); err != cause || took > 5*time.Second { // some ms, on a machine that has nothing else to do
				t.Errorf("%v after %v", err, took)
			}
			if out != "cleaned True\n" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// The functions of on_exit have a deadline of their own.
func TestOnExitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, got, err := newTrial(t, "on_exit(lambda: print(1))\non_exit(block)\nfail(\"first\")\n").exec(t.Context())
		const want = `error: first
  --> r.star:3:1
     3 | fail("first")
       | ^^^^
error: on_exit: the functions did not end within 1m0s; 1 more were not called
  --> r.star:2:1
     2 | on_exit(block)
       | ^^^^^^^
`
		if d := cmp.Diff(want, got); d != "" || time.Since(start) != exitTime {
			t.Errorf("after %v: %v %s", time.Since(start), err, d)
		}
	})
}

// At the prompt nothing is frozen by itself: parallel freezes all that there is, because a function can come to any name.
func TestParallelAtThePrompt(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := NewREPL(new(runtime.Session), Env{Stdout: &out}, library)
	eval := func(text string) error {
		lines := strings.SplitAfter(text, "\n")
		return r.Eval(t.Context(), func() ([]byte, error) {
			line := lines[0]
			lines = append(lines[1:], "\n")
			return []byte(line), nil
		})
	}
	for _, text := range []string{"seen = []\n", "def note(n):\n    seen.append(n)\n\n", "box = struct(f = [note])\n",
		"note(0)\n", "seen\n", "def f(n):\n    return n + 1\n\n", "parallel(f, [1, 2])\n", "on_exit(lambda: print(\"left\"))\n"} {
		if err := eval(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if err := eval("parallel(lambda n: box.f[0](n), range(8))\n"); err == nil || !strings.Contains(err.Error(), "frozen list") {
		t.Errorf("threads share a list that can change: %v", err)
	}
	if err := eval("parallel(note, 3)\n"); err == nil || !strings.Contains(err.Error(), "iterable") {
		t.Errorf("error %v", err)
	}
	if err := r.Leave(t.Context(), nil); err != nil || out.String() != "[0]\n[2, 3]\nleft\n" {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}
