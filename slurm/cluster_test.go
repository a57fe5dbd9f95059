package slurm

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
)

// realCluster connects to the cluster of testdata/cluster and returns a directory there for the test.
func realCluster(t *testing.T) (*shellConn, string) {
	t.Helper()
	config := os.Getenv("AIFB_TEST_SSH_CONFIG")
	if config == "" {
		t.Skip("the real Slurm: AIFB_TEST_SSH_CONFIG is not set; testdata/cluster/run sets it")
	}
	conn := &shellConn{shell: []string{"ssh", "-F", config, "-o", "BatchMode=yes", "cluster"}}
	home, err := runtime.Output(t.Context(), conn, "sh", "-c", `echo "$HOME"`)
	if err != nil {
		t.Fatal(err)
	}
	return conn, path.Join(strings.TrimSpace(home), "it's 100% a test "+rand.Text())
}

func TestCluster(t *testing.T) {
	conn, dir := realCluster(t)
	runtimetest.TestScheduler(t, runtimetest.SchedulerTest{
		Dir:  dir,
		Conn: conn,
		Open: func(t *testing.T) runtime.Scheduler { return New(conn, "cluster") },

		// A test cluster in namespaces has no cgroups of its own; Slurm then finds the processes that descend from the
		// job's, and not those whose parent has ended.
		Stragglers: "a cluster without cgroups",
	})
}

func TestClusterRefuses(t *testing.T) {
	t.Parallel()
	conn, dir := realCluster(t)
	job := runtime.Job{Token: "aifb-test-refused", Name: "refused", Dir: dir, Args: []string{"true"}, Limit: time.Minute}
	job.Needs.Partition = "gpuu"
	for range 2 { // the second time, it is looked for in the queue
		subs, err := New(conn, "cluster").Submit(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		err = subs[0].Err
		if err == nil || err.Error() != "sbatch: invalid partition specified: gpuu" || runtime.FaultOf(err) != runtime.FaultRun {
			t.Errorf("got %v", err)
		}
		if want := "the partitions of cluster are cpu, gpu; did you mean gpu?"; runtime.HintOf(err) != want {
			t.Errorf("the hint is %q, want %q", runtime.HintOf(err), want)
		}
	}
}

// The answer is lost, as if sbatch had been killed after the job was made: the next Submit finds the job by its token.
func TestClusterLostAnswer(t *testing.T) {
	t.Parallel()
	conn, dir := realCluster(t)
	job := runtime.Job{Token: "aifb-test-" + rand.Text(), Name: "lost", Dir: dir, Args: []string{"true"}, Limit: time.Minute}
	job.Needs.Extra = []string{"--hold"}
	s := New(conn, "cluster")
	var ids []runtime.JobID
	for range 2 {
		subs, err := s.Submit(t.Context(), job)
		if err != nil || subs[0].Err != nil {
			t.Fatal(err, subs)
		}
		ids = append(ids, subs[0].ID)
		if _, err := runtime.Output(t.Context(), conn, "sed", "-i", "1q", path.Join(dir, fileAnswer+".0")); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { s.Cancel(context.Background(), ids...) })
	if ids[0] != ids[1] {
		t.Errorf("there are two jobs: %v", ids)
	}
	if known, err := s.Status(t.Context(), ids[0]); err != nil || known[ids[0]].Reason != "JobHeldUser" {
		t.Errorf("%+v, %v", known, err)
	}
}

// 200 jobs in one round trip, and one to see them all.
func BenchmarkClusterSubmit(b *testing.B) {
	config := os.Getenv("AIFB_TEST_SSH_CONFIG")
	if config == "" {
		b.Skip("the real Slurm: AIFB_TEST_SSH_CONFIG is not set; testdata/cluster/run sets it")
	}
	conn := &shellConn{shell: []string{"ssh", "-F", config, "cluster"}}
	s := New(conn, "cluster")
	for b.Loop() {
		run := rand.Text()
		var jobs []runtime.Job
		for i := range 200 {
			name := fmt.Sprintf("aifb-bench-%s-%d", run, i)
			jobs = append(jobs, runtime.Job{Token: name, Name: name, Dir: "/home/alice/bench/" + name,
				Args: []string{"true"}, Limit: time.Minute, Needs: runtime.Resources{Extra: []string{"--hold"}}})
		}
		subs, err := s.Submit(b.Context(), jobs...)
		if err != nil {
			b.Fatal(err)
		}
		var ids []runtime.JobID
		for _, sub := range subs {
			ids = append(ids, sub.ID)
		}
		if known, err := s.Status(b.Context(), ids...); err != nil || len(known) != len(ids) {
			b.Fatal(len(known), err)
		}
		if err := s.Cancel(b.Context(), ids...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(200*float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
