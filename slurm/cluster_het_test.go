package slurm

import (
	"context"
	"crypto/rand"
	"os"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A job that a cluster makes of several parts is one job, whatever of Slurm's commands tells of it.
func TestClusterHeterogeneous(t *testing.T) {
	t.Parallel()
	conn, _ := realCluster(t)
	token := "aifb-test-" + rand.Text()
	program := "cd /tmp && sbatch --parsable -J " + token + " -o /dev/null -t 5 -n 1 --wrap 'sleep 300' : -n 1"
	out, err := runtime.Output(t.Context(), conn, "sh", "-c", program)
	if err != nil {
		t.Fatal(err)
	}
	id := parseID(out)
	s := New(conn, "cluster")
	t.Cleanup(func() { s.Cancel(context.Background(), id) })
	is := func(what string, st runtime.Status, state runtime.State) {
		t.Helper()
		if st.State != state {
			t.Errorf("%s says %+v, want %s", what, st, state)
		}
	}
	status := func(state runtime.State) {
		t.Helper()
		var st runtime.Status
		for range 300 {
			known, err := s.Status(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if st = known[id]; st.State == state {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		is("squeue", st, state)
	}
	sources := func(state runtime.State) {
		t.Helper()
		p := plan{scontrol: []runtime.JobID{id}, limit: queryLimit}
		if os.Getenv("AIFB_TEST_DBD") != "no" {
			p.sacct = chunks([]runtime.JobID{id})
		}
		var f found
		for range 50 { // the database is behind
			if f = s.follow(t.Context(), p); f.sacct[id].State == state || p.sacct == nil {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		is("scontrol", f.scontrol[id], state)
		if p.sacct != nil {
			is("sacct", f.sacct[id], state)
		}
	}
	status(runtime.Running)
	sources(runtime.Running)
	for _, old := range []bool{false, true} {
		s.oldSqueue.Store(old)
		status(runtime.Running)
		found, err := s.Find(t.Context(), token)
		if err != nil || len(found) != 1 || found[0].ID != id || found[0].Status.State != runtime.Running {
			t.Errorf("found %+v, %v", found, err)
		}
	}
	if err := s.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	status(runtime.Ended)
	sources(runtime.Ended)
	for name, tally := range s.Tallies() {
		if tally.Skipped > 0 {
			t.Errorf("%s: skipped %d lines, such as %q", name, tally.Skipped, tally.First)
		}
	}
}
