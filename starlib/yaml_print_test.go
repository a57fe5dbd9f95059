package starlib

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// records is a store in memory.
type records struct{ all []runtime.Record }

func (r *records) Append(_ context.Context, recs ...runtime.Record) error {
	r.all = append(r.all, recs...)
	return nil
}

func (r *records) Records(context.Context, runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(func(runtime.Record, error) bool) {}
}

func (r *records) Close() error { return nil }

// jobsOf are the jobs that were to be submitted, but for where in the recipe and under which token.
func (r *records) jobsOf(t *testing.T) (jobs []string) {
	for _, rec := range r.all {
		if rec.Kind != runtime.KindJobIntended {
			continue
		}
		var in runtime.Intent
		if err := json.Unmarshal(rec.Data, &in); err != nil {
			t.Fatal(err)
		}
		in.Deed = runtime.Deed{}
		text, err := json.MarshalIndent(in, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, string(text), runtime.Script(in.Job))
	}
	return jobs
}

// simulate runs a recipe on a simulated cluster, whose services answer with body, and whose clients print what theirs do.
func simulate(t *testing.T, name string, library fs.FS, body string, given ...string) (jobs []string, printed string) {
	t.Helper()
	r, err := Read(name, library)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	store := new(records)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("*", sim.Behaviour{Body: body, Stdout: "Ready to accept connections\ndatabase system is ready to accept connections\n"})
		c.Behave("*redis_stress*", sim.Behaviour{Stdout: "\"test\",\"rps\"\n\"SET\",\"123.4\"\n"})
		c.Behave("*postgres_stress*", sim.Behaviour{Stdout: "inserts\nlatency average = 3.025 ms\ntps = 661.2 (without initial connection time)\n" +
			"selects\nlatency average = 0.195 ms\ntps = 10239.5 (without initial connection time)\n"})
		c.Behave("*minio_stress*", sim.Behaviour{Stdout: "Report: PUT. Concurrency: 1. Ran: 28s\n * Average: 24.49 MiB/s, 24.49 obj/s\n" +
			" * Reqs: Avg: 5.3ms, 50%: 4.6ms, 90%: 7.9ms, 99%: 15.7ms, Fastest: 1.9ms, Slowest: 34.2ms, StdDev: 2.9ms\n" +
			"Report: GET. Concurrency: 1. Ran: 28s\n * Average: 80.61 MiB/s, 80.61 obj/s\n" +
			" * Reqs: Avg: 1.4ms, 50%: 1.2ms, 90%: 2.1ms, 99%: 7.7ms, Fastest: 0.4ms, Slowest: 27.6ms, StdDev: 1.4ms\n"})
		c.Behave("*pgbench*", sim.Behaviour{Stdout: "latency average = 1.234 ms\ntps = 810.3 (without initial connection time)\n"})
		if err := c.Conn().Put(t.Context(), "/home/user/images/load.sif", 0o644, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
		s := &runtime.Session{Run: "20000101-000000-test", Store: store, Files: dir, Target: c.Target(),
			Binary: func(string, string) (string, error) { return "", nil }}
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		warn := func(text string) { fmt.Fprintln(&out, "warning:", text) }
		err := r.Exec(t.Context(), s, Env{Stdout: &out, Warn: warn}, given)
		if _, closed := s.Close(t.Context(), err, false); err == nil {
			err = closed
		}
		if err != nil {
			var shown strings.Builder
			FormatError(&shown, err, Style{})
			t.Error(shown.String())
		}
	})
	return store.jobsOf(t), out.String()
}

// What aifb convert prints starts the same jobs as the YAML.
func TestConvert(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/yaml/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			r, err := Read(name, yamlLibrary)
			if err != nil {
				t.Fatal(err)
			}
			converted := filepath.Join(t.TempDir(), "converted.star")
			if err := os.WriteFile(converted, []byte(r.Starlark()), 0o644); err != nil {
				t.Fatal(err)
			}
			again, err := Read(converted, yamlLibrary)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(r.Params(), again.Params()); d != "" {
				t.Errorf("params: %s", d)
			}
			if r.Doc() != again.Doc() {
				t.Errorf("doc %q, and then %q", r.Doc(), again.Doc())
			}
			want, _ := simulate(t, name, yamlLibrary, "")
			got, _ := simulate(t, converted, yamlLibrary, "")
			if d := cmp.Diff(want, got); d != "" || len(got) == 0 {
				t.Errorf("%d jobs: %s", len(got), d)
			}
		})
	}
}

// Every service of the library starts with its defaults, and every client with such a service.
func TestLibrary(t *testing.T) {
	t.Parallel()
	entries := libraryEntries(yamlLibrary)
	for _, e := range entries {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("load(%q, f = %q)\nwait_running(f(partition = \"cpu\", env = {\"A\": \"b\"}, time = \"5m\"))\n", e.module, e.name)
			if e.client {
				text = fmt.Sprintf("load(%q, f = %q)\ns = service(\"s\", command = \"x\", port = 7)\nwait_done(f(s, name = %q, count = 2, setup = [\"a\"], env = {\"A\": \"b\"}))\n", e.module, e.name, e.name)
			}
			dir := write(t, map[string]string{"r.star": text})
			jobs, printed := simulate(t, filepath.Join(dir, "r.star"), yamlLibrary, "llama3.2")
			script := strings.Join(jobs, "")
			if len(jobs) == 0 || printed != "" || !strings.Contains(script, "export A=b") || !e.client && !strings.Contains(script, `SERVICE_PORT`) {
				t.Errorf("%d jobs, printed %q:\n%s", len(jobs), printed, script)
			}
			for _, p := range e.params {
				if p.Name != "service" && p.Doc == "" {
					t.Errorf("%s has no doc", p.Name)
				}
			}
		})
	}
	if !slices.ContainsFunc(entries, func(e libraryEntry) bool { return e.name == "redis_stress" && e.client }) {
		t.Errorf("entries %v", entries)
	}
}

// benchmarks.metrics is a warning after the run, unless it was measured under a name like it.
func TestMissingMetrics(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"r.star": `load("@aifb//yaml.star", "warn_missing")
record("latency_p50", 1)
record("rps", 2)
warn_missing(["latency", "p50_latency", "throughput", "tps", "lat"])
`})
	_, printed := simulate(t, filepath.Join(dir, "r.star"), yamlLibrary, "")
	want := "warning: benchmarks.metrics: tps was not measured; there is latency_p50, rps\n" +
		"warning: benchmarks.metrics: lat was not measured; there is latency_p50, rps\n"
	if printed != want {
		t.Errorf("got %q", printed)
	}
}

// What goes wrong when a recipe in YAML runs is at the key that decided it.
func TestYAMLRunning(t *testing.T) {
	t.Parallel()
	refuse := func(field string) sim.Behaviour {
		return sim.Behaviour{Refuse: &runtime.Error{Fault: runtime.FaultRun, Field: field, Err: errors.New("no")}}
	}
	for name, test := range map[string]struct {
		src  string
		does sim.Behaviour
		want string
	}{
		"partition":             {"service:\n  command: x\n  partition: cpu\n", refuse("partition"), "3:14"},
		"partition of a type":   {"service:\n  type: nginx\n  partition: cpu\n", refuse("partition"), "3:14"},
		"key that is not there": {"service:\n  command: x\n", refuse("partition"), "1:1"},
		"no key":                {"service:\n  command: x\n  partition: cpu\n", refuse(""), "1:1"},
		"name of a type":        {"service:\n  type: nginx\n  name: a b\n", sim.Behaviour{}, "3:9"},
		"command":               {"client:\n  command: x\n", sim.Behaviour{Code: 3}, "2:12"},
		"time limit":            {"clients:\n  - command: x\n    time_limit: 5m\n", sim.Behaviour{Outcome: runtime.TimedOut, Signal: 15}, "3:17"},
		"memory":                {"client:\n  command: x\n  memory: 1G\n", sim.Behaviour{Outcome: runtime.OutOfMemory, Signal: 9}, "3:11"},
		"default memory":        {"clients:\n  - command: x\n", sim.Behaviour{Outcome: runtime.OutOfMemory, Signal: 9}, "2:5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, map[string]string{"r.yaml": test.src})
			r, err := Read(filepath.Join(dir, "r.yaml"), yamlLibrary)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				c := sim.New(sim.Config{})
				c.Behave("*", test.does)
				s := &runtime.Session{Run: "20000101-000000-test", Store: new(records), Files: t.TempDir(), Target: c.Target()}
				if err := s.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				err := r.Exec(t.Context(), s, Env{}, nil)
				s.Close(t.Context(), err, false)
				located := (*SourceError)(nil)
				if !errors.As(err, &located) {
					t.Fatalf("got %v", err)
				}
				first := userFirst(located.Frames)[0]
				if got := fmt.Sprintf("%d:%d", first.Pos.Line, first.Pos.Col); got != test.want {
					t.Errorf("got %s, want %s: %v", got, test.want, err)
				}
			})
		})
	}
}
