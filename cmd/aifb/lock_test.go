package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aifb/aifb/runtime"
)

func TestLockRun(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	if pid, alive := runOwner(files, "r"); pid != 0 || alive {
		t.Errorf("before: owner %d, %v", pid, alive)
	}
	unlock, err := lockRun(files, "r")
	if err != nil {
		t.Fatal(err)
	}
	if pid, alive := runOwner(files, "r"); pid != os.Getpid() || !alive {
		t.Errorf("locked: owner %d, %v; want %d, true", pid, alive, os.Getpid())
	}
	if _, err := lockRun(files, "r"); runtime.FaultOf(err) != runtime.FaultUsage || !strings.Contains(err.Error(), "under way") {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	if pid, alive := runOwner(files, "r"); pid != 0 || alive {
		t.Errorf("after: owner %d, %v", pid, alive)
	}
	if left, err := filepath.Glob(files + "/*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What a process leaves that was killed is a lock file without a lock.
func TestOwnerThatIsGone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		pid   int
		alive bool
	}{
		"12345 " + hostName() + "\n": {12345, false},
		"12345 elsewhere\n":          {0, true},
		"":                           {0, false},
	} {
		files := t.TempDir()
		if err := os.MkdirAll(filepath.Join(files, "r"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(files, "r", lockFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid, alive := runOwner(files, "r"); pid != want.pid || alive != want.alive {
			t.Errorf("%q: owner %d, %v; want %d, %v", text, pid, alive, want.pid, want.alive)
		}
		if unlock, err := lockRun(files, "r"); err != nil {
			t.Errorf("%q: %v", text, err)
		} else {
			unlock()
		}
	}
}

// However many want a run, one has it at a time, while others look.
func TestLockRunTogether(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	var mu sync.Mutex
	var holders, most, times int
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				runOwner(files, "r")
				unlock, err := lockRun(files, "r")
				if err != nil {
					continue
				}
				mu.Lock()
				holders, times = holders+1, times+1
				most = max(most, holders)
				mu.Unlock()
				runOwner(files, "r")
				mu.Lock()
				holders--
				mu.Unlock()
				unlock()
			}
		})
	}
	all.Wait()
	if most != 1 || times < 20 {
		t.Errorf("%d had it at once, %d in all", most, times)
	}
}
