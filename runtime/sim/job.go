package sim

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A state is a stage of a job's life.
type state int

const (
	travels state = iota // was handed in, and has not arrived
	waiting              // is not eligible
	queued
	starting // is on its nodes, and its command waits for the others of its group
	running
	stopping // was told to end
	ended
)

// A job is a job of the cluster.
type job struct {
	runtime.Job
	id        runtime.JobID
	number    int
	array     int        // the number of its array; 0: it is of none
	task      int        // its number there
	behaviour *Behaviour // of this attempt
	state     state
	changes   int       // of the state
	reason    string    // why it waits
	submitted time.Time // this attempt
	eligible  time.Time
	attempts  []Attempt // the last is the one that runs, if one does
	nodes     []*node
	cores     int
	port      int
	answers   time.Time // when it begins to
	late      *float64
	note      string // on its stderr, of the script itself
	ended     time.Time
	outcome   runtime.Outcome
}

// An Attempt is one time that a job ran.
type Attempt struct {
	Submitted, Start, End time.Time // End is zero while it runs
	Nodes                 []string
	Outcome               runtime.Outcome // that it ended with
	Code                  int             // exit code of its command, if Exited
	Exited                bool
	Signal                int // by which the scheduler ended it
}

// become changes a job's state: what was planned for the old one does not happen.
func (j *job) become(s state) {
	j.state = s
	j.changes++
}

// attempt returns the one that runs, or ran last, or nil.
func (j *job) attempt() *Attempt {
	if len(j.attempts) == 0 {
		return nil
	}
	return &j.attempts[len(j.attempts)-1]
}

// when lets something happen at a time to a job, if it is then still in the state in which it is now.
func (c *Cluster) when(j *job, t time.Time, do func()) {
	changes := j.changes
	c.at(t, func() {
		if j.changes == changes {
			do()
		}
	})
}

// after is when, from now on. Forever it does not happen.
func (c *Cluster) after(j *job, d time.Duration, do func()) {
	if d < Forever {
		c.when(j, c.time.Add(d), do)
	}
}

// add hands a job in, which arrives after a delay, as a task of an array if that is not 0.
func (c *Cluster) add(spec *runtime.Job, array, task int, delay time.Duration) *job {
	c.number++
	j := &job{Job: *spec, number: c.number, array: array, task: task, behaviour: c.script.of(spec)}
	j.id = runtime.JobID(strconv.Itoa(j.number))
	if array != 0 {
		j.id = runtime.JobID(fmt.Sprintf("%d_%d", array, task))
	}
	c.jobs[j.id] = j
	c.tokens[j.Token] = append(c.tokens[j.Token], j)
	c.order = append(c.order, j)
	c.live++
	if delay > 0 {
		c.after(j, delay, func() { c.arrive(j) })
	} else {
		c.arrive(j)
	}
	return j
}

func (c *Cluster) arrive(j *job) {
	j.submitted = c.time
	switch b := j.behaviour; {
	case b.Wait == Forever:
		j.become(waiting)
		j.reason = b.Reason
	case b.Wait > 0:
		c.eligibleAt(j, c.time.Add(b.Wait), b.Reason)
	default:
		c.enqueue(j)
	}
}

// start starts a job on its nodes.
func (c *Cluster) start(j *job, nodes []*node) {
	_, j.cores = c.shape(&j.Needs)
	j.nodes = nodes
	a := Attempt{Submitted: j.submitted, Start: c.time}
	for _, n := range nodes {
		n.free -= j.cores
		if n.jobs == nil {
			n.jobs = make(map[*job]bool)
		}
		n.jobs[j] = true
		a.Nodes = append(a.Nodes, n.name)
	}
	j.attempts = append(j.attempts, a)
	j.become(starting)
	c.files(j)
	c.listen(j)
	start := runtime.Start{Host: a.Nodes[0], Port: j.port, ID: string(j.id), Attempt: len(j.attempts) - 1, Time: c.stamp(c.time)}
	c.record(j, "start", start)
	n := len(j.attempts)
	c.at(c.time.Add(j.Limit), func() {
		if len(j.attempts) == n && j.runs() {
			c.stop(j, ending{outcome: runtime.TimedOut})
		}
	})
	if j.Lease > 0 {
		c.watchLease(j, n, c.time)
	}
	if !j.Prepares() {
		c.meet(j)
		return
	}
	c.after(j, j.behaviour.Setup, func() {
		start.Begun = c.stamp(c.time)
		c.record(j, "start", start)
		c.meet(j)
	})
}

// meet begins a job's command, once all of its group are there.
func (c *Cluster) meet(j *job) {
	if j.Group != "" {
		c.join(j)
	} else {
		c.begin(j)
	}
}

// runs reports whether a job's command runs, or is about to.
func (j *job) runs() bool { return j.state == starting || j.state == running }

// begin begins a job's command.
func (c *Cluster) begin(j *job) {
	b := j.behaviour
	j.become(running)
	j.answers = c.time.Add(b.Answer)
	if b.Answer == Forever {
		j.answers = time.Time{}
	}
	c.after(j, b.Answer, func() { c.print(j) })
	c.after(j, b.run(&j.Job), func() {
		end := ending{outcome: b.outcome(), code: b.code(), exited: true, silent: b.Silent}
		switch end.outcome {
		case runtime.NodeFailure:
			end = ending{outcome: runtime.NodeFailure, silent: true}
		case runtime.Preempted:
			c.stop(j, ending{outcome: runtime.Preempted})
			return
		}
		c.end(j, end)
	})
}

// An ending is how an attempt ends.
type ending struct {
	outcome runtime.Outcome
	code    int  // its command's
	exited  bool // of its own accord
	signal  int
	silent  bool // it leaves no exit.json
}

// stop tells a job to end, as the scheduler does: by SIGTERM, and by SIGKILL if that has no effect.
func (c *Cluster) stop(j *job, how ending) {
	wait := j.behaviour.Stop
	how.code, how.signal = 128+15, 15
	how.silent = j.behaviour.Silent || j.state == starting // the script does not yet expect it
	if wait >= c.config.KillWait {
		wait, how.signal, how.silent = c.config.KillWait, 9, true
	}
	j.become(stopping)
	c.after(j, wait, func() { c.end(j, how) })
}

// end ends an attempt, and the job if it is not to run again.
func (c *Cluster) end(j *job, how ending) {
	a := j.attempt()
	a.End, a.Outcome, a.Signal = c.time, how.outcome, how.signal
	if how.exited && how.outcome != runtime.Lost {
		a.Exited, a.Code = true, how.code
	}
	if !how.silent {
		c.print(j)
		for name, text := range j.behaviour.Files {
			c.config.Files.Write(path.Join(j.Dir, name), text)
		}
		c.record(j, "exit", runtime.Exit{Code: how.code, Signal: how.signal, Time: c.stamp(c.time), Late: j.late})
	}
	for _, n := range j.nodes {
		n.free += j.cores
		delete(n.jobs, j)
	}
	delete(c.serves, j.address())
	j.nodes = nil
	c.look()
	again := how.outcome == runtime.NodeFailure || how.outcome == runtime.Preempted
	if !again || !j.Needs.Requeue {
		c.over(j, how.outcome)
		return
	}
	if j.behaviour = j.behaviour.Again; j.behaviour == nil {
		j.behaviour = new(Behaviour)
	}
	j.submitted, j.late, j.note = c.time, nil, ""
	c.eligibleAt(j, c.time.Add(c.config.RequeueDelay), "BeginTime")
}

// over ends a job for good.
func (c *Cluster) over(j *job, outcome runtime.Outcome) {
	j.become(ended)
	j.ended, j.outcome = c.time, outcome
	c.live--
}

// cancel ends a job that has not ended.
func (c *Cluster) cancel(j *job) {
	switch {
	case j.runs():
		c.stop(j, ending{outcome: runtime.Cancelled})
	case j.state == waiting || j.state == queued:
		c.over(j, runtime.Cancelled)
	}
}

// A group is jobs that start together.
type group struct {
	here  map[int]*job // by their indexes
	agree time.Time    // when they start, once all are here
}

// barrierPatience is how long a job waits for the others of its group.
const barrierPatience = 2 * time.Minute

// join makes a job wait for the others of its group. The last that comes sets the time.
func (c *Cluster) join(j *job) {
	name := path.Join(path.Dir(j.Dir), j.Group)
	g := c.groups[name]
	if g == nil {
		g = &group{here: make(map[int]*job)}
		c.groups[name] = g
	}
	g.here[j.Index] = j
	if g.agree.IsZero() && len(g.here) < j.Count {
		c.after(j, barrierPatience, func() { c.begin(j) })
		return
	}
	if !g.agree.IsZero() { // it runs again
		c.beginAt(j, g.agree)
		return
	}
	g.agree = c.time.Add(time.Second)
	for _, other := range g.here {
		if other.state == starting {
			c.beginAt(other, g.agree)
		}
	}
}

// beginAt begins a job's command at the time that its group agreed on, or now if that is over.
func (c *Cluster) beginAt(j *job, agreed time.Time) {
	t := agreed.Add(j.behaviour.Late)
	if t.Before(c.time) {
		t = c.time
	}
	late := t.Sub(agreed).Seconds()
	c.when(j, t, func() {
		j.late = &late
		c.begin(j)
	})
}

// watchLease ends a job if nobody has renewed its run's lease for too long since a time.
func (c *Cluster) watchLease(j *job, attempt int, since time.Time) {
	c.at(since.Add(j.Lease), func() {
		if len(j.attempts) != attempt || !j.runs() {
			return
		}
		switch l := c.lease(path.Dir(j.Dir)); {
		case strings.TrimSpace(l.text) == "keep":
		case l.watches > 0:
			c.watchLease(j, attempt, c.time)
		case l.changed.After(since):
			c.watchLease(j, attempt, l.changed)
		default:
			j.note = fmt.Sprintf("aifb: nobody has renewed the lease of %.0f s; the job ends\n", j.Lease.Seconds())
			c.end(j, ending{outcome: runtime.Failed, code: 128 + 15, exited: true, signal: 15})
		}
	})
}

// stamp is a time by the clocks of the cluster, in seconds since 1970.
func (c *Cluster) stamp(t time.Time) float64 {
	return float64(t.Add(c.config.Skew).UnixMicro()) / 1e6
}

// files makes the files of an attempt, and moves those of the one before out of the way.
func (c *Cluster) files(j *job) {
	if n := len(j.attempts) - 1; n > 0 && c.config.Files.Exists(path.Join(j.Dir, runtime.FileStart)) {
		for _, name := range []string{runtime.FileStart, runtime.FileExit, runtime.FileStdout, runtime.FileStderr, runtime.DirMetrics} {
			c.config.Files.Rename(path.Join(j.Dir, name), path.Join(j.Dir, fmt.Sprintf("attempt-%d", n-1), name))
		}
	}
	c.config.Files.Write(path.Join(j.Dir, runtime.FileStdout), "")
	c.config.Files.Write(path.Join(j.Dir, runtime.FileStderr), "")
}

// print writes what a job prints.
func (c *Cluster) print(j *job) {
	if j.behaviour.Stdout != "" {
		c.config.Files.Write(path.Join(j.Dir, runtime.FileStdout), j.behaviour.Stdout)
	}
	if text := j.behaviour.Stderr + j.note; text != "" {
		c.config.Files.Write(path.Join(j.Dir, runtime.FileStderr), text)
	}
}

// record writes start.json or exit.json, and tells whoever watches the run.
func (c *Cluster) record(j *job, kind string, v any) {
	text, _ := json.Marshal(v) // of this package's own types
	c.config.Files.Write(path.Join(j.Dir, kind+".json"), string(text)+"\n")
	run, name := path.Split(j.Dir)
	if c.config.Files.Exists(path.Join(run, dirEvents)) {
		line := fmt.Sprintf("{\"job\":%q,%q:%s}\n", name, kind, text)
		c.config.Files.Write(path.Join(run, dirEvents, name+"."+kind), line)
		c.kick()
	}
}

// dirEvents is the directory of a run by which its jobs tell who watches it that they start and end.
const dirEvents = ".events"

// listen gives a job that has a port one, on which it will answer.
func (c *Cluster) listen(j *job) {
	switch {
	case j.Port == runtime.NoPort:
		return
	case j.Port == runtime.AnyPort:
		c.port = firstPort + (c.port+1-firstPort)%portCount
		j.port = c.port
	default:
		j.port = int(j.Port)
	}
	c.serves[j.address()] = j
}

// address is where a job listens, or "".
func (j *job) address() string {
	if j.port == 0 || len(j.nodes) == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", j.nodes[0].name, j.port)
}
