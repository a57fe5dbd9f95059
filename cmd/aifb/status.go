package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func statusCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how far a run is: its jobs, and why they wait",
		ArgsUsage: "[RUN]",
		Description: `RUN is an id of aifb runs, its beginning or its last part; without one it is the last run. What is shown is what the process
that runs it has stored; of a run that no process looks after, the target is asked. Why jobs wait is asked there as well.`,
		Flags: []cli.Flag{storeFlag(), configFlag(), jsonFlag(),
			boolFlag("watch", "go on showing it until the run has ended; Ctrl-C leaves", "w")},
		Action: atMost(1, func(c *cli.Context) error {
			ctx, done := untilLeft(c.Context)
			defer done()
			return withStore(c, func(_ context.Context, cfg *config, store runtime.Store) error {
				st, err := findRun(ctx, store, cmp.Or(c.Args().First(), "last"))
				if err != nil {
					return err
				}
				o := &observer{cfg: cfg, store: store, files: storage.Files(storeURL(c, cfg)), run: st.Run, why: true}
				defer o.close()
				show := printStatus
				if c.Bool("json") {
					show = printStatusJSON
				}
				if !c.Bool("watch") {
					v, err := o.look(ctx)
					if err != nil {
						return err
					}
					return show(std.out, v)
				}
				return left(ctx, o.watch(ctx, std.out, show))
			})
		}),
	}
}

// left returns the error of what goes on until it has ended or the user leaves it by Ctrl-C, which is no error.
func left(ctx context.Context, err error) error {
	if e := (*interrupted)(nil); errors.As(context.Cause(ctx), &e) && e.signal == syscall.SIGINT {
		return nil
	}
	return err
}

// An observer looks at a run without touching it.
type observer struct {
	cfg   *config
	store runtime.Store
	files string
	run   string
	why   bool // also ask why jobs wait

	target  *runtime.Target // nil: not opened yet
	asked   time.Time       // when the target was
	known   map[string]runtime.Status
	queued  map[runtime.JobID]runtime.Queued
	problem error // what the target was asked in vain with
}

// A view is what is known of a run at a moment.
type view struct {
	st      *runtime.RunState
	summary runSummary
	pid     int                  // of the process that looks after the run; 0: none on this machine
	since   map[string]time.Time // when each job came into its state
	queued  map[runtime.JobID]runtime.Queued
	problem error
}

// over reports whether nothing more will happen.
func (v *view) over() bool {
	return v.summary.State != runRunning && (v.st.End != nil || !slices.ContainsFunc(v.st.Jobs, (*runtime.JobState).Live))
}

// target returns the run's target. It is closed by close.
func (o *observer) open(st *runtime.RunState) (*runtime.Target, error) {
	if o.target == nil {
		t, err := openTarget(o.cfg, st.Start.Target)
		if err != nil {
			return nil, err
		}
		o.target = &t
	}
	return o.target, nil
}

func (o *observer) close() {
	if o.target != nil {
		o.target.Conn.Close()
	}
}

// look folds what is stored, and asks the target for what is not. That a target does not answer is part of the view.
func (o *observer) look(ctx context.Context) (*view, error) {
	v := &view{st: new(runtime.RunState), since: make(map[string]time.Time)}
	for rec, err := range o.store.Records(ctx, runtime.Query{Run: o.run}) {
		if err == nil && rec.Kind != runtime.KindMeasurement {
			err = v.apply(rec)
		}
		if err != nil {
			return nil, err
		}
	}
	v.summary = summarize(v.st, o.files)
	_, v.pid = stateOf(v.st, o.files)
	o.ask(ctx, v)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	v.queued, v.problem = o.queued, o.problem
	return v, o.overlay(v)
}

// apply adds a record to the state, and remembers when the job it is about came into another state by it.
func (v *view) apply(rec runtime.Record) error {
	stage := func() string {
		if j := v.st.Job(rec.Source); j != nil {
			return fmt.Sprint(j.Retry, j.Status.State, j.ID != "", j.Held != nil, j.Refused != nil, j.Ready)
		}
		return ""
	}
	before := stage()
	err := v.st.Apply(rec)
	if stage() != before {
		v.since[rec.Source] = rec.Time
	}
	return err
}

// ask asks the target, by one query each, what became of the jobs that nobody looks after, and why jobs wait.
func (o *observer) ask(ctx context.Context, v *view) {
	if o.target != nil && time.Since(o.asked) < 2*o.target.PollMax {
		return
	}
	var live, waiting []*runtime.JobState
	for _, j := range v.st.Jobs {
		if j.Live() && v.summary.State != runRunning {
			live = append(live, j)
		} else if o.why && j.Live() && j.Status.State == runtime.Pending {
			waiting = append(waiting, j)
		}
	}
	if len(live)+len(waiting) == 0 {
		return
	}
	target, err := o.open(v.st)
	if err == nil && len(live) > 0 {
		o.known, err = askStatus(ctx, target, live)
		for _, j := range live {
			if o.why && o.known[j.Job.Name].State == runtime.Pending {
				waiting = append(waiting, j)
			}
		}
	}
	if err == nil {
		o.queued, err = askWhy(ctx, target, waiting)
	}
	o.asked, o.problem = time.Now(), err
}

// askStatus returns what the scheduler knows of the jobs, or what they themselves left, by their names.
func askStatus(ctx context.Context, target *runtime.Target, jobs []*runtime.JobState) (map[string]runtime.Status, error) {
	var ids []runtime.JobID
	for _, j := range jobs {
		ids = append(ids, j.ID)
	}
	byID, err := target.Scheduler.Status(ctx, ids...)
	if err != nil {
		return nil, err
	}
	known := make(map[string]runtime.Status)
	var exits []string
	for _, j := range jobs {
		if st, ok := byID[j.ID]; ok {
			known[j.Job.Name] = st
		} else {
			exits = append(exits, path.Join(j.Job.Dir, runtime.FileExit))
		}
	}
	files, err := runtime.ReadFiles(ctx, target.Conn, exits...)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		var exit runtime.Exit
		if data, ok := files[path.Join(j.Job.Dir, runtime.FileExit)]; ok && json.Unmarshal(data, &exit) == nil {
			known[j.Job.Name] = exitStatus(exit, j.Host())
		}
	}
	return known, nil
}

// exitStatus is what a job's own word says of its end.
func exitStatus(exit runtime.Exit, host string) runtime.Status {
	st := runtime.Status{State: runtime.Ended, Outcome: runtime.Failed, Exited: true, Code: exit.Code, Signal: exit.Signal,
		Node: host, End: time.UnixMicro(int64(exit.Time * 1e6)).UTC(), By: runtime.FileExit}
	if exit.Code == 0 {
		st.Outcome = runtime.Completed
	}
	return st
}

func askWhy(ctx context.Context, target *runtime.Target, jobs []*runtime.JobState) (map[runtime.JobID]runtime.Queued, error) {
	explainer, ok := target.Scheduler.(runtime.Explainer)
	if !ok || len(jobs) == 0 {
		return nil, nil
	}
	var ids []runtime.JobID
	for _, j := range jobs {
		ids = append(ids, j.ID)
	}
	return explainer.Explain(ctx, ids...)
}

// overlay adds to a view what the target said of jobs that nobody looks after.
func (o *observer) overlay(v *view) error {
	for _, j := range v.st.Jobs {
		st, ok := o.known[j.Job.Name]
		if !ok || !j.Live() || v.summary.State == runRunning || st == j.Status {
			continue
		}
		data, err := json.Marshal(st)
		if err != nil {
			return err
		}
		when := st.Start
		if st.State == runtime.Ended {
			when = st.End
		}
		if st.State == runtime.Pending || when.IsZero() {
			when = v.since[j.Job.Name]
		}
		rec := runtime.Record{Run: o.run, Time: when, Kind: runtime.KindJobStatus, Source: j.Job.Name, Data: data}
		if err := v.apply(rec); err != nil {
			return err
		}
	}
	v.summary = summarize(v.st, o.files)
	return nil
}

// A jobView is a job in the JSON form of `aifb status`.
type jobView struct {
	jobSummary
	Text     string       `json:"text"`
	Since    time.Time    `json:"since,omitzero"` // when it came into its state
	Queued   *queuedView  `json:"queued,omitempty"`
	Attempts []jobAttempt `json:"attempts,omitempty"` // the tries before
}

type queuedView struct {
	Class string    `json:"class"`
	Text  string    `json:"text"`
	Start time.Time `json:"start,omitzero"`
	Ahead *int      `json:"ahead,omitempty"`
}

type jobAttempt struct {
	ID     runtime.JobID  `json:"id"`
	Status runtime.Status `json:"status"`
}

func printStatusJSON(w io.Writer, v *view) error {
	jobs := []jobView{}
	for _, j := range v.st.Jobs {
		job := jobView{jobSummary: summarizeJob(j), Text: v.stateOf(j), Since: v.since[j.Job.Name]}
		if q, ok := v.waits(j); ok {
			job.Queued = &queuedView{Class: q.Class, Text: q.Text, Start: q.Start}
			if q.Ahead >= 0 {
				job.Queued.Ahead = &q.Ahead
			}
		}
		for _, a := range j.Earlier {
			job.Attempts = append(job.Attempts, jobAttempt{a.ID, a.Status})
		}
		jobs = append(jobs, job)
	}
	doc := struct {
		Version   int                      `json:"version"`
		Run       runSummary               `json:"run"`
		Process   int                      `json:"process,omitempty"`
		LostSince time.Time                `json:"lost_since,omitzero"`
		Problem   string                   `json:"problem,omitempty"` // with which the target was asked in vain
		Jobs      []jobView                `json:"jobs"`
		Calls     map[string]runtime.Tally `json:"calls,omitempty"` // of the cluster's commands
	}{Version: 1, Run: v.summary, Process: v.pid, LostSince: v.st.LostSince, Jobs: jobs, Calls: v.st.Calls}
	if v.problem != nil {
		doc.Problem = v.problem.Error()
	}
	return writeJSON(w, doc)
}

func printStatus(w io.Writer, v *view) error {
	fmt.Fprintf(w, "run     %s: %s\nrecipe  %s\ntarget  %s%s\n", v.st.Run, v.condition(), v.st.Start.Recipe, v.st.Start.Target, v.staleness())
	if v.summary.Error != "" {
		fmt.Fprintf(w, "error   %s\n", strings.ReplaceAll(v.summary.Error, "\n", "\n        "))
	}
	if v.st.End != nil && v.st.End.Left != "" {
		fmt.Fprintf(w, "left    %s\n", v.st.End.Left)
	}
	if len(v.st.Calls) > 0 {
		fmt.Fprintf(w, "calls   %s\n", runtime.Tallies(v.st.Calls))
	}
	if hint := v.hint(); hint != "" {
		fmt.Fprintf(w, "hint    %s\n", hint)
	}
	if len(v.st.Jobs) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, j := range v.st.Jobs {
		rows = append(rows, []string{j.Job.Name, string(j.Role), string(j.ID), j.Host(), v.age(j), v.stateOf(j)})
	}
	return runtime.WriteTable(w, []string{"job", "role", "id", "host", "for", "state"}, rows)
}

// condition says whether the run is under way, and for how long, or how it ended.
func (v *view) condition() string {
	began := time.Since(v.st.Started).Round(time.Second)
	switch {
	case v.summary.State == runRunning && v.pid == 0:
		return "under way, by a process on another machine"
	case v.summary.State == runRunning && v.st.End != nil:
		return fmt.Sprintf("process %d is about to end", v.pid)
	case v.summary.State == runRunning:
		return fmt.Sprintf("under way for %v, by process %d", began, v.pid)
	case v.summary.State == runLeft:
		return fmt.Sprintf("left behind; it began %v ago, and no process looks after it", began)
	}
	return fmt.Sprintf("ended %v ago: %s", time.Since(v.st.Ended).Round(time.Second), v.summary.State)
}

// staleness says how old what is known of the target is.
func (v *view) staleness() string {
	switch {
	case v.problem != nil:
		return fmt.Sprintf(", which does not answer: %v", v.problem)
	case v.summary.State == runRunning:
		if stale := v.st.Stale(); stale != "" {
			return "; it does not answer, and the jobs are shown" + strings.TrimPrefix(stale, ",")
		}
	}
	return ""
}

func (v *view) hint() string {
	switch {
	case v.summary.State == runLeft && v.st.Start.SHA256 != "":
		return fmt.Sprintf("aifb resume %s goes on with it; aifb stop %s ends it", v.st.Run, v.st.Run)
	case v.summary.State == runLeft || v.summary.State != runRunning && v.summary.Live > 0:
		return fmt.Sprintf("aifb stop %s ends it", v.st.Run)
	}
	return ""
}

// age is for how long a job has been in its state.
func (v *view) age(j *runtime.JobState) string {
	since := v.since[j.Job.Name]
	if since.IsZero() || j.Over() {
		return ""
	}
	return max(time.Since(since), 0).Round(time.Second).String()
}

// stateOf says where a job stands, and why.
func (v *view) stateOf(j *runtime.JobState) string {
	if j.Waiting() && v.summary.State != runRunning {
		return "perhaps submitted: the answer was not stored"
	}
	if q, ok := v.waits(j); ok {
		return "pending: " + q.String()
	}
	return describeJob(j)
}

// waits says why a job waits, as the target says now, or as the run was told.
func (v *view) waits(j *runtime.JobState) (q runtime.Queued, ok bool) {
	if j.Status.State != runtime.Pending {
		return q, false
	}
	if q, ok = v.queued[j.ID]; !ok && j.Queued != nil {
		return *j.Queued, true
	}
	return q, ok
}

// watchEvery is how often a run that is watched is looked at.
const watchEvery = time.Second

// watch shows the run again and again until it is over: on a terminal in the same place, else whenever something has
// changed.
func (o *observer) watch(ctx context.Context, w *output, show func(io.Writer, *view) error) error {
	screen, onScreen := terminalOf(w)
	var last string
	for {
		v, err := o.look(ctx)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := show(&b, v); err != nil {
			return err
		}
		switch news := v.news(); {
		case onScreen:
			err = redraw(w, screen, b.String())
		case news != last:
			if last != "" {
				b.WriteByte('\n')
			}
			last = news
			_, err = w.Write(b.Bytes())
		}
		if v.over() || err != nil {
			return err
		}
		if err := runtime.Pause(ctx, watchEvery); err != nil {
			return err
		}
	}
}

// news is what makes a view differ from another, but for the time that has passed.
func (v *view) news() string {
	text := v.summary.State + v.staleness()
	if v.problem == nil && !v.st.LostSince.IsZero() {
		text = v.summary.State + " stale"
	}
	for _, j := range v.st.Jobs {
		text += "\n" + j.Job.Name + v.stateOf(j)
	}
	return text
}

// terminalOf returns the terminal that w writes to, if it is one that can be redrawn.
func terminalOf(w *output) (fd int, ok bool) {
	f, isFile := w.w.(interface{ Fd() uintptr })
	if !isFile || !isTerminal(w) {
		return 0, false
	}
	return int(f.Fd()), true
}

// redraw shows text from the top of the screen on, as much as there is room for.
func redraw(w io.Writer, fd int, text string) error {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if width, height, err := term.GetSize(fd); err == nil && width > 1 && height > 1 {
		if n := len(lines) - (height - 1); n > 0 {
			lines = append(lines[:height-2], fmt.Sprintf("... and %d lines more", n+1))
		}
		for i, line := range lines {
			if r := []rune(line); len(r) >= width {
				lines[i] = string(r[:width-1])
			}
		}
	}
	_, err := io.WriteString(w, "\x1b[H"+strings.Join(lines, "\x1b[K\n")+"\x1b[K\n\x1b[J") // without a flicker
	return err
}
