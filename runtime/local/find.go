package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/aifb/aifb/runtime"
)

// Find implements runtime.Finder, for the jobs that run: it reads what Linux says of all processes. A job's supervisor has
// the job's token and directory among its arguments.
func (s *Scheduler) Find(ctx context.Context, prefix string) ([]runtime.Found, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	if len(files) == 0 {
		return nil, runtime.Faultf(runtime.FaultInfra, "ps shows the processes", "find jobs: this machine has no /proc that lists its processes")
	}
	var found []runtime.Found
	for _, file := range files {
		token, dir, ok := supervised(file)
		if !ok || !strings.HasPrefix(token, prefix) || !s.isBelow(dir) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		id, err := readID(dir)
		if err == nil && id == jobID(pid) && running(id) && isLeader(pid) {
			found = append(found, runtime.Found{Token: token, ID: id, Status: runtime.Status{State: runtime.Running, Node: host}})
		}
	}
	slices.SortFunc(found, func(a, b runtime.Found) int { return strings.Compare(a.Token, b.Token) })
	return found, nil
}

// supervised returns the token and the directory of the job whose supervisor has the command line in file, if it is one
// of this user's.
func supervised(file string) (token, dir string, ok bool) {
	data, err := os.ReadFile(file)
	args := strings.Split(string(data), "\x00")
	if err != nil || len(args) < 5 || args[1] != "-c" || args[2] != supervisor {
		return "", "", false
	}
	info, err := os.Stat(filepath.Dir(file))
	if err != nil {
		return "", "", false
	}
	stat, isUnix := info.Sys().(*syscall.Stat_t)
	return args[3], args[4], isUnix && int(stat.Uid) == os.Getuid()
}

// isLeader reports whether the process leads its group: what a supervisor forks looks like it, but for that.
func isLeader(pid int) bool {
	p, ok := stat(statFile(pid))
	return ok && p.group == fmt.Sprint(pid)
}

func (s *Scheduler) isBelow(dir string) bool {
	if s.Below == "" {
		return true
	}
	rel, err := filepath.Rel(s.Below, dir)
	return err == nil && filepath.IsLocal(rel)
}

// Check implements runtime.Checker.
func (s *Scheduler) Check(context.Context) []runtime.Finding {
	return []runtime.Finding{{Name: "scheduler", OK: true, Text: "jobs are processes of this machine, which start at once"}}
}
