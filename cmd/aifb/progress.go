package main

import (
	"fmt"
	"io"
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
}

func newProgress(w io.Writer, verbose bool) *progress {
	return &progress{w: w, verbose: verbose, started: time.Now(), last: make(map[string]string)}
}

// say prints a line with the time of day.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
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
	if text := p.describe(rec.Kind, j); text != "" && text != p.last[rec.Source] {
		p.last[rec.Source] = text
		p.sayOfJob(text, rec, st, j)
	}
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
	if count < 2 || p.verbose {
		p.say("%s: %s", rec.Source, text)
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

// summary says how the run went and where its results are.
func (p *progress) summary(s *runtime.Session, keep bool) {
	took := time.Since(p.started).Round(100 * time.Millisecond)
	if n := len(s.Measurements(runtime.Where{})); n > 0 {
		p.say("run %s: %d measurements in %v; aifb show %s", s.Run, n, took, s.Run)
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
