package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/aifb/aifb/runtime"
)

// A process is what Linux says of one.
type process struct {
	state string // "Z" is a zombie
	group string // its process group
	start string // in ticks since the machine started
}

// stat reads /proc/PID/stat. Elsewhere than on Linux it does not exist.
func stat(file string) (process, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return process{}, false
	}
	name := strings.LastIndexByte(string(data), ')') // the program's name may have any character
	f := strings.Fields(string(data[name+1:]))
	if len(f) < 20 {
		return process{}, false
	}
	return process{state: f[0], group: f[2], start: f[19]}, true
}

func statFile(pid int) string { return fmt.Sprintf("/proc/%d/stat", pid) }

// jobID returns the id of the job whose supervisor is pid.
func jobID(pid int) runtime.JobID {
	if p, ok := stat(statFile(pid)); ok {
		return runtime.JobID(fmt.Sprintf("%d.%s", pid, p.start))
	}
	return runtime.JobID(strconv.Itoa(pid))
}

// parseID is the reverse of jobID. It lets no id pass that means more than one process group to kill(2).
func parseID(id runtime.JobID) (pid int, start string, ok bool) {
	number, start, _ := strings.Cut(string(id), ".")
	pid, err := strconv.Atoi(number)
	return pid, start, err == nil && pid > 1
}

// running reports whether the supervisor of a job is alive.
func running(id runtime.JobID) bool {
	pid, start, ok := parseID(id)
	if !ok {
		return false
	}
	if p, ok := stat(statFile(pid)); ok {
		return p.start == start && p.state != "Z"
	}
	return start == "" && syscall.Kill(pid, 0) == nil
}

// groupLives reports whether a process group has a process that is no zombie: whose parent should have waited for it is
// not ours to say.
func groupLives(pgid int) bool {
	if errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH) {
		return false
	}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		if p, ok := stat(file); ok && p.group == strconv.Itoa(pgid) && p.state != "Z" && p.state != "X" {
			return true
		}
	}
	return len(files) == 0
}
