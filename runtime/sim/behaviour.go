package sim

import (
	"errors"
	"path"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// Forever is longer than any test.
const Forever = 1<<63 - 1

// A Behaviour is what a job does, and what is done to it. By the zero value, a job that has a port answers there from its
// start until it is cancelled, and any other job succeeds after a second.
type Behaviour struct {
	// Before it runs:
	Refuse error         // its submission is refused with
	Wait   time.Duration // it is not eligible for that long, whatever is free; Forever: never
	Reason string        // that the scheduler gives for that
	Parts  int           // of how many parts the cluster makes it, of which the first is the job; 0: it does not

	// While it runs:
	Setup  time.Duration     // how long it takes until its command begins, if it prepares for that
	Run    time.Duration     // how long its command does; Forever: until something ends it
	Code   int               // its exit code
	Signal int               // the signal that ends its command, which makes its exit code 128 more
	Stdout string            // what it prints, when it begins to answer
	Stderr string            //
	Files  map[string]string // what it writes before it ends, by the names below its directory: "metrics/m"
	Late   time.Duration     // by how much it misses the start that its group agreed on
	Stop   time.Duration     // how long it takes to end, once told to; KillWait and more: it is killed hard
	Silent bool              // it leaves no exit.json

	// Of a job with a port:
	Answer time.Duration // until it answers
	Status int           // of its answers to HTTP; 0: 200
	Body   string        // of them

	// Outcome is the scheduler's word about the end of the job: "" is what its exit code says, and Lost that the
	// scheduler forgets the job then. NodeFailure and Preempted make it run again, if it is to be requeued: Again is then
	// what it does, and if that is nil, it does as if there were no script.
	Outcome runtime.Outcome
	Again   *Behaviour
}

func (b *Behaviour) code() int {
	if b.Signal > 0 {
		return 128 + b.Signal
	}
	return b.Code
}

func (b *Behaviour) outcome() runtime.Outcome {
	switch {
	case b.Outcome != "":
		return b.Outcome
	case b.code() != 0:
		return runtime.Failed
	}
	return runtime.Completed
}

// run is how long the job's command does.
func (b *Behaviour) run(job *runtime.Job) time.Duration {
	switch {
	case b.Run != 0:
		return b.Run
	case job.Port != runtime.NoPort:
		return Forever
	}
	return time.Second
}

// A script says which jobs do what.
type script struct {
	count int
	exact map[string]rule // by the pattern
	globs []rule
}

type rule struct {
	number    int
	pattern   string
	behaviour *Behaviour
}

// Behave says what jobs do that are handed in from now on and whose names match a pattern of path.Match. The name is that
// of the job's directory, by which a second try of a job differs from the first. Of several patterns that match, the last
// counts.
func (c *Cluster) Behave(pattern string, b Behaviour) {
	c.lock()
	defer c.mu.Unlock()
	s := &c.script
	s.count++
	r := rule{s.count, pattern, &b}
	if strings.ContainsAny(pattern, `*?[\`) {
		s.globs = append(s.globs, r)
		return
	}
	if s.exact == nil {
		s.exact = make(map[string]rule)
	}
	s.exact[pattern] = r
}

// of returns what a job does.
func (s *script) of(job *runtime.Job) *Behaviour {
	name := path.Base(job.Dir)
	best := s.exact[name]
	for i := len(s.globs) - 1; i >= 0 && s.globs[i].number > best.number; i-- {
		if ok, _ := path.Match(s.globs[i].pattern, name); ok {
			best = s.globs[i]
		}
	}
	if best.behaviour == nil {
		return new(Behaviour)
	}
	return best.behaviour
}

// A Fault is something that goes wrong with the cluster, not with a job.
type Fault string

const (
	Disconnected Fault = "disconnected" // every call fails
	LostBefore   Fault = "lost before"  // a submission is lost on its way there, and has no effect
	LostAfter    Fault = "lost after"   // the answer to a submission is lost
	Late         Fault = "late"         // it is lost, and its jobs appear five seconds later
	NoQueue      Fault = "no queue"     // a query for the state of jobs fails
	NoAccounts   Fault = "no accounts"  // accounting does not answer
)

// Lateness is how long it takes until a late job appears.
const Lateness = 5 * time.Second

// Always is as often as a fault can be.
const Always = -1

// Fault makes the next so many calls that a fault concerns see it; 0 ends it.
func (c *Cluster) Fault(f Fault, times int) {
	c.lock()
	defer c.mu.Unlock()
	c.faults[f] = times
	c.kick()
}

// Sees reports whether a call that a fault concerns sees it. It is for schedulers that are made of a cluster.
func (c *Cluster) Sees(f Fault) bool {
	c.lock()
	defer c.mu.Unlock()
	return c.fault(f)
}

// fault is Sees with the lock held.
func (c *Cluster) fault(f Fault) bool {
	n := c.faults[f]
	if n > 0 {
		c.faults[f]--
	}
	return n != 0
}

var errDisconnected = errors.New("sim: the connection is lost")

// failure is the error of a command of the scheduler.
func failure(command string, class runtime.Class, text string) error {
	fault := runtime.FaultInfra
	if class == runtime.Permanent {
		fault = runtime.FaultRun
	}
	return &runtime.Error{Fault: fault, Err: &runtime.CommandError{
		Target: "sim", Command: command, Code: 1, Output: command + ": error: " + text + "\n", Text: text, Class: class,
	}}
}
