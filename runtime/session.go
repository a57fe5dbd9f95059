package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"sync"
	"time"
)

// A Session is a run under way: the engine behind a recipe. All deeds on a target happen here.
//
// An intent is appended to the store before the deed and the result after it, so that whoever folds the records knows
// what may be running. Its methods may be called concurrently; the exported fields are set before the first call.
type Session struct {
	Run    string
	Start  RunStart
	Target Target
	Store  Store
	Files  string // the directory on this machine for the files of runs; those of this one go to Files/Run

	// Binary returns the path of an aifb executable on this machine for the operating system and architecture, as
	// GOOS and GOARCH name them. It is asked only if the target is another machine.
	Binary func(os, arch string) (string, error)

	// Clock is what the run goes by, and its target; nil is the real one.
	Clock Clock

	// Simulated says that no job really runs: what is asked of its measurements, and is not there, is made up.
	Simulated bool

	// Rehearsal says that nothing is to come of the run on this machine: no file is brought here but to Files, and a secret
	// need have no value.
	Rehearsal bool

	// KeepFiles leaves the files of the run on the target when it is closed, also if no job is left there.
	KeepFiles bool

	// Notify, if not nil, is told of each record after it was stored, and of the state that it led to, in order. It
	// must not block, nor call the session.
	Notify func(Record, *RunState)

	// Warn, if not nil, is told what went wrong without ending the run; Tell, of what takes its time.
	Warn, Tell func(string)

	mu        sync.Mutex // guards what follows
	state     RunState
	changed   chan struct{}       // closed and replaced whenever the state changes; never nil
	home      *home               // what is known of the target; nil before the first deed
	aifb      string              // the path of aifb on the target, once it is there
	images    map[string]bool     // the files of images that are there
	before    map[string]Deed     // what was done before the run was resumed, and not yet again
	told      map[string]bool     // the jobs whose refusal was reported
	cancelled map[JobID]time.Time // when a job was last cancelled by this process
	numbers   map[string]int      // the next one to try for a name that is taken
	unstored  map[string]Record   // the intents that are only in the state, by token
	toSubmit  []string            // the names of jobs that the submitter has not yet seen
	freed     bool                // a job has ended since the submitter last looked
	closing   bool                // nothing is submitted any more
	broken    error               // what the store failed with, or a panic: the run is over, and is ended from what is known
	unsaved   []Record            // what has happened since
	lists     budget              // of the questions that the recipe asks the scheduler

	secrets secrets // what must not show

	tallied   map[string]Tally // what of the scheduler's counts is stored, or is from before
	talliedAt time.Time
	warned    map[string]bool // the commands of which it was warned that lines were skipped

	opening        sync.Mutex // held while home, aifb or images are found out
	submitting     sync.WaitGroup
	submitNow      chan struct{} // tells the submitter that there is something to do; nil before the first job
	stopSubmitting context.CancelFunc
	watching       sync.WaitGroup
	wake           chan struct{}      // tells the watcher that there is something new
	stop           context.CancelFunc // of the watcher
}

// Open appends the start of the run. It contacts nothing but the store; the target is contacted by the first deed.
func (s *Session) Open(ctx context.Context) error {
	s.init()
	return s.append(ctx, event(KindRunStarted, "", s.Start))
}

func (s *Session) init() {
	s.wake, s.changed = make(chan struct{}, 1), make(chan struct{})
	s.images, s.told, s.cancelled = make(map[string]bool), make(map[string]bool), make(map[JobID]time.Time)
	s.unstored, s.numbers = make(map[string]Record), make(map[string]int)
	s.lists = budget{size: 20, every: 10 * time.Second}
	s.tallied, s.talliedAt, s.warned = s.counted(), s.now(), make(map[string]bool)
}

// Reopen goes on with the run that the records tell of, and whose process has ended without ending the run. The jobs
// that may be running are looked after again, those whose submission is in doubt are submitted, and the deeds that were
// done are not done again.
func (s *Session) Reopen(ctx context.Context, recs iter.Seq2[Record, error]) error {
	if err := s.read(recs); err != nil {
		return err
	}
	if err := s.recallSecrets(); err != nil {
		return err
	}
	s.before = maps.Clone(s.state.deeds)
	if err := s.append(ctx, event(KindRunResumed, "", nil)); err != nil {
		return err
	}
	if len(s.state.Jobs) == 0 && !s.state.touched {
		return nil
	}
	if _, err := s.open(ctx); err != nil || len(s.state.Jobs) == 0 {
		return err
	}
	var doubtful []string
	for _, j := range s.state.Jobs {
		if j.Waiting() {
			doubtful = append(doubtful, j.Job.Name)
		}
	}
	s.watch()
	if len(doubtful) > 0 {
		s.enqueue(doubtful...)
	}
	return nil
}

// Stop cancels the jobs and waits until they have ended.
func (s *Session) Stop(ctx context.Context, hs ...*Handle) error {
	var names []string
	for _, h := range hs {
		names = append(names, h.jobs...)
	}
	return s.cancel(ctx, names)
}

// cancel ends those of the named jobs that are live, and waits until the files of all are here. Of a job that is still
// to be submitted it waits for the answer first, unless the submitter has ended. Where a cancellation fails, the watcher
// tries it again.
func (s *Session) cancel(ctx context.Context, names []string) error {
	late := fmt.Errorf("not within %v", stopGrace)
	ctx, done := withTimeout(ctx, s.Clock, stopGrace, late)
	defer done()
	var failed error
	if len(s.lost(names)) > 0 { // which may take its time
		failed = s.cancelLive(ctx, names, nil)
	}
	err := s.await(ctx, func(st *RunState) (bool, error) {
		for _, name := range names {
			if j := st.Job(name); j.Waiting() && j.Held == nil && !s.closing {
				return false, nil
			}
		}
		return true, nil
	})
	if err == nil {
		err = s.findLost(ctx, names)
	}
	failed = errors.Join(s.cancelLive(ctx, names, nil), err, failed)
	if failed != nil && (ctx.Err() != nil || err != nil || ClassOf(failed) == Permanent) {
		return failed
	}
	err = s.await(ctx, func(st *RunState) (bool, error) {
		for _, name := range names {
			if j := st.Job(name); j.ID != "" && j.Collected == nil {
				return false, nil
			}
		}
		return true, nil
	})
	if errors.Is(err, late) {
		return s.notEnded(names, failed)
	}
	return err
}

// notEnded says what has become of those of the named jobs that were cancelled in vain, and why they may not have been.
func (s *Session) notEnded(names []string, failed error) error {
	const most = 5
	var left []string
	s.view(func(st *RunState) {
		for _, name := range names {
			j := st.Job(name)
			switch {
			case j.ID == "" || j.Collected != nil:
			case j.Live():
				reason := ""
				if j.Status.State == Running && j.Status.Reason != "" {
					reason = " (" + j.Status.Reason + ")" // such as COMPLETING
				}
				left = append(left, fmt.Sprintf("%s (job %s) is %s%s%s", name, j.ID, j, reason, st.stale(s.now())))
			default:
				left = append(left, fmt.Sprintf("%s (job %s) %s, but its files are not here", name, j.ID, j))
			}
		}
	})
	if more := len(left) - most; more > 0 {
		left = append(left[:most], fmt.Sprintf("and %d more", more))
	}
	err := Faultf(FaultInfra, "look for them in squeue, then run `aifb stop "+s.Run+"`",
		"the jobs did not end within %v after they were cancelled: %s", stopGrace, strings.Join(left, "; "))
	return errors.Join(err, failed)
}

// CancelAgain is after how long a job is cancelled again that still runs. It is longer than a scheduler usually takes to
// kill what does not end by itself; and a cancellation that comes while a job is being launched may have no effect.
const CancelAgain = 40 * time.Second

// cancelFailed is the same for a cancellation that failed.
const cancelFailed = 10 * time.Second

// cancelLive ends those of the named jobs that are live, but for those that were told to a moment ago. Why says who wants
// it, if it is neither the recipe nor the user.
func (s *Session) cancelLive(ctx context.Context, names []string, why error) error {
	var ids []JobID
	var recs []Record
	s.view(func(st *RunState) {
		for _, name := range names {
			j := st.Job(name)
			if !j.Live() || !s.mayCancel(j) {
				continue
			}
			ids = append(ids, j.ID)
			s.cancelled[j.ID] = s.now()
			if j.Stopping {
				continue
			}
			rec := event(KindJobStopping, name, nil)
			if why != nil {
				rec = event(KindJobStopping, name, problem(why))
			}
			recs = append(recs, rec)
		}
	})
	if len(ids) == 0 {
		return nil
	}
	s.append(ctx, recs...) // a store that fails is no reason to leave the jobs; await and Close say it
	err := s.Target.Scheduler.Cancel(ctx, ids...)
	if err != nil {
		s.view(func(*RunState) {
			for _, id := range ids {
				s.cancelled[id] = s.now().Add(cancelFailed - CancelAgain)
			}
		})
		return fmt.Errorf("cancel: %w", err)
	}
	s.nudge()
	return nil
}

// mayCancel reports whether it is time to cancel a job, or to do so again. The caller holds mu.
func (s *Session) mayCancel(j *JobState) bool {
	last, ok := s.cancelled[j.ID]
	return !ok || s.since(last) >= CancelAgain
}

// Record appends a measurement of the recipe's own.
func (s *Session) Record(ctx context.Context, d Deed, m Measurement) error {
	d = d.describe("record", "", m)
	if done, err := s.done(d); done || err != nil {
		return err
	}
	recs := []Record{m.record("")}
	if d.Key != "" {
		recs = append(recs, event(KindDeed, "", d))
	}
	return s.append(ctx, recs...)
}

// Measurements returns what was measured in this run so far and w selects: the recipe's own first, and then job by job
// in the order of their start. So they are the same however fast each of the jobs was.
func (s *Session) Measurements(w Where) (recs []Record) {
	s.view(func(st *RunState) { recs = w.Filter(st.Ordered()) })
	if s.Simulated {
		recs = append(recs, s.invent(w, recs)...)
	}
	return recs
}

// stopGrace is how long the jobs of a run may take to end, once they are cancelled, before the run gives up on them.
const stopGrace = 2 * time.Minute

// Close ends the run: it cancels what still runs, unless keep, brings the files here, removes them from the target, and
// appends how the run ended, which is the recipe's error. It returns the names of the jobs that it stopped, and what it
// could not do. The connection and the store stay open.
func (s *Session) Close(ctx context.Context, recipeErr error, keep bool) (stopped []string, err error) {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.endSubmissions(ctx)
	end := RunEnd{Fault: FaultOf(recipeErr)}
	if recipeErr != nil {
		end.Error = s.Redact(recipeErr.Error())
	}
	if keep {
		err = s.findLost(ctx, s.names())
	} else {
		stopped, err = s.sweep(ctx)
	}
	if err == nil {
		err = s.confirm(ctx)
	}
	if err == nil && !keep {
		err = s.unfetched()
	}
	if s.stop != nil {
		s.stop()
	}
	s.watching.Wait()
	s.tally(ctx, true)
	switch {
	case keep && s.home != nil:
		err = errors.Join(err, keepRun(ctx, s.Target.Conn, s.home.runDir))
	case keep, s.KeepFiles:
	case err == nil:
		err = s.removeRunDir(ctx)
	}
	if err != nil {
		end.Left = err.Error()
	}
	s.save(ctx)
	var ended bool // before, and what it left has ended now
	s.view(func(st *RunState) { ended = st.End != nil && *st.End == end })
	if ended {
		return stopped, err
	}
	if failed := s.append(ctx, event(KindRunEnded, "", end)); failed != nil && !errors.Is(recipeErr, failed) {
		err = errors.Join(err, failed)
	}
	return stopped, err
}

// sweep cancels every live job and waits until the files of all are here.
func (s *Session) sweep(ctx context.Context) (stopped []string, err error) {
	before := make(map[string]bool)
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			before[j.Job.Name] = j.Stopping
		}
	})
	err = s.cancel(ctx, s.names())
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Stopping && !before[j.Job.Name] {
				stopped = append(stopped, j.Job.Name)
			}
		}
	})
	return stopped, err
}

// unfetched returns an error if files of jobs could not be brought here, which are on the target only.
func (s *Session) unfetched() error {
	var names []string
	var why string
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Collected != nil && j.Collected.Left {
				names, why = append(names, j.Job.Name), j.Collected.Problem
			}
		}
	})
	if len(names) == 0 {
		return nil
	}
	return Faultf(FaultInfra, "", "the files of %s are left on %s, for `aifb stop %s` to fetch: %s",
		strings.Join(names, ", "), s.Target.Name, s.Run, why)
}

// names returns the names of all jobs.
func (s *Session) names() (names []string) {
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			names = append(names, j.Job.Name)
		}
	})
	return names
}
