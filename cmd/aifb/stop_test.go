package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A stubborn scheduler has one job, which ends when it was cancelled often enough.
type stubborn struct {
	runtime.Scheduler
	status  runtime.Status
	cancels int
}

func (s *stubborn) Cancel(context.Context, ...runtime.JobID) error {
	s.cancels--
	return nil
}

func (s *stubborn) Status(_ context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	known := make(map[runtime.JobID]runtime.Status)
	for _, id := range ids {
		if known[id] = s.status; s.cancels <= 0 {
			known[id] = runtime.Status{State: runtime.Ended, Outcome: runtime.Cancelled}
		}
	}
	return known, nil
}

// Jobs that do not end are cancelled again, and named in the end. What is gone need not have an outcome.
func TestEndJobs(t *testing.T) {
	t.Parallel()
	ending := runtime.Status{State: runtime.Running, Reason: "COMPLETING"}
	for _, test := range []struct {
		name    string
		status  runtime.Status
		cancels int
		wrong   string
	}{
		{"at once", ending, 1, ""},
		{"the second time", ending, 2, ""},
		{"gone", runtime.Status{By: "sacct", Reason: "accounting still has it as running", Gone: true}, 100, ""},
		{"never", ending, 100, "aifb-x-hog (job 7) is running (COMPLETING)"},
		{"no such state", runtime.Status{Reason: "BEWITCHED"}, 100, "aifb-x-hog (job 7) is in a state that is not known (BEWITCHED)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stubborn{status: test.status, cancels: test.cancels}
				target := runtime.Target{Name: "cluster", Scheduler: s, PollMin: time.Second, PollMax: 30 * time.Second}
				begin := time.Now()
				err := endJobs(t.Context(), target, []runtime.Found{{Token: "aifb-x-hog", ID: "7"}})
				if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("error %v, want %q", err, test.wrong)
				}
				if took := time.Since(begin); took > endTime {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
