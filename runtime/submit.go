package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A submitter hands in the jobs of a session, behind the backs of those who start them: while one submission is under
// way the next jobs queue, and leave together. What is not known to be submitted is never given up while the run goes
// on: it is asked again, which is safe because a token makes one job.
type submitter struct {
	*Session
	queue   []string  // the names of jobs to submit
	later   []string  // of those that are to be tried again
	held    []string  // of those that wait until a job of the run has ended
	retryAt time.Time // when to try those of later and held again
	pause   time.Duration
	failing bool // the last submission found nobody to ask
}

const (
	// gather is how long the first of several jobs waits for the others of its loop.
	gather = 2 * time.Millisecond

	// maxBatch bounds how many jobs are submitted together, so that one who wants to stop need not wait long.
	maxBatch = 256

	minPause = 2 * time.Second
	maxPause = time.Minute
)

// enqueue gives jobs that were intended to the submitter, which it starts if need be.
func (s *Session) enqueue(names ...string) {
	s.mu.Lock()
	s.toSubmit = append(s.toSubmit, names...)
	if s.submitNow == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.submitNow, s.stopSubmitting = make(chan struct{}, 1), cancel
		s.submitting.Go(s.guarded("the submitter", func() { (&submitter{Session: s, pause: minPause}).run(ctx) }))
	}
	s.mu.Unlock()
	notify(s.submitNow)
}

// notify makes a receiver of c, which has room for one, look again.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run submits until ctx ends. A submission that is under way then gets submitGrace to come to its end, or nobody would
// know whether its jobs exist.
func (u *submitter) run(ctx context.Context) {
	for {
		select {
		case <-u.submitNow:
		case <-u.retryTimer():
			u.again()
		case <-ctx.Done():
			return
		}
		if u.Session.pause(ctx, gather) != nil {
			return
		}
		for u.take() && ctx.Err() == nil {
			for len(u.queue) > 0 && ctx.Err() == nil {
				if jobs := u.batch(); len(jobs) > 0 {
					u.submit(ctx, jobs)
				}
			}
		}
	}
}

func (u *submitter) retryTimer() <-chan time.Time {
	if len(u.later)+len(u.held) == 0 {
		return nil
	}
	retry, _ := After(u.Clock, u.retryAt.Sub(u.now()))
	return retry
}

// again queues what is to be tried again.
func (u *submitter) again() {
	u.queue = slices.Concat(u.queue, u.later, u.held)
	u.later, u.held = nil, nil
}

// take moves what was enqueued since to the queue, and what was held back if a job has ended since. It reports whether
// there is anything to do.
func (u *submitter) take() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.freed {
		u.queue, u.held = append(u.queue, u.held...), nil
	}
	u.queue = append(u.queue, u.toSubmit...)
	u.toSubmit, u.freed = nil, false
	return len(u.queue) > 0
}

// batch takes the next jobs off the queue: no more than maxBatch, but for a group, which stays together.
func (u *submitter) batch() (jobs []Job) {
	u.view(func(st *RunState) {
		for len(u.queue) > 0 {
			j := st.Job(u.queue[0])
			if n := len(jobs); n >= maxBatch && (j.Job.Group == "" || j.Job.Group != jobs[n-1].Group) {
				break
			}
			if j.Waiting() {
				jobs = append(jobs, j.Job)
			}
			u.queue = u.queue[1:]
		}
	})
	return jobs
}

// submitGrace is how long a submission under way may go on when the run is to end.
const submitGrace = 20 * time.Second

// lingering returns a context that ends grace after ctx does.
func (s *Session) lingering(ctx context.Context, grace time.Duration) (context.Context, func()) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if s.pause(late, grace) == nil {
			cancel(context.Cause(ctx))
		}
	})
	return late, func() { stop(); cancel(nil) }
}

// submit stores that the jobs are about to be submitted, submits them, and stores the answers.
func (u *submitter) submit(ctx context.Context, jobs []Job) {
	ctx, done := u.lingering(ctx, submitGrace)
	defer done()
	switch err := u.storeIntents(ctx, jobs); {
	case err != nil && FaultOf(err) == FaultRun:
		u.refuse(ctx, jobs, err)
		return
	case err != nil: // the run is over
		return
	}
	subs, err := u.handIn(ctx, jobs)
	if err != nil {
		if ClassOf(err) == Permanent {
			u.refuse(ctx, jobs, err)
			return
		}
		subs = make([]Submission, len(jobs))
		for i := range subs {
			subs[i].Err = err
		}
	}
	u.answered(ctx, jobs, subs)
}

// handIn brings the secrets of the jobs to the target, and submits the jobs.
func (u *submitter) handIn(ctx context.Context, jobs []Job) ([]Submission, error) {
	if err := u.putSecrets(ctx, jobs); err != nil {
		return nil, err
	}
	return u.Target.Scheduler.Submit(ctx, jobs...)
}

// storeIntents stores the intents of the jobs, unless an earlier process or an earlier try did.
func (u *submitter) storeIntents(ctx context.Context, jobs []Job) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var recs []Record
	for _, j := range jobs {
		if rec, ok := u.unstored[j.Token]; ok {
			recs = append(recs, rec)
			delete(u.unstored, j.Token)
		}
	}
	if len(recs) == 0 {
		return nil
	}
	return u.persist(ctx, recs)
}

// answered stores what became of the jobs, and sees to those that are to be tried again.
func (u *submitter) answered(ctx context.Context, jobs []Job, subs []Submission) {
	var recs []Record
	var trouble error
	var unwanted []string // the recipe has stopped them, and did not wait for the answer
	for i, sub := range subs {
		name := jobs[i].Name
		switch {
		case sub.Err == nil:
			recs = append(recs, event(KindJobSubmitted, name, Submitted{ID: sub.ID}))
			u.view(func(st *RunState) {
				if st.Job(name).Refused != nil {
					unwanted = append(unwanted, name)
				}
			})
			continue
		case ClassOf(sub.Err) == Permanent:
			recs = append(recs, event(KindJobRefused, name, problem(sub.Err)))
			continue
		case ClassOf(sub.Err) == Quota:
			u.held = append(u.held, name)
		default:
			u.later, trouble = append(u.later, name), sub.Err
		}
		recs = append(recs, u.hold(name, sub.Err)...)
	}
	u.report(trouble)
	if len(u.later)+len(u.held) > 0 {
		u.retryAt, u.pause = u.now().Add(u.pause), min(2*u.pause, maxPause)
	} else {
		u.pause = minPause
	}
	u.append(ctx, recs...) // a store that fails ends the run; and the jobs are there
	u.watch()
	if err := u.cancelLive(ctx, unwanted, nil); err != nil && ctx.Err() == nil {
		u.warn("%v", err)
	}
}

// hold returns the record of why a job is not submitted yet, if that is news.
func (u *submitter) hold(name string, err error) (recs []Record) {
	u.view(func(st *RunState) {
		if j := st.Job(name); j.Held == nil || j.Held.Error != err.Error() {
			recs = append(recs, event(KindJobHeld, name, problem(err)))
		}
	})
	return recs
}

// report warns once when submissions begin to find nobody, and once when they succeed again.
func (u *submitter) report(trouble error) {
	switch {
	case trouble != nil && !u.failing:
		u.warn("submit to %s: %v; it is tried again", u.Target.Name, trouble)
	case trouble == nil && u.failing:
		u.warn("submissions to %s succeed again", u.Target.Name)
	}
	u.failing = trouble != nil
}

// refuse stores that the jobs are not, and will not be, submitted.
func (s *Session) refuse(ctx context.Context, jobs []Job, err error) {
	recs := make([]Record, len(jobs))
	for i, j := range jobs {
		recs[i] = event(KindJobRefused, j.Name, problem(err))
	}
	s.append(ctx, recs...) // a store that fails ends the run anyway
}

// Flush waits until every job that was started is submitted, refused or held back. It returns the errors of those that
// were refused and that no wait has reported.
func (s *Session) Flush(ctx context.Context) error {
	var errs []error
	err := s.await(ctx, func(st *RunState) (bool, error) {
		errs = nil
		for _, j := range st.Jobs {
			if j.Waiting() && j.Held == nil {
				return false, nil
			}
			if j.Refused != nil && !s.told[j.Job.Name] {
				errs = append(errs, refusedError(j))
			}
		}
		return true, nil
	})
	return errors.Join(append(errs, err)...)
}

// A RefusedError reports a job that was not submitted.
type RefusedError struct {
	Name string
	Deed Deed // that started it
	Problem
}

func (e *RefusedError) Error() string { return fmt.Sprintf("start %s: %s", e.Name, e.Problem.Error) }

func refusedError(j *JobState) error {
	fault := j.Refused.Fault
	if fault == "" {
		fault = FaultRun
	}
	return &Error{Fault: fault, Hint: j.Refused.Hint, Err: &RefusedError{j.Job.Name, j.Deed, *j.Refused}}
}

// endSubmissions ends the submitter, and refuses what it has not come to.
func (s *Session) endSubmissions(ctx context.Context) {
	if s.stopSubmitting == nil {
		return
	}
	s.stopSubmitting()
	s.submitting.Wait()
	var never []Job
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if _, ok := s.unstored[j.Job.Token]; ok && j.Waiting() {
				never = append(never, j.Job)
			}
		}
	})
	s.refuse(ctx, never, errors.New("the run ended before it was submitted"))
}

// findGrace is how long a job may take to show in the scheduler whose submission was not answered.
const findGrace = 6 * time.Second

// findLost decides on those of the named jobs that may or may not have been submitted. Those that the scheduler does not
// know after a grace do not exist, and are refused.
func (s *Session) findLost(ctx context.Context, names []string) error {
	finder, ok := s.Target.Scheduler.(Finder)
	for try := 0; ok && try < 2; try++ {
		lost := s.lost(names)
		if len(lost) == 0 {
			return nil
		}
		if try > 0 {
			if err := s.pause(ctx, findGrace); err != nil {
				return err
			}
		}
		found, err := finder.Find(ctx, "aifb-"+s.Run+"-")
		if err != nil {
			return err
		}
		var recs []Record
		for _, f := range found {
			if j, ok := lost[f.Token]; ok {
				recs = append(recs, event(KindJobSubmitted, j.Name, Submitted{ID: f.ID}))
			}
		}
		s.append(ctx, recs...) // a store that fails is no reason to leave the jobs
	}
	s.refuse(ctx, slices.Collect(maps.Values(s.lost(names))), errors.New("it was stopped before it was submitted"))
	return nil
}

// lost returns those of the named jobs, by token, that may or may not have been submitted.
func (s *Session) lost(names []string) map[string]Job {
	lost := make(map[string]Job)
	s.view(func(st *RunState) {
		for _, name := range names {
			if j := st.Job(name); j.Waiting() {
				lost[j.Job.Token] = j.Job
			}
		}
	})
	return lost
}
