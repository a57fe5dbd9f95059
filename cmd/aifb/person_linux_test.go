package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// atHome is `aifb` with arguments, in a home directory of its own.
func atHome(home string, args ...string) *exec.Cmd {
	cmd := exec.Command("env", append([]string{"--default-signal", "aifb"}, args...)...)
	cmd.Env, cmd.Dir = replEnv(home), home
	return cmd
}

func writeRecipe(t *testing.T, home, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(home, "x.star"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// gc asks a person, and removes nothing unless the answer is yes.
func TestGCAsks(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	writeRecipe(t, home, `wait_running(service("db", command = "sleep 300"))`)
	if out, err := atHome(home, "exec", "--keep", "x.star").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, test := range []struct {
		answer string
		left   bool
	}{{"\n", true}, {"no\n", true}, {"y\n", false}} {
		c := openConsoleOf(t, home, atHome(home, "gc", "--all"))
		c.expect("to be stopped and removed")
		c.expect("Remove it? [y/N] ")
		c.enter(test.answer)
		if !test.left {
			c.expect("stopped db")
		}
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("answer %q: %v", test.answer, err)
		}
		if _, err := os.Stat(filepath.Join(home, ".aifb")); (err == nil) != test.left {
			t.Errorf("answer %q: %v; left: %v", test.answer, err, test.left)
		}
	}
}

// status --watch stays in its place on a terminal, and Ctrl-C leaves it; the run goes on.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	writeRecipe(t, home, `
wait_running(service("db", command = "sleep 300"))
print("it runs")
wait_done(job("never", command = "sleep 300"))
`)
	run := openConsoleOf(t, home, atHome(home, "exec", "x.star"))
	run.expect("never: running")

	watch := openConsoleOf(t, home, atHome(home, "status", "--watch"))
	watch.expect("under way for ")
	watch.expect("running on 127.0.0.1")
	watch.expect("under way for ") // again
	watch.enter("\x03")
	if err := watch.cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}

	watch = openConsoleOf(t, home, atHome(home, "status", "--watch"))
	watch.expect("under way for ")
	if err := run.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	run.expect("stopped ")
	watch.expect(": failed")
	if err := watch.cmd.Wait(); err != nil {
		t.Errorf("after the end of the run: %v", err)
	}
}

// A run in the background goes on when its terminal is lost.
func TestDetach(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	writeRecipe(t, home, `wait_done(job("j", command = "sleep 300"))`)
	c := openConsoleOf(t, home, atHome(home, "exec", "--detach", "x.star"))
	c.expect("has begun, in the background")
	c.exit(0)
	c.pty.Close() // which sends SIGHUP to all that has this terminal
	status := func() string {
		out, err := atHome(home, "status").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	for late := time.Now().Add(patience); !strings.Contains(status(), "j    job   "); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("no job is there: %s", status())
		}
	}
	if got := status(); !strings.Contains(got, "under way for ") {
		t.Errorf("the run is not under way: %s", got)
	}
	if out, err := atHome(home, "stop", "last").CombinedOutput(); err != nil || !strings.Contains(string(out), "is to end it") {
		t.Errorf("stop: %v\n%s", err, out)
	}
	checkNothingLeft(t, home)
}
