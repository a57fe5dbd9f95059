package starlib

import (
	"fmt"
	"strings"
	"testing"
)

// What people write who know Python, or misspell, and what they are told.
func TestHints(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ recipe, hint string }{
		{"import os", `load("//lib.star", "name") brings in names of a file; json, time and math are there already`},
		{"try:\n    x()", "attempt(fn, ...) turns an error into a value"},
		{"raise x", `fail("...") ends the recipe`},
		{"with open(f) as g:\n    pass", "there is no with: on_exit(fn) cleans up at the end"},
		{"class A:\n    pass", "there are no classes: struct(name = value) has attributes"},
		{"def f():\n    global x", "a function cannot assign to a global: return the value instead"},
		{"def f():\n    nonlocal x", "a function cannot assign to a variable of another: return the value instead"},
		{"del x", "there is no del: d.pop(key), xs.pop(index)"},
		{"def f():\n    yield 1", "there are no generators: return a list"},
		{"assert x == 1", `expect(x == 1, "...") is a threshold; if x != 1: fail("...") ends the recipe`},
		{"print \"x\"", "print(x)"},
		{"async def f():\n    pass", "parallel(fn, items) calls a function with several items at once"},
		{`x = f"{y}"`, `there are no f-strings: "%s" % x`},
		{`x = "a" "b"`, `+ joins strings: "a" + "b"`},
		{"def f(x: int):\n    pass", "there are no type annotations"},
		{"def f(x) -> int:\n    pass", "there are no type annotations"},
		{"x: int = 3", "there are no type annotations"},
		{"x = 2 ** 3", "math.pow(x, 2)"},
		{"x = 1 if True", "a if condition else b; == compares, there is no is"},
		{"x = 2 is None", "== compares, also with None"},
		{"a = 1\na is 1", "== compares, also with None"},
		{"a = 1\nif a is not None:\n    pass", "== compares, also with None"},
		{"x = 0 < 1 < 9", "0 < x and x < 9"},
		{"x = not in y", "not (x in y), or x not in y"},
		{"x = !y", "not x, x and y, x or y"},
		{"x = 1 && 2", "not x, x and y, x or y"},
		{"x = a ? b : c", "a if condition else b"},
		{"x = 1\nx++", "x += 1"},
		{"if x = 1:\n    pass", "== compares"},
		{"if True:\n    pass\nelse if True:\n    pass", "elif x:"},
		{"def f()\n    pass", "a colon ends the line"},
		{"if True:\n  pass\n   pass", "the lines of a block begin in the same column"},
		{"def f():\n    load(\"x.star\", \"x\")", "load() is at the top level of a file"},
		{"x = true", "True"},
		{"x = false", "False"},
		{"x = null", "None"},
		{"isinstance(1, 2)", `type(x) == "string"`},
		{"map(str, [1])", "[f(x) for x in xs if condition]"},
		{"format(1.5)", `fmt(x, ".2f")`},
		{"open(\"x\")", "read(path) reads a file; export_csv() and export_json() write one"},
		{"os.environ", `run("ls") runs a command on the target; job(), service() and client() run there as jobs`},
		{`x = "n" + 3`, "str(x) makes a string"},
		{`x = 3 + "n"`, "str(x) makes a string"},
		{`x = "%.2f" % 1.5`, `fmt(x, ".2f")`},
		{`x = "{:.2f}".format(1.5)`, `fmt(x, ".2f")`},
		{`[c for c in "abc"]`, `"abc".elems() are its characters`},
		{"for c in \"abc\":\n    pass", `"abc".elems() are its characters`},
		{"xs = [2]\nxs.sort()", "sorted(xs)"},
		{"xs = [2]\nxs.push(1)", "xs.append(x)"},
		{"d = {}\nd.has_key(1)", "d.items(), key in d"},
		{"n = 0\ndef f():\n    n += 1\nf()", "a function cannot assign to a global: return the value instead"},
		{"xs = []\ndef main():\n    xs.append(1)",
			"what the top level made cannot change in main, nor what parallel shares: make it in the function, and return it"},
		{"d = {}\ndef main():\n    d[1] = 1",
			"what the top level made cannot change in main, nor what parallel shares: make it in the function, and return it"},
		{"xs = [1]\nfor x in xs:\n    xs.append(x)", "for x in list(xs): goes over a copy"},
		{"d = {1: 1}\nfor k in d:\n    d.pop(k)", "for x in list(xs): goes over a copy"},
		{"x = 1\nx()", "the name was given another value before"},
		{"def f():\n    return f()\nf()", "the function calls itself without end"},

		{"from os import path", `load("//lib.star", "name") brings in names of a file; json, time and math are there already`},
		{"@timed\ndef f():\n    pass", "there are no decorators: f = g(f)"},
		{"a, *b = [1, 2]", "there is no * in a list or an assignment: a + b joins lists, xs[1:] is the rest"},
		{"x = {**{}}", "a | b joins dicts"},
		{"x = {1, 2}", "set([1, 2]) is a set"},
		{"x = sum(n for n in [1])", "[f(x) for x in xs] is a list"},
		{"if (x := 1):\n    pass", "x = ... is a line of its own"},
		{"x = 1_000", "numbers are written without _"},
		{"x = 1 <> 2", "!= is not equal"},
		{"x = “a”", "the quotes are \" and '"},
		{`x = "\d"`, `r"\d" is a string whose \ is a \; so is "\\d"`},
		{"def main():\nx = 1", "the lines of a block are indented"},
		{"if True:\n    x = 1\n  y = 2", "the lines of a block begin in the same column"},
		{"if True {\n}", "a colon ends the line, and the lines of the block are indented"},
		{"load(\"x.star\")", `load("lib.star", "name")`},
		{"xs = [1]\nxs.length", "len(x)"},
		{`x = "%s %s" % 1`, `"%s %s" % (a, b): several go in brackets`},
		{`x = "%s" % (1, 2)`, `"%s" % (x,) writes a tuple as one`},
		{`x = int("1.5")`, "int(float(x)) cuts the fraction off"},
		{"def f():\n    return x\nf()\nx = 1", "the file gives it its value further below: call the function after that"},
		{"print(1", "it is not closed"},
		{"print(\"(\", ')', [1]) # )\n'''\n)'''\nprint({\"a\": (1,\n  2)", "it is not closed"},
		{"x = [1, 2\ny = 3", "the [ of line 1 is not closed"},
		{"x = dict(a = 1\ny = 3)", "a comma is missing, or the ( of line 1 is not closed"},
		{"x = (\n  1,\n  2 3)", "the ( of line 1 is not closed"},

		{"service(\"x\", \"sleep 1\")", "the others are given by their names, such as port = ..."},
		{"wait_done(jobs = [])", "they are given without a name"},
		{"service(\"x\", command = \"y\", metrics = [metric.csv])", "metric.csv(...) calls it"},
		{"service(\"x\", command = \"y\", ready = ready.http)", "ready.http(...) calls it"},
		{"client(\"redis\", command = \"y\")", "give it what service() returned"},
		{"time.sleep(1)", `wait_running() and wait_done() wait for jobs; run("sleep 5") takes its time`},
		{"sleep(1)", `wait_running() and wait_done() wait for jobs; run("sleep 5") takes its time`},
		{"print(*[1], sep = \",\")", "name = value goes before *args"},
		{"servce(\"x\")", "did you mean service?"},
		{"def f(clients):\n    return cleints", "did you mean clients?"},
		{"def f(clients):\n    pass\ndef g():\n    return cleints", "did you mean client?"}, // another function's own is not in scope
		{"def measure():\n    pass\nmesaure()", "did you mean measure?"},
		{"for item in [1]:\n    itme", "did you mean item?"},
		{"x = ready.htp()", "did you mean ready.http?"},
		{"x = metric.cvs()", "did you mean metric.csv?"},
		{"x = math.sqr(2)", "did you mean math.sqrt?"},
		{"s = struct(host = 1)\ns.hots", "did you mean .host?"},
		{"s = struct(host = 1, port = 2)\ns.zzz", "it has host, port"},
		{"measurements().maen()", "did you mean .mean?"},
		{`"x".uper()`, "did you mean .upper?"},
		{`"x".pslit()`, "did you mean .split?"},
		{"d = {\"port\": 1}\nd[\"prot\"]", `did you mean "port"?`},
		{"def f(d):\n    return d[\"prot\"]\nd = {}\nd[\"port\"] = 1\nf(d)", `did you mean "port"?`},
		{"d = {\"host\": 1, \"port\": 2}\nd[\"zzzzzz\"]", `it has host, port; d.get("zzzzzz") is None where a key is missing`},
		{"d = dict()\nd[\"a\"]", `d.get("a") is None where a key is missing`},
		{"def f(clients):\n    pass\nf(cleints = 1)", "did you mean clients?"},
		{"service(\"x\", partitio = \"cpu\")", "did you mean partition?"},
		{"service(\"x\", tiem = \"1h\")", "did you mean time?"},
		{"load(\"@aifb//lbi.star\", \"boom\")", "did you mean @aifb//lib.star?"},
		{"load(\"@aifb//lib.star\", \"bomo\")", "did you mean boom?"},
		{"attempt(None)", "give the function without calling it, f and not f(); lambda: f(x) is one that has the arguments"},
		{"fmt(1.5, \"d\")", `".0f" rounds`},
		{"exit(3)", "the others have a meaning: aifb help exit-codes"},
	} {
		_, _, err := exec(t, test.recipe+"\n")
		if got := Hint(err); err == nil || got != test.hint {
			t.Errorf("%s\n%v\nhint %q, want %q", test.recipe, err, got, test.hint)
		}
	}
}

// No message says twice what is meant: Starlark's own suggestions are hints too.
func TestOneSuggestion(t *testing.T) {
	t.Parallel()
	for _, recipe := range []string{"\"x\".uper()\n", "pritn(1)\n", "def f(name):\n    pass\nf(nmae = 1)\n", "x = [].appendd\n"} {
		_, rendered, _ := exec(t, recipe)
		if strings.Count(rendered, "did you mean") != 1 || !strings.Contains(rendered, "hint: did you mean") {
			t.Errorf("%s%s", recipe, rendered)
		}
	}
}

// A struct behaves as Starlark's own.
func TestStruct(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"struct(a = 1) == struct(a = 1)": "True", "struct(a = 1) == struct(a = 2)": "False", "struct(a = 1) != struct(b = 1)": "True",
		"struct(a = 1) + struct(b = 2)": "struct(a = 1, b = 2)", "struct(a = struct(b = 3)).a.b": "3", "dir(struct(b = 1, a = 2))": `["a", "b"]`,
		`hasattr(struct(a = 1), "b")`: "False", `getattr(struct(a = 1), "b", 7)`: "7", "type(struct())": "struct",
		"json.encode(struct(a = [1]))": `{"a":[1]}`, "struct(a = 1) in [struct(a = 1)]": "True", "struct(a = 1) == 1": "False",
		`hasattr(ready, "http")`: "True", `hasattr(ready, "x")`: "False", "type(ready)": "module", "{struct(a = 1): 2}[struct(a = 1)]": "2",
	} {
		out, _, err := exec(t, fmt.Sprintf("print(%s)\n", expr))
		if got := strings.TrimSuffix(out, "\n"); got != want {
			t.Errorf("%s = %q, %v; want %s", expr, got, err, want)
		}
	}
}

// A struct may be in itself, by way of a list or a dict.
func TestStructInItself(t *testing.T) {
	t.Parallel()
	const recipe = "xs = [1]\ns = struct(xs = xs, a = (2,))\nxs.append(s)\nd = {}\nd[\"s\"] = struct(d = d, t = (d,))\n"
	out, _, err := exec(t, recipe+"print(s, xs, d)\nprint(\"%r\" % struct(s = s), [struct(b = [struct(c = 3)])])\n")
	const want = `struct(a = (2,), xs = ...) [1, struct(a = (2,), xs = ...)] {"s": struct(d = ..., t = ...)}
struct(s = struct(a = (2,), xs = ...)) [struct(b = [struct(c = 3)])]
`
	if out != want || err != nil {
		t.Errorf("%s, %v; want %s", out, err, want)
	}
	if _, rendered, _ := exec(t, recipe+"fail(s)\n"); !strings.Contains(rendered, "error: struct(a = (2,), xs = ...)") {
		t.Error(rendered)
	}
}

// Of what the end of the file finds open, it is the bracket that is shown.
func TestUnclosed(t *testing.T) {
	t.Parallel()
	const want = "error: got end of file, want primary expression\n  --> r.star:2:10\n     2 | print(1, {\n       |          ^\n  hint: it is not closed\n"
	if _, rendered, _ := exec(t, "e = [(1)]\nprint(1, {\n    \"a\": (1, 2),\n"); rendered != want {
		t.Errorf("%s; want\n%s", rendered, want)
	}
}
