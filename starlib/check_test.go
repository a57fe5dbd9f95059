package starlib

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/recipes"
)

// find checks files of which the first is the recipe, and returns "line:col lint: message" of each finding in it.
func find(t *testing.T, files map[string]string, names ...string) (found []string) {
	t.Helper()
	dir := write(t, files)
	for i, name := range names {
		names[i] = filepath.Join(dir, name)
	}
	all, err := Check(names, recipes.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		p := f.Place().Pos
		name, err := filepath.Rel(dir, p.Filename())
		if err != nil {
			name = p.Filename()
		}
		place := fmt.Sprintf("%d:%d", p.Line, p.Col)
		if name != filepath.Base(names[0]) {
			place = name + ":" + place
		}
		found = append(found, strings.ReplaceAll(fmt.Sprintf("%s %s: %v", place, f.Lint, f.Err), dir+string(filepath.Separator), ""))
	}
	return found
}

// Every lint finds its mistake, and not what looks like it. A recipe is the body of main, unless it begins with "#".
func TestLints(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ bad, good []string }{
		"call": {
			bad: []string{
				`stop(service("s", tme = "3m"))`,                      // there is no such parameter
				`stop(service())`,                                     // a required one is missing
				`stop(service("s", 80))`,                              // by its name alone
				`stop(service("s", name = "t"))`,                      // twice
				`stop(service("s", port = "80"))`,                     // the type
				`stop(service("s", port = 70000))`,                    // the range
				`stop(service("s", time = "soon"))`,                   // the form
				`stop(service("s", env = {"A": None}))`,               // within a dict
				`stop(service("s", ready = metric.csv()))`,            // what another builtin returns
				`wait_done("client-1")`,                               // one of *jobs
				`x = "80"; stop(service("s", port = x))`,              // through a name
				`c = job("j"); wait_done(client(c)); export_csv("x")`, // a job is no service
				`print(math.pow(2))`,                                  // Starlark's own
				`measurements().percentile()`,                         // a method
				"#def f(a): pass\ndef main(): f()",
				"#def f(a): pass\ndef main(): f(1, b = 2)",
				"#def f(a): pass\ndef main(): f(1, 2)",
				"#def f(*, a): pass\ndef main(): f()",
				"#def f(**kw): return service(\"s\", **kw)\ndef main(): stop(f(tme = \"3m\"))",
				"#load(\"@aifb//redis.star\", \"redis\")\ndef main(): stop(redis(prot = 1))",
			},
			good: []string{
				`a = {}; a["port"] = 80; stop(service(**a))`, `a = ["s"]; stop(service(*a))`, `p = [80][0]; stop(service("s", port = p))`,
				`stop(service("s", port = None, time = "90m", mem = 512, env = {"A": 1}, setup = "x"))`, `wait_done([job("a"), job("b")], job("c"))`,
				`fmt(round(1, 2), ".2f")`, `math.pow(2, 0.5)`, `json.decode("{}", default = None)`,
				"#def f(a, b = 1, *c, d = 2, **e): pass\ndef main(): f(1, 2, 3, 4, d = 5, g = 6)",
				"#def service(x): pass\ndef main(): service(x = 1)", // theirs
				"#def f(a): pass\nf = len\ndef main(): f()",         // which of them is not known
			},
		},
		"attribute": {
			bad:  []string{`x = job("a"); wait_done(x); print(x.stat)`, `print(ready.htp())`, `xs = [1]; xs.sort()`, `"a".trim()`, `print(measurements().p99())`},
			good: []string{`x = job("a"); wait_done(x); print(x.state, x.logs())`, `ready.http("/")`, `xs = [1]; xs.append(2)`, `x = struct(a = 1); print(x.a)`},
		},
		"format": {
			bad:  []string{`print("%.2f" % 1.5)`, `print("%d" % (1, 2))`, `print("%d %d" % (1,))`, `print("50%" % ())`, `print("a" % 1)`},
			good: []string{`print("%d%% %s" % (1, "a"))`, `x = [1, 2]; print("%s" % x)`, `t = (1, 2); print("%d %d" % t)`, `print("%(a)d" % {"a": 1})`, `print(7 % 2)`},
		},
		"pattern": {
			bad:  []string{`re.search("(", "x")`, `metric.regex(pattern = "[")`},
			good: []string{`re.search("(a)", "x")`, `metric.regex("(?P<rps>.*)")`},
		},
		"no-command": {
			bad: []string{`stop(service("s", port = 0))`, `wait_done(job("a"))`, `stop(service("s", command = "x", ready = ready.http("/")))`},
			good: []string{
				`stop(service("s", command = "x", port = 0, ready = ready.http("/")))`, `wait_done(job("a", image = "docker://x"))`,
				`stop(service("s", command = "x", ready = ready.log("up")))`, `a = {}; wait_done(job("a", **a))`,
			},
		},
		"handle-compared": {
			bad:  []string{`c = job("a"); wait_done(c); print(c == "completed")`},
			good: []string{`c = job("a"); wait_done(c); print(c.state == "completed", c == None, c == c)`},
		},
		"frozen": {
			bad: []string{
				"#xs = []\ndef main(): xs.append(1)", "#d = {}\ndef main(): d[1] = 2",
				"#xs = []\ndef add(x): xs.append(x)\ndef main(): add(1)",
			},
			good: []string{
				"#xs = []\nxs.append(1)\ndef main(): print(xs)", `xs = []; xs.append(1)`,
				"#xs = []\ndef add(x): xs.append(x)\nadd(1)\ndef main(): print(xs)", "#xs = []\ndef main(xs): xs.append(1)",
			},
		},
		"unwaited-service": {
			bad: []string{`service("s")`, `s = service("s"); print(s.host)`, `s = service("s"); stop(s)`},
			good: []string{
				`s = service("s"); wait_running(s)`, `wait_done(client(service("s"))); export_csv("x")`, `s = [service("s")]; wait_running(s)`,
				`s = service("s"); wait_done(client(service = s)); export_csv("x")`, "#def start(): return service(\"s\")",
				"#def start():\n s = service(\"s\")\n return s",
			},
		},
		"unwaited-client": {
			bad:  []string{`client(command = "x"); export_csv("x")`, `c = client(command = "x"); print(c.metric("rps"))`},
			good: []string{`wait_done(client(command = "x")); export_csv("x")`, `cs = []; cs.append(client(command = "x")); wait_done(cs); export_csv("x")`},
		},
		"unchecked-outcome": {
			bad:  []string{`c = job("a"); wait_done(c, check = False)`, `wait_done(job("a"), check = False)`},
			good: []string{`c = job("a"); wait_done(c, check = False); print(c.state)`, `c = job("a"); wait_done(c)`, `cs = [job("a")]; wait_done(cs, check = False)`},
		},
		"service-done": {
			bad:  []string{`s = service("s"); wait_running(s); wait_done(s)`},
			good: []string{`s = service("s"); wait_running(s); stop(s); wait_done(s)`, `wait_done(job("a"))`},
		},
		"waits-for-nothing": {
			bad:  []string{`wait_done()`, `wait_running(timeout = "3m")`},
			good: []string{`xs = [job("a")]; wait_done(*xs)`},
		},
		"no-export": {
			bad:  []string{`wait_done(client(command = "x"))`},
			good: []string{`wait_done(client(command = "x")); print(measurements())`, `wait_done(client(command = "x")); print(read("x"))`, `c = client(command = "x"); wait_done(c); print(c.metric("rps"))`, `wait_done(job("x"))`},
		},
		"unknown-state": {
			bad:  []string{`c = job("a"); wait_done(c); print(c.state == "complete")`},
			good: []string{`c = job("a"); wait_done(c); print(c.state == "completed", "lost" != c.state)`},
		},
		"duplicate-name": {
			bad:  []string{`wait_done(job("a"), job("a"))`, `wait_done(job("a")); wait_done(job(name = "a"))`},
			good: []string{"#def main(x = 1):\n if x == 1:\n  wait_done(job(\"a\"))\n else:\n  wait_done(job(\"a\"))", `wait_done(job("a"), job("b"))`},
		},
		"unused-name": {
			bad:  []string{`x = 1`, "#x = 1\nwait_done(job(\"a\"))", "#def main():\n def f(): pass"},
			good: []string{`x = 1; print(x)`, `_x = 1`, `[0 for i in range(3)]`, "#X = 1", "#def main():\n for i in range(3): print(1)", "#def main():\n a, b = 1, 2\n print(a)"},
		},
		"unused-load": {
			bad:  []string{"#load(\"@aifb//redis.star\", \"redis\")"},
			good: []string{"#load(\"@aifb//redis.star\", \"redis\")\nx = redis"},
		},
		"unused-parameter": {
			bad:  []string{"#def main(n = 1): pass"},
			good: []string{"#def main(n = 1): print(n)", "#def f(n): pass", "#def main():\n print((lambda x: 1)(2))"},
		},
		"main-parameter": {
			bad:  []string{"#def main(*args): print(args)", "#def main(**kw): print(kw)"},
			good: []string{"#def main(*, n = 1): print(n)"},
		},
		"main-called": {
			bad:  []string{"#def main(): print(1)\nmain()"},
			good: []string{"#def f(): print(1)\nf()"},
		},
		"docstring-args": {
			bad:  []string{"#def f(n):\n  \"\"\"Does.\n\n  Args:\n    m: what\n  \"\"\""},
			good: []string{"#def f(n, **kw):\n  \"\"\"Does.\n\n  Args:\n    n: what\n      more: of it\n    **kw: rest\n\n  Returns:\n    str: a text\n  \"\"\""},
		},
		"shadowed-builtin": {
			bad:  []string{`time = 3; print(time)`, "#def len(x): pass"},
			good: []string{"#def main(time = \"3m\"): print(time)", "#def main():\n for job in []: print(job)"},
		},
		"no-effect": {
			bad:  []string{`measurements`, `1 + 2`, `x = [1]; x == [2]`},
			good: []string{`"a comment"`, `[print(x) for x in [1]]`, `print(1)`},
		},
		"unreachable": {
			bad:  []string{`return; print(1)`, `fail("x"); print(1)`, "#def main(x = 1):\n if x: return 1\n else: exit()\n print(1)"},
			good: []string{`print(1); return`, "#def main(x = 1):\n if x: return 1\n print(1)", "#def fail(x): pass\ndef main():\n fail(1)\n print(1)"},
		},
		"ignore": {
			bad:  []string{"#x = 1 # check: ignore unusd-name", "#x = 1 # check: ignore"},
			good: []string{"#def main():\n x = 1 # check: ignore unused-name"},
		},
	}
	tests["loaded-acts"] = struct{ bad, good []string }{} // TestCheckLoads has it
	for _, lint := range Lints() {
		test, ok := tests[lint.Name]
		if !ok {
			t.Errorf("%s has no test", lint.Name)
		}
		for i, recipe := range slices.Concat(test.bad, test.good) {
			text, isFile := strings.CutPrefix(recipe, "#")
			if !isFile {
				text = "def main():\n    " + recipe + "\n"
			}
			found := find(t, map[string]string{"r.star": text}, "r.star")
			n := 0
			for _, f := range found {
				if strings.Contains(f, " "+lint.Name+": ") {
					n++
				} else if strings.Contains(f, " syntax: ") || strings.Contains(f, " name: ") {
					t.Errorf("%s: %s: %s", lint.Name, recipe, f)
				}
			}
			if want := min(1, max(0, len(test.bad)-i)); n != want {
				t.Errorf("%s: %s\nfound it %d times, want %d; all: %q", lint.Name, text, n, want, found)
			}
		}
	}
}

// What cannot be run is reported whole, and everything else beside it.
func TestCheckAll(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		files map[string]string
		check []string
		want  []string
	}{
		{"syntax", map[string]string{"r.star": "x = = 1\n"}, []string{"r.star"}, []string{"1:5 syntax: got '=', want primary expression"}},
		{"names and calls", map[string]string{"r.star": "def main():\n    servce(1)\n    wait_done(1)\n"}, []string{"r.star"}, []string{
			"2:5 name: undefined: servce", "3:15 call: wait_done: jobs[0]: got int, want Service, Client or Job"}},
		{"a cycle", map[string]string{"a.star": "load(\"b.star\", \"b\")\na = b\n", "b.star": "load(\"a.star\", \"a\")\nb = a\n"}, []string{"a.star", "b.star"},
			[]string{"b.star:1:6 load: load: a cycle: a.star → b.star → a.star"}},
		{"a file that acts when it is loaded", map[string]string{"r.star": "load(\"lib.star\", \"s\")\nprint(s)\n",
			"lib.star": "s = service(\"s\", command = \"x\")\n"}, []string{"r.star"}, []string{"lib.star:1:5 loaded-acts: service: not in a file that is loaded; call it from a function"}},
		{"what is loaded is checked once, from where it is loaded", map[string]string{"r.star": "load(\"sub/a.star\", \"a\")\nprint(a)\n",
			"sub/a.star": "load(\"//sub/b.star\", \"b\")\na = b\n\"x\".trim()\n", "sub/b.star": "b = 1\n"}, []string{"sub/a.star", "r.star"},
			[]string{"sub/a.star:3:5 attribute: str has no .trim"}},
		{"a function of another file", map[string]string{"r.star": "load(\"lib.star\", \"f\")\nf(2)\n", "lib.star": "def f(a, b):\n    print(a, b)\n"},
			[]string{"r.star"}, []string{"2:1 call: f: b is missing"}},
		{"YAML", map[string]string{"r.yaml": "service:\n  name: web\n  command: x\n  port: 0\n  settings: {a: b}\nclient:\n  command: y\n  time_limit: 01:00:00\n"}, []string{"r.yaml"},
			[]string{"5:3 yaml: settings has no effect: it is for what type starts, and here command does"}},
		{"YAML of the wrong form", map[string]string{"r.yaml": "service:\n  comand: x\n"}, []string{"r.yaml"},
			[]string{"1:1 syntax: a service needs a command, an image or a type", "2:3 syntax: unknown key comand"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(test.want, find(t, test.files, test.check...)); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := Check([]string{"nosuch.star"}, recipes.FS); err == nil {
		t.Error("a file that is not there is no error")
	}
}

// The recipes that come with aifb are without a finding.
func TestCheckShipped(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("../recipes/*.star")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recipes: %v", err)
	}
	found, err := Check(names, recipes.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("%v [%s]", f.SourceError, f.Lint)
	}
}

// Whatever a recipe is, check says what is wrong with it, and says so at a place that there is.
func FuzzCheck(f *testing.F) {
	f.Add(longRecipe(20))
	f.Add("def main(*a, **k):\n  \"\"\"x\n  Args:\n    b: c\n  \"\"\"\n  a.append(main(k = 1) % (x, y))[0] = a\nmain()\n")
	f.Add("x = x\ny = [y, {y: x}, lambda *, z: z]\n\"%(a)\" % x\nwait_done(check = False, *x, **y) # check: ignore\n")
	f.Add("load(\"@aifb//redis.star\", \"redis\", r = \"redis\")\nredis(x = 1, time = \"1\").state == \"x\"\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(dir, fmt.Sprintf("%x.star", sha256.Sum256([]byte(text))))
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(name)
		found, err := Check([]string{name}, recipes.FS)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1 // either ends a line
		for _, finding := range found {
			if p := finding.Place(); p.Pos.Line < 1 || int(p.Pos.Line) > lines || p.Pos.Col < 1 || p.Width < 1 {
				t.Errorf("%v at %v, %d wide, of %d lines", finding.Err, p.Pos, p.Width, lines)
			}
			if err := finding.Write(io.Discard, false); err != nil {
				t.Error(err)
			}
		}
	})
}

// longRecipe is a recipe of so many lines, of which one in a hundred is wrong.
func longRecipe(lines int) string {
	var b strings.Builder
	b.WriteString("load(\"@aifb//redis.star\", \"redis\")\n\ndef main():\n")
	for i := 0; strings.Count(b.String(), "\n") < lines; i++ {
		fmt.Fprintf(&b, `    db%[1]d = redis(image = "docker://redis:7", partition = "cpu", time = "30m", cpus = %[1]d)
    wait_running(db%[1]d)
    for n in [1, 8, 64]:
        c = client(
            db%[1]d,
            command = "redis-benchmark -h $SERVICE_HOSTNAME -c %%d" %% n,
            labels = {"clients": n},
            metrics = metric.csv(),
        )
        wait_done(c)
        print("%%d clients: %%s" %% (n, fmt(c.metric("rps"), ",.0f")))
`, i)
	}
	b.WriteString("    export_csv(\"x.csv\")\n    servce(1)\n")
	return b.String()
}

func benchmarkCheck(b *testing.B, count, lines int) {
	dir := b.TempDir()
	var names []string
	for i := range count {
		names = append(names, filepath.Join(dir, fmt.Sprintf("r%d.star", i)))
		if err := os.WriteFile(names[i], []byte(longRecipe(lines)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		found, err := Check(names, recipes.FS)
		if err != nil || len(found) == 0 {
			b.Fatalf("%d findings, %v", len(found), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms")
}

func BenchmarkCheck1000Lines(b *testing.B)  { benchmarkCheck(b, 1, 1000) }
func BenchmarkCheck200Recipes(b *testing.B) { benchmarkCheck(b, 200, 50) }
