package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func stopCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Usage:     "end a run: one that is under way, was left behind, or was kept",
		ArgsUsage: "RUN",
		Description: `A run that is under way on this machine is told to end, as by Ctrl-C. Of any other run the jobs are cancelled, also those
whose submission was never answered; their files are brought to this machine and removed from the target. Of a run that
is not in the store the jobs on TARGET are found by their names; that needs the whole RUN, and brings no files.`,
		Flags: []cli.Flag{storeFlag(), configFlag(),
			&cli.StringFlag{Name: "target", Aliases: []string{"t"}, Usage: "the `TARGET` to look on for a run that is not in the store"},
			boolFlag("keep", "leave the files of the jobs on the target")},
		Action: atMost(1, func(c *cli.Context) error {
			id := c.Args().First()
			if id == "" {
				return runtime.Faultf(runtime.FaultUsage, "aifb runs lists them", "which run is to be stopped?")
			}
			ctx, done := untilSignal(c.Context)
			defer done()
			return withStore(c, func(_ context.Context, cfg *config, store runtime.Store) error {
				st, err := findRun(ctx, store, id)
				if err != nil && runtime.FaultOf(err) == runtime.FaultUsage && runForm.MatchString(id) {
					return stopUnknown(ctx, std, cfg, c.String("target"), id, c.Bool("keep"))
				}
				if err != nil {
					return err
				}
				e := ender{std: std, cfg: cfg, store: store, files: storage.Files(storeURL(c, cfg)), keepFiles: c.Bool("keep")}
				return e.stop(ctx, st)
			})
		}),
	}
}

// runForm is the form of the ids that runtime.NewRunID makes.
var runForm = regexp.MustCompile(`^\d{8}-\d{6}-[a-z0-9]{4}$`)

// An ender ends runs.
type ender struct {
	std       streams
	cfg       *config
	store     runtime.Store
	files     string // the directory on this machine below which the files of runs are
	keepFiles bool
}

// stop ends a run, whatever state it is in.
func (e *ender) stop(ctx context.Context, st *runtime.RunState) error {
	pid, alive := runOwner(e.files, st.Run)
	switch {
	case alive && pid == 0:
		return elsewhere(e.files, st.Run)
	case alive:
		ended, err := e.terminate(ctx, st, pid)
		if ended || err != nil {
			return err
		}
	}
	target, err := openTarget(e.cfg, st.Start.Target)
	if err != nil {
		return err
	}
	defer target.Conn.Close()
	stopped, err := e.end(ctx, target, st.Run)
	return errors.Join(err, e.report(st.Run, stopped))
}

func (e *ender) report(run string, stopped []string) (err error) {
	if len(stopped) == 0 {
		_, err = fmt.Fprintf(e.std.err, "run %s: no job of it is running\n", run)
	} else {
		_, err = fmt.Fprintf(e.std.err, "run %s: stopped %s\n", run, strings.Join(stopped, ", "))
	}
	return err
}

// elsewhere is the error of a run that this machine cannot end.
func elsewhere(files, run string) error {
	return runtime.Faultf(runtime.FaultUsage, "stop it there; if its process is gone, remove "+filepath.Join(files, run, lockFile),
		"run %s is under way on another machine", run)
}

// terminateTime is how long a process may take to end its run: what it waits for itself, and a little more.
const terminateTime = 6 * time.Minute

// terminate has the process that looks after a run end it, and waits until it has. It reports whether nothing is left to
// be done.
func (e *ender) terminate(ctx context.Context, st *runtime.RunState, pid int) (ended bool, err error) {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, fmt.Errorf("stop process %d: %w", pid, err)
	}
	fmt.Fprintf(e.std.err, "run %s: process %d is to end it\n", st.Run, pid)
	limited, cancel := context.WithTimeoutCause(ctx, terminateTime, runtime.Faultf(runtime.FaultTimeout,
		fmt.Sprintf("kill -9 %d ends it; then aifb stop %s finishes", pid, st.Run), "process %d has not ended within %v", pid, terminateTime))
	defer cancel()
	for alive := true; alive; {
		if err := runtime.Pause(limited, 50*time.Millisecond); err != nil {
			return false, err
		}
		_, alive = runOwner(e.files, st.Run)
	}
	now, err := foldRun(ctx, e.store, st.Run)
	if err != nil || now.End == nil || now.End.Left != "" || slices.ContainsFunc(now.Jobs, mayRun) {
		return false, err
	}
	var stopped []string
	for _, j := range now.Jobs {
		if before := st.Job(j.Job.Name); j.Stopping && (before == nil || !before.Stopping) {
			stopped = append(stopped, j.Job.Name)
		}
	}
	return true, e.report(st.Run, stopped)
}

// mayRun reports whether a job may be on the target.
func mayRun(j *runtime.JobState) bool { return j.Live() || j.Waiting() }

// end takes over a run that no process looks after, and ends it as its own process would have. It returns the names of
// the jobs that it stopped.
func (e *ender) end(ctx context.Context, target runtime.Target, run string) (stopped []string, err error) {
	unlock, err := lockRun(e.files, run)
	if err != nil {
		return nil, err
	}
	defer unlock()
	st, err := foldRun(ctx, e.store, run)
	if err != nil {
		return nil, err
	}
	p := newProgress(e.std.err, false)
	s := &runtime.Session{Run: run, Target: target, Store: e.store, Files: e.files, KeepFiles: e.keepFiles, Warn: p.warn}
	if err := s.Adopt(ctx, e.store.Records(ctx, runtime.Query{Run: run})); err != nil {
		return nil, err
	}
	return s.Close(ctx, endOf(st), false)
}

// endOf returns the error with which a run ended, or is to end now.
func endOf(st *runtime.RunState) error {
	switch {
	case st.End == nil:
		return runtime.Faultf(runtime.FaultRun, "", "its aifb was killed, and it was ended later")
	case st.End.Error == "":
		return nil
	}
	return runtime.Faultf(st.End.Fault, "", "%s", st.End.Error)
}

// stopUnknown ends the jobs of a run that is not in the store.
func stopUnknown(ctx context.Context, std streams, cfg *config, targetName, run string, keepFiles bool) error {
	if targetName == "" {
		return runtime.Faultf(runtime.FaultUsage, "aifb stop "+run+" -t TARGET looks for its jobs there", "there is no run %q in the store", run)
	}
	target, err := openTarget(cfg, targetName)
	if err != nil {
		return err
	}
	defer target.Conn.Close()
	found, err := findJobs(ctx, target, jobPrefix+run+"-")
	if err != nil {
		return err
	}
	if err := endJobs(ctx, target, found); err != nil {
		return err
	}
	if !keepFiles {
		if err := removeFiles(ctx, target, "runs/"+run); err != nil {
			return err
		}
	}
	var names []string
	for _, f := range found {
		names = append(names, strings.TrimPrefix(f.Token, jobPrefix+run+"-"))
	}
	return (&ender{std: std}).report(run, names)
}

// jobPrefix is what the tokens of all jobs begin with. The id of the run follows, and the name of the job.
const jobPrefix = "aifb-"

// findJobs returns the user's jobs on a target that have not ended and whose tokens begin with prefix.
func findJobs(ctx context.Context, target runtime.Target, prefix string) (live []runtime.Found, err error) {
	finder, ok := target.Scheduler.(runtime.Finder)
	if !ok {
		return nil, runtime.Faultf(runtime.FaultUsage, "", "jobs on %s cannot be found by their names", target.Name)
	}
	found, err := finder.Find(ctx, prefix)
	for _, f := range found {
		if f.Status.State != runtime.Ended {
			live = append(live, f)
		}
	}
	return live, err
}

// endTime is how long jobs that were cancelled may take to end.
const endTime = 2 * time.Minute

// endJobs cancels jobs and waits until they have ended.
func endJobs(ctx context.Context, target runtime.Target, jobs []runtime.Found) error {
	late := fmt.Errorf("not within %v", endTime)
	ctx, cancel := context.WithTimeoutCause(ctx, endTime, late)
	defer cancel()
	var cancelled time.Time
	for wait := target.PollMin; len(jobs) > 0; wait = min(2*wait, target.PollMax) {
		ids := make([]runtime.JobID, len(jobs))
		for i, j := range jobs {
			ids[i] = j.ID
		}
		if time.Since(cancelled) >= runtime.CancelAgain {
			if err := target.Scheduler.Cancel(ctx, ids...); err != nil {
				return err
			}
			cancelled = time.Now()
		}
		known, failed := target.Scheduler.Status(ctx, ids...)
		if failed == nil {
			jobs = stillLive(jobs, known)
		}
		if len(jobs) == 0 {
			return nil
		}
		if runtime.ClassOf(failed) == runtime.Permanent {
			return failed
		}
		switch err := runtime.Pause(ctx, wait); {
		case errors.Is(err, late) && failed != nil && !errors.Is(failed, late):
			return failed
		case errors.Is(err, late):
			return runtime.Faultf(runtime.FaultInfra, "look for them in squeue", "jobs on %s did not end within %v after they were cancelled: %s",
				target.Name, endTime, describeFound(jobs))
		case err != nil:
			return err
		}
	}
	return nil
}

// stillLive returns those of the jobs that have not ended, with what is known of them now.
func stillLive(jobs []runtime.Found, known map[runtime.JobID]runtime.Status) (live []runtime.Found) {
	for _, j := range jobs {
		if st, ok := known[j.ID]; ok && st.State != runtime.Ended && !st.Gone {
			j.Status = st
			live = append(live, j)
		}
	}
	return live
}

// describeFound names jobs and the states that they are in.
func describeFound(jobs []runtime.Found) string {
	var parts []string
	for _, j := range jobs {
		text := fmt.Sprintf("%s (job %s) is %s", j.Token, j.ID, cmp.Or(string(j.Status.State), "in a state that is not known"))
		if j.Status.Reason != "" {
			text += " (" + j.Status.Reason + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}
