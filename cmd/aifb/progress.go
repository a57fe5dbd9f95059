package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aifb/aifb/runtime"
)

// progress tells on stderr how a run goes, a line for each thing that happens.
type progress struct {
	verbose bool
	closing atomic.Bool // what ends now was stopped by us

	mu      sync.Mutex
	w       io.Writer
	started time.Time
	last    map[string]string // what was said of a job last
	bursts  []*burst
	tick    *time.Timer // looks after the bursts; nil: there are none
}

// A burst is how many jobs came to the same stage at a time. Of a large one only the beginning is said, and then from
// time to time how many more there are.
type burst struct {
	stage string
	said  int // since it began
	more  int // since the last look
}

const (
	burstSaid = 8
	burstTime = time.Second
)

func newProgress(w io.Writer, verbose bool) *progress {
	return &progress{w: w, verbose: verbose, started: time.Now(), last: make(map[string]string)}
}

// say prints a line with the time of day.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sayOfMore()
	p.print(format, args...)
}

func (p *progress) print(format string, args ...any) {
	text := runtime.Printable(fmt.Sprintf(format, args...))
	fmt.Fprintf(p.w, "%s  %s\n", time.Now().Format(time.TimeOnly), text)
}

func (p *progress) warn(text string) { p.say("warning: %s", text) }

// record is told of every record of the run.
func (p *progress) record(rec runtime.Record, st *runtime.RunState) {
	if rec.Kind == runtime.KindRunStarted {
		p.say("run %s on %s", rec.Run, st.Start.Target)
		return
	}
	j := st.Job(rec.Source)
	if j == nil || p.closing.Load() && rec.Kind != runtime.KindJobRefused {
		return
	}
	if rec.Kind == runtime.KindJobQueued {
		p.sayOfQueue(st, j)
		return
	}
	text, before := p.describe(rec.Kind, j), p.last[rec.Source]
	if text == "" || text == before || text == "pending" && strings.HasPrefix(before, "submitted") {
		return
	}
	p.last[rec.Source] = text
	p.sayOfJob(text, rec, st, j)
}

// describe says what an event of a job means to a user, or "".
func (p *progress) describe(kind runtime.Kind, j *runtime.JobState) string {
	switch kind {
	case runtime.KindJobSubmitted:
		return "submitted as job " + string(j.ID)
	case runtime.KindJobHeld, runtime.KindJobRefused:
		return j.String()
	case runtime.KindJobStarted: // what the scheduler says comes later
		running := *j
		running.Status = runtime.Status{State: runtime.Running}
		return running.String()
	case runtime.KindJobReady:
		return j.String()
	case runtime.KindJobStatus:
		if j.Status.State == runtime.Running {
			return "" // its own word, start.json, says where
		}
		return j.String()
	}
	return ""
}

// sayOfQueue prints why a job waits, and how long the queue is, of the first job that does.
func (p *progress) sayOfQueue(st *runtime.RunState, j *runtime.JobState) {
	waiting := 0
	for _, other := range st.Jobs {
		if other.Live() && other.Status.State == runtime.Pending {
			if waiting++; waiting == 1 && other != j {
				return
			}
		}
	}
	text := j.String()
	if text == p.last[j.Job.Name] {
		return
	}
	p.last[j.Job.Name] = text
	if waiting > 1 {
		text += fmt.Sprintf(" (%d jobs wait)", waiting)
	}
	p.say("%s: %s", j.Job.Name, text)
}

// sayOfJob prints what happened to a job. Of the jobs of a client with count it prints the first and the last to get
// there.
func (p *progress) sayOfJob(text string, rec runtime.Record, st *runtime.RunState, j *runtime.JobState) {
	count := j.Job.Count
	switch {
	case p.verbose:
		p.say("%s: %s", rec.Source, text)
		return
	case count < 2:
		p.sayInBurst(stageOf(rec.Kind, j), rec.Source, text)
		return
	}
	same := 0
	for i := range count {
		if other := st.Job(fmt.Sprintf("%s.%d", j.Job.Group, i)); other != nil && sameStage(rec.Kind, other, j) {
			same++
		}
	}
	if same == 1 || same == count {
		p.say("%s: %s (%d of %d)", rec.Source, text, same, count)
	}
}

// stageOf names what many jobs may do at a time that nobody need look at; of all else it is "".
func stageOf(kind runtime.Kind, j *runtime.JobState) string {
	switch {
	case kind == runtime.KindJobSubmitted:
		return "submitted"
	case kind == runtime.KindJobStarted:
		return "running"
	case kind == runtime.KindJobStatus && j.Status.Outcome == runtime.Completed:
		return "ended"
	}
	return ""
}

// sayInBurst prints what happened to a job, unless it did to many just now.
func (p *progress) sayInBurst(stage, name, text string) {
	if stage == "" {
		p.say("%s: %s", name, text)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.bursts, func(b *burst) bool { return b.stage == stage })
	if i < 0 {
		i = len(p.bursts)
		p.bursts = append(p.bursts, &burst{stage: stage})
	}
	if p.tick == nil {
		p.tick = time.AfterFunc(burstTime, p.look)
	}
	b := p.bursts[i]
	if b.said == burstSaid {
		b.more++
		return
	}
	b.said++
	p.print("%s: %s", name, text)
}

// look tells of the bursts, and forgets those that are over.
func (p *progress) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bursts = slices.DeleteFunc(p.bursts, func(b *burst) bool { return b.more == 0 })
	p.sayOfMore()
	if p.tick = nil; len(p.bursts) > 0 {
		p.tick = time.AfterFunc(burstTime, p.look)
	}
}

// sayOfMore says of how many jobs nothing was said.
func (p *progress) sayOfMore() {
	for _, b := range p.bursts {
		if b.more > 0 {
			p.print("%s: %s", b.stage, runtime.Plural(b.more, "more job"))
			b.more = 0
		}
	}
}

// sameStage reports whether a job got at least as far as another one by an event of the kind.
func sameStage(kind runtime.Kind, a, b *runtime.JobState) bool {
	switch kind {
	case runtime.KindJobSubmitted:
		return a.ID != ""
	case runtime.KindJobStarted:
		return a.Started != nil
	}
	return a.Status.State == b.Status.State && a.Status.Outcome == b.Status.Outcome
}

// stop ends what goes on beside.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tick != nil {
		p.tick.Stop()
	}
}

// summary says how the run went and where its results are.
func (p *progress) summary(s *runtime.Session, keep bool) {
	took := time.Since(p.started).Round(100 * time.Millisecond)
	defer p.stop()
	if n := len(s.Measurements(runtime.Where{})); n > 0 {
		p.say("run %s: %s in %v; aifb show %s", s.Run, runtime.Plural(n, "measurement"), took, s.Run)
	} else {
		p.say("run %s ended after %v", s.Run, took)
	}
	if n := len(s.Unmet()); n == 1 {
		p.say("1 threshold was not met")
	} else if n > 1 {
		p.say("%d thresholds were not met", n)
	}
	if c, ok := s.Target.Conn.(interface{ Execs() int64 }); ok && p.verbose {
		p.say("%d commands over SSH", c.Execs())
	}
	var calls map[string]runtime.Tally
	if c, ok := s.Target.Scheduler.(runtime.Counter); ok && p.verbose {
		calls = c.Tallies()
	}
	if len(calls) > 0 {
		p.say("calls of Slurm: %s", runtime.Tallies(calls))
	}
	if keep {
		p.say("kept: jobs and files stay on %s; aifb stop %s ends them", s.Target.Name, s.Run)
	}
}
