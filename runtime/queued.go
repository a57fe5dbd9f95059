package runtime

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Why a job waits is known in two steps. What the scheduler's reason means is a part of each Status. How many jobs
// come first takes a question of its own, whose answer may be long where the queue is: it is asked rarely, and about
// few jobs.
const (
	// A job is asked about when it has waited for firstWhy, and then after ever longer pauses, up to lastWhy.
	firstWhy, lastWhy = 10 * time.Second, 5 * time.Minute

	// whyJobs is of how many jobs, the first of those that wait, more is told than their reason.
	whyJobs = 50

	// whyLimit bounds the question.
	whyLimit = 10 * time.Second
)

// String says why a job waits, how many jobs come first, and when it is expected to start.
func (q Queued) String() string {
	text := q.Text
	if q.Class != "" && q.Class != "other" {
		text += " (" + q.Class + ")"
	}
	switch {
	case q.Ahead == 1:
		text += "; 1 job ahead"
	case q.Ahead > 1:
		text += fmt.Sprintf("; %d jobs ahead", q.Ahead)
	}
	if !q.Start.IsZero() {
		text += "; expected to start at " + q.Start.Local().Format(time.DateTime)
	}
	return strings.TrimPrefix(text, "; ")
}

// Reason says why the job waits or why it ended, or is "".
func (j *JobState) Reason() string {
	if j.Queued != nil {
		return j.Queued.String()
	}
	return j.Status.Reason
}

// waits takes over from a new status why the job waits. How many jobs come first stands as long as the reason does.
func (j *JobState) waits() {
	switch st := j.Status; {
	case st.State != Pending || st.Text == "":
		j.Queued = nil
	case j.Queued == nil || j.Queued.Class != st.Class || j.Queued.Text != st.Text:
		j.Queued = &Queued{Class: st.Class, Text: st.Text, Start: st.Start, Ahead: -1}
	case !j.Queued.Start.Equal(st.Start):
		q := *j.Queued
		q.Start = st.Start
		j.Queued = &q
	}
}

// explainWaits asks every now and then why jobs wait, until ctx ends, and stores what is new.
func (s *Session) explainWaits(ctx context.Context) {
	if _, ok := s.Target.Scheduler.(Explainer); !ok {
		return
	}
	for pause := firstWhy; s.pause(ctx, pause) == nil; {
		waiting := s.waiting(s.now().Add(-firstWhy))
		if len(waiting) == 0 {
			pause = firstWhy
			continue
		}
		ids := make([]JobID, len(waiting))
		for i, j := range waiting {
			ids[i] = j.ID
		}
		var recs []Record
		known := s.queued(ctx, ids...)
		for _, j := range waiting {
			if q, ok := known[j.ID]; ok && q.news(j.Queued) {
				recs = append(recs, event(KindJobQueued, j.Job.Name, q))
			}
		}
		s.store(ctx, recs...)
		pause = min(2*pause, lastWhy)
	}
}

// waiting returns the first of the jobs that have been waiting since before then.
func (s *Session) waiting(then time.Time) (jobs []JobState) {
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Live() && j.Status.State == Pending && j.Submitted.Before(then) {
				if jobs = append(jobs, *j); len(jobs) == whyJobs {
					return
				}
			}
		}
	})
	return jobs
}

// news reports whether q says more than what was known.
func (q Queued) news(known *Queued) bool {
	return known == nil || q.Class != known.Class || q.Text != known.Text || q.Ahead != known.Ahead ||
		q.Start.Sub(known.Start).Abs() >= time.Minute
}

// queued asks the scheduler why jobs wait. What it does not say is not known.
func (s *Session) queued(ctx context.Context, ids ...JobID) map[JobID]Queued {
	e, ok := s.Target.Scheduler.(Explainer)
	if !ok || len(ids) == 0 || ids[0] == "" {
		return nil
	}
	ctx, cancel := s.withTimeout(ctx, whyLimit)
	defer cancel()
	known, err := e.Explain(ctx, ids...)
	if err != nil { // whether the target answers, the watcher says
		return nil
	}
	return known
}
