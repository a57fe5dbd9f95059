package runtime_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/local"
	"github.com/aifb/aifb/runtime/sim"
)

// A stuck connection is to a machine whose file server hangs for a while.
type stuck struct {
	local.Conn
	until time.Time
}

func (s stuck) Run(ctx context.Context, cmd runtime.Cmd) error {
	if strings.Contains(strings.Join(cmd.Args, " "), "head -c") {
		if err := runtime.Pause(ctx, time.Until(s.until)); err != nil {
			return err
		}
	}
	return s.Conn.Run(ctx, cmd)
}

// A file server that hangs is told of, as a scheduler that does not answer is, and waited for.
func TestWatchFilesHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := session(t, &cluster{plays: map[string]play{"j": {run: time.Second, outcome: runtime.Completed}}})
		s.Target.Conn = stuck{until: time.Now().Add(30 * time.Minute)}
		var warnings []string
		s.Warn = func(text string) { warnings = append(warnings, text) }
		h := start(t, s, "j")
		if err := s.WaitDone(t.Context(), runtime.Wait{}, h); err != nil {
			t.Error(err)
		}
		if len(warnings) < 2 || !strings.Contains(warnings[0], "no file of the jobs could be read within 1m") {
			t.Errorf("warnings: %q", warnings)
		}
		finish(t, s, nil)
	})
}

// That the scheduler does not answer in the last moment of a run does not make it fail.
func TestConfirmAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		s, calls := open(t, c)
		if err := s.WaitDone(t.Context(), runtime.Wait{}, clients(t, s, 1, nil)...); err != nil {
			t.Fatal(err)
		}
		before := calls.queries.Load()
		c.Fault(sim.NoQueue, 3)
		end(t, s, c)
		if n := calls.queries.Load() - before; n != 4 {
			t.Errorf("it was asked %d times", n)
		}
	})
}

// A deaf scheduler does not hear of the end of jobs that fail: they run until they are cancelled.
type deaf struct {
	*sim.Cluster
	cancelled map[runtime.JobID]bool
}

func (d *deaf) Status(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	known, err := d.Cluster.Status(ctx, ids...)
	for id, st := range known {
		if st.State == runtime.Ended && st.Outcome == runtime.Failed && !d.cancelled[id] {
			known[id] = runtime.Status{State: runtime.Running, Node: st.Node, Start: st.Start, By: st.By}
		}
	}
	return known, err
}

func (d *deaf) Cancel(ctx context.Context, ids ...runtime.JobID) error {
	for _, id := range ids {
		d.cancelled[id] = true
	}
	return d.Cluster.Cancel(ctx, ids...)
}

// Slurm 22.05 was seen to lose the end of a job, which then ran until its time limit; and the nodes of a job that ended
// may be cleaned up for long. A job that says that it failed is believed after a while, and its nodes are given back.
func TestLostEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("*", sim.Behaviour{Run: time.Minute, Code: 5})
		s, _ := open(t, c)
		d := &deaf{Cluster: c, cancelled: make(map[runtime.JobID]bool)}
		s.Target.Scheduler = d
		h := clients(t, s, 1, nil)[0]
		begin := time.Now()
		err := s.WaitDone(t.Context(), runtime.Wait{}, h)
		if err == nil || !strings.Contains(err.Error(), "failed with exit code 5 on n1") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took < 3*time.Minute || took > 4*time.Minute {
			t.Errorf("it took %v", took)
		}
		if len(d.cancelled) != 1 {
			t.Errorf("cancelled: %v", d.cancelled)
		}
		end(t, s, c)
	})
}
