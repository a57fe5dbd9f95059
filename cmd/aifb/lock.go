package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aifb/aifb/runtime"
)

// lockFile is in the directory for a run's files on this machine. The process that the run belongs to holds a lock on it,
// which ends with the process however that ends; it contains the process id and the name of the machine.
const lockFile = ".lock"

// lockWait is how long a lock is tried for: runOwner holds it for a moment when it looks.
const lockWait = 200 * time.Millisecond

// lockRun makes a run this process's, until unlock. That it is another's is an error.
func lockRun(files, run string) (unlock func(), err error) {
	dir := filepath.Join(files, run)
	name := filepath.Join(dir, lockFile)
	for begin := time.Now(); ; time.Sleep(lockWait / 20) {
		f, err := claimLock(dir, name)
		switch {
		case err == nil && f != nil:
			return func() {
				os.Remove(name) // before the lock ends with f: who waits for this file finds that it is gone
				os.Remove(dir)  // if there is nothing else in it
				f.Close()
			}, nil
		case err != nil && !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, runtime.Faultf(runtime.FaultInfra, "another store is named by --store", "lock run %s: %w", run, err)
		case time.Since(begin) >= lockWait:
			pid, _ := runOwner(files, run)
			return nil, runtime.Faultf(runtime.FaultUsage, "aifb status "+run+" shows how far it is; aifb stop "+run+" ends it",
				"run %s is under way, by process %d", run, pid)
		}
	}
}

// claimLock returns the lock file, locked and saying whose it is. It is nil if somebody removed it at that moment.
func claimLock(dir, name string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Where the file system has no locks, the run goes on all the same.
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		err = nil
	}
	if err == nil && !isFile(f, name) {
		f.Close()
		return nil, nil
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), hostName())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isFile reports whether f is what name names now.
func isFile(f *os.File, name string) bool {
	opened, err1 := f.Stat()
	named, err2 := os.Stat(name)
	return err1 == nil && err2 == nil && os.SameFile(opened, named)
}

// runOwner returns the process of this machine that a run belongs to, and whether it is alive. Of one of another machine,
// with which this one shares the directory, the pid is 0; that it is alive is then an assumption, as not every file
// system tells the locks of one machine to the others.
func runOwner(files, run string) (pid int, alive bool) {
	f, err := os.Open(filepath.Join(files, run, lockFile))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for begin := time.Now(); ; time.Sleep(lockWait / 20) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		alive = errors.Is(err, syscall.EWOULDBLOCK)
		pid, host := readLock(f)
		switch {
		case host != "" && host != hostName():
			return 0, true
		case err != nil && !alive: // there are no locks
			return pid, exists(pid)
		case !alive || exists(pid):
			return pid, alive
		case time.Since(begin) >= lockWait: // else, who has it is just about to say so
			return 0, true
		}
	}
}

// readLock returns what a lock file says.
func readLock(f *os.File) (pid int, host string) {
	text := make([]byte, 512)
	n, _ := f.ReadAt(text, 0)
	fmt.Sscanf(string(text[:n]), "%d %s", &pid, &host)
	return pid, host
}

// exists reports whether there is a process.
func exists(pid int) bool { return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// hostName is the name of this machine, as one word.
func hostName() string {
	name, _ := os.Hostname()
	return cmp.Or(strings.Join(strings.Fields(name), "-"), "localhost")
}
