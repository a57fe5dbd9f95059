package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Wait bounds a wait. Time in the queue and time running are two limits.
type Wait struct {
	Timeout time.Duration // from the moment a job runs; 0: DefaultReady to answer, no limit of its own to end
	Queue   time.Duration // from the moment it was submitted; 0: DefaultQueue
	NoCheck bool          // a job that failed is no error
	Deed    Deed          `json:"-"` // the call; a wait that was over before the run was resumed is over
}

const (
	DefaultReady = 10 * time.Minute
	DefaultQueue = 24 * time.Hour
)

// WaitRunning waits until all jobs run and the services among them answer. A job that ends is an error.
func (s *Session) WaitRunning(ctx context.Context, w Wait, hs ...*Handle) error {
	return s.once(ctx, w, "wait_running", hs, func() error { return s.waitRunning(ctx, w, hs) })
}

// once waits, unless it did before the run was resumed: since then, what was waited for may have ended as it should.
func (s *Session) once(ctx context.Context, w Wait, builtin string, hs []*Handle, wait func() error) error {
	var names []string
	for _, h := range hs {
		names = append(names, h.Name)
	}
	d := w.Deed.describe(builtin, "", struct {
		Wait
		For []string
	}{w, names})
	if done, err := s.done(d); done || err != nil {
		return err
	}
	if err := wait(); err != nil || d.Key == "" {
		return s.lateness(ctx, d, err)
	}
	return s.append(ctx, event(KindDeed, "", d))
}

func (s *Session) waitRunning(ctx context.Context, w Wait, hs []*Handle) error {
	for _, h := range hs {
		for _, name := range h.jobs {
			if err := s.waitStarted(ctx, w, name); err != nil {
				return err
			}
			if h.Role != RoleService {
				continue
			}
			if err := s.waitReady(ctx, w, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitStarted waits until the job is on a node.
func (s *Session) waitStarted(ctx context.Context, w Wait, name string) error {
	return s.awaitQueue(ctx, w, name, func(st *RunState) (bool, error) {
		j := st.Job(name)
		return j.Started != nil && j.Status.State == Running, s.failed(st, name)
	})
}

// awaitQueue waits for done, but not longer in the queue than w says, each time that the job is there: its node may fail.
func (s *Session) awaitQueue(ctx context.Context, w Wait, name string, done func(*RunState) (bool, error)) error {
	queue := w.Queue
	if queue == 0 {
		queue = DefaultQueue
	}
	finished := false
	until := func(waits bool) func(*RunState) (bool, error) {
		return func(st *RunState) (ok bool, err error) {
			finished, err = done(st)
			state := st.Job(name).Status.State
			return finished || err == nil && waits == (state == Pending || state == Unknown), err
		}
	}
	for {
		limited, cancel := s.withTimeout(ctx, s.queueLeft(name, queue))
		err := s.await(limited, until(false))
		late := limited.Err() != nil
		cancel()
		if err != nil && late && ctx.Err() == nil {
			return s.queueError(ctx, name, queue)
		}
		if err == nil && !finished {
			err = s.await(ctx, until(true))
		}
		if err != nil || finished {
			return s.explain(ctx, err)
		}
	}
}

func (s *Session) queueLeft(name string, limit time.Duration) (left time.Duration) {
	s.view(func(st *RunState) {
		j := st.Job(name)
		since := j.Intended
		if j.Requeued.After(since) {
			since = j.Requeued
		}
		left = limit - s.since(since)
	})
	return left
}

// queueError says that a job is pending for too long, and why.
func (s *Session) queueError(ctx context.Context, name string, limit time.Duration) error {
	var j JobState
	var stale string
	s.view(func(st *RunState) { j, stale = *st.Job(name), st.stale(s.now()) })
	hint := reasonHint(j.Status.Reason)
	if j.Held != nil {
		hint = j.Held.Hint
	}
	if q, ok := s.queued(ctx, j.ID)[j.ID]; ok {
		j.Queued = &q
	}
	who, state, why := name, j.String(), ""
	if j.ID != "" {
		who += fmt.Sprintf(" (job %s)", j.ID)
	}
	if j.Queued != nil {
		state, why = "pending", ": "+j.Queued.String()
	}
	return Faultf(FaultTimeout, hint, "%s is %s for longer than %v%s%s", who, state, limit, stale, why)
}

// reasonHint says what a user can do about a job that waits for the reason. It knows the common ones.
func reasonHint(reason string) string {
	word, _, _ := strings.Cut(reason, ",")
	switch {
	case word == "Resources" || word == "Priority":
		return "the nodes are taken; wait longer with queue_timeout, or ask for less"
	case word == "ReqNodeNotAvail" || word == "NodeDown" || word == "PartitionDown":
		return "the nodes that it may use are down or reserved; see `sinfo`"
	case strings.HasPrefix(word, "QOS") || strings.HasPrefix(word, "Assoc"):
		return "a limit of your account or qos holds it back; see `sacctmgr show assoc user=$USER`"
	case word == "PartitionTimeLimit":
		return "time is more than the partition allows; see `sinfo -o '%P %l'`"
	case word == "PartitionNodeLimit" || word == "BadConstraints":
		return "no node can ever satisfy it; ask for less"
	}
	return ""
}

// failed returns an error if the job was refused or has ended for good. A later explain adds its last lines.
func (s *Session) failed(st *RunState, name string) error {
	switch j := st.Job(name); {
	case j.Refused != nil:
		s.told[name] = true
		return refusedError(j)
	case j.Over():
		return endedError(j)
	}
	return nil
}

// endedError says how a job ended, and why it was ended if it did not do so by itself.
func endedError(j *JobState) error {
	if j.Why != "" {
		return Faultf(FaultRun, "", "%s cannot go on: %s", j.Job.Name, j.Why)
	}
	return &JobError{Name: j.Job.Name, ID: j.ID, Deed: j.Deed, Status: j.Status, Tries: len(j.Earlier) + 1}
}

// logLines is how many lines of a job's log are in an error.
const logLines = 8

// wroteNoMore says what may be the matter with a job that did not write all that it had to say.
const wroteNoMore = "it could write no more when it ended: is the disk of its workdir full, or a quota used up?"

// explain adds the last lines of the job to a JobError, once they are here.
func (s *Session) explain(ctx context.Context, err error) error {
	job := (*JobError)(nil)
	if !errors.As(err, &job) {
		return err
	}
	wait, cancel := s.withTimeout(ctx, 10*time.Second)
	defer cancel()
	var j JobState
	s.await(wait, func(st *RunState) (bool, error) {
		j = *st.Job(job.Name)
		return j.Collected != nil, nil
	})
	job.Log = lastLines(s.localDir(j.Job), logLines)
	if j.full() || job.Log == "" && j.Exit == nil && j.Status.Outcome == Failed {
		return Faultf(FaultRun, wroteNoMore, "%w", err)
	}
	return Faultf(FaultRun, fmt.Sprintf("see all of it with: aifb logs %s %s", s.Run, job.Name), "%w", err)
}

// WaitDone waits until all jobs have ended and what they measured is here. A job that failed is an error, and so is a
// service that ends before the client that measures it.
func (s *Session) WaitDone(ctx context.Context, w Wait, hs ...*Handle) error {
	return s.once(ctx, w, "wait_done", hs, func() error { return s.waitDone(ctx, w, hs) })
}

func (s *Session) waitDone(ctx context.Context, w Wait, hs []*Handle) error {
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = withTimeout(ctx, s.Clock, w.Timeout, Faultf(FaultTimeout, "", "not done within %v", w.Timeout))
		defer cancel()
	}
	for _, h := range hs {
		for _, name := range h.jobs {
			if err := s.waitEnded(ctx, w, h, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Session) waitEnded(ctx context.Context, w Wait, h *Handle, name string) error {
	err := s.awaitQueue(ctx, w, name, func(st *RunState) (bool, error) {
		j := st.Job(name)
		switch {
		case j.Refused != nil:
			return false, s.failed(st, name)
		case j.Over():
			return j.Collected != nil, nil
		}
		return false, serviceFailed(st, h, j)
	})
	if err != nil || w.NoCheck {
		return err
	}
	var j JobState
	s.view(func(st *RunState) { j = *st.Job(name) })
	switch {
	case j.Status.Outcome != Completed:
		return s.explain(ctx, endedError(&j))
	case j.Collected.Problem != "":
		return Faultf(FaultRun, fmt.Sprintf("see what it printed with: aifb logs %s %s", s.Run, name),
			"%s: %s", name, j.Collected.Problem)
	}
	return nil
}

// serviceFailed returns an error if a service of a client that has not ended has.
func serviceFailed(st *RunState, client *Handle, j *JobState) error {
	for _, h := range client.services {
		if service := st.Job(h.jobs[0]); service.Over() {
			return fmt.Errorf("%s cannot go on: %w", j.Job.Name, serviceEnd(service))
		}
	}
	return nil
}

// serviceEnd says what became of a service whose clients cannot go on.
func serviceEnd(service *JobState) error {
	if service.Refused != nil {
		return refusedError(service)
	}
	return endedError(service)
}
