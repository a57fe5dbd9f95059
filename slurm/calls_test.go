package slurm

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// A loop that asks and asks is held up, so that nobody else notices it; what runs usually do is not.
func TestPace(t *testing.T) {
	virtually(t, "submit", func(t *testing.T, f *fake) {
		f.set("scancel", "true")
		start := time.Now()
		var jobs []runtime.Job
		for i := range 50 {
			jobs = append(jobs, f.job(fmt.Sprint("j", i)))
		}
		ids := f.submit(jobs...)
		for range 20 {
			if _, err := f.Status(t.Context(), ids...); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a run that does nothing unusual was held up for %v", took)
		}
		for range 150 {
			if err := f.Cancel(t.Context(), ids[0]); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 10*time.Second || took > time.Minute {
			t.Errorf("a loop of 150 requests was held up for %v", took)
		}
		start = time.Now()
		for range 30 {
			time.Sleep(time.Second)
			if _, err := f.Explain(t.Context(), ids[0]); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took > 31*time.Second {
			t.Errorf("a request each second was held up for %v", took-30*time.Second)
		}
	})
}

// Each call of a command is counted.
func TestTallies(t *testing.T) {
	t.Parallel()
	inWorld(t, sim.Config{MinJobAge: 5 * time.Second}, func(t *testing.T, w *world, s *Scheduler) {
		w.Behave("*", sim.Behaviour{Run: 10 * time.Second})
		w.Behave("waits", sim.Behaviour{Wait: sim.Forever, Reason: "Priority"})
		jobs := append(w.group("g", 0, 1, 2), w.job("a"), w.job("waits"))
		subs, err := s.Submit(t.Context(), jobs...)
		if err != nil {
			t.Fatal(err)
		}
		var ids []runtime.JobID
		for _, sub := range subs {
			ids = append(ids, sub.ID)
		}
		for range 20 {
			time.Sleep(3 * time.Second)
			if _, err := s.Status(t.Context(), ids...); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Explain(t.Context(), ids...); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Find(t.Context(), "aifb-"); err != nil {
			t.Fatal(err)
		}
		if err := s.Cancel(t.Context(), ids...); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]int)
		for name, tally := range s.Tallies() {
			if got[name] = tally.Calls; tally.Skipped != 0 {
				t.Errorf("%s: skipped %d lines, such as %q", name, tally.Skipped, tally.First)
			}
		}
		if !maps.Equal(got, w.calls) || got["sacct"] == 0 {
			t.Errorf("counted %v, and there were %v", got, w.calls)
		}
	})
}

// Lines that mean nothing are counted, and the first of them is told.
func TestSkips(t *testing.T) {
	t.Parallel()
	good := record("7", "RUNNING", "0:0", "0", "100", "200", "n1", "None")
	for name, test := range map[string]struct {
		out   string
		lines int
		first string
	}{
		"nothing":       {"", 0, ""},
		"records":       {good + "\n \n" + good, 0, ""},
		"other's jobs":  {record("8_1", "RUNNING", "0", "0", "1", "2", "n1", "None") + record("200+1", "RUNNING", "0", "0", "1", "2", "n1", "None"), 0, ""},
		"a list":        {record("8_[1-3,7%5]", "PENDING", "0", "0", "1", "2", "", "None"), 0, ""},
		"cluster":       {"CLUSTER: alpha\n" + good, 0, ""},
		"message":       {"Welcome to\n\x1b[1mthe cluster\n" + good, 2, "Welcome to"},
		"no record":     {good + "slurm_load_jobs: \x07warning\n", 1, "slurm_load_jobs:  warning"},
		"short":         {record("7", "RUNNING") + good, 1, "7|RUNNING|"},
		"no number":     {record("x7", "RUNNING", "0", "0", "1", "2", "n1", "None"), 1, "x7"},
		"what is long":  {strings.Repeat("é", 1000) + "\n" + good, 1, strings.Repeat("é", maxSkipped) + "..."},
		"not a version": {"7+x\n", 1, "7+x"},
	} {
		var s skips
		if parseSqueue(test.out, &s); s.lines != test.lines || s.first != test.first {
			t.Errorf("%s: skipped %d lines, the first %q; want %d, %q", name, s.lines, s.first, test.lines, test.first)
		}
	}
	var s skips
	parseSacct("Welcome\n"+row("7", "RUNNING", "0:0", "1", "None", "n1", "50")+row("8_[1-3]", "PENDING", "0:0", "1", "None", "n1", "50")+
		row("200+1", "PENDING", "0:0", "1", "None", "n1", "50")+row("9.batch", "x", "", "", "", "", "")+"\n", &s)
	if s.lines != 2 || s.first != "Welcome" {
		t.Errorf("sacct: skipped %d lines, the first %q", s.lines, s.first)
	}
	f := newFake(t, map[string]string{"squeue": "echo What a day!; " + prints(good), "scontrol": "exit 1"})
	for range 2 {
		if known, err := f.Status(t.Context(), "7"); err != nil || known["7"].State != runtime.Running {
			t.Fatalf("got %+v, %v", known, err)
		}
	}
	if got := f.Tallies()["squeue"]; got != (runtime.Tally{Calls: 2, Skipped: 2, First: "What a day!"}) {
		t.Errorf("counted %+v", got)
	}
}

func TestNumberOf(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"7": "7", "7_0": "7_0", "200+0": "200", "200+1": "", "200+12": "", "8_[1-3]": "", "8_[1,3,...]": "", "8_[1-3%2]": "",
		"": "?", "x": "?", "7+": "?", "+0": "?", "7+x": "?", "7_": "?", "7_x": "?", "7_1+0": "?", "7.batch": "?", "8_[": "?", "8_[x]": "?",
	} {
		got, ok := numberOf(id)
		if !ok {
			got = "?"
		}
		if got != want {
			t.Errorf("%q is %q, want %q", id, got, want)
		}
	}
}
