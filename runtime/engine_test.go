package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// These tests run sessions on a simulated cluster, in virtual time.

// counted is a scheduler that counts what it is asked.
type counted struct {
	*sim.Cluster
	submits, queries, cancels, whys atomic.Int32
}

func (c *counted) Submit(ctx context.Context, jobs ...runtime.Job) ([]runtime.Submission, error) {
	c.submits.Add(1)
	return c.Cluster.Submit(ctx, jobs...)
}

func (c *counted) Status(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	c.queries.Add(1)
	return c.Cluster.Status(ctx, ids...)
}

func (c *counted) Explain(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Queued, error) {
	c.whys.Add(1)
	return c.Cluster.Explain(ctx, ids...)
}

func (c *counted) Cancel(ctx context.Context, ids ...runtime.JobID) error {
	c.cancels.Add(1)
	return c.Cluster.Cancel(ctx, ids...)
}

// open opens a session on a simulated cluster.
func open(t *testing.T, c *sim.Cluster) (*runtime.Session, *counted) {
	t.Helper()
	calls := &counted{Cluster: c}
	s := &runtime.Session{Run: "20260102-030405-test", Target: c.Target(), Store: new(memory), Files: t.TempDir(),
		Warn: func(text string) { t.Log("warning:", text) }}
	s.Target.Scheduler = calls
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, calls
}

// end closes a session, after which no job may be left.
func end(t *testing.T, s *runtime.Session, c *sim.Cluster) {
	t.Helper()
	if _, err := s.Close(context.Background(), nil, false); err != nil {
		t.Errorf("Close: %v", err)
	}
	once(t, c)
}

// once checks that no token has two jobs, and that no job is left.
func once(t *testing.T, c *sim.Cluster) {
	t.Helper()
	found, err := c.Find(context.Background(), "aifb-")
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]runtime.JobID)
	for _, f := range found {
		if other, ok := ids[f.Token]; ok && other != f.ID {
			t.Errorf("%s has two jobs: %s and %s", f.Token, other, f.ID)
		}
		ids[f.Token] = f.ID
		if f.Status.State != runtime.Ended {
			t.Errorf("%s is left: %+v", f.Token, f.Status)
		}
	}
}

// clients starts n clients, one by one, that do as the cluster's script says.
func clients(t *testing.T, s *runtime.Session, n int, change func(*runtime.ClientSpec)) (hs []*runtime.Handle) {
	t.Helper()
	for i := range n {
		spec := runtime.ClientSpec{JobSpec: command(fmt.Sprint("bench ", i))}
		if change != nil {
			change(&spec)
		}
		h, err := s.Client(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, h)
	}
	return hs
}

// A loop of calls returns at once, and what it started leaves together, whatever a round trip costs.
func TestSubmitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{RTT: 50 * time.Millisecond})
		s, calls := open(t, c)
		clients(t, s, 1, nil) // finds out about the target
		begin := time.Now()
		hs := clients(t, s, 200, nil)
		if took := time.Since(begin); took != 0 {
			t.Errorf("starting them took %v", took)
		}
		if err := s.WaitDone(t.Context(), runtime.Wait{}, hs...); err != nil {
			t.Fatal(err)
		}
		if n := calls.submits.Load(); n > 3 {
			t.Errorf("%d submissions", n)
		}
		if n := calls.queries.Load(); n > 5 {
			t.Errorf("%d queries for jobs that said themselves how they ended", n)
		}
		end(t, s, c)
	})
}

// What ends is known within two seconds, also if it ends badly.
func TestNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, code := range []int{0, 3} {
			c := sim.New(sim.Config{})
			c.Behave("*", sim.Behaviour{Run: 10 * time.Minute, Code: code})
			s, _ := open(t, c)
			h := clients(t, s, 1, nil)[0]
			s.WaitDone(t.Context(), runtime.Wait{}, h)
			st := h.State().Status
			if late := time.Since(st.End); st.End.IsZero() || late > 2*time.Second || st.Code != code {
				t.Errorf("exit code %d: noticed %v after its end: %+v", code, late, st)
			}
			end(t, s, c)
		}
	})
}

// A limit on the jobs of a user holds the others back until some have ended.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{MaxJobs: 4})
		c.Behave("*", sim.Behaviour{Run: time.Minute})
		s, _ := open(t, c)
		hs := clients(t, s, 12, nil)
		time.Sleep(10 * time.Second)
		if got := hs[11].String(); !strings.Contains(got, "held back") {
			t.Errorf("the last one is: %s", got)
		}
		begin := time.Now()
		if err := s.WaitDone(t.Context(), runtime.Wait{}, hs...); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 4*time.Minute {
			t.Errorf("12 jobs of a minute, 4 at a time, took %v", took)
		}
		end(t, s, c)
	})
}

// Whatever becomes of the answer to a submission, there is one job of each token.
func TestLostAnswers(t *testing.T) {
	for _, fault := range []sim.Fault{sim.LostBefore, sim.LostAfter, sim.Late, sim.Disconnected} {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := sim.New(sim.Config{})
				s, _ := open(t, c)
				clients(t, s, 1, nil)
				time.Sleep(time.Second)
				c.Fault(fault, 3)
				hs := clients(t, s, 5, nil)
				if err := s.WaitDone(t.Context(), runtime.Wait{}, hs...); err != nil {
					t.Error(err)
				}
				end(t, s, c)
			})
		})
	}
}

// A run that ends while nobody knows whether a job was submitted finds it by its token.
func TestLostAnswerAtTheEnd(t *testing.T) {
	for _, fault := range []sim.Fault{sim.LostBefore, sim.LostAfter, sim.Late} {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := sim.New(sim.Config{})
				c.Behave("*", sim.Behaviour{Run: time.Hour})
				s, _ := open(t, c)
				c.Fault(fault, sim.Always)
				clients(t, s, 3, nil)
				time.Sleep(time.Second)
				end(t, s, c)
			})
		})
	}
}

// A job that the infrastructure failed is tried again elsewhere; what the last try measured counts.
func TestRetries(t *testing.T) {
	measured := func(v int) map[string]string {
		return map[string]string{"metrics/measurements.jsonl": fmt.Sprintf(`{"metric":"rps","value":%d}`+"\n", v)}
	}
	for _, test := range []struct {
		name    string
		retries int
		group   int
		want    string
	}{
		{"none", 0, 1, "client-1 (job 100) ended with its node on n1"},
		{"too few", 1, 1, "ended with its node on n2, the last of 2 tries"},
		{"enough", 2, 1, ""},
		{"group", 2, 3, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := sim.New(sim.Config{})
				bad := sim.Behaviour{Run: time.Minute, Outcome: runtime.NodeFailure, Silent: true, Files: measured(1)}
				good := sim.Behaviour{Run: time.Minute, Files: measured(2)}
				c.Behave("*", good)
				for _, name := range []string{"client-1", "client-1~1", "client-1.1"} {
					c.Behave(name, bad)
				}
				s, _ := open(t, c)
				hs := clients(t, s, 1, func(spec *runtime.ClientSpec) { spec.Retries, spec.Count = test.retries, test.group })
				err := s.WaitDone(t.Context(), runtime.Wait{}, hs...)
				if test.want == "" && err != nil || !strings.Contains(fmt.Sprint(err), test.want) && test.want != "" {
					t.Errorf("error %v, want %q", err, test.want)
				}
				if test.want == "" {
					got := hs[0].Measurements(runtime.Where{Metric: []string{"rps"}})
					if len(got) != test.group || slices.ContainsFunc(got, func(r runtime.Record) bool { return r.Value != 2 }) {
						t.Errorf("measured %+v", got)
					}
				}
				for _, j := range hs[0].States() {
					if n := len(j.Earlier); n > 0 && !strings.Contains(j.Job.Needs.Exclude, j.Earlier[n-1].Status.Node) {
						t.Errorf("%s: failed on %s, tried again with exclude=%q", j.Job.Name, j.Earlier[n-1].Status.Node, j.Job.Needs.Exclude)
					}
				}
				end(t, s, c)
			})
		})
	}
}

// How long a job may wait in the queue holds each time that it is there, from that time on.
func TestQueueTimeoutAgain(t *testing.T) {
	for _, test := range []struct {
		wait    time.Duration // the second time
		requeue bool
		late    bool
	}{
		{90 * time.Hour, false, true},
		{90 * time.Hour, true, true},
		{40 * time.Minute, false, false},
		{40 * time.Minute, true, false},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := sim.New(sim.Config{RequeueDelay: test.wait})
				c.Behave("client-1", sim.Behaviour{Run: 50 * time.Minute, Outcome: runtime.NodeFailure, Silent: true})
				c.Behave("client-1~1", sim.Behaviour{Wait: test.wait, Reason: "Priority"})
				s, _ := open(t, c)
				hs := clients(t, s, 1, func(spec *runtime.ClientSpec) { spec.Retries, spec.Requeue = 1, test.requeue })
				err := s.WaitDone(t.Context(), runtime.Wait{Queue: time.Hour}, hs...)
				if test.late != (err != nil) || test.late && !strings.Contains(err.Error(), "for longer than 1h0m0s") {
					t.Errorf("error %v", err)
				}
				end(t, s, c)
			})
		})
	}
}

// The scheduler may run a job again by itself, if it was asked to.
func TestRequeue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("*", sim.Behaviour{Run: time.Minute, Outcome: runtime.NodeFailure, Silent: true,
			Again: &sim.Behaviour{Run: time.Minute}})
		s, _ := open(t, c)
		hs := clients(t, s, 1, func(spec *runtime.ClientSpec) { spec.Requeue = true })
		if err := s.WaitDone(t.Context(), runtime.Wait{}, hs...); err != nil {
			t.Error(err)
		}
		if j := hs[0].State(); j.Started == nil || j.Started.Attempt != 1 {
			t.Errorf("it ended as %+v", j)
		}
		end(t, s, c)
	})
}

// The jobs of a service that dies end at once, and say why.
func TestOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("db", sim.Behaviour{Run: time.Minute, Code: 7, Stderr: "out of disk\n"})
		c.Behave("client-*", sim.Behaviour{Run: time.Hour})
		s, _ := open(t, c)
		spec := runtime.ServiceSpec{JobSpec: command("serve"), Port: runtime.AnyPort}
		spec.Name = "db"
		db, err := s.Service(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		hs := clients(t, s, 3, func(spec *runtime.ClientSpec) { spec.Services = []*runtime.Handle{db} })
		begin := time.Now()
		err = s.WaitDone(t.Context(), runtime.Wait{}, hs...)
		if took := time.Since(begin); took > 2*time.Minute {
			t.Errorf("it took %v", took)
		}
		for _, want := range []string{"client-1 cannot go on: ", "db (job 100) failed with exit code 7"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		for _, h := range hs {
			if j := h.State(); j.Status.Outcome != runtime.Cancelled || !strings.Contains(j.Why, "db (job 100)") {
				t.Errorf("%s: %+v", h.Name, j.Status)
			}
		}
		end(t, s, c)
	})
}

// However many jobs there are, the scheduler is asked rarely.
func TestBudget(t *testing.T) {
	for _, test := range []struct {
		name string
		jobs int
		code int
		wait time.Duration
	}{{"1000 jobs", 1000, 0, 0}, {"1000 jobs that fail", 1000, 1, 0}, {"1000 jobs that wait", 1000, 0, 30 * time.Minute}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := sim.New(sim.Config{Nodes: 20})
				for i := range test.jobs {
					run := time.Duration(float64(time.Hour)*(0.5+0.5*float64(i)/float64(test.jobs))) - test.wait
					c.Behave(fmt.Sprintf("client-%d", i+1), sim.Behaviour{Wait: test.wait, Reason: "Priority", Run: run, Code: test.code})
				}
				s, calls := open(t, c)
				hs := clients(t, s, test.jobs, nil)
				if err := s.WaitDone(t.Context(), runtime.Wait{NoCheck: true}, hs...); err != nil {
					t.Fatal(err)
				}
				n, whys := calls.queries.Load(), calls.whys.Load()
				if n+2*whys > 150 { // to explain, package slurm calls squeue twice
					t.Errorf("%d queries, and %d why jobs wait, for %d jobs of up to an hour", n, whys, test.jobs)
				}
				t.Logf("%d queries, and %d why jobs wait", n, whys)
				end(t, s, c)
			})
		})
	}
}

// manyJobs runs that many jobs, and returns the processor time and the memory that they take.
func manyJobs(t *testing.T, jobs int) (took time.Duration, memory uint64) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{Nodes: 200})
		c.Behave("*", sim.Behaviour{Run: 10 * time.Minute})
		s, _ := open(t, c)
		goruntime.GC()
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		begin := cpuTime(t)
		hs := clients(t, s, jobs, nil)
		if err := s.WaitDone(t.Context(), runtime.Wait{}, hs...); err != nil {
			t.Fatal(err)
		}
		took = cpuTime(t) - begin
		goruntime.GC()
		goruntime.ReadMemStats(&after)
		memory = after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
		end(t, s, c)
	})
	return took, memory
}

// The work for many jobs grows as their number does, and 10,000 jobs take less than 150 MiB. Scaled down, so as to be
// quick; TEST_JOBS=10000 is the whole of it.
func TestManyJobs(t *testing.T) {
	jobs := 600
	if n, err := strconv.Atoi(os.Getenv("TEST_JOBS")); err == nil {
		jobs = n
	}
	var small, large time.Duration
	var memory uint64
	ratio := 0.0
	for range 3 { // the machine may be busy with other things in one of the two, but hardly in the same one thrice
		small, _ = manyJobs(t, jobs/10)
		large, memory = manyJobs(t, jobs)
		if ratio = float64(large) / float64(small); ratio <= 30 {
			break
		}
	}
	if limit := uint64(jobs) * (150 << 20) / 10_000; memory > limit {
		t.Errorf("%d jobs take %d KiB, want at most %d", jobs, memory>>10, limit>>10)
	}
	if ratio > 30 {
		t.Errorf("ten times the jobs took %.0f times the processor time: %v, %v", ratio, small, large)
	}
	t.Logf("%d jobs: %v of processor time, %d MiB", jobs, large, memory>>20)
}

// errKilled is what all calls of a process that was killed end with.
var errKilled = errors.New("killed")

// A process is what a session does to the world, until it is killed: at its at-th step, before or after that has its
// effect.
type process struct {
	at    int32
	after bool
	steps atomic.Int32
	ctx   context.Context // ends when it is killed
	kill  context.CancelFunc
}

func newProcess(at int32, after bool) *process {
	p := &process{at: at, after: after}
	p.ctx, p.kill = context.WithCancel(context.Background())
	return p
}

func (p *process) step(do func() error) error {
	if p.ctx.Err() != nil {
		return errKilled
	}
	if p.steps.Add(1) != p.at {
		return do()
	}
	if p.after {
		do()
	}
	p.kill()
	return errKilled
}

type killableStore struct {
	*memory
	*process
}

func (k killableStore) Append(ctx context.Context, recs ...runtime.Record) error {
	return k.step(func() error { return k.memory.Append(ctx, recs...) })
}

type killableScheduler struct {
	*sim.Cluster
	*process
}

func (k killableScheduler) Submit(ctx context.Context, jobs ...runtime.Job) (subs []runtime.Submission, err error) {
	err = k.step(func() error { subs, err = k.Cluster.Submit(ctx, jobs...); return err })
	return subs, err
}

func (k killableScheduler) Status(ctx context.Context, ids ...runtime.JobID) (known map[runtime.JobID]runtime.Status, err error) {
	err = k.step(func() error { known, err = k.Cluster.Status(ctx, ids...); return err })
	return known, err
}

func (k killableScheduler) Cancel(ctx context.Context, ids ...runtime.JobID) error {
	return k.step(func() error { return k.Cluster.Cancel(ctx, ids...) })
}

func (k killableScheduler) Find(ctx context.Context, prefix string) (found []runtime.Found, err error) {
	err = k.step(func() error { found, err = k.Cluster.Find(ctx, prefix); return err })
	return found, err
}

type killableMachine struct {
	runtime.Machine
	*process
}

func (k killableMachine) Archive(ctx context.Context, dir string, names []string, w io.Writer) error {
	return k.step(func() error { return k.Machine.Archive(ctx, dir, names, w) })
}

func (k killableMachine) RemoveAll(ctx context.Context, dir string) error {
	return k.step(func() error { return k.Machine.RemoveAll(ctx, dir) })
}

func (k killableMachine) Watch(ctx context.Context, runDir string, w io.Writer) error {
	if k.ctx.Err() != nil {
		return errKilled
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(k.process.ctx, func() { cancel(errKilled) })()
	return k.Machine.Watch(ctx, runDir, w)
}

// A world is what outlives the processes of a run.
type world struct {
	cluster *sim.Cluster
	store   *memory
	files   string
}

// session returns a session in the world that lives as long as the process.
func (w *world) session(p *process) *runtime.Session {
	target := w.cluster.Target()
	target.Scheduler = killableScheduler{w.cluster, p}
	target.Conn = killableMachine{target.Conn.(runtime.Machine), p}
	return &runtime.Session{Run: "20260102-030405-test", Target: target, Files: w.files, Store: killableStore{w.store, p}}
}

// sweep is a recipe: files, commands and questions, a service, a loop over clients, jobs that run at the same time and have
// a secret, and measurements of its own. It returns the table of what was measured.
func sweep(ctx context.Context, s *runtime.Session) (string, error) {
	n := 0
	deed := func() runtime.Deed {
		n++
		return runtime.Deed{Key: fmt.Sprint(n), Pos: fmt.Sprint("sweep.star:", n)}
	}
	if name, err := s.Upload(ctx, deed(), "engine_test.go", "dir/"); err != nil || !strings.HasSuffix(name, "/.files/dir/engine_test.go") {
		return "", fmt.Errorf("upload to %s: %w", name, err)
	}
	if r, err := s.Command(ctx, runtime.Command{Line: "true", Deed: deed()}); err != nil || r.Code != 0 {
		return "", fmt.Errorf("command: %+v, %w", r, err)
	}
	if nodes, err := s.List(ctx, deed(), runtime.Listing{Table: runtime.TableNodes}); err != nil || len(nodes.Rows) == 0 {
		return "", fmt.Errorf("list: %v, %w", nodes, err)
	}
	svc := runtime.ServiceSpec{JobSpec: command("serve"), Port: runtime.AnyPort}
	svc.Name, svc.Deed, svc.Secrets = "db", deed(), map[string]string{"WHERE": "PATH"}
	db, err := s.Service(ctx, svc)
	if err != nil {
		return "", err
	}
	if err := s.WaitRunning(ctx, runtime.Wait{Deed: deed()}, db); err != nil {
		return "", err
	}
	var hs []*runtime.Handle
	for i := range 4 {
		spec := runtime.ClientSpec{JobSpec: command("bench"), Services: []*runtime.Handle{db}}
		spec.Labels, spec.Deed = map[string]string{"n": fmt.Sprint(i)}, deed()
		if i == 3 {
			spec.Count = 3
		}
		h, err := s.Client(ctx, spec)
		if err != nil {
			return "", err
		}
		hs = append(hs, h)
		if i == 0 { // it may have ended by the time that the run is resumed, and what the recipe did then stands
			went := "late"
			if err := s.WaitDone(ctx, runtime.Wait{Timeout: time.Second, Deed: deed()}, h); err == nil {
				went = "in time"
			} else if runtime.FaultOf(err) != runtime.FaultTimeout {
				return "", err
			}
			if err := s.Record(ctx, deed(), runtime.Measurement{Metric: went}); err != nil {
				return "", err
			}
		}
		if i < 2 {
			err = s.WaitDone(ctx, runtime.Wait{Deed: deed()}, h)
		}
		if err == nil {
			err = s.Record(ctx, deed(), runtime.Measurement{Metric: "step", Value: float64(i)})
		}
		if err != nil {
			return "", err
		}
	}
	if err := s.WaitDone(ctx, runtime.Wait{Deed: deed()}, hs...); err != nil {
		return "", err
	}
	if err := s.Stop(ctx, db); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range s.Measurements(runtime.Where{}) {
		if r.Metric == "in time" {
			r.Metric = "late"
		}
		fmt.Fprintln(&b, r.Source, r.Metric, r.Value, r.Labels)
	}
	return b.String(), nil
}

// life runs the recipe in a world until the process ends, one way or the other.
func life(t *testing.T, w *world, p *process, resume bool) (table string, killed bool) {
	t.Helper()
	defer p.kill() // what goes on behind the back of a session ends with its process
	s := w.session(p)
	var err error
	if resume {
		err = s.Reopen(t.Context(), w.store.Records(t.Context(), runtime.Query{}))
	} else {
		err = s.Open(t.Context())
	}
	if err == nil {
		table, err = sweep(t.Context(), s)
	}
	gone, cancel := context.WithCancel(context.Background())
	defer cancel()
	if p.ctx.Err() != nil {
		cancel() // a process that was killed does not clean up; this only ends the goroutines of its session
	}
	_, closed := s.Close(gone, err, false)
	if p.ctx.Err() != nil {
		return "", true
	}
	if err := errors.Join(err, closed); err != nil {
		t.Fatal(err)
	}
	return table, false
}

func newWorld(t *testing.T) *world {
	c := sim.New(sim.Config{RTT: 10 * time.Millisecond})
	for i := range 4 {
		c.Behave(fmt.Sprintf("client-%d*", i+1), sim.Behaviour{Run: time.Duration(4-i) * time.Second,
			Files: map[string]string{"metrics/measurements.jsonl": fmt.Sprintf(`{"metric":"rps","value":%d}`+"\n", 10*i)}})
	}
	return &world{c, new(memory), t.TempDir()}
}

// A process that is killed at any step, before or after the step has its effect, and resumed, gives the table of an
// undisturbed run; no job ran twice, and none is left.
func TestKilledAtEveryStep(t *testing.T) {
	var want string
	steps := int32(0)
	synctest.Test(t, func(t *testing.T) {
		w, p := newWorld(t), newProcess(0, false)
		want, _ = life(t, w, p, false)
		steps = p.steps.Load()
		once(t, w.cluster)
	})
	if strings.Count(want, "\n") < 10 {
		t.Fatalf("the undisturbed run has the table\n%s", want)
	}
	for at := int32(1); at <= steps; at++ {
		for _, after := range []bool{false, true} {
			if testing.Short() && at%5 != 0 {
				continue // a fifth of them
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				got, killed := life(t, w, newProcess(at, after), false)
				time.Sleep(time.Duration(at%7) * time.Second) // nobody is there for a while
				began := slices.ContainsFunc(w.store.recs, func(r runtime.Record) bool { return r.Kind == runtime.KindRunStarted })
				ended := slices.ContainsFunc(w.store.recs, func(r runtime.Record) bool { return r.Kind == runtime.KindRunEnded })
				if killed && (!began || ended) {
					once(t, w.cluster)
					return // there is nothing to go on with
				}
				if killed {
					got, _ = life(t, w, newProcess(0, false), true)
				}
				once(t, w.cluster)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("killed at step %d of %d, after it: %v: -undisturbed +resumed:\n%s", at, steps, after, diff)
				}
			})
		}
	}
	t.Logf("%d steps", steps)
}
