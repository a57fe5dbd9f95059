package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/local"
)

// memory is a store that forgets.
type memory struct {
	mu    sync.Mutex
	recs  []runtime.Record
	fails func() error // what an append fails with now
}

func (m *memory) Append(_ context.Context, recs ...runtime.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		if err := m.fails(); err != nil {
			return err
		}
	}
	m.recs = append(m.recs, recs...)
	return nil
}

func (m *memory) Records(context.Context, runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(yield func(runtime.Record, error) bool) {
		for _, r := range m.recs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m *memory) Close() error { return nil }

// A play is what a job does on the fake cluster.
type play struct {
	queue   time.Duration // before it runs
	reason  string        // why it waits
	run     time.Duration // how long; 0: until it is cancelled
	outcome runtime.Outcome
	code    int
	stdout  string
	stderr  string
	silent  bool          // it leaves no exit.json, as after a power cut
	gone    bool          // the scheduler forgets it when it ends
	unsure  time.Duration // after its end, before the scheduler can tell
	deaf    int           // how often it is cancelled in vain
	refuse  error
}

// A cluster is a scheduler whose jobs only pretend to run, in the time of the test's bubble. Their files are real.
type cluster struct {
	plays   map[string]play // by the name of the job
	mu      sync.Mutex
	jobs    map[runtime.JobID]*fakeJob
	polls   int
	down    func() error  // what a query fails with now
	slow    time.Duration // a submission takes
	stuck   func() error  // what a cancellation fails with now
	cancels []runtime.JobID
}

type fakeJob struct {
	play
	job       runtime.Job
	submitted time.Time
	cancelled time.Time
	wrote     runtime.State // the files are those of this state
}

func (c *cluster) Submit(_ context.Context, jobs ...runtime.Job) (subs []runtime.Submission, err error) {
	time.Sleep(c.slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range jobs {
		p := c.plays[j.Name]
		if p.refuse != nil {
			subs = append(subs, runtime.Submission{Token: j.Token, Err: p.refuse})
			continue
		}
		if c.jobs == nil {
			c.jobs = make(map[runtime.JobID]*fakeJob)
		}
		id := runtime.JobID(fmt.Sprint(100 + len(c.jobs)))
		c.jobs[id] = &fakeJob{play: p, job: j, submitted: time.Now()}
		subs = append(subs, runtime.Submission{Token: j.Token, ID: id})
		os.MkdirAll(filepath.Join(j.Dir, runtime.DirMetrics), 0o755)
	}
	return subs, nil
}

func (c *cluster) Status(_ context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.polls++
	if c.down != nil {
		if err := c.down(); err != nil {
			return nil, err
		}
	}
	known := make(map[runtime.JobID]runtime.Status)
	for _, id := range ids {
		j := c.jobs[id]
		st := j.status()
		j.write(st)
		if end := j.submitted.Add(j.queue + j.run); st.State == runtime.Ended && time.Since(end) < j.unsure && j.unsure > 0 {
			known[id] = runtime.Status{State: runtime.Unknown, Reason: "accounting is down", Gone: true}
		} else if !j.gone || st.State != runtime.Ended {
			known[id] = st
		}
	}
	return known, nil
}

func (c *cluster) Cancel(_ context.Context, ids ...runtime.JobID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck != nil {
		if err := c.stuck(); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if j := c.jobs[id]; j.deaf > 0 {
			j.deaf--
		} else if j.cancelled.IsZero() {
			j.cancelled = time.Now()
			c.cancels = append(c.cancels, id)
		}
	}
	return nil
}

func (j *fakeJob) status() runtime.Status {
	started := j.submitted.Add(j.queue)
	switch now := time.Now(); {
	case !j.cancelled.IsZero():
		return runtime.Status{State: runtime.Ended, Outcome: runtime.Cancelled}
	case now.Before(started):
		return runtime.Status{State: runtime.Pending, Reason: j.reason}
	case j.run == 0 || now.Before(started.Add(j.run)):
		return runtime.Status{State: runtime.Running, Node: "n1"}
	}
	return runtime.Status{State: runtime.Ended, Outcome: j.outcome, Node: "n1"}
}

// write leaves the files that the job has at this point.
func (j *fakeJob) write(st runtime.Status) {
	put := func(name, text string) { os.WriteFile(filepath.Join(j.job.Dir, name), []byte(text), 0o644) }
	if st.State == runtime.Pending || st.State == j.wrote {
		return
	}
	j.wrote = st.State
	put("start.json", `{"host":"127.0.0.1","port":0,"id":"1","attempt":0,"time":1e9}`)
	put("stdout", j.stdout)
	put("stderr", j.stderr)
	if st.State == runtime.Ended && st.Outcome != runtime.Cancelled && !j.silent {
		put("exit.json", fmt.Sprintf(`{"code":%d,"signal":0,"time":1e9}`, j.code))
	}
}

// session opens a session on a cluster whose jobs do as the plays say.
func session(t *testing.T, c *cluster) (*runtime.Session, *memory) {
	t.Helper()
	store := new(memory)
	s := &runtime.Session{
		Run: "20260102-030405-test", Store: store, Files: t.TempDir(),
		Target: runtime.Target{Name: "fake", Conn: local.Conn{}, Scheduler: c, Dir: t.TempDir(),
			PollMin: time.Second, PollMax: 15 * time.Second},
		Warn: func(text string) { t.Log("warning:", text) },
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, store
}

func command(line string) runtime.JobSpec { return runtime.JobSpec{Command: line} }

// finish closes a session and checks that nothing is left.
func finish(t *testing.T, s *runtime.Session, recipeErr error) []string {
	t.Helper()
	stopped, err := s.Close(context.Background(), recipeErr, false)
	if err != nil {
		t.Errorf("Close: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Target.Dir, "runs", "*")); len(left) > 0 {
		t.Errorf("left on the target: %v", left)
	}
	return stopped
}

func TestSessionRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: map[string]play{
			"db":       {queue: 5 * time.Second},
			"client-1": {run: time.Minute, outcome: runtime.Completed, stdout: "rps: 42.5\n"},
		}}
		s, store := session(t, c)
		spec := runtime.ServiceSpec{JobSpec: command("serve")}
		spec.Name = "db"
		db, err := s.Service(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		client := runtime.ClientSpec{JobSpec: command("bench"), Services: []*runtime.Handle{db}}
		client.Labels = map[string]string{"n": "1"}
		client.Metrics = []runtime.Metric{{Kind: "regex", Source: "stdout", Pattern: `rps: ([\d.]+)`, Name: "rps", Unit: "1/s"}}
		h, err := s.Client(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitDone(t.Context(), runtime.Wait{}, h); err != nil {
			t.Fatal(err)
		}
		got := h.Measurements(runtime.Where{Metric: []string{"rps"}})
		if len(got) != 1 || got[0].Value != 42.5 || got[0].Labels["n"] != "1" || got[0].Source != "client-1" || got[0].Unit != "1/s" {
			t.Errorf("measurements: %+v", got)
		}
		if env := h.State().Job.Env; env["SERVICE_HOSTNAME"] != "127.0.0.1" || env["SERVICE_DB_NAME"] != "db" || env["CLIENT_NAME"] != "client-1" {
			t.Errorf("environment of the client: %v", env)
		}
		if stopped := finish(t, s, nil); !slices.Equal(stopped, []string{"db"}) {
			t.Errorf("stopped %v", stopped)
		}
		var kinds []string
		for _, r := range store.recs {
			kinds = append(kinds, strings.TrimSpace(r.Source+" "+string(r.Kind)))
		}
		want := "run_started, db job_intended, db job_submitted, db job_status, db job_started, db job_status, " +
			"client-1 job_intended, client-1 job_submitted, client-1 job_started, client-1 job_status, client-1 job_exited, client-1 job_status, " +
			"client-1 measurement, client-1 job_collected, db job_stopping, db job_status, db job_collected, run_ended"
		if got := strings.Join(kinds, ", "); got != want {
			t.Errorf("records:\n got %s\nwant %s", got, want)
		}
		data, err := os.ReadFile(filepath.Join(s.Files, s.Run, "client-1", "stdout"))
		if string(data) != "rps: 42.5\n" {
			t.Errorf("collected stdout: %q, %v", data, err)
		}
	})
}

// start submits a job of the name that does as its play says.
func start(t *testing.T, s *runtime.Session, name string) *runtime.Handle {
	t.Helper()
	spec := command("x")
	spec.Name = name
	h, err := s.Job(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A store that is full from some append on ends the run, wherever it is, and nothing is left running. If there is room
// again when the run has ended, the store has all of it.
func TestSessionStoreFails(t *testing.T) {
	full := runtime.Faultf(runtime.FaultInfra, "free space", "the disk is full")
	recipe := func(ctx context.Context, s *runtime.Session) error {
		h, err := s.Job(ctx, command("x"))
		if err != nil {
			return err
		}
		if err := s.Record(ctx, runtime.Deed{}, runtime.Measurement{Metric: "m"}); err != nil {
			return err
		}
		return s.WaitDone(ctx, runtime.Wait{}, h)
	}
	for room := range 7 { // appends; with one more there is room for all
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprint(room, again), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &cluster{plays: map[string]play{"job-1": {run: time.Hour, outcome: runtime.Completed}}}
					s, store := session(t, c)
					appends, closing := 0, false
					store.fails = func() error {
						if appends++; appends > room && !(closing && again) {
							return full
						}
						return nil
					}
					err := recipe(t.Context(), s)
					broken := err != nil
					closing = true
					_, closeErr := s.Close(context.Background(), err, false)
					if broken && !errors.Is(err, full) {
						t.Errorf("the recipe ended with %v", err)
					}
					if !broken && !again && !errors.Is(closeErr, full) || broken && closeErr != nil {
						t.Errorf("the recipe's error is %v, that of Close %v", err, closeErr)
					}
					for id, j := range c.jobs {
						if j.status().State != runtime.Ended {
							t.Errorf("job %s is left", id)
						}
					}
					if left, _ := filepath.Glob(filepath.Join(s.Target.Dir, "runs", "*")); len(left) > 0 {
						t.Errorf("left on the target: %v", left)
					}
					if again {
						checkComplete(t, store.recs)
					}
				})
			})
		}
	}
}

// checkComplete folds records, which have to be of a run that has ended, and all of its jobs have.
func checkComplete(t *testing.T, recs []runtime.Record) {
	t.Helper()
	var st runtime.RunState
	for _, rec := range recs {
		if err := st.Apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	if st.End == nil {
		t.Error("the store does not know that the run has ended")
	}
	for _, j := range st.Jobs {
		if j.Live() {
			t.Errorf("the store has %s as %v", j.Job.Name, j)
		}
	}
}

func TestSessionOutcomes(t *testing.T) {
	for _, test := range []struct {
		name  string
		play  play
		want  runtime.Outcome
		error string
	}{
		{"completed", play{run: time.Second, outcome: runtime.Completed}, runtime.Completed, ""},
		{"exit code", play{run: time.Second, outcome: runtime.Failed, code: 3, stderr: "no such table\n"}, runtime.Failed,
			"j (job 100) failed with exit code 3 on n1; its last lines:\n  | no such table"},
		{"scheduler knows best", play{run: time.Second, outcome: runtime.OutOfMemory, code: 0}, runtime.OutOfMemory, "j (job 100) ran out of memory on n1"},
		{"forgotten, its own word", play{run: time.Second, gone: true, outcome: runtime.Completed}, runtime.Completed, ""},
		{"forgotten, its own bad word", play{run: time.Second, gone: true, code: 7}, runtime.Failed, "failed with exit code 7"},
		{"lost", play{run: time.Second, gone: true, silent: true}, runtime.Lost, "is lost"},
		{"unsure for long", play{run: time.Second, unsure: time.Hour, silent: true, outcome: runtime.OutOfMemory},
			runtime.OutOfMemory, "ran out of memory"},
		{"unsure for long, and forgotten", play{run: time.Second, unsure: time.Hour, silent: true, gone: true}, runtime.Lost, "is lost"},
		{"unsure for long, its own word", play{run: time.Second, unsure: 1000 * time.Hour, code: 7}, runtime.Failed, "failed with exit code 7"},
		{"no outcome", play{run: time.Second, silent: true}, runtime.Lost, "is lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := session(t, &cluster{plays: map[string]play{"j": test.play}})
				h := start(t, s, "j")
				err := s.WaitDone(t.Context(), runtime.Wait{}, h)
				if got := fmt.Sprint(err); test.error == "" && err != nil || !strings.Contains(got, test.error) {
					t.Errorf("error %q, want %q", got, test.error)
				}
				if test.error != "" && runtime.FaultOf(err) != runtime.FaultRun {
					t.Errorf("fault %q", runtime.FaultOf(err))
				}
				if got := h.State().Status.Outcome; got != test.want {
					t.Errorf("outcome %q, want %q", got, test.want)
				}
				finish(t, s, err)
			})
		})
	}
}

func TestSessionQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := session(t, &cluster{plays: map[string]play{"j": {queue: time.Hour, reason: "Resources"}}})
		h := start(t, s, "j")
		err := s.WaitRunning(t.Context(), runtime.Wait{Queue: time.Minute}, h)
		if want := "j (job 100) is pending (Resources) for longer than 1m0s"; fmt.Sprint(err) != want || runtime.FaultOf(err) != runtime.FaultTimeout {
			t.Errorf("error %q (%s), want %q", err, runtime.FaultOf(err), want)
		}
		if runtime.HintOf(err) == "" {
			t.Error("no hint for Resources")
		}
		if stopped := finish(t, s, err); len(stopped) != 1 {
			t.Errorf("stopped %v", stopped)
		}
	})
}

// A service whose job ends before it answers is an error at once, not after the time-out.
func TestSessionServiceDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := session(t, &cluster{plays: map[string]play{"db": {run: 3 * time.Second, outcome: runtime.Failed, code: 1, stderr: "bind: in use\n"}}})
		spec := runtime.ServiceSpec{JobSpec: command("serve"), Port: 1, Ready: runtime.Ready{Kind: "log", Pattern: "ready"}}
		spec.Name = "db"
		db, err := s.Service(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = s.WaitRunning(t.Context(), runtime.Wait{}, db)
		if job := (*runtime.JobError)(nil); !errors.As(err, &job) || !strings.Contains(err.Error(), "  | bind: in use") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("noticed after %v", took)
		}
		finish(t, s, err)
	})
}

// A client whose service is gone fails at once, and says why.
func TestSessionServiceDiesUnderClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: map[string]play{"db": {run: time.Minute, outcome: runtime.NodeFailure, silent: true}, "client-1": {}}}
		s, _ := session(t, c)
		spec := runtime.ServiceSpec{JobSpec: command("serve")}
		spec.Name = "db"
		db, _ := s.Service(t.Context(), spec)
		h, err := s.Client(t.Context(), runtime.ClientSpec{JobSpec: command("bench"), Services: []*runtime.Handle{db}})
		if err != nil {
			t.Fatal(err)
		}
		err = s.WaitDone(t.Context(), runtime.Wait{}, h)
		if want := "client-1 cannot go on: db (job 100) ended with its node on n1"; fmt.Sprint(err) != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if stopped := finish(t, s, err); len(stopped) != 0 || !slices.Equal(c.cancels, []runtime.JobID{"101"}) {
			t.Errorf("stopped %v at the end, and %v in all; want the client at once", stopped, c.cancels)
		}
	})
}

func TestSessionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusal := runtime.Faultf(runtime.FaultRun, "did you mean gpu?", "%w",
			&runtime.CommandError{Command: "sbatch", Text: "invalid partition specified: gpuu", Class: runtime.Permanent})
		s, _ := session(t, &cluster{plays: map[string]play{"j": {refuse: refusal}, "j-2": {refuse: refusal}, "j-3": {refuse: refusal}}})
		for _, wait := range []func(*runtime.Handle) error{
			func(h *runtime.Handle) error { return s.Flush(t.Context()) },
			func(h *runtime.Handle) error { return s.WaitDone(t.Context(), runtime.Wait{}, h) },
			func(h *runtime.Handle) error { return s.WaitRunning(t.Context(), runtime.Wait{}, h) },
		} {
			err := wait(start(t, s, "j"))
			want := "start j: sbatch: invalid partition specified: gpuu"
			if got := fmt.Sprint(err); !strings.HasPrefix(got, want[:7]) || !strings.HasSuffix(got, want[7:]) ||
				runtime.HintOf(err) != "did you mean gpu?" || runtime.FaultOf(err) != runtime.FaultRun {
				t.Errorf("error %q, hint %q", err, runtime.HintOf(err))
			}
		}
		finish(t, s, nil)
	})
}

// A query that fails says nothing about any job, however long it goes on.
func TestSessionPollFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c := &cluster{plays: map[string]play{"j": {run: 10 * time.Second, outcome: runtime.Completed}}}
		c.down = func() error {
			if time.Since(begin) < time.Hour {
				return errors.New("slurmctld does not answer")
			}
			return nil
		}
		s, _ := session(t, c)
		var warnings []string
		s.Warn = func(text string) { warnings = append(warnings, text) }
		h := start(t, s, "j")
		time.Sleep(50 * time.Minute)
		if st := h.State(); st.Status.State != runtime.Unknown {
			t.Errorf("state %q by failing queries", st.Status.State)
		}
		if err := s.WaitDone(t.Context(), runtime.Wait{}, h); err != nil {
			t.Error(err)
		}
		// After 0, 1, 2, 4, ... 32 minutes, and when it is known again.
		if len(warnings) != 8 || !strings.Contains(warnings[1], "has not been known for 1m") {
			t.Errorf("warnings: %q", warnings)
		}
		finish(t, s, nil)
	})
}

// Ctrl-C in the middle of a submission: the caller returns, the submission comes to its end, and Close finds the job.
func TestSessionCancelDuringSubmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{slow: 5 * time.Second}
		s, _ := session(t, c)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("interrupted")) })
		h := start(t, s, "j")
		if err := s.WaitDone(ctx, runtime.Wait{}, h); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("error %v", err)
		}
		if stopped := finish(t, s, context.Cause(ctx)); !slices.Equal(stopped, []string{"j"}) || len(c.cancels) != 1 {
			t.Errorf("stopped %v, cancelled %v", stopped, c.cancels)
		}
	})
}

// However many jobs there are, there is one query per tick, and few ticks while nothing happens.
func TestSessionPollBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: make(map[string]play)}
		for i := range 100 {
			c.plays[fmt.Sprintf("client-1.%d", i)] = play{run: time.Hour, outcome: runtime.Completed}
		}
		s, _ := session(t, c)
		h, err := s.Client(t.Context(), runtime.ClientSpec{JobSpec: command("x"), Count: 100})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitDone(t.Context(), runtime.Wait{}, h); err != nil {
			t.Fatal(err)
		}
		if c.polls > 260 {
			t.Errorf("%d queries for 100 jobs of an hour", c.polls)
		}
		finish(t, s, nil)
	})
}

func TestSessionNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := session(t, &cluster{})
		var names []string
		for _, name := range []string{"db", "db", "", "", "db"} {
			spec := command("x")
			spec.Name = name
			h, err := s.Job(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
		if want := []string{"db", "db-2", "job-1", "job-2", "db-3"}; !slices.Equal(names, want) {
			t.Errorf("names %v, want %v", names, want)
		}
		finish(t, s, nil)
	})
}

func TestSessionBadSpec(t *testing.T) {
	s, _ := session(t, &cluster{})
	spec := runtime.JobSpec{Name: "a b", Env: map[string]string{"X Y": "1"}}
	spec.Partition = "cpu\n#SBATCH --account=other"
	_, err := s.Job(t.Context(), spec)
	for _, want := range []string{`name: "a b" is not a name`, "command: there is nothing to run", `env: "X Y"`, "partition: ", "control character"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	finish(t, s, err)
}
