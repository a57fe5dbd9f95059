package starlib

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// eval evaluates an expression over a table x and a secret s.
func eval(t *testing.T, expr string) string {
	t.Helper()
	x := newClusterTable(runtime.Table{Name: runtime.TableNodes, Rows: [][]string{
		{"cpu", "up", "172800", "2", "idle", "64", "256000", "", "", "n[1-2]"},
		{"gpu", "up", "", "1", "idle*", "64", "1000", "gpu:a100:4", "", "n\x1b3"},
	}})
	env := predeclared()
	env["x"], env["empty"], env["s"] = x, newClusterTable(runtime.Table{Name: runtime.TableQueue}), &secretValue{name: "TOKEN"}
	r := newRun(new(runtime.Session), Env{}, new(loader))
	thread, done := r.thread(t.Context(), "", false)
	defer done()
	v, err := starlark.EvalOptions(dialect(), thread, "x.star", expr, env)
	if err != nil {
		return "error: " + err.Error()
	}
	if text, ok := starlark.AsString(v); ok {
		return text
	}
	return v.String()
}

func TestClusterTable(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"x":                            "partition  available  time_limit  nodes  state  cpus  memory_mb  gres        node_list\ncpu        up             172800      2  idle     64     256000              n[1-2]\ngpu        up                         1  idle*    64       1000  gpu:a100:4  n·3",
		"len(x), bool(x), type(x)":     `(2, True, "ClusterTable")`,
		"len(empty), bool(empty)":      "(0, False)",
		"[r.partition for r in x]":     `["cpu", "gpu"]`,
		"x[1].time_limit, x[0].nodes":  "(None, 2)",
		"x.rows()[0].time_limit + 1":   "172801",
		`x.values("cpus")`:             "[64, 64]",
		`x.values("cpu")`:              "error: values: there is no column cpu",
		"{x: 1}":                       "error: unhashable: ClusterTable",
		"x == x, x == measurements":    "(True, False)",
		"type(s), str(s), [s], {s: 1}": `("Secret", "***", [***], {***: 1})`,
		`"%s %r" % (s, s)`:             "*** ***",
		`"{}".format(s)`:               "***",
		`s == "***", bool(s)`:          "(False, True)",
		`"x" + s`:                      "error: unknown binary op: string + Secret",
		`s.value`:                      "error: Secret has no .value field or method",
		`json.encode(s)`:               "error: json.encode: cannot encode Secret as JSON",
		`fmt(s, "s")`:                  `error: fmt: "s" is not for a Secret`,
		`sum([s])`:                     "error: sum: unknown binary op: int + Secret",
		`record("m", s)`:               "error: record: value: a Secret is not for showing",
		`record("m", 1, label = s)`:    "error: record: label: a Secret is not for showing",
	} {
		if diff := cmp.Diff(want, eval(t, expr)); diff != "" {
			t.Errorf("%s: %s", expr, diff)
		}
	}
}

func TestHelpOfClusterTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	x := newClusterTable(runtime.Table{Name: runtime.TableNodes})
	if err := help(&b, x.methods["rows"]); err != nil || !strings.Contains(b.String(), "attribute for each column") {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestHintsOfClusterTable(t *testing.T) {
	t.Parallel()
	x := newClusterTable(runtime.Table{Name: runtime.TableNodes, Rows: [][]string{make([]string, len(runtime.TableNodes.Columns()))}})
	for expr, want := range map[string]string{
		"x[0].partitoin": "did you mean .partition?", "x.rows()[0].sate": "did you mean .state?", "x.row()": "did you mean .rows?",
		"x.zzzz": "it has rows, values", `x.values("sate")`: "did you mean state?",
	} {
		r := newRun(new(runtime.Session), Env{}, new(loader))
		thread, done := r.thread(t.Context(), "", false)
		_, err := starlark.EvalOptions(dialect(), thread, "x.star", expr, starlark.StringDict{"x": x})
		if Hint(err) != want {
			t.Errorf("%s: %v, hint %q; want %q", expr, err, Hint(err), want)
		}
		done()
	}
}
