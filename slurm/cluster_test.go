package slurm

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
)

// realCluster connects to the cluster of testdata/cluster and returns a directory there for the test.
func realCluster(t testing.TB) (*shellConn, string) {
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

// heldJobs makes jobs that do not start, and whose tokens begin with aifb-RUN.
func heldJobs(dir, run string, n int) (jobs []runtime.Job) {
	for i := range n {
		name := fmt.Sprintf("j%d", i)
		jobs = append(jobs, runtime.Job{Token: "aifb-" + run + "-" + name, Name: name, Dir: dir + "/" + name,
			Args: []string{"true"}, Limit: time.Minute, Needs: runtime.Resources{Extra: []string{"--hold"}}})
	}
	return jobs
}

// heldGroup makes a group of jobs that do not start.
func heldGroup(dir, run string, n int) []runtime.Job {
	jobs := heldJobs(dir, run, n)
	for i := range jobs {
		name := fmt.Sprintf("g.%d", i)
		jobs[i].Token, jobs[i].Name, jobs[i].Dir = "aifb-"+run+"-"+name, name, dir+"/"+name
		jobs[i].Group, jobs[i].Index, jobs[i].Count = "g", i, n
	}
	return jobs
}

// submitAll submits jobs of which none may fail, and cancels them when the test ends.
func submitAll(t testing.TB, s *Scheduler, jobs ...runtime.Job) (ids []runtime.JobID) {
	t.Helper()
	subs, err := s.Submit(t.Context(), jobs...)
	for _, sub := range subs {
		if ids = append(ids, sub.ID); sub.Err != nil && err == nil {
			err = sub.Err
		}
	}
	t.Cleanup(func() {
		if err := s.Cancel(context.Background(), ids...); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// once checks that of each job there is one, with the id.
func once(t *testing.T, s *Scheduler, jobs []runtime.Job, ids []runtime.JobID) {
	t.Helper()
	found, err := s.Find(t.Context(), jobs[0].Token[:strings.LastIndexByte(jobs[0].Token, '-')])
	if err != nil {
		t.Fatal(err)
	}
	byToken := make(map[string]runtime.JobID)
	for _, f := range found {
		if byToken[f.Token] != "" {
			t.Errorf("there are two jobs %s: %s and %s", f.Token, byToken[f.Token], f.ID)
		}
		byToken[f.Token] = f.ID
	}
	for i, job := range jobs {
		if byToken[job.Token] != ids[i] {
			t.Errorf("%s is said to be %s, and is %q", job.Token, ids[i], byToken[job.Token])
		}
	}
	if len(found) != len(jobs) {
		t.Errorf("there are %d jobs, want %d", len(found), len(jobs))
	}
}

// The jobs of a group have their files where those of other jobs are, whatever array they are in.
func TestClusterGroup(t *testing.T) {
	t.Parallel()
	conn, dir := realCluster(t)
	jobs := heldGroup(dir, rand.Text(), 1003)
	for i := range jobs {
		jobs[i].Args, jobs[i].Needs.Extra = []string{"sh", "-c", "echo $CLIENT_NAME"}, nil
	}
	few := []runtime.Job{jobs[0], jobs[7], jobs[1002]}
	program := `mkdir -p "$1/.gate-g" && echo 1 go >"$1/.gate-g/go"` // they need not wait for the others
	if _, err := runtime.Output(t.Context(), conn, "sh", "-c", program, "sh", dir); err != nil {
		t.Fatal(err)
	}
	s := New(conn, "cluster")
	ids := submitAll(t, s, few...)
	once(t, s, few, ids)
	for i, job := range few {
		files := map[string]string{runtime.FileStdout: job.Name + "\n", FileOutput: ""}
		var start runtime.Start
		for limit := time.Now().Add(time.Minute); ; {
			out, err := runtime.Output(t.Context(), conn, "cat", job.Dir+"/"+runtime.FileExit, job.Dir+"/"+runtime.FileStart)
			if err == nil {
				_, text, _ := strings.Cut(out, "\n")
				if err := json.Unmarshal([]byte(text), &start); err != nil {
					t.Fatal(err)
				}
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("%s does not end: %v", job.Name, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		if number, _, _ := strings.Cut(string(ids[i]), ";"); start.ID != number {
			t.Errorf("%s is %s, and says that it is %s", job.Name, ids[i], start.ID)
		}
		script, err := Script(job)
		if err != nil {
			t.Fatal(err)
		}
		files[runtime.FileScript] = script
		for name, want := range files {
			if got, err := runtime.Output(t.Context(), conn, "cat", job.Dir+"/"+name); err != nil || got != want {
				t.Errorf("%s of %s, %v:\n%q\nwant\n%q", name, job.Name, err, got, want)
			}
		}
	}
	if again := submitAll(t, New(conn, "cluster"), few...); !slices.Equal(again, ids) {
		t.Errorf("again, the ids are %v", again)
	}
}

// 1000 jobs of a group are one sbatch, found by their tokens and cancelled by one scancel.
func TestClusterLargeGroup(t *testing.T) {
	t.Parallel()
	conn, dir := realCluster(t)
	jobs, s := heldGroup(dir, rand.Text(), 1000), New(conn, "cluster")
	ids := submitAll(t, s, jobs...)
	once(t, s, jobs, ids)
	if err := s.Cancel(t.Context(), ids...); err != nil {
		t.Fatal(err)
	}
	queue, err := runtime.Output(t.Context(), conn, "squeue", "--me", "-h", "-r", "-o", "%j")
	if err != nil || strings.Contains(queue, arrayName(strings.TrimSuffix(jobs[0].Token, ".0"), 0)+"\n") {
		t.Errorf("after Cancel: %s%v", queue, err)
	}
}

// The connection is lost in the middle of a submission, again and again.
func TestClusterCut(t *testing.T) {
	conn, dir := realCluster(t)
	run := rand.Text()
	jobs := append(heldJobs(dir, run, 60), heldGroup(dir, run, 5)...)
	cut := &shellConn{shell: conn.shell}
	cut.fault = func(run int32, _ *runtime.Cmd, p *exec.Cmd) error {
		if run > 3 {
			return nil
		}
		p.Args = append([]string{"timeout", "-s", "KILL", fmt.Sprintf("0.%d", 2+2*run), p.Path}, p.Args[1:]...)
		var err error
		p.Path, err = exec.LookPath("timeout")
		return err
	}
	ids := submitAll(t, New(cut, "cluster"), jobs...)
	once(t, New(conn, "cluster"), jobs, ids)
}

// slurmctld stands still while a job is submitted: sbatch gives up, and the job is made when it goes on.
func TestClusterTimedOut(t *testing.T) {
	conn, dir := realCluster(t)
	signal := func(name string) {
		out, err := exec.Command(os.Getenv("AIFB_TEST_CLUSTER"), "in", "login", "sh", "-c",
			"kill -"+name+" $(cat /run/slurmctld.pid)").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	signal("STOP")
	defer signal("CONT")
	jobs, s := heldJobs(dir, rand.Text(), 3), New(conn, "cluster")
	go func() {
		program := `until grep -q "begin out" "$1"; do sleep 0.1; done`
		runtime.Output(t.Context(), conn, "sh", "-c", program, "sh", jobs[0].Dir+"/answer.0")
		signal("CONT")
	}()
	subs, err := s.Submit(t.Context(), jobs...)
	if err != nil || subs[0].Err != nil || runtime.ClassOf(subs[1].Err) != runtime.Transient {
		t.Fatalf("got %+v, %v", subs, err)
	}
	ids := submitAll(t, s, jobs...)
	once(t, s, jobs, ids)
}

// 1000 jobs with a script each, beside the same sbatch calls in a loop of the login node's shell, in turns: what else
// the machine does slows both.
func BenchmarkClusterSubmit(b *testing.B) {
	conn, home := realCluster(b)
	s := New(conn, "cluster")
	var ours, loop time.Duration
	const jobs, turn = 1000, 100
	for b.Loop() {
		for range jobs / turn {
			dir := home + rand.Text()
			start := time.Now()
			ids := submitAll(b, s, heldJobs(dir, rand.Text(), turn)...)
			ours += time.Since(start)
			if known, err := s.Status(b.Context(), ids...); err != nil || len(known) != len(ids) {
				b.Fatal(len(known), err)
			}
			const program = `cd "$1" && for d in *; do sbatch --parsable "$d/script"; done`
			start = time.Now()
			out, err := runtime.Output(b.Context(), conn, "sh", "-c", program, "sh", dir)
			if err != nil {
				b.Fatal(err)
			}
			loop += time.Since(start)
			again := strings.Fields(out)
			if len(again) != turn {
				b.Fatalf("the loop submitted %d jobs", len(again))
			}
			for _, id := range again {
				ids = append(ids, runtime.JobID(id))
			}
			if err := s.Cancel(b.Context(), ids...); err != nil {
				b.Fatal(err)
			}
			if _, err := runtime.Output(b.Context(), conn, "rm", "-r", dir); err != nil {
				b.Fatal(err)
			}
		}
	}
	rate := func(d time.Duration) float64 { return jobs * float64(b.N) / d.Seconds() }
	b.ReportMetric(rate(ours), "jobs/s")
	b.ReportMetric(rate(loop), "loop-jobs/s")
	b.ReportMetric(rate(ours)/rate(loop), "ours/loop")
}
