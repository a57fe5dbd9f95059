package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// tell applies a record to the state and tells the progress of it.
func tell(t *testing.T, p *progress, st *runtime.RunState, kind runtime.Kind, source string, data any) {
	t.Helper()
	text, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	rec := runtime.Record{Run: "r", Time: time.Now(), Kind: kind, Source: source, Data: text}
	if err := st.Apply(rec); err != nil {
		t.Fatal(err)
	}
	p.record(rec, st)
}

// Of many jobs that get somewhere at a time the first are told, and how many more there are; one that fails always is.
func TestProgressOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p, st := newProgress(&out, false), new(runtime.RunState)
		for i := range 100 {
			name := fmt.Sprintf("j%d", i)
			tell(t, p, st, runtime.KindJobIntended, name, runtime.Intent{Job: runtime.Job{Name: name}})
			tell(t, p, st, runtime.KindJobStarted, name, runtime.Start{Host: "n1"}) // its word may come first
		}
		time.Sleep(burstTime + 1)
		for i := range 100 {
			name := fmt.Sprintf("j%d", i)
			tell(t, p, st, runtime.KindJobSubmitted, name, runtime.Submitted{ID: runtime.JobID(fmt.Sprint(i))})
			tell(t, p, st, runtime.KindJobStatus, name, runtime.Status{State: runtime.Pending})
			if i == 50 {
				tell(t, p, st, runtime.KindJobStatus, name, runtime.Status{State: runtime.Ended, Outcome: runtime.Failed, Exited: true, Code: 3})
			}
		}
		p.stop()
		p.say("the end")
		got := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  `).ReplaceAllString(out.String(), "")
		for _, want := range []string{"j0: running on n1\n", "j7: running on n1\nrunning: 92 more jobs\nj0: submitted as job 0\n",
			"j7: submitted as job 7\nsubmitted: 43 more jobs\nj50: failed with exit code 3\nsubmitted: 49 more jobs\nthe end\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
		if n := strings.Count(got, "\n"); n != 21 {
			t.Errorf("%d lines:\n%s", n, got)
		}
	})
}

// Of many jobs that wait, it is the first of which the length of the queue is told.
func TestProgressOfQueue(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p, st := newProgress(&out, false), new(runtime.RunState)
	for i := range 3 {
		name := fmt.Sprintf("j%d", i)
		tell(t, p, st, runtime.KindJobIntended, name, runtime.Intent{Job: runtime.Job{Name: name}})
		tell(t, p, st, runtime.KindJobSubmitted, name, runtime.Submitted{ID: runtime.JobID(fmt.Sprint(i))})
		tell(t, p, st, runtime.KindJobStatus, name, runtime.Status{State: runtime.Pending, Reason: "Priority", Class: "resources", Text: "waits"})
	}
	out.Reset()
	for range 2 {
		for i := range 3 {
			tell(t, p, st, runtime.KindJobQueued, fmt.Sprintf("j%d", i), runtime.Queued{Class: "resources", Text: "waits", Ahead: 7 + i})
		}
	}
	tell(t, p, st, runtime.KindJobStatus, "j0", runtime.Status{State: runtime.Running})
	tell(t, p, st, runtime.KindJobQueued, "j1", runtime.Queued{Class: "resources", Text: "waits", Ahead: 3})
	want := "j0: pending: waits (resources); 7 jobs ahead (3 jobs wait)\nj1: pending: waits (resources); 3 jobs ahead (2 jobs wait)\n"
	if got := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  `).ReplaceAllString(out.String(), ""); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
