package runtime_test

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is the processor time that this process itself has used. What the kernel did for it depends on the file system:
// to make a file takes one a hundred times as long as another.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}
