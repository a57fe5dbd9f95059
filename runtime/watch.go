package runtime

import (
	"context"
	"encoding/json"
	"path"
	"time"
)

// lostAfter is how long a job that was submitted may be unknown to its scheduler, and have left no exit.json, before it
// counts as lost. It covers the lag of accounting and of shared file systems.
const lostAfter = time.Minute

// collectTries is how often the files of an ended job are fetched before those that a shared file system does not
// show, or an error that does not go away, are given up.
const collectTries = 5

// A watcher follows the jobs of a session: one status query per tick for all of them.
type watcher struct {
	*Session
	missing map[string]time.Time // since when the scheduler has not known a job, by name
	tries   map[string]int       // to collect a job, by name
	failing bool                 // the last query failed
}

// watch starts the watcher, or tells it that there are new jobs.
func (s *Session) watch() {
	s.mu.Lock()
	if s.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.stop = cancel
		w := &watcher{Session: s, missing: make(map[string]time.Time), tries: make(map[string]int)}
		s.watching.Add(1)
		go func() {
			defer s.watching.Done()
			w.run(ctx)
		}()
	}
	s.mu.Unlock()
	s.nudge()
}

// nudge makes the watcher look again soon.
func (s *Session) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run looks at the jobs until ctx ends: soon after something happened, ever more rarely while nothing does, not at all
// while there is nothing to see.
func (w *watcher) run(ctx context.Context) {
	interval := w.Target.PollMin
	for {
		interval = min(interval*3/2, w.Target.PollMax)
		if w.tick(ctx) {
			interval = w.Target.PollMin
		}
		timer := time.NewTimer(interval)
		expired := timer.C
		if !w.busy() {
			expired = nil
		}
		select {
		case <-expired:
		case <-w.wake:
			interval = w.Target.PollMin
		case <-ctx.Done():
			return
		}
		timer.Stop()
	}
}

// busy reports whether there is a job that may change or whose files are not here yet.
func (w *watcher) busy() (yes bool) {
	w.view(func(st *RunState) {
		for _, j := range st.Jobs {
			yes = yes || j.ID != "" && j.Collected == nil
		}
	})
	return yes
}

// tick asks the scheduler once, stores what changed, and fetches the files of jobs that ended. It reports whether
// anything changed.
func (w *watcher) tick(ctx context.Context) bool {
	var live []JobState
	var ids []JobID
	w.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Live() {
				live, ids = append(live, *j), append(ids, j.ID)
			}
		}
	})
	var changes []Record
	if len(live) > 0 {
		known, err := w.Target.Scheduler.Status(ctx, ids...)
		var files map[string][]byte
		if err == nil {
			files, err = w.readJobFiles(ctx, live, known)
		}
		if w.report(ctx, err) {
			return false
		}
		for _, j := range live {
			changes = append(changes, w.changes(j, known, files)...)
		}
		if len(changes) > 0 {
			w.append(ctx, changes...) // a store that fails ends the run: await and Close say it
		}
	}
	return w.collectEnded(ctx) || len(changes) > 0
}

// report warns once of a query that fails, and once when it succeeds again. What is known of the jobs stays as it is.
func (w *watcher) report(ctx context.Context, err error) (failed bool) {
	switch {
	case ctx.Err() != nil:
		return true
	case err != nil && !w.failing:
		w.warn("the state of the jobs on %s is not known at the moment: %v", w.Target.Name, err)
	case err == nil && w.failing:
		w.warn("the state of the jobs on %s is known again", w.Target.Name)
	}
	w.failing = err != nil
	return w.failing
}

// readJobFiles reads start.json of the jobs that run and are not known to, and exit.json of those that ended, or that
// the scheduler does not know.
func (w *watcher) readJobFiles(ctx context.Context, live []JobState, known map[JobID]Status) (map[string][]byte, error) {
	var names []string
	for _, j := range live {
		st, ok := known[j.ID]
		if j.Started == nil && st.State != Pending {
			names = append(names, path.Join(j.Job.Dir, FileStart))
		}
		if !ok || st.State == Ended {
			names = append(names, path.Join(j.Job.Dir, FileExit))
		}
	}
	return ReadFiles(ctx, w.Target.Conn, names...)
}

// changes returns the records of what is new about a job.
func (w *watcher) changes(j JobState, known map[JobID]Status, files map[string][]byte) (recs []Record) {
	var start Start
	if data, ok := files[path.Join(j.Job.Dir, FileStart)]; ok && json.Unmarshal(data, &start) == nil {
		recs = append(recs, event(KindJobStarted, j.Job.Name, start))
	}
	var exit *Exit
	if data, ok := files[path.Join(j.Job.Dir, FileExit)]; ok && json.Unmarshal(data, &exit) != nil {
		exit = nil
	}
	st, ok := known[j.ID]
	if ok {
		delete(w.missing, j.Job.Name)
	} else if st = w.vanished(j, exit); st.State == Unknown {
		return recs
	}
	if st.State == Ended {
		st = merge(st, exit, j.Stopping)
	}
	if st != j.Status {
		recs = append(recs, event(KindJobStatus, j.Job.Name, st))
	}
	return recs
}

// vanished decides on a job that the scheduler does not know: it ended if it said so itself, and it is lost if it has
// been missing for long.
func (w *watcher) vanished(j JobState, exit *Exit) Status {
	if exit != nil {
		return Status{State: Ended, Outcome: Lost, Node: j.Host()}
	}
	since, ok := w.missing[j.Job.Name]
	if !ok {
		w.missing[j.Job.Name] = time.Now()
		return Status{}
	}
	if time.Since(since) < lostAfter {
		return Status{}
	}
	return Status{State: Ended, Outcome: Lost, Node: j.Host()}
}

// merge adds the job's own word to what the scheduler says of an ended job. The scheduler's outcome stands, unless it
// knows none.
func merge(st Status, exit *Exit, stopping bool) Status {
	if exit != nil {
		if !st.Exited {
			st.Exited, st.Code, st.Signal = true, exit.Code, exit.Signal
		}
		if st.Outcome == Lost || st.Outcome == "" {
			st.Outcome = Failed
			if exit.Code == 0 {
				st.Outcome = Completed
			}
		}
	}
	if st.Outcome == "" {
		st.Outcome = Lost
	}
	if stopping && (st.Outcome == Failed || st.Outcome == Lost) {
		st.Outcome = Cancelled
	}
	return st
}

// collectEnded fetches the files of the jobs that have ended since, and reports whether there were any.
func (w *watcher) collectEnded(ctx context.Context) bool {
	var ended []JobState
	w.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.ID != "" && j.Status.State == Ended && j.Collected == nil {
				ended = append(ended, *j)
			}
		}
	})
	if len(ended) == 0 {
		return false
	}
	err := w.fetch(ctx, ended)
	if ctx.Err() != nil {
		return false
	}
	var recs []Record
	for _, j := range ended {
		w.tries[j.Job.Name]++
		if w.tries[j.Job.Name] < collectTries && (err != nil || w.incomplete(j)) {
			continue
		}
		collected, measured := w.collected(j, err)
		recs = append(append(recs, measured...), event(KindJobCollected, j.Job.Name, collected))
	}
	if len(recs) > 0 {
		w.append(ctx, recs...)
	}
	return true
}
