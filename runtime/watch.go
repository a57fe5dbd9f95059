package runtime

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"path"
	"slices"
	"time"
)

const (
	// lostAfter is how long a job that was submitted may be unknown to its scheduler, and have left no exit.json,
	// before it counts as lost. It covers the lag of accounting and of shared file systems.
	lostAfter = 5 * time.Minute

	// goneAfter is the same for a job that the run has cancelled, and behindAfter if its scheduler may yet tell how it
	// ended. It can take hours until a database is up again, and who stops a run does not wait for that.
	goneAfter, behindAfter = 15 * time.Second, time.Minute

	// filesLimit bounds the reading of a few small files, which hangs where a file server does.
	filesLimit = time.Minute

	// wordAfter is how long a job that said how it ended may run on for its scheduler, which usually knows more of the end.
	wordAfter = 2 * time.Minute

	// requeueGrace is how long a job that its node failed, and that may be run again, is waited for.
	requeueGrace = 2 * time.Minute

	// firstReminder is after how long that nothing was known the user is told a second time.
	firstReminder = time.Minute

	// manyJobs is from how many jobs on a query is so much work for the scheduler that it is asked half as often.
	manyJobs = 500
)

// A watcher follows the jobs of a session: by what they write, as soon as they do, where that can be watched; and by one
// query of the scheduler for all of them, often when something is expected and ever more rarely while nothing happens.
type watcher struct {
	*Session
	missing  map[string]time.Time // since when the scheduler has not known a job, or calls it failed, by token
	worded   map[string]time.Time // since when a job that said how it ended runs all the same, by token
	failing  bool                 // the last query failed
	failed   time.Time            // when the first of them did
	remind   time.Duration        // after how long the user is told again
	last     time.Time            // when the scheduler was asked
	next     time.Time            // when it is to be asked again
	interval time.Duration
	extra    budget
	events   chan []jobEvent
	watched  bool            // what jobs write is watched
	deaf     bool            // the last cancellation failed
	asked    map[string]bool // the jobs, by token, that ended badly and about which the scheduler was asked
}

// watch starts the watcher, or tells it that there are new jobs.
func (s *Session) watch() {
	s.mu.Lock()
	if s.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.stop = cancel
		w := s.newWatcher()
		s.watching.Go(s.guarded("the watcher", func() { w.run(ctx) }))
		s.watching.Go(s.guarded("the collector", func() { s.newCollector().run(ctx) }))
		s.watching.Go(s.guarded("the explainer", func() { s.explainWaits(ctx) }))
	}
	s.mu.Unlock()
	s.nudge()
}

func (s *Session) newWatcher() *watcher {
	return &watcher{Session: s, missing: make(map[string]time.Time),
		worded: make(map[string]time.Time), interval: s.Target.PollMin,
		extra: budget{size: 20, every: 30 * time.Second}, events: make(chan []jobEvent), asked: make(map[string]bool)}
}

// nudge makes the watcher look again soon.
func (s *Session) nudge() { notify(s.wake) }

// run looks at the jobs until ctx ends, and not at all while there is nothing to see.
func (w *watcher) run(ctx context.Context) {
	following := false
	for {
		if !following && (w.Target.Watch || w.leased()) {
			following = true
			w.watching.Go(w.guarded("the follower", func() { w.follow(ctx) }))
		}
		expired, stop := After(w.Clock, w.next.Sub(w.now()))
		if !w.busy() {
			expired = nil
		}
		select {
		case <-expired:
			w.poll(ctx)
			w.tally(ctx, false)
		case events := <-w.events:
			w.heard(ctx, events)
		case <-w.wake:
			w.expect()
		case <-ctx.Done():
			stop()
			return
		}
		stop()
		w.settle(ctx)
		w.endOrphans(ctx)
		w.cancelAgain(ctx)
	}
}

// expect makes the scheduler be asked as soon as it may be: something is about to happen. Where the jobs themselves
// say when they start, the reason for which they wait can wait a moment.
func (w *watcher) expect() {
	w.interval = w.Target.PollMin
	soon := w.last.Add(w.Target.PollMin)
	if w.watched {
		soon = w.now().Add(w.Target.PollMin)
	}
	if w.next.After(soon) || w.next.Before(w.last) || w.next.IsZero() {
		w.next = soon
	}
}

// hurry asks soon if that is within the budget: a job has ended otherwise than well, and the scheduler knows why.
func (w *watcher) hurry() {
	soon := w.last.Add(w.Target.PollMin)
	if w.next.After(soon) && w.extra.take(w.now()) {
		w.next = soon
	}
}

// plan decides when to ask again after a query, spread so that many users do not ask at the same moment.
func (w *watcher) plan(live int, changed bool) {
	longest := w.Target.PollMax
	switch {
	case w.watched && live > manyJobs:
		longest *= 4
	case w.watched:
		longest *= 2
	case changed && !w.Target.Watch:
		w.interval = w.Target.PollMin
	}
	if f, ok := w.Target.Scheduler.(Forgetful); ok && f.Remembers() > 0 {
		longest = max(min(longest, f.Remembers()/3), w.Target.PollMin)
	}
	jitter := 1.0 // on a clock of its own a run is to be the same each time
	if w.Clock == nil {
		jitter = 0.8 + 0.4*rand.Float64()
	}
	w.last = w.now()
	w.interval = min(w.interval, longest)
	w.next = w.last.Add(time.Duration(jitter * float64(w.interval)))
	w.interval = min(w.interval*3/2, longest)
}

// busy reports whether there is a job that may change.
func (w *watcher) busy() (yes bool) {
	w.view(func(st *RunState) { yes = slices.ContainsFunc(st.Jobs, (*JobState).Live) })
	return yes
}

// leased reports whether there is a job that ends when the run is not heard of.
func (w *watcher) leased() (yes bool) {
	w.view(func(st *RunState) {
		yes = slices.ContainsFunc(st.Jobs, func(j *JobState) bool { return j.Job.Lease > 0 })
	})
	return yes
}

// poll asks the scheduler once, and stores what changed.
func (w *watcher) poll(ctx context.Context) {
	var live []JobState
	var ids []JobID
	w.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Live() {
				live, ids = append(live, *j), append(ids, j.ID)
			}
		}
	})
	known, err := w.Target.Scheduler.Status(ctx, ids...)
	var files map[string][]byte
	if err == nil {
		files, err = w.readJobFiles(ctx, live, known)
	}
	if w.report(ctx, err) {
		w.plan(len(live), false)
		return
	}
	var changes []Record
	ending := false
	for _, j := range live {
		changes = append(changes, w.changes(j, known, files)...)
		ending = ending || j.Exit != nil
	}
	w.store(ctx, changes...)
	w.release(ctx, live, known)
	w.plan(len(live), len(changes) > 0)
	if ending {
		w.hurry()
	}
}

// release cancels those of the jobs that have ended by their own word, while to the scheduler they run: it may have lost
// their end, and keep their nodes for them.
func (w *watcher) release(ctx context.Context, live []JobState, known map[JobID]Status) {
	var ids []JobID
	w.view(func(st *RunState) {
		for _, j := range live {
			if known[j.ID].State == Running && st.Job(j.Job.Name).Status.State == Ended {
				ids = append(ids, j.ID)
			}
		}
	})
	if len(ids) == 0 {
		return
	}
	if err := w.Target.Scheduler.Cancel(ctx, ids...); err != nil && ctx.Err() == nil {
		w.warn("jobs that have ended, but run for %s, could not be cancelled: %v", w.Target.Name, err)
	}
}

// report stores, and warns, that a query failed, and that it succeeds again. What is known of the jobs stays as it is.
// While it fails, the user is told ever more rarely, since why may be another reason by then, which they can mend.
func (w *watcher) report(ctx context.Context, err error) (failed bool) {
	switch {
	case ctx.Err() != nil:
		return true
	case err != nil && !w.failing:
		w.failed, w.remind = w.now(), firstReminder
		w.store(ctx, event(KindTargetLost, "", problem(err)))
		w.warn("the state of the jobs on %s is not known at the moment: %v", w.Target.Name, err)
	case err != nil && w.now().Sub(w.failed) >= w.remind:
		w.warn("the state of the jobs on %s has not been known for %v: %v", w.Target.Name,
			w.now().Sub(w.failed).Round(time.Second), err)
		w.remind *= 2
	case err == nil && w.failing:
		w.store(ctx, event(KindTargetFound, "", nil))
		w.warn("the state of the jobs on %s is known again", w.Target.Name)
	}
	w.failing = err != nil
	return w.failing
}

// store appends records. A store that fails ends the run elsewhere.
func (s *Session) store(ctx context.Context, recs ...Record) { s.append(ctx, recs...) }

// readJobFiles reads start.json of the jobs that run and whose command is not known to, and exit.json of those that ended, or that
// the scheduler does not know.
func (w *watcher) readJobFiles(ctx context.Context, live []JobState, known map[JobID]Status) (map[string][]byte, error) {
	var names []string
	for _, j := range live {
		st := known[j.ID]
		if !j.begun() && st.State != Pending {
			names = append(names, path.Join(j.Job.Dir, FileStart))
		}
		if j.Exit == nil && (st.State == Unknown || st.State == Ended) {
			names = append(names, path.Join(j.Job.Dir, FileExit))
		}
	}
	ctx, done := withTimeout(ctx, w.Clock, filesLimit, Faultf(FaultInfra, "is the file system of its workdir up?",
		"no file of the jobs could be read within %v", filesLimit))
	defer done()
	return ReadFiles(ctx, w.Target.Conn, names...)
}

// changes returns the records of what is new about a job.
func (w *watcher) changes(j JobState, known map[JobID]Status, files map[string][]byte) (recs []Record) {
	var start Start
	if data, ok := files[path.Join(j.Job.Dir, FileStart)]; ok && json.Unmarshal(data, &start) == nil && (j.Started == nil || *j.Started != start) {
		recs = append(recs, event(KindJobStarted, j.Job.Name, start))
		j.Started = &start
	}
	var exit Exit
	if data, ok := files[path.Join(j.Job.Dir, FileExit)]; ok && json.Unmarshal(data, &exit) == nil {
		recs = append(recs, event(KindJobExited, j.Job.Name, exit))
		j.Exit = &exit
	}
	st, ok := known[j.ID]
	switch {
	case !ok || st.State == Unknown:
		st = w.vanished(j, !ok, st.Gone)
	case st.State == Running && j.Exit != nil && !j.Job.Needs.Requeue && w.since(w.worded, j, wordAfter):
		st = Status{State: Ended, Node: j.Host()}
	case st.State == Pending && j.Started != nil && !j.Job.Needs.Requeue: // the answer is older than the job's word
		return recs
	case st.State == Ended && j.Job.Needs.Requeue && infrastructure(st.Outcome):
		if !w.since(w.missing, j, requeueGrace) { // it may be about to run again
			return recs
		}
	default:
		delete(w.missing, j.Job.Token)
	}
	if st.State == Unknown {
		return recs
	}
	if st.State == Ended {
		st = merge(st, j)
	}
	if differs(st, j.Status) {
		recs = append(recs, event(KindJobStatus, j.Job.Name, st))
	}
	return recs
}

// differs reports whether a status says something new. When a job that waits might start is so only if it moved by a
// minute.
func differs(a, b Status) bool {
	if a.State == Pending && b.State == Pending && a.Start.Sub(b.Start).Abs() < time.Minute {
		a.Start = b.Start
	}
	a.By = b.By
	return a != b
}

// infrastructure reports whether an outcome is nothing that the job did.
func infrastructure(o Outcome) bool { return o == NodeFailure || o == Preempted }

// since reports whether something has been so with the job for d: from the first time that it is asked, which it keeps.
func (w *watcher) since(times map[string]time.Time, j JobState, d time.Duration) bool {
	since, ok := times[j.Job.Token]
	if !ok {
		since = w.now()
		times[j.Job.Token] = since
	}
	return w.now().Sub(since) >= d
}

// vanished decides on a job of which the scheduler cannot tell: it ended if it said so itself, and it is lost if it has
// been missing for long and is unknown, so that the scheduler will not tell later either. One that the run has cancelled
// need only be gone.
func (w *watcher) vanished(j JobState, unknown, gone bool) Status {
	patience := lostAfter
	switch {
	case j.Stopping && unknown:
		patience = goneAfter
	case j.Stopping:
		patience = behindAfter
	}
	if long := w.since(w.missing, j, patience); j.Exit != nil || long && (unknown || gone && j.Stopping) {
		return Status{State: Ended, Outcome: Lost, Node: j.Host()}
	}
	return Status{}
}

// merge adds the job's own word to what the scheduler says of an ended job. The scheduler's outcome stands, unless it
// knows none.
func merge(st Status, j JobState) Status {
	if exit := j.Exit; exit != nil {
		if !st.Exited {
			st.Exited, st.Code, st.Signal = true, exit.Code, exit.Signal
		}
		if st.End.IsZero() {
			st.End = seconds(exit.Time).UTC()
		}
		if st.Outcome == Lost || st.Outcome == "" {
			st.Outcome, st.By = Failed, FileExit
			if exit.Code == 0 {
				st.Outcome = Completed
			}
		}
	}
	if st.Start.IsZero() && j.Started != nil {
		st.Start = seconds(j.Started.Time).UTC()
	}
	if st.Outcome == "" {
		st.Outcome = Lost
	}
	if j.Stopping && (st.Outcome == Failed || st.Outcome == Lost) {
		st.Outcome = Cancelled
	}
	return st
}

// endOrphans cancels the clients whose service has ended: they can measure nothing any more.
func (w *watcher) endOrphans(ctx context.Context) {
	orphans := make(map[string][]string)
	why := make(map[string]error)
	w.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Role != RoleClient || !j.Live() || j.Stopping || j.Exit != nil {
				continue
			}
			for _, name := range j.Services {
				if service := st.Job(name); service != nil && service.Over() {
					orphans[name], why[name] = append(orphans[name], j.Job.Name), serviceEnd(service)
					break
				}
			}
		}
	})
	for service, names := range orphans {
		w.stop(ctx, names, why[service])
	}
}

// cancelAgain cancels the jobs again that were to end some time ago: what was said of it may not have arrived, be it
// because it failed, or because the process that was about to say it was killed.
func (w *watcher) cancelAgain(ctx context.Context) {
	var names []string
	w.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Live() && j.Stopping && w.mayCancel(j) {
				names = append(names, j.Job.Name)
			}
		}
	})
	w.stop(ctx, names, nil)
}

// stop cancels jobs. If that fails, the user is told once, and it is tried again.
func (w *watcher) stop(ctx context.Context, names []string, why error) {
	err := w.cancelLive(ctx, names, why)
	if err != nil && ctx.Err() == nil && !w.deaf {
		w.warn("%v; it is tried again", err)
	}
	if len(names) > 0 {
		w.deaf = err != nil
	}
}

// confirmTries is how often confirm asks a scheduler that does not answer: for half a minute.
const confirmTries = 5

// confirm asks the scheduler about the jobs of which only their own word is known, that they ended well. It knows more:
// that a process of theirs ran out of memory, say.
func (s *Session) confirm(ctx context.Context) error {
	names := make(map[JobID]string)
	var ids []JobID
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.ID != "" && j.Status.State == Ended && j.Status.By == FileExit && s.Target.Watch {
				names[j.ID], ids = j.Job.Name, append(ids, j.ID)
			}
		}
	})
	if len(ids) == 0 {
		return nil
	}
	known, err := s.Target.Scheduler.Status(ctx, ids...)
	for try := 1; err != nil && ClassOf(err) != Permanent && try < confirmTries; try++ {
		if s.pause(ctx, time.Second<<try) != nil {
			break
		}
		known, err = s.Target.Scheduler.Status(ctx, ids...)
	}
	if err != nil {
		return err
	}
	for id, st := range known {
		if name, ours := names[id]; ours && st.State == Ended && st.Outcome != Completed && st.Outcome != Lost {
			s.warn("%s had exit code 0, but %s says that it %s", name, s.Target.Name, describeEnd(st))
			if err := s.append(ctx, event(KindJobStatus, name, st)); err != nil {
				return err
			}
		}
	}
	return nil
}

// A budget allows size deeds at once, and one more each time that every has passed.
type budget struct {
	size  int
	every time.Duration
	used  int
	since time.Time // when the first of those used was
}

// take reports whether one more deed is allowed, and counts it.
func (b *budget) take(now time.Time) bool {
	if back := int(now.Sub(b.since) / b.every); back > 0 {
		b.used = max(b.used-back, 0)
		b.since = b.since.Add(time.Duration(back) * b.every)
	}
	if b.used == 0 {
		b.since = now
	}
	if b.used >= b.size {
		return false
	}
	b.used++
	return true
}
