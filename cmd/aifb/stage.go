package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/load"
	"github.com/aifb/aifb/runtime/sim"
	"github.com/aifb/aifb/slurm"
	"github.com/aifb/aifb/storage"
)

// maxSimulated is how much simulated time a recipe may take.
const maxSimulated = 30 * 24 * time.Hour

// A stage is where a recipe is rehearsed: a simulated cluster, in simulated time. It is the scheduler of its session.
type stage struct {
	*sim.Cluster
	clock   *sim.Clock
	session *runtime.Session

	// Scripts says what jobs would be submitted as; nil: nobody wants to know.
	scripts func(jobs ...runtime.Job) []slurm.Preview

	mu       sync.Mutex
	rules    []*stageRule
	previews []slurm.Preview
}

// A stageRule says what jobs do that begin from then on.
type stageRule struct {
	pattern string // of their names, as path.Match has it
	apply   func(*sim.Behaviour)
	used    bool
}

// newStage sets a stage. Files is a directory for what jobs leave.
func newStage(now time.Time, config sim.Config, files string) *stage {
	g := &stage{clock: sim.NewClock(now)}
	config.Clock = g.clock
	g.Cluster = sim.New(config)
	g.session = &runtime.Session{Run: "RUN", Clock: g.clock, Store: storage.Memory(), Files: files, Binary: binary, Notify: g.notify,
		Rehearsal: true}
	g.session.Target = runtime.Target{Name: "sim", Conn: g.Conn(), Binary: "/opt/aifb/bin/aifb"}
	g.poll(&g.session.Target)
	return g
}

// poll makes a target one that is on the stage. What jobs say of themselves is seen at once, and all else within a
// minute.
func (g *stage) poll(t *runtime.Target) {
	t.Scheduler, t.PollMin, t.PollMax, t.Watch = g, time.Second, time.Minute, true
}

// run runs f in the session, in simulated time, and ends the session. The error is that of f, or what the session could
// not do.
func (g *stage) run(ctx context.Context, f func(context.Context) error) (err error) {
	g.clock.Run(ctx, maxSimulated, func(limited context.Context) {
		if err = g.session.Open(limited); err != nil {
			return
		}
		err = f(limited)
		if cause := context.Cause(limited); cause != nil {
			err = cause
		}
		if ctx.Err() != nil { // whoever interrupts it wants it to end at once, and there is nothing to clean
			return
		}
		if _, end := g.session.Close(context.WithoutCancel(ctx), err, false); err == nil {
			err = end
		}
	})
	return err
}

// rule adds a rule; of several that fit, each changes what those before it say.
func (g *stage) rule(pattern string, apply func(*sim.Behaviour)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = append(g.rules, &stageRule{pattern: pattern, apply: apply})
}

// unused returns the patterns that no job has fitted.
func (g *stage) unused() (patterns []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.rules {
		if !r.used {
			patterns = append(patterns, r.pattern)
		}
	}
	return patterns
}

// notify is told of the session's records, and makes jobs that are about to be submitted do what is expected of them.
func (g *stage) notify(rec runtime.Record, st *runtime.RunState) {
	if rec.Kind != runtime.KindJobIntended {
		return
	}
	in := st.Job(rec.Source).Intent
	b := sim.Plausible(in)
	if strings.Contains(strings.Join(in.Job.Args, " "), "$AIFB load ") {
		writeMeasurements(&b, load.Imagined())
	}
	name := path.Base(in.Job.Dir)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.rules {
		if ok, _ := path.Match(r.pattern, name); ok {
			r.apply(&b)
			r.used = true
		}
	}
	g.Behave(name, b)
}

// measurementsFile is where a job leaves measurements, below its directory.
const measurementsFile = runtime.DirMetrics + "/" + runtime.MeasurementsFile

// writeMeasurements makes a job leave measurements.
func writeMeasurements(b *sim.Behaviour, ms []runtime.Measurement) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	for _, m := range ms {
		e.Encode(m) // of text and finite numbers, to memory
	}
	addFile(b, measurementsFile, text.String())
}

func addFile(b *sim.Behaviour, name, text string) {
	if b.Files == nil {
		b.Files = make(map[string]string)
	}
	b.Files[name] += text
}

// Submit implements runtime.Scheduler. The simulated cluster has what any job asks for, and takes what the real one's
// scheduler could be given.
func (g *stage) Submit(ctx context.Context, jobs ...runtime.Job) ([]runtime.Submission, error) {
	subs := make([]runtime.Submission, len(jobs))
	refused := g.preview(jobs)
	var taken []runtime.Job
	for i, j := range jobs {
		if subs[i] = (runtime.Submission{Token: j.Token, Err: refused[j.Token]}); subs[i].Err == nil {
			if g.scripts != nil {
				j.Needs = runtime.Resources{Exclusive: true, Requeue: j.Needs.Requeue}
			}
			taken = append(taken, j)
		}
	}
	answers, err := g.Cluster.Submit(ctx, taken...)
	if err != nil {
		return nil, err
	}
	for i := range subs {
		if subs[i].Err == nil {
			subs[i], answers = answers[0], answers[1:]
		}
	}
	return subs, nil
}

// preview notes what the jobs would be submitted as, and returns why some would not be, by token.
func (g *stage) preview(jobs []runtime.Job) (refused map[string]error) {
	if g.scripts == nil {
		return nil
	}
	refused = make(map[string]error)
	previews := g.scripts(jobs...)
	for _, p := range previews {
		if p.Err != nil {
			refused[p.Tokens[0]] = p.Err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.previews = append(g.previews, previews...)
	return refused
}

// jobStates are what can be said of how a job goes, beside "exit:N".
var jobStates = []string{"completed", "running", "failed", "timeout", "out of memory", "cancelled", "node failure", "preempted",
	"lost", "pending", "refused", "unanswering"}

// setState makes a job go a certain way. After is how long its command runs until it ends so; 0: it ends before it
// answers.
func setState(b *sim.Behaviour, state string, after time.Duration) error {
	if after > 0 {
		b.Run = after
	}
	ends := func(outcome runtime.Outcome, code int) {
		b.Outcome, b.Code = outcome, code
		if after == 0 {
			b.Run, b.Answer = time.Second, sim.Forever
		}
		if after == 0 && state != "completed" {
			b.Stdout, b.Files = "", nil
		}
	}
	switch state {
	case "completed":
		ends("", 0)
	case "running":
		b.Run = sim.Forever
	case "failed":
		ends("", 1)
	case "timeout":
		ends(runtime.TimedOut, 128+15)
	case "out of memory":
		ends(runtime.OutOfMemory, 128+9)
	case "cancelled", "node failure", "preempted":
		ends(runtime.Outcome(state), 128+15)
	case "lost":
		ends(runtime.Lost, 0)
		b.Silent = true
	case "pending":
		b.Wait, b.Reason = sim.Forever, "Resources"
	case "refused":
		b.Refuse = &runtime.Error{Fault: runtime.FaultRun, Err: &runtime.CommandError{Target: "sim", Command: "submit", Code: 1,
			Output: "it is assumed to be refused\n", Text: "it is assumed to be refused", Class: runtime.Permanent}}
	case "unanswering":
		b.Answer = sim.Forever
	default:
		var code int
		if n, err := fmt.Sscanf(state, "exit:%d", &code); n != 1 || err != nil || code < 0 || code > 255 {
			hint := runtime.DidYouMean(state, jobStates)
			if hint == "" {
				hint = "there are " + strings.Join(jobStates, ", ") + " and exit:N"
			}
			return runtime.Faultf(runtime.FaultUsage, hint, "%q is no way for a job to go", state)
		}
		ends("", code)
	}
	return nil
}

// A wholeMachine is the login node of a cluster of which nothing is known: a file that is not there might be.
type wholeMachine struct{ runtime.Machine }

// Get implements runtime.Conn. A file of which nothing is known is there, and empty.
func (m wholeMachine) Get(ctx context.Context, name string, from int64, w io.Writer) error {
	err := m.Machine.Get(ctx, name, from, w)
	if errors.Is(err, fs.ErrNotExist) && !strings.Contains(name, "/runs/RUN/") {
		return nil
	}
	return err
}
