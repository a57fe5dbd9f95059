package starlib

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// A value reads back as it was written, and is what a recipe would have made of the same text.
func TestParamText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ def, text, want string }{
		{`3`, "-7", "-7"}, {`3`, "0", "0"}, {`3`, "1_000", "1000"}, {`3`, "0x1f", "31"},
		{`3`, "123456789012345678901234567890", "123456789012345678901234567890"},
		{`3`, "010", `got "010", want int (without the 0 it is decimal, with 0o octal)`},
		{`3`, "1e3", `got "1e3", want int`}, {`3`, "2.0", `got "2.0", want int`}, {`3`, "", `got "", want int`}, {`3`, "3 ", `got "3 ", want int`},
		{`1.5`, "2", "2.0"}, {`1.5`, "-1e3", "-1000.0"}, {`1.5`, "much", `got "much", want float`},
		{`False`, "true", "True"}, {`True`, "False", "False"}, {`True`, "0", "False"}, {`True`, "no", `got "no", want True or False`},
		{`"x"`, "", `""`}, {`"x"`, `"q", [`, `"\"q\", ["`}, {`"3s"`, "10:00:00", `"10:00:00"`}, {`None`, "a", `"a"`},
		{`[1, 2]`, "4", "[4]"}, {`[1, 2]`, "", "[]"}, {`[1, 2]`, "[]", "[]"}, {`[1, 2]`, "[4, -8]", "[4, -8]"}, {`[1, 2]`, "4,8,", "[4, 8]"},
		{`[1, 2]`, "4,,8", `got "4,,8", want something before each ',' ("" is an empty string)`},
		{`[1, 2]`, `4,"8"`, `got "\"8\"", want int (without quotes)`},
		{`[1, 2.5]`, "4,8", "[4.0, 8.0]"}, {`(1, 2)`, "4,8", "(4, 8)"}, {`(1, 2)`, "4", "(4,)"},
		{`[]`, "a, b c", `["a", "b c"]`}, {`[]`, `"a,b",'c',""`, `["a,b", "c", ""]`}, {`[]`, "it's,x", `["it's", "x"]`},
		{`["x"]`, "mel[1-3,7],mel9", `["mel[1-3,7]", "mel9"]`}, {`["x"]`, "docker://redis:7", `["docker://redis:7"]`},
		{`["x"]`, "mel[1", `got "mel[1", want brackets in pairs (a bracket of its own goes in quotes)`},
		{`["x"]`, "[a],[b]", `["[a]", "[b]"]`}, {`["x"]`, "a]", `got "a]", want brackets in pairs (a bracket of its own goes in quotes)`},
		{`["x"]`, `"a`, `got "\"a", want quotes in pairs`}, {`["x"]`, `"a"b`, `got "\"a\"b", want a string in quotes and nothing else`},
		{`[[1, 2], [3]]`, "[[4], [5, 6]]", "[[4], [5, 6]]"}, {`[[1]]`, "[4,5],[6]", "[[4, 5], [6]]"}, {`[[1]]`, "[[4,5]]", "[[4, 5]]"},
		{`{"a": 1}`, `{a: 2, b: 3}`, `{"a": 2, "b": 3}`}, {`{"a": 1}`, `{"a": 2}`, `{"a": 2}`}, {`{"a": 1}`, "{}", "{}"}, {`{"a": 1}`, "a:2", `{"a": 2}`},
		{`{"a": 1}`, "{a: x}", `"a": got "x", want int`}, {`{"a": 1}`, "{a}", `got "a", want key: value`},
		{`{"a": 1, "b": "x"}`, "{a: 2, b: 3}", `{"a": 2, "b": "3"}`}, {`{}`, "{u: http://x::1/}", `{"u": "http://x::1/"}`},
		{`{"a": [1]}`, "{a: [2,3]}", `{"a": [2, 3]}`},
	} {
		def, err := starlark.EvalOptions(dialect(), new(starlark.Thread), "", test.def, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parseParam(test.text, def)
		if err != nil {
			got := err.Error()
			if hint := runtime.HintOf(err); hint != "" {
				got += " (" + hint + ")"
			}
			if got != test.want {
				t.Errorf("%q like %s: error %s, want %s", test.text, test.def, got, test.want)
			}
			continue
		}
		if v.String() != test.want {
			t.Errorf("%q like %s: %v, want %s", test.text, test.def, v, test.want)
		}
		if again, err := parseParam(showParam(v), def); err != nil || again.String() != v.String() {
			t.Errorf("%v is shown as %s, which is %v, %v", v, showParam(v), again, err)
		}
	}
}

// FuzzParamText checks that no text makes parseParam panic, and that what it returns reads back.
func FuzzParamText(f *testing.F) {
	for _, text := range []string{"", "a,b", `"a,b",c`, "[[1],[2]]", "{a: b}", `'\'`, "mel[1-3,5]", `{"a\n": "://"}`} {
		f.Add(text)
	}
	inner := starlark.NewDict(0)
	defs := []starlark.Value{starlark.NewList(nil), inner, starlark.NewList([]starlark.Value{starlark.NewList(nil)}), starlark.NewList([]starlark.Value{inner})}
	f.Fuzz(func(t *testing.T, text string) {
		for _, def := range defs {
			v, err := parseParam(text, def)
			if err != nil {
				continue
			}
			if again, err := parseParam(showParam(v), def); err != nil || again.String() != v.String() {
				t.Errorf("%q is %v, shown as %q, which is %v, %v", text, v, showParam(v), again, err)
			}
		}
	})
}

const givenRecipe = `
COMPUTED = 4

def main(name, n = 3, rate = 1.5, on = False, clients = [1, 2], tags = [], opts = {"a": 1}, late = COMPUTED, none = None):
    print(name, n, rate, on, clients, tags, opts, late, none)
`

// give resolves parameters of givenRecipe, and runs it with them.
func give(t *testing.T, file, text string, env, args []string) (arguments []Argument, printed, rendered string, err error) {
	t.Helper()
	dir := write(t, map[string]string{"r.star": givenRecipe, file: text})
	r, err := Read(filepath.Join(dir, "r.star"), library)
	if err != nil {
		t.Fatal(err)
	}
	given := Given{Env: env, Args: args}
	if file != "" {
		given.File = filepath.Join(dir, file)
	}
	arguments, err = r.Resolve(given)
	var out, shown bytes.Buffer
	if err == nil {
		var again []string
		for i, a := range arguments {
			arguments[i].Source = strings.TrimPrefix(a.Source, dir+"/")
			if a.Source != "" {
				again = append(again, a.Name+"="+a.Value)
			}
		}
		if err := r.Exec(t.Context(), new(runtime.Session), Env{Stdout: &out}, again); err != nil {
			t.Fatal(err)
		}
	} else {
		FormatError(&shown, err, Style{})
	}
	return arguments, strings.TrimSpace(out.String()), strings.ReplaceAll(shown.String(), dir+"/", ""), err
}

// The command line wins over the environment, which wins over the file, which wins over the default.
func TestResolve(t *testing.T) {
	t.Parallel()
	file := "name: 10:00:00\nn: 1\nrate: 2\nclients: [4, 8]\ntags:\n  - 'a,b'\n  - c\nopts: {b: 2}\nlate: 5\n"
	arguments, printed, rendered, err := give(t, "p.yaml", file,
		[]string{"PATH=/bin", "AIFB_PARAM_N=2", "AIFB_PARAM_RATE=3", "AIFB_PARAM_ON=true"}, []string{"n=-3", "none=x=y"})
	if err != nil {
		t.Fatal(rendered)
	}
	if want := `10:00:00 -3 3.0 True [4, 8] ["a,b", "c"] {"b": 2} 5 x=y`; printed != want {
		t.Errorf("it printed %s, want %s", printed, want)
	}
	want := []Argument{{"name", "10:00:00", "p.yaml:1"}, {"n", "-3", "the command line"}, {"rate", "3", "AIFB_PARAM_RATE"},
		{"on", "true", "AIFB_PARAM_ON"}, {"clients", "4,8", "p.yaml:4"}, {"tags", `"a,b",c`, "p.yaml:5"}, {"opts", "{b: 2}", "p.yaml:8"},
		{"late", "5", "p.yaml:9"}, {"none", "x=y", "the command line"}}
	if d := cmp.Diff(want, arguments); d != "" {
		t.Error(d)
	}
	arguments, _, _, err = give(t, "p.json", "{\n\t\"name\": \"x\", \"n\": 5, \"on\": true, \"clients\": [1], \"opts\": {\"a\": 3}\n}\n", nil, nil)
	if got := fmt.Sprint(arguments[:5]); err != nil || got != "[{name x p.json:2} {n 5 p.json:2} {rate 1.5 } {on True p.json:2} {clients 1 p.json:2}]" {
		t.Errorf("JSON: %s, %v", got, err)
	}
}

// All that is wrong is said at once, with its place.
func TestResolveErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, file, want string }{
		{"all", "n: many\nclinets: [1]\non: yes\nclients: [1, 2.5, '3']\nopts: [1]\n", `error: n: got "many", want int
  --> p.yaml:1:4
     1 | n: many
       |    ^^^^
error: r.star has no parameter clinets
  --> p.yaml:2:1
     2 | clinets: [1]
       | ^^^^^^^
  hint: did you mean clients?
error: on: got "yes", want True or False
  --> p.yaml:3:5
     3 | on: yes
       |     ^^^
error: clients[1]: got "2.5", want int
  --> p.yaml:4:14
     4 | clients: [1, 2.5, '3']
       |              ^^^
error: clients[2]: got "3", want int
  --> p.yaml:4:19
     4 | clients: [1, 2.5, '3']
       |                   ^^^
  hint: without quotes
error: opts: got a list, want dict
  --> p.yaml:5:7
     5 | opts: [1]
       |       ^^^
error: AIFB_PARAM_N: got "x", want int
error: r.star has no parameter for the environment's AIFB_PARAM_RAET
  hint: did you mean AIFB_PARAM_RATE?
error: r.star has no parameter "tgas"
  hint: did you mean tags?
error: parameter name is missing
  hint: aifb exec r.star --help
`},
		{"octal", "name: x\nn: 010\n", `error: n: got "010", want int
  --> p.yaml:2:4
     2 | n: 010
       |    ^^^
  hint: without the 0 it is decimal, with 0o octal
`},
		{"syntax", "name: [\n", "error: did not find expected node content\n  --> p.yaml:2:1\n"},
		{"twice", "name: a\nname: b\n", `error: name is given twice; the first is at 1:1
  --> p.yaml:2:1
     2 | name: b
       | ^^^^
`},
		{"nothing", "name:\n", `error: name has no value
  --> p.yaml:1:1
     1 | name:
       | ^^^^
  hint: leave the key out for the default
`},
	} {
		var env, args []string
		if test.name == "all" {
			env, args = []string{"AIFB_PARAM_N=x", "AIFB_PARAM_RAET=1"}, []string{"tgas=1"}
		}
		_, _, got, err := give(t, "p.yaml", test.file, env, args)
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s: %s", test.name, d)
		}
		if f := runtime.FaultOf(err); f != runtime.FaultUsage {
			t.Errorf("%s: fault %q", test.name, f)
		}
	}
}
