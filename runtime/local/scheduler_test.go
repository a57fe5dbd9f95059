package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
)

func TestScheduler(t *testing.T) {
	t.Parallel()
	runtimetest.TestScheduler(t, runtimetest.SchedulerTest{
		Dir:      t.TempDir(),
		Conn:     Conn{},
		Open:     func(t *testing.T) runtime.Scheduler { return NewScheduler() },
		Shortest: time.Second,
	})
}

// What a process leaves that ends before it could write the job's id must not run: the next Submit makes another.
func TestSupervisorWithoutClaim(t *testing.T) {
	t.Parallel()
	for _, other := range []string{"", "1.1\n"} {
		dir := t.TempDir()
		if other != "" {
			write(t, filepath.Join(dir, fileID), other)
		}
		write(t, filepath.Join(dir, runtime.FileScript), "echo >"+runtime.Quote(dir)+"/ran")
		cmd := exec.Command("sh", "-c", supervisor, "sh", dir, "10", "1") // its standard input is at its end
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("jobid %q: %v\n%s", other, err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
			t.Errorf("jobid %q: it ran", other)
		}
	}
}

// The other side of TestSupervisorWithoutClaim: once the id is written, the job runs, whoever is left.
func TestSupervisorWithClaim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, runtime.FileScript), "echo $1 >"+runtime.Quote(dir)+"/ran")
	cmd := exec.Command("sh", "-c", supervisor, "sh", dir, "10", "1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	release, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id := jobID(cmd.Process.Pid)
	write(t, filepath.Join(dir, fileID), string(id)+"\n")
	release.Close()
	cmd.Wait() // it ends by killing its process group, and so itself
	if got, err := os.ReadFile(filepath.Join(dir, "ran")); string(got) != string(id)+"\n" {
		t.Errorf("got %q, %v; want the id %s", got, err, id)
	}
}

func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	s, dir := NewScheduler(), t.TempDir()
	subs, err := s.Submit(t.Context(), runtime.Job{Token: "t", Dir: dir, Limit: time.Minute, Args: []string{"sleep", "60"}})
	if err != nil || subs[0].Err != nil {
		t.Fatal(err, subs)
	}
	id := subs[0].ID
	pid, _, _ := parseID(id)
	syscall.Kill(pid, syscall.SIGKILL)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		known, err := s.Status(t.Context(), id)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", known, err)
		}
		if st := known[id]; st.State == runtime.Ended && !groupLives(pid) {
			if st.Outcome != runtime.Failed || st.Exited {
				t.Errorf("got %+v, want failed, without an exit code", st)
			}
			return
		}
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	for _, id := range []runtime.JobID{"", "0", "1", "-1", "-5.3", "1.5", "x", " 7", "99999999999999999999", ".7"} {
		if pid, _, ok := parseID(id); ok {
			t.Errorf("%q is process %d", id, pid)
		}
	}
	if id := jobID(os.Getpid()); !running(id) {
		t.Errorf("%s does not run", id)
	}
	if pid := os.Getpid(); running(runtime.JobID(fmt.Sprintf("%d.1", pid))) {
		t.Error("a process that started at another time runs")
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
