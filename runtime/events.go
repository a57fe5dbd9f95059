package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"path"
	"strings"
	"time"
)

// A jobEvent is a line that a job wrote about itself: that it started, or that it ended.
type jobEvent struct {
	Job   string `json:"job"` // the last part of its directory
	Start *Start `json:"start"`
	Exit  *Exit  `json:"exit"`
}

// follow hands what the jobs write to the watcher until ctx ends. When the connection is lost it connects anew.
func (w *watcher) follow(ctx context.Context) {
	for wait := minPause; ; wait = min(2*wait, maxPause) {
		lines := &lineWriter{lines: func(lines [][]byte) {
			if events := parseEvents(lines); events != nil {
				wait = minPause
				w.send(ctx, events)
			}
		}}
		watchRun(ctx, w.Target.Conn, w.home.runDir, lines)
		if ctx.Err() != nil {
			return
		}
		w.send(ctx, nil) // what jobs write is not watched
		if w.pause(ctx, wait) != nil {
			return
		}
	}
}

// parseEvents reads lines of watchProgram: a dot is no event. What a login shell prints is nil.
func parseEvents(lines [][]byte) (events []jobEvent) {
	for _, line := range lines {
		var e jobEvent
		switch {
		case string(line) == ".":
			events = append([]jobEvent{}, events...)
		case json.Unmarshal(line, &e) == nil && e.Job != "":
			events = append(events, e)
		}
	}
	return events
}

func (w *watcher) send(ctx context.Context, events []jobEvent) {
	select {
	case w.events <- events:
	case <-ctx.Done():
	}
}

// heard stores what jobs say of themselves. Nil says that nothing is to be heard from them any more, an empty list that
// it is.
func (w *watcher) heard(ctx context.Context, events []jobEvent) {
	if was := w.watched; was != (events != nil) {
		w.watched = !was
		w.expect() // what happened meanwhile is in no event
	}
	var recs []Record
	for _, e := range events {
		recs = append(recs, w.said(e)...)
	}
	w.store(ctx, recs...)
}

// said returns the records of an event.
func (w *watcher) said(e jobEvent) (recs []Record) {
	w.view(func(st *RunState) {
		name, _, _ := strings.Cut(e.Job, retryMark)
		j := st.Job(name)
		if j == nil || path.Base(j.Job.Dir) != e.Job || j.Over() {
			return
		}
		if e.Start != nil && (j.Started == nil || *j.Started != *e.Start) {
			recs = append(recs, event(KindJobStarted, name, e.Start))
		}
		if e.Exit != nil && j.Exit == nil {
			recs = append(recs, event(KindJobExited, name, e.Exit))
		}
	})
	return recs
}

// settle believes the jobs: that they run, and that they ended well. Of any other end the scheduler knows more, and is
// asked.
func (w *watcher) settle(ctx context.Context) {
	var recs []Record
	hurry := false
	w.view(func(st *RunState) {
		for _, j := range st.Jobs {
			switch {
			case !j.Live() || j.Started == nil:
			case j.Exit != nil && j.Exit.Code == 0 && j.Exit.Signal == 0:
				recs = append(recs, event(KindJobStatus, j.Job.Name, merge(Status{State: Ended, Node: j.Host()}, *j)))
			case j.Exit != nil:
				hurry = hurry || !w.asked[j.Job.Token]
				w.asked[j.Job.Token] = true
			case j.Status.State != Running:
				recs = append(recs, event(KindJobStatus, j.Job.Name, Status{State: Running, Node: j.Started.Host,
					Attempt: j.Started.Attempt, Start: seconds(j.Started.Time).UTC(), By: FileStart}))
			}
		}
	})
	if hurry {
		w.hurry()
	}
	w.store(ctx, recs...)
}

// maxLine bounds a line that a job or a login shell may make the run remember.
const maxLine = 64 << 10

// A lineWriter calls lines for the lines of each write to it, without their ends. It skips those that are too long.
type lineWriter struct {
	lines func([][]byte)
	buf   []byte
	skip  bool
}

func (l *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	var whole [][]byte
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte("\n"))
		if len(l.buf)+len(part) > maxLine {
			l.skip, l.buf = true, nil
		}
		if !l.skip {
			l.buf = append(l.buf, part...)
		}
		if ended {
			if !l.skip {
				whole = append(whole, l.buf)
			}
			l.buf, l.skip = nil, false
		}
		p = rest
	}
	if len(whole) > 0 {
		l.lines(whole)
	}
	return n, nil
}

// lateness returns the measurement of how late a job of a group began, if it was in time with the others at all.
func lateness(j *JobState) []Measurement {
	if j.Exit == nil || j.Exit.Late == nil {
		return nil
	}
	return []Measurement{{Metric: "start_skew", Value: *j.Exit.Late, Unit: "s"}}
}

func seconds(t float64) time.Time { return time.UnixMicro(int64(math.Round(t * 1e6))) }
