package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A cancellation that has no effect, or fails, is repeated.
func TestStopAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		deaf int
		down int // cancellations
	}{{"deaf", 2, 0}, {"slurmctld is down", 0, 3}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &cluster{plays: map[string]play{"j": {deaf: test.deaf}, "other": {}}}
				c.stuck = func() error {
					if test.down--; test.down >= 0 {
						return errors.New("slurmctld does not answer")
					}
					return nil
				}
				s, _ := session(t, c)
				j, other := start(t, s, "j"), start(t, s, "other")
				if err := s.WaitRunning(t.Context(), runtime.Wait{}, j, other); err != nil {
					t.Fatal(err)
				}
				if stopped := finish(t, s, nil); !slices.Equal(stopped, []string{"j", "other"}) || len(c.cancels) != 2 {
					t.Errorf("stopped %v, cancelled %v", stopped, c.cancels)
				}
			})
		})
	}
}

// What does not end is named, with what is known of it.
func TestStopInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: map[string]play{"hog": {deaf: 1000}, "big": {queue: time.Hour, reason: "Resources", deaf: 1000}, "good": {}}}
		s, _ := session(t, c)
		hog := start(t, s, "hog")
		start(t, s, "big")
		start(t, s, "good")
		if err := s.WaitRunning(t.Context(), runtime.Wait{}, hog); err != nil {
			t.Fatal(err)
		}
		_, err := s.Close(context.Background(), nil, false)
		for _, want := range []string{"did not end within 2m0s", "hog (job 10", "is running on 127.0.0.1", "big (job 10", "is pending (Resources)"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		}
		if strings.Contains(fmt.Sprint(err), "good") {
			t.Errorf("error %q names a job that has ended", err)
		}
	})
}

// A job that was cancelled, and that is gone, need not have an outcome for the run to end: accounting may be down for long.
func TestStopWhileAccountingIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: map[string]play{"j": {run: time.Minute, silent: true, unsure: 10 * time.Hour}, "well": {run: time.Minute, unsure: 10 * time.Hour}}}
		s, store := session(t, c)
		start(t, s, "j")
		start(t, s, "well")
		time.Sleep(time.Hour)
		finish(t, s, nil)
		st := fold(t, store)
		if got := st.Job("j").Status.Outcome; got != runtime.Cancelled {
			t.Errorf("the outcome of a job that nobody knows of is %q", got)
		}
		if got := st.Job("well").Status.Outcome; got != runtime.Completed {
			t.Errorf("the outcome of a job that said itself how it ended is %q", got)
		}
	})
}

// A client whose service has ended is cancelled again if that failed at first.
func TestStopOrphanAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: map[string]play{"db": {run: time.Minute, outcome: runtime.Failed, code: 1}, "client-1": {}}}
		tries := 0
		c.stuck = func() error {
			if tries++; tries <= 2 {
				return errors.New("slurmctld does not answer")
			}
			return nil
		}
		s, _ := session(t, c)
		var warnings []string
		s.Warn = func(text string) { warnings = append(warnings, text) }
		spec := runtime.ServiceSpec{JobSpec: command("serve")}
		spec.Name = "db"
		db, _ := s.Service(t.Context(), spec)
		if _, err := s.Client(t.Context(), runtime.ClientSpec{JobSpec: command("bench"), Services: []*runtime.Handle{db}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !slices.Equal(c.cancels, []runtime.JobID{"101"}) || tries != 3 {
			t.Errorf("cancelled %v, after %d tries", c.cancels, tries)
		}
		if len(warnings) != 1 {
			t.Errorf("warnings: %q", warnings)
		}
		finish(t, s, nil)
	})
}

// A job that is stopped while a submission of it is under way, which it had been held back from before, does not run
// once that succeeds.
func TestStopDuringSubmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &runtime.CommandError{Command: "sbatch", Text: "the queue is full", Class: runtime.Quota}
		c := &finding{cluster: &cluster{plays: map[string]play{"j": {refuse: full}}, slow: time.Minute}}
		s, _ := session(t, c.cluster)
		s.Target.Scheduler = c
		h := start(t, s, "j")
		time.Sleep(time.Minute + 10*time.Second) // it is being submitted again
		c.mu.Lock()
		c.plays["j"] = play{}
		c.mu.Unlock()
		if err := s.Stop(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(c.jobs) != 1 || len(c.cancels) != 1 || h.State().Status.Outcome != runtime.Cancelled {
			t.Errorf("of %d jobs %v were cancelled; it is %v", len(c.jobs), c.cancels, h)
		}
		finish(t, s, nil)
	})
}

// A finding cluster finds its jobs by their tokens, if it answers.
type finding struct {
	*cluster
	lost error
}

func (f *finding) Find(ctx context.Context, prefix string) (found []runtime.Found, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, j := range f.jobs {
		if strings.HasPrefix(j.job.Token, prefix) {
			found = append(found, runtime.Found{Token: j.job.Token, ID: id, Status: j.status()})
		}
	}
	return found, f.lost
}

// That nobody knows of one job whether it exists is no reason to leave the others.
func TestStopDoubtful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &finding{cluster: &cluster{plays: map[string]play{"doubt": {refuse: errors.New("the connection was lost")}}},
			lost: errors.New("squeue does not answer")}
		s, _ := session(t, c.cluster)
		s.Target.Scheduler = c
		if err := s.WaitRunning(t.Context(), runtime.Wait{}, start(t, s, "j")); err != nil {
			t.Fatal(err)
		}
		start(t, s, "doubt")
		time.Sleep(time.Second)
		_, err := s.Close(context.Background(), nil, false)
		if !errors.Is(err, c.lost) || len(c.cancels) != 1 {
			t.Errorf("cancelled %v; error %v", c.cancels, err)
		}
	})
}

// Nor is it that the store is full, if there is a job that was not known to exist.
func TestStopFoundStoreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &finding{cluster: &cluster{slow: time.Hour}}
		s, store := session(t, c.cluster)
		s.Target.Scheduler = &deafSubmit{c}
		start(t, s, "j")
		time.Sleep(time.Second)
		synctest.Wait()
		store.fails = func() error { return runtime.Faultf(runtime.FaultInfra, "", "the disk is full") }
		s.Close(context.Background(), nil, false)
		if len(c.jobs) != 1 || len(c.cancels) != 1 {
			t.Errorf("of %d jobs %v were cancelled", len(c.jobs), c.cancels)
		}
	})
}

// A deafSubmit submits jobs, and its answers are lost.
type deafSubmit struct{ *finding }

func (d *deafSubmit) Submit(ctx context.Context, jobs ...runtime.Job) ([]runtime.Submission, error) {
	d.slow = 0
	d.cluster.Submit(ctx, jobs...)
	return nil, errors.New("the connection was lost")
}
