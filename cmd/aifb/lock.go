package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/aifb/aifb/runtime"
)

// lockFile is the file among those of a run that the process which looks after the run has locked. It holds the process
// id and the name of the machine. The kernel unlocks it when the process ends, however it does.
const lockFile = ".lock"

// lockRun makes this process the one that looks after a run, until unlock. It is an error if another one does.
func lockRun(files, run string) (unlock func(), err error) {
	dir := filepath.Join(files, run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, runtime.Faultf(runtime.FaultInfra, "another store is named by --store", "lock run %s: %w", run, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultInfra, "", "lock run %s: %w", run, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		pid, _ := runOwner(files, run)
		return nil, runtime.Faultf(runtime.FaultUsage, "aifb status "+run+" shows how far it is; aifb stop "+run+" ends it",
			"run %s is under way, by process %d", run, pid)
	}
	// Where the file system has no locks, nobody can know; the run goes on all the same.
	host, _ := os.Hostname()
	if err := errors.Join(f.Truncate(0), writeAll(f, fmt.Sprintf("%d %s\n", os.Getpid(), host))); err != nil {
		f.Close()
		return nil, runtime.Faultf(runtime.FaultInfra, "", "lock run %s: %w", run, err)
	}
	return func() { f.Close() }, nil
}

func writeAll(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// runOwner returns the id of the process that looks after a run, or did last, and whether it is alive.
func runOwner(files, run string) (pid int, alive bool) {
	f, err := os.Open(filepath.Join(files, run, lockFile))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	fmt.Fscan(f, &pid)
	alive = errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
	return pid, alive
}
