package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aifb/aifb/runtime"
)

// host is the name under which other jobs of this scheduler reach a job.
const host = "127.0.0.1"

// Files of this scheduler in a job's directory.
const (
	fileID      = "jobid"     // the job's id; who made it has submitted the job
	fileOutput  = "local.out" // what the shell itself prints, such as a syntax error
	fileTimeout = "timeout"   // it is there if the time limit ended the job
)

// killWait is how long the processes of a job that is to end have, after SIGTERM, until SIGKILL.
const killWait = 5 * time.Second

// A Scheduler runs each job at once, as a session of its own that outlives this process. It knows the outcome of the
// jobs that it started itself, and whether those run that another process started; their outcome is in their exit.json.
// What jobs need it ignores, except their time limit.
//
// The first process of a job is its supervisor, and the leader of the process group that all others are in. A job's id
// is the supervisor's process id and, on Linux, the time at which that started: process ids are used again.
type Scheduler struct {
	// Below is the directory below which Find looks for jobs: those elsewhere are another target's. Empty is everywhere.
	Below string

	mu       sync.Mutex
	children map[runtime.JobID]*child
	ended    map[runtime.JobID]runtime.Status // jobs of other processes that this one has cancelled
}

// A child is a job that this process started.
type child struct {
	pid       int
	dir       string
	cancelled bool
	status    runtime.Status
}

// NewScheduler returns a scheduler of this machine.
func NewScheduler() *Scheduler {
	return &Scheduler{children: make(map[runtime.JobID]*child), ended: make(map[runtime.JobID]runtime.Status)}
}

// supervisor starts when whoever started it closes its standard input. Only if the id in the job's directory is its
// own does it go on: so it does not matter when that process ends, or whether two processes submit one job. It
// enforces the time limit, and takes all processes of the job with it when the job ends.
const supervisor = `dir=$1 limit=$2 grace=$3 id=$$
if read -r stat 2>/dev/null </proc/$$/stat; then
	set -- ${stat##*) }
	id=$$.${20}
fi
read -r closed
[ "$(cat "$dir/jobid")" = "$id" ] || exit 0
exec </dev/null
trap : TERM
(
	trap : TERM
	sleep "$limit" || exit
	: >"$dir/timeout"
	kill -TERM 0
	sleep "$grace"
	kill -KILL 0
) &
sh "$dir/script" "$id" &
job=$!
while kill -0 "$job" 2>/dev/null; do wait "$job"; done
kill -KILL 0
`

// scriptHead sets what runtime.Script asks for.
const scriptHead = "#!/bin/sh\nhost=" + host + "\nid=$1\nattempt=0\nindex=%d\n"

// Script returns the program that runs a job.
func Script(job runtime.Job) string { return fmt.Sprintf(scriptHead, job.Index) + runtime.Script(job) }

// Submit implements runtime.Scheduler.
func (s *Scheduler) Submit(ctx context.Context, jobs ...runtime.Job) ([]runtime.Submission, error) {
	subs := make([]runtime.Submission, len(jobs))
	for i, job := range jobs {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		subs[i].Token = job.Token
		subs[i].ID, subs[i].Err = s.submit(job)
	}
	return subs, nil
}

func (s *Scheduler) submit(job runtime.Job) (runtime.JobID, error) {
	if !filepath.IsAbs(job.Dir) || job.Limit <= 0 {
		return "", runtime.Faultf(runtime.FaultRun, "", "start %s: it has no absolute directory or no time limit", job.Name)
	}
	id, err := readID(job.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		id, err = s.start(job)
	}
	if err != nil {
		return "", runtime.Faultf(runtime.FaultInfra, "", "%w", &runtime.CommandError{Target: "this machine",
			Command: "start " + job.Name, Text: err.Error(), Class: runtime.Permanent})
	}
	return id, nil
}

// start starts a supervisor, and lets it go on unless somebody else's came first.
func (s *Scheduler) start(job runtime.Job) (runtime.JobID, error) {
	name := filepath.Join(job.Dir, runtime.FileScript)
	if err := (Conn{}).Put(context.Background(), name, 0o755, strings.NewReader(Script(job))); err != nil {
		return "", err
	}
	out, err := os.OpenFile(filepath.Join(job.Dir, fileOutput), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return "", err
	}
	defer out.Close()
	stdin, release, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer release.Close()
	defer stdin.Close()
	cmd := exec.Command("sh", "-c", supervisor, job.Token, job.Dir, seconds(job.Limit), seconds(killWait))
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = job.Dir, stdin, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	mine := jobID(cmd.Process.Pid)
	id, err := claim(job.Dir, mine)
	if err != nil || id != mine {
		release.Close()
		cmd.Wait()
		return id, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.children[id] = &child{pid: cmd.Process.Pid, dir: job.Dir, status: runtime.Status{
		State: runtime.Running, Node: host, Start: time.Now().UTC().Round(time.Microsecond),
	}}
	cmd.Process.Release() // update waits for it
	return id, nil
}

// claim writes the job's id, unless there is one, and returns the one that is there.
func claim(dir string, mine runtime.JobID) (runtime.JobID, error) {
	f, err := os.CreateTemp(dir, ".jobid-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, mine)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	switch err := os.Link(f.Name(), filepath.Join(dir, fileID)); {
	case errors.Is(err, fs.ErrExist):
		return readID(dir)
	case err != nil:
		return "", err
	}
	return mine, nil
}

func readID(dir string) (runtime.JobID, error) {
	name := filepath.Join(dir, fileID)
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	id := runtime.JobID(strings.TrimSpace(string(data)))
	if _, _, ok := parseID(id); !ok {
		return "", fmt.Errorf("%s: %q is not the id of a job", name, id)
	}
	return id, nil
}

// seconds rounds up: not every sleep takes fractions.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Status implements runtime.Scheduler.
func (s *Scheduler) Status(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[runtime.JobID]runtime.Status)
	for _, id := range ids {
		if c, ok := s.children[id]; ok {
			c.update()
			known[id] = c.status
		} else if running(id) {
			known[id] = runtime.Status{State: runtime.Running, Node: host}
		} else if status, ok := s.ended[id]; ok {
			known[id] = status
		}
	}
	return known, nil
}

// update looks whether the job has ended.
func (c *child) update() {
	if c.status.State == runtime.Ended {
		return
	}
	for {
		pid, err := syscall.Wait4(c.pid, nil, syscall.WNOHANG, nil)
		if err == nil && pid == 0 {
			return
		}
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	syscall.Kill(-c.pid, syscall.SIGKILL) // for when the supervisor itself was killed; while one is left, the id is ours
	c.status.State, c.status.Outcome = runtime.Ended, runtime.Failed
	c.status.End = time.Now().UTC().Round(time.Microsecond)
	if data, err := os.ReadFile(filepath.Join(c.dir, runtime.FileExit)); err == nil {
		var exit runtime.Exit
		if json.Unmarshal(data, &exit) == nil {
			c.status.Exited, c.status.Code, c.status.Signal = true, exit.Code, exit.Signal
		}
	}
	if c.status.Exited && c.status.Code == 0 {
		c.status.Outcome = runtime.Completed
	}
	if _, err := os.Stat(filepath.Join(c.dir, fileTimeout)); err == nil {
		c.status.Outcome = runtime.TimedOut
	}
	if c.cancelled {
		c.status.Outcome = runtime.Cancelled
	}
}

// Cancel implements runtime.Scheduler. It returns when the processes are gone. If ctx ends before, they are killed
// without delay.
func (s *Scheduler) Cancel(ctx context.Context, ids ...runtime.JobID) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	groups, others := s.terminate(ids)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	grace, done := time.After(killWait), ctx.Done()
	var killed <-chan time.Time
	for s.anyLeft(groups) {
		select {
		case <-tick.C:
			continue
		case <-killed:
			return runtime.Faultf(runtime.FaultInfra, "", "cancel: processes of a job do not end")
		case <-grace:
		case <-done:
		}
		for _, pid := range groups {
			syscall.Kill(-pid, syscall.SIGKILL)
		}
		grace, done, killed = nil, nil, time.After(killWait)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range others {
		s.ended[id] = runtime.Status{State: runtime.Ended, Outcome: runtime.Cancelled, Node: host,
			End: time.Now().UTC().Round(time.Microsecond)}
	}
	return nil
}

// terminate sends SIGTERM to the jobs that run, and returns their process groups, and those of them that are other
// processes' jobs.
func (s *Scheduler) terminate(ids []runtime.JobID) (groups []int, others []runtime.JobID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		pid, _, _ := parseID(id)
		if c, ok := s.children[id]; ok {
			if c.update(); c.status.State == runtime.Ended {
				continue
			}
			c.cancelled = true
		} else if running(id) {
			others = append(others, id)
		} else {
			continue
		}
		syscall.Kill(-pid, syscall.SIGTERM)
		groups = append(groups, pid)
	}
	return groups, others
}

// anyLeft reports whether there is a living process in the groups.
func (s *Scheduler) anyLeft(groups []int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.children {
		c.update() // a zombie would be left
	}
	for _, pid := range groups {
		if groupLives(pid) {
			return true
		}
	}
	return false
}
