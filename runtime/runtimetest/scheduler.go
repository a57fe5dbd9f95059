package runtimetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// jobPatience is how long a job of the suite may take: in the queue, and until the last process of one is gone that
// does not want to end.
const jobPatience = 2 * time.Minute

// A SchedulerTest is what TestScheduler needs.
type SchedulerTest struct {
	Conn runtime.Conn // to where the jobs' directories are
	Dir  string       // for the suite to write in; it need not exist
	Open func(t *testing.T) runtime.Scheduler

	// Shortest is the shortest time limit that the scheduler enforces. Where that takes longer than a test may, it is
	// 0, and the clause is skipped.
	Shortest time.Duration

	// Stragglers says why processes that a job's command leaves behind may live on. It is empty if they may not.
	Stragglers string

	// Cluster is behind what Open returns, if its jobs only pretend to run. What they do, and what goes wrong, is then
	// for the suite to say.
	Cluster *sim.Cluster
}

// TestScheduler checks that what Open returns keeps the contract of runtime.Scheduler, and that jobs run as
// runtime.Script says. Clauses for which something has to go wrong are skipped.
func TestScheduler(t *testing.T, test SchedulerTest) {
	run := rand.Text()
	for _, clause := range without(t, aScript, "something has to go wrong: nobody scripts this scheduler") {
		t.Run(clause.name, func(t *testing.T) {
			t.Parallel()
			clause.run(t, test, run)
		})
	}
}

// without returns the clauses but for those that need something, and says why these are skipped.
func without(t *testing.T, what need, why string) (clauses []clause) {
	var skipped []string
	for _, c := range slices.Concat(schedulerClauses, groupClauses, scriptedClauses, deedClauses) {
		if c.needs == what {
			skipped = append(skipped, c.name)
		} else {
			clauses = append(clauses, c)
		}
	}
	t.Run("clauses for which "+why, func(t *testing.T) { t.Skip(strings.Join(skipped, ", ")) })
	return clauses
}

// TestScripted is TestScheduler for a scheduler over a simulated cluster. Each clause has a cluster of its own, as make
// makes it, and runs in a bubble of testing/synctest.
func TestScripted(t *testing.T, make func(t *testing.T, config sim.Config) SchedulerTest) {
	for _, clause := range without(t, realJobs, "jobs have to run: those of this scheduler only pretend to") {
		t.Run(clause.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { clause.run(t, make(t, clause.config), "run") })
		})
	}
}

// A clause is a rule of the contract.
type clause struct {
	name, rule string
	check      func(t *schedulerTest)
	needs      need
	config     sim.Config // of a cluster that is scripted
}

// A need is what a clause can't be checked without.
type need int

const (
	_ need = iota
	realJobs
	aScript
)

func (c *clause) run(t *testing.T, test SchedulerTest, run string) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the rule: %s", c.rule)
		}
	})
	dir := path.Join(test.Dir, strings.ReplaceAll(c.name, " ", "-"))
	c.check(&schedulerTest{T: t, SchedulerTest: test, Scheduler: test.Open(t), run: run, dir: dir})
}

// A schedulerTest is what a clause works with.
type schedulerTest struct {
	*testing.T
	SchedulerTest
	runtime.Scheduler
	run string // makes tokens unique
	dir string // of this clause
}

var schedulerClauses = []clause{
	{name: "files", check: checkFiles,
		rule: "a job leaves the files that Script promises, and its status says how it ended"},
	{name: "completed", check: checkCompleted,
		rule: "exit code 0 is completed"},
	{name: "verbatim", check: checkVerbatim, needs: realJobs,
		rule: "the command gets exactly Args and Env; no shell interprets them"},
	{name: "idempotent", check: checkIdempotent,
		rule: "submitting a token again, also at the same time, makes no second job and returns the first one's id"},
	{name: "many", check: checkMany,
		rule: "Submit takes many jobs, and answers in order; a refused one does not keep the others from running"},
	{name: "unknown", check: checkUnknown,
		rule: "a job that the scheduler does not know has no state, and to cancel it is no error"},
	{name: "no ids", check: checkNoIDs,
		rule: "without ids, Status and Cancel do nothing"},
	{name: "context", check: checkContext,
		rule: "a query whose context has ended is an error"},
	{name: "cancel", check: checkCancelJob,
		rule: "Cancel ends a job that runs, with all its processes, and may be repeated"},
	{name: "stragglers", check: checkStragglers, needs: realJobs,
		rule: "no process of a job lives on after its end"},
	{name: "another scheduler", check: checkAnother,
		rule: "jobs outlive the scheduler that submitted them: another one sees and cancels them"},
	{name: "any port", check: checkAnyPort,
		rule: "AnyPort gives the job a port, in its environment and start.json"},
	{name: "time limit", check: checkTimeLimit,
		rule: "a job that reaches its time limit is ended, as timeout"},
	{name: "begun", check: checkBegun, needs: realJobs,
		rule: "start.json is there while a job prepares, and says when its command began once it did"},
	{name: "find", check: checkFind,
		rule: "a Finder finds the jobs whose tokens begin with a prefix, and no others"},
}

// beating runs on until it is killed hard, and shows that it lives in the file beat.
const beating = `trap "" HUP INT TERM; while :; do echo >>beat; sleep 0.1; done`

func checkFiles(t *schedulerTest) {
	job := t.job("j", "sh", "-c", "echo out; echo err >&2; echo 1 >metrics/m; exit 3")
	t.behave("j", sim.Behaviour{Stdout: "out\n", Stderr: "err\n", Files: map[string]string{"metrics/m": "1\n"}, Code: 3})
	id := t.submit(job)[0]
	st := t.ended(id)
	if st.Outcome != runtime.Failed || !st.Exited || st.Code != 3 || st.Node == "" ||
		st.Start.IsZero() || st.End.Before(st.Start) {
		t.Errorf("the status is %+v; want a failed job with exit code 3, its node and times", st)
	}
	files := map[string]string{runtime.FileStdout: "out\n", runtime.FileStderr: "err\n", runtime.DirMetrics + "/m": "1\n"}
	for name, want := range files {
		if got := t.read(job, name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if script := t.read(job, runtime.FileScript); !strings.Contains(script, runtime.Script(job)) {
		t.Errorf("the script has no runtime.Script in it:\n%s", script)
	}
	start, exit := t.start(job), runtime.Exit{}
	t.json(job, runtime.FileExit, &exit)
	number, _, _ := strings.Cut(string(id), ";")
	if start.ID != number || start.Host == "" || start.Port != 0 || start.Attempt != 0 {
		t.Errorf("job %s: start.json has %+v", id, start)
	}
	if exit.Code != 3 || exit.Signal != 0 || exit.Time < start.Time || start.Time == 0 {
		t.Errorf("exit.json has %+v, start.json %+v", exit, start)
	}
}

func checkBegun(t *schedulerTest) {
	job, plain := t.job("j", "true"), t.job("plain", "true")
	job.Needs.Setup = []string{"cp start.json before.json", "sleep 0.1"}
	for _, id := range t.submit(job, plain) {
		if st := t.ended(id); st.Outcome != runtime.Completed {
			t.Errorf("the status is %+v, want completed", st)
		}
	}
	var before runtime.Start
	t.json(job, "before.json", &before)
	after := t.start(job)
	if before.Begun != 0 || before.Time == 0 || after.Begun <= after.Time || after.Time != before.Time || after.ID != before.ID {
		t.Errorf("start.json has %+v, and before %+v", after, before)
	}
	if start := t.start(plain); start.Begun != 0 {
		t.Errorf("start.json of a job that has nothing to prepare has %+v", start)
	}
}

func checkCompleted(t *schedulerTest) {
	st := t.ended(t.submit(t.job("j", "true"))[0])
	if st.Outcome != runtime.Completed || !st.Exited || st.Code != 0 {
		t.Errorf("the status is %+v, want completed with exit code 0", st)
	}
}

func checkVerbatim(t *schedulerTest) {
	const program = `printf "<%s>" "$@"; i=0; while [ $i -lt $# ]; do eval "printf '<%s>' \"\$HARD_$i\""; i=$((i+1)); done`
	job := t.job("j", append([]string{"sh", "-c", program, "sh"}, hard...)...)
	job.Env = make(map[string]string)
	for i, value := range hard {
		job.Env["HARD_"+strconv.Itoa(i)] = value
	}
	t.ended(t.submit(job)[0])
	want := "<" + strings.Join(append(hard, hard...), "><") + ">"
	if got := t.read(job, runtime.FileStdout); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func checkIdempotent(t *schedulerTest) {
	job := t.job("j", "sh", "-c", "echo >>runs")
	ids := t.submit(job, job)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 3 {
		other := t.Open(t.T)
		wg.Go(func() {
			subs, err := other.Submit(t.Context(), job)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || subs[0].Err != nil {
				t.Errorf("submit it again: %v %+v", err, subs)
				return
			}
			ids = append(ids, subs[0].ID)
		})
	}
	wg.Wait()
	t.ended(ids[0])
	ids = append(ids, t.submit(job)...)
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("got ids %v, want the same", ids)
		}
	}
	t.once(job, "runs")
}

func checkMany(t *schedulerTest) {
	var jobs []runtime.Job
	for i := range 12 {
		jobs = append(jobs, t.job(fmt.Sprintf("j%d", i), "echo", strconv.Itoa(i)))
		t.behave(jobs[i].Name, sim.Behaviour{Stdout: fmt.Sprintln(i)})
	}
	const bad = 5
	jobs[bad].Dir = "not/absolute"
	subs, err := t.Submit(t.Context(), jobs...)
	if err != nil || len(subs) != len(jobs) {
		t.Fatalf("%d submissions, %v", len(subs), err)
	}
	if err := subs[bad].Err; err == nil || subs[bad].ID != "" || runtime.FaultOf(err) != runtime.FaultRun {
		t.Errorf("a directory that is not absolute: %+v, want it to be refused, as the recipe's to mend", subs[bad])
	}
	for i, sub := range subs {
		if sub.Token != jobs[i].Token {
			t.Errorf("submission %d is of %s, want %s", i, sub.Token, jobs[i].Token)
		}
		if i == bad {
			continue
		}
		if sub.Err != nil {
			t.Fatalf("job %d: %v", i, sub.Err)
		}
		t.ended(sub.ID)
		if got, want := t.read(jobs[i], runtime.FileStdout), fmt.Sprintln(i); got != want {
			t.Errorf("job %d printed %q", i, got)
		}
	}
}

func checkUnknown(t *schedulerTest) {
	unknown := []runtime.JobID{"", "999999999", "no such job\n'", "-1", "0"}
	known, err := t.Status(t.Context(), unknown...)
	if err != nil {
		t.Errorf("status: %v", err)
	}
	for id, st := range known {
		if st.State != runtime.Unknown { // it may say that somebody else may know
			t.Errorf("the status of %q is %+v", id, st)
		}
	}
	if err := t.Cancel(t.Context(), unknown...); err != nil {
		t.Errorf("cancel: %v", err)
	}
}

func checkNoIDs(t *schedulerTest) {
	if known, err := t.Status(t.Context()); err != nil || len(known) != 0 {
		t.Errorf("status: %+v, %v", known, err)
	}
	if err := t.Cancel(t.Context()); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if subs, err := t.Submit(t.Context()); err != nil || len(subs) != 0 {
		t.Errorf("submit: %+v, %v", subs, err)
	}
}

func checkContext(t *schedulerTest) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if known, err := t.Status(ctx, "999999999"); err == nil {
		t.Errorf("status: %+v, and no error", known)
	}
	job := t.job("j", "true")
	if _, err := t.Submit(ctx, job); err == nil {
		t.Error("submit: no error")
	}
}

func checkCancelJob(t *schedulerTest) {
	job := t.job("j", "sh", "-c", beating)
	t.behave("j", sim.Behaviour{Run: sim.Forever})
	id := t.submit(job)[0]
	t.waitFor("a running job", func() bool { return t.beats(id, job) })
	if err := t.Cancel(t.Context(), id, id); err != nil {
		t.Fatal(err)
	}
	if st := t.ended(id); st.Outcome != runtime.Cancelled {
		t.Errorf("the status is %+v, want cancelled", st)
	}
	t.silent(job)
	if err := t.Cancel(t.Context(), id); err != nil {
		t.Errorf("cancel an ended job: %v", err)
	}
}

func checkStragglers(t *schedulerTest) {
	if t.Stragglers != "" {
		t.Skip("what a job leaves behind: " + t.Stragglers)
	}
	job := t.job("j", "sh", "-c", "("+beating+") & while [ ! -s beat ]; do sleep 0.1; done")
	if st := t.ended(t.submit(job)[0]); st.Outcome != runtime.Completed {
		t.Errorf("the status is %+v, want completed", st)
	}
	t.silent(job)
}

func checkAnother(t *schedulerTest) {
	job := t.job("j", "sh", "-c", beating)
	t.behave("j", sim.Behaviour{Run: sim.Forever})
	id := t.submit(job)[0]
	t.Scheduler = t.Open(t.T)
	t.waitFor("a running job", func() bool { return t.beats(id, job) })
	if again := t.submit(job)[0]; again != id {
		t.Errorf("submitting it again gives %s, want %s", again, id)
	}
	if err := t.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	t.waitFor("the end", func() bool { st := t.status(id); return st.State == runtime.Ended || st.State == runtime.Unknown })
	t.silent(job)
}

func checkAnyPort(t *schedulerTest) {
	job := t.job("j", "sh", "-c", "echo $SERVICE_PORT")
	job.Port = runtime.AnyPort
	t.behave("j", sim.Behaviour{Run: time.Second})
	t.ended(t.submit(job)[0])
	port := t.start(job).Port
	if port < 1024 || port > 65535 {
		t.Errorf("start.json has port %d", port)
	}
	if got := t.read(job, runtime.FileStdout); t.Cluster == nil && got != fmt.Sprintln(port) {
		t.Errorf("$SERVICE_PORT is %q, start.json has %d", got, port)
	}
}

func checkTimeLimit(t *schedulerTest) {
	if t.Shortest == 0 {
		t.Skip("the time limit: this scheduler's shortest is too long for a test")
	}
	job := t.job("j", "sleep", "600")
	job.Limit = t.Shortest
	t.behave("j", sim.Behaviour{Run: sim.Forever})
	if st := t.ended(t.submit(job)[0]); st.Outcome != runtime.TimedOut {
		t.Errorf("the status is %+v, want timeout", st)
	}
}

func checkFind(t *schedulerTest) {
	finder, ok := t.Scheduler.(runtime.Finder)
	if !ok {
		t.Skip("finding jobs by their tokens: this scheduler cannot")
	}
	jobs := append(t.group("g", 2, "sleep", "600"), t.job("a", "sleep", "600"), t.job("ab", "sleep", "600"))
	t.behave("*", sim.Behaviour{Run: sim.Forever})
	ids := t.submit(jobs...)
	for prefix, want := range map[string][]runtime.JobID{
		t.token(""): ids, t.token("g"): ids[:2], t.token("a"): ids[2:], t.token("ab"): ids[3:], t.token("none"): nil,
	} {
		found, err := finder.Find(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		var got []runtime.JobID
		for _, f := range found {
			got = append(got, f.ID)
			if i := slices.Index(ids, f.ID); i >= 0 && (f.Token != jobs[i].Token || f.Status.State == runtime.Unknown) {
				t.Errorf("found %+v, want %s", f, jobs[i].Token)
			}
		}
		slices.Sort(got)
		if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
			t.Errorf("found %v by %q, want %v", got, prefix, want)
		}
	}
}

// behave says what jobs do, where they only pretend to run.
func (t *schedulerTest) behave(pattern string, b sim.Behaviour) {
	if t.Cluster != nil {
		t.Cluster.Behave(pattern, b)
	}
}

// once checks that a job, which adds a line to a file, ran once.
func (t *schedulerTest) once(job runtime.Job, file string) {
	t.Helper()
	if t.Cluster != nil {
		if n := t.Cluster.Made(job.Token); n != 1 {
			t.Errorf("there are %d jobs of the token %s", n, job.Token)
		}
	} else if runs := t.read(job, file); runs != "\n" {
		t.Errorf("it ran %d times", len(runs))
	}
}

// token is that of a job of the clause.
func (t *schedulerTest) token(name string) string {
	return "aifb-test-" + t.run + "-" + path.Base(t.dir) + "-" + name
}

// job makes a job with a directory of its own below the clause's.
func (t *schedulerTest) job(name string, args ...string) runtime.Job {
	job := runtime.Job{
		Token: t.token(name),
		Name:  name,
		Dir:   path.Join(t.dir, name),
		Args:  args,
		Limit: 10 * time.Minute,
	}
	if t.Cluster != nil {
		job.Limit = 12 * time.Hour // some only pretend to run for long
	}
	return job
}

// submit submits jobs that none may refuse, and cancels them when the clause ends.
func (t *schedulerTest) submit(jobs ...runtime.Job) (ids []runtime.JobID) {
	t.Helper()
	subs, err := t.Submit(t.Context(), jobs...)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range subs {
		if sub.Err != nil || sub.ID == "" {
			t.Fatalf("%s was not submitted: %v", sub.Token, sub.Err)
		}
		ids = append(ids, sub.ID)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), jobPatience)
		defer cancel()
		if err := t.Cancel(ctx, ids...); err != nil {
			t.Errorf("cancel: %v", err)
		}
	})
	return ids
}

// status returns what is known of a job, which may be nothing.
func (t *schedulerTest) status(id runtime.JobID) runtime.Status {
	t.Helper()
	known, err := t.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return known[id]
}

// ended waits until a job has ended, and returns how.
func (t *schedulerTest) ended(id runtime.JobID) (st runtime.Status) {
	t.Helper()
	t.waitFor("the end of job "+string(id), func() bool {
		st = t.status(id)
		return st.State == runtime.Ended
	})
	return st
}

// waitFor asks until something is so, ever more rarely. A real scheduler has no other clock than the real one.
func (t *schedulerTest) waitFor(what string, isSo func() bool) {
	t.Helper()
	longest := 500 * time.Millisecond
	if t.Cluster != nil {
		longest = 5 * time.Second
	}
	limit := time.After(jobPatience)
	for wait := 20 * time.Millisecond; !isSo(); wait = min(wait*3/2, longest) {
		select {
		case <-time.After(wait):
		case <-limit:
			t.Fatalf("waited %v for %s", jobPatience, what)
		}
	}
}

// beats reports whether a job runs, and shows it in the file beat if it really does.
func (t *schedulerTest) beats(id runtime.JobID, job runtime.Job) bool {
	t.Helper()
	return t.status(id).State == runtime.Running && (t.Cluster != nil || t.count(job) > 0)
}

// count returns how often a job has shown that it lives.
func (t *schedulerTest) count(job runtime.Job) int {
	t.Helper()
	var b bytes.Buffer
	err := t.Conn.Get(t.Context(), path.Join(job.Dir, "beat"), 0, &b)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return b.Len()
}

// silent checks that a job that beats does so no more.
func (t *schedulerTest) silent(job runtime.Job) {
	t.Helper()
	before := t.count(job)
	<-time.After(500 * time.Millisecond)
	if after := t.count(job); after != before {
		t.Error("a process of the job lives on")
	}
}

// read returns the content of a job's file.
func (t *schedulerTest) read(job runtime.Job, name string) string {
	t.Helper()
	var b bytes.Buffer
	if err := t.Conn.Get(t.Context(), path.Join(job.Dir, name), 0, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (t *schedulerTest) json(job runtime.Job, name string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(t.read(job, name)), v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func (t *schedulerTest) start(job runtime.Job) (start runtime.Start) {
	t.Helper()
	t.json(job, runtime.FileStart, &start)
	return start
}
