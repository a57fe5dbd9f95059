package slurm

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A realJob is a job on the cluster of testdata/cluster, submitted without package slurm.
type realJob struct {
	*testing.T
	*Scheduler
	id runtime.JobID
}

// submitReal submits a command with options of sbatch.
func submitReal(t *testing.T, conn *shellConn, command string, options ...string) *realJob {
	t.Helper()
	args := append([]string{"sbatch", "--parsable", "--ntasks=1", "--time=10", "--chdir=/tmp", "--output=/dev/null", "--wrap=" + command},
		options...)
	id, err := runtime.Output(t.Context(), conn, args...)
	if err != nil {
		t.Fatal(err)
	}
	j := &realJob{t, New(conn, "cluster"), runtime.JobID(strings.TrimSpace(id))}
	t.Cleanup(func() { j.Cancel(context.Background(), j.id) })
	return j
}

// run runs a command on the login node.
func (j *realJob) run(args ...string) {
	j.Helper()
	if _, err := runtime.Output(j.Context(), j.conn, args...); err != nil {
		j.Fatal(err)
	}
}

// await waits until the job's status is one that says so, and returns it.
func (j *realJob) await(limit time.Duration, what string, is func(st runtime.Status, ok bool) bool) runtime.Status {
	j.Helper()
	for end := time.Now().Add(limit); ; {
		known, err := j.Status(j.Context(), j.id)
		if err != nil {
			j.Fatal(err)
		}
		st, ok := known[j.id]
		if is(st, ok) {
			return st
		}
		if time.Now().After(end) {
			show, _ := runtime.Output(j.Context(), j.conn, "scontrol", "-d", "show", "job", string(j.id))
			j.Fatalf("job %s: waited %v for %s; it is %+v, %v\n%s", j.id, limit, what, st, ok, show)
		}
		<-time.After(300 * time.Millisecond) // a real cluster has no other clock than the real one
	}
}

func inState(state runtime.State) func(runtime.Status, bool) bool {
	return func(st runtime.Status, _ bool) bool { return st.State == state }
}

// sources checks what scontrol and, sooner or later, sacct say of the job.
func (j *realJob) sources(number string, want runtime.Status) {
	j.Helper()
	p := plan{scontrol: []runtime.JobID{j.id}, sacct: chunks([]runtime.JobID{j.id}), limit: queryLimit}
	for end := time.Now().Add(time.Minute); ; <-time.After(time.Second) {
		f := j.follow(j.Context(), p)
		if f.down != "" || f.accountless != (os.Getenv("AIFB_TEST_DBD") == "no") {
			j.Fatalf("accounting: %+v", f)
		}
		accounted := f.sacct[j.id]
		if accounted.State != runtime.Ended && !f.accountless && time.Now().Before(end) {
			continue
		}
		for source, st := range map[string]runtime.Status{"scontrol": f.scontrol[j.id], "sacct": accounted} {
			if source == "sacct" && f.accountless {
				continue
			}
			if st.By != source || st.State != want.State || st.Outcome != want.Outcome || st.Exited != want.Exited ||
				st.Code != want.Code || st.Node != want.Node || st.Attempt != want.Attempt || !st.End.Equal(want.End) {
				j.Errorf("job %s: squeue says %+v, %s %+v", number, want, source, st)
			}
		}
		return
	}
}

func TestClusterRequeued(t *testing.T) {
	t.Parallel()
	conn, _ := realCluster(t)
	j := submitReal(t, conn, `[ -n "$SLURM_RESTART_COUNT" ] || sleep 600; exit 5`, "--requeue")
	if st := j.await(time.Minute, "its start", inState(runtime.Running)); st.Attempt != 0 || st.By != "squeue" {
		t.Errorf("at first: %+v", st)
	}
	j.run("scontrol", "requeue", string(j.id))
	j.await(time.Minute, "it to be requeued", func(st runtime.Status, _ bool) bool {
		if st.State == runtime.Ended {
			t.Errorf("while it is requeued: %+v", st)
		}
		return st.State == runtime.Pending && st.Attempt == 1 && st.Reason == "BeginTime"
	})
	j.run("scontrol", "update", "jobid="+string(j.id), "starttime=now")
	st := j.await(time.Minute, "its end", inState(runtime.Ended))
	if st.Outcome != runtime.Failed || !st.Exited || st.Code != 5 || st.Attempt != 1 || st.Node == "" {
		t.Errorf("in the end: %+v", st)
	}
	j.sources(string(j.id), st)
}

func TestClusterHeld(t *testing.T) {
	t.Parallel()
	conn, _ := realCluster(t)
	j := submitReal(t, conn, "true", "--hold")
	after := submitReal(t, conn, "true", "--dependency=afterok:"+string(j.id))
	later := submitReal(t, conn, "true", "--begin=now+1hour")
	st := j.await(time.Minute, "its reason", func(st runtime.Status, _ bool) bool { return st.Reason == "JobHeldUser" })
	if st.State != runtime.Pending || !st.Start.IsZero() || st.Node != "" {
		t.Errorf("a held job: %+v", st)
	}
	var known map[runtime.JobID]runtime.Queued
	j.await(time.Minute, "the reasons", func(runtime.Status, bool) bool {
		var err error
		if known, err = j.Explain(t.Context(), j.id, after.id, later.id, "999999999"); err != nil {
			t.Fatal(err)
		}
		return len(known) == 3 && known[after.id].Class == "dependency" && strings.Contains(known[later.id].Text, "begin")
	})
	if q := known[j.id]; q.Class != "held" || q.Ahead != -1 || !q.Start.IsZero() {
		t.Errorf("a held job: %+v", q)
	}
	if q := known[later.id]; q.Class != "other" || time.Until(q.Start) < 40*time.Minute || q.Ahead < 0 {
		t.Errorf("a job that begins in an hour: %+v", q)
	}
	if q := known[after.id]; q.Ahead < 0 {
		t.Errorf("a job that depends on another: %+v", q)
	}
	j.run("scontrol", "release", string(j.id))
	j.await(time.Minute, "its end", inState(runtime.Ended))
}

func TestClusterArray(t *testing.T) {
	t.Parallel()
	conn, _ := realCluster(t)
	array := submitReal(t, conn, `[ $SLURM_ARRAY_TASK_ID = 3 ] || exit 7; sleep 600`, "--array=1-5%3")
	j := *array
	j.id += "_1"
	st := j.await(time.Minute, "its end", inState(runtime.Ended))
	if st.Outcome != runtime.Failed || st.Code != 7 {
		t.Errorf("got %+v", st)
	}
	j.sources("of a task", st)
	running := *array
	running.id += "_3"
	running.await(time.Minute, "its start", inState(runtime.Running))
	if known, err := j.Status(t.Context(), array.id); err != nil || known[array.id].State == runtime.Ended {
		t.Errorf("the array itself, of which a task runs: %+v, %v", known, err)
	}
}

func TestClusterCheck(t *testing.T) {
	t.Parallel()
	conn, _ := realCluster(t)
	findings := shown(New(conn, "cluster").Check(t.Context()))
	want := []string{"ok slurm: slurm-wlm ", ", cluster aifb\n", "ok MaxArraySize: up to ", "ok partition cpu: up, the default; "}
	if os.Getenv("AIFB_TEST_DBD") == "no" {
		want = append(want, "ok accounting: there is none", "ok accounts: not known")
	} else {
		want = append(want, "ok accounting: sacct answers", "ok accounts: p200981 with QOS normal")
	}
	if os.Getenv("AIFB_TEST_SUITE") == "sid" {
		want = append(want, "ok apptainer: apptainer version ")
	} else {
		want = append(want, "no apptainer: ")
	}
	for _, text := range want {
		if !strings.Contains(findings, text) {
			t.Errorf("no %q in\n%s", text, findings)
		}
	}
	t.Logf("\n%s", findings)
}

// TestFault breaks the cluster under jobs. It needs a cluster of its own: what else runs there would break, too.
//
//	testdata/cluster/run env AIFB_TEST_FAULTS=all go test -run TestFault -v ./slurm
//
// AIFB_TEST_FAULTS may name some of the tests instead.
func TestFault(t *testing.T) {
	which := os.Getenv("AIFB_TEST_FAULTS")
	if which == "" {
		t.Skip("what breaks under a job: AIFB_TEST_FAULTS is not set; it needs a cluster of its own, see above")
	}
	conn, _ := realCluster(t)
	host := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), os.Getenv("AIFB_TEST_CLUSTER"), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	configure := func(setting string) {
		name, _, _ := strings.Cut(setting, "=")
		host("in", "login", "sh", "-c", "sed -i '/^"+name+"=/d' /etc/slurm/slurm.conf; echo "+setting+
			" >>/etc/slurm/slurm.conf; scontrol reconfigure")
	}
	fault := func(name string, test func(t *testing.T)) {
		if which == "all" || strings.Contains(","+which+",", ","+name+",") {
			t.Run(name, test)
		}
	}
	fault("node", func(t *testing.T) { faultNode(t, conn, host) })
	fault("forgotten", func(t *testing.T) {
		configure("MinJobAge=2")
		defer configure("MinJobAge=300")
		faultForgotten(t, conn)
	})
}

// A node loses its power under jobs: one ends with it, and one runs again.
// (It runs for a moment: of a job that ends as the node comes back, slurmctld 22.05 sometimes loses the end.)
func faultNode(t *testing.T, conn *shellConn, host func(args ...string)) {
	alone := submitReal(t, conn, "sleep 600", "--nodelist=n2", "--no-requeue")
	again := submitReal(t, conn, `[ -n "$SLURM_RESTART_COUNT" ] || sleep 600; sleep 2; exit 5`, "--nodelist=n2", "--requeue")
	alone.await(time.Minute, "its start", inState(runtime.Running))
	again.await(time.Minute, "its start", inState(runtime.Running))
	host("kill", "n2")
	defer func() {
		if t.Failed() {
			host("boot", "n2")
		}
	}()
	st := alone.await(3*time.Minute, "its end", func(st runtime.Status, ok bool) bool {
		if !ok || st.State == runtime.Pending {
			t.Errorf("while the node is off: %+v, %v", st, ok)
		}
		return st.State == runtime.Ended
	})
	if st.Outcome != runtime.NodeFailure || st.Node != "n2" || st.Exited || st.Signal != 0 {
		t.Errorf("the job that ends with its node: %+v", st)
	}
	alone.sources("with its node", st)
	again.await(3*time.Minute, "it to be requeued", func(st runtime.Status, ok bool) bool {
		if !ok || st.State == runtime.Ended {
			t.Errorf("while it is requeued: %+v, %v", st, ok)
		}
		return st.State == runtime.Pending && st.Attempt == 1
	})
	host("boot", "n2")
	again.run("scontrol", "update", "jobid="+string(again.id), "starttime=now")
	st = again.await(3*time.Minute, "its end", inState(runtime.Ended))
	if st.Outcome != runtime.Failed || st.Code != 5 || st.Attempt != 1 || st.Node != "n2" {
		t.Errorf("the job that runs again: %+v", st)
	}
	again.sources("again", st)
}

// Slurm forgets jobs as soon as they have ended.
func faultForgotten(t *testing.T, conn *shellConn) {
	failed := submitReal(t, conn, "exit 3")
	killed := submitReal(t, conn, "sleep 600")
	running := submitReal(t, conn, "sleep 600")
	killed.await(time.Minute, "its start", inState(runtime.Running))
	running.await(time.Minute, "its start", inState(runtime.Running))
	killed.run("scancel", string(killed.id))
	for _, j := range []*realJob{failed, killed} {
		// From the moment that squeue does not know it.
		j.await(4*time.Minute, "it to be forgotten", func(runtime.Status, bool) bool {
			known, err := j.squeue(t.Context(), byCluster([]runtime.JobID{j.id}))
			return err == nil && len(known) == 0
		})
		for range 2 {
			known, err := New(conn, "cluster").Status(t.Context(), j.id, running.id)
			if err != nil {
				t.Fatal(err)
			}
			if st := known[running.id]; st.State != runtime.Running {
				t.Errorf("a job that runs: %+v", st)
			}
			st, ok := known[j.id]
			switch {
			case os.Getenv("AIFB_TEST_DBD") == "no":
				if ok {
					t.Errorf("nobody knows job %s, but %+v", j.id, st)
				}
			case j == failed && (st.Outcome != runtime.Failed || st.Code != 3), j == killed && st.Outcome != runtime.Cancelled,
				st.By != "sacct", st.State != runtime.Ended:
				t.Errorf("job %s: %+v", j.id, st)
			}
		}
	}
}
