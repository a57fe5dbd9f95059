package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take that a test waits for.
const patience = time.Minute

// A console is the program on a terminal of its own, and the person at it.
type console struct {
	t      *testing.T
	home   string
	cmd    *exec.Cmd
	pty    *os.File     // the person's side
	before unix.Termios // how the terminal was set
	screen string       // what was shown, and not yet expected
	shown  string       // all that was shown
}

// openConsole starts `aifb repl` on a new terminal.
func openConsole(t *testing.T, home string, env ...string) *console {
	t.Helper()
	return openConsoleOf(t, home, repl(home, env...))
}

// openConsoleOf starts another command on a new terminal.
func openConsoleOf(t *testing.T, home string, cmd *exec.Cmd) *console {
	t.Helper()
	pty, tty := openTerminalPair(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c := &console{t: t, home: home, cmd: cmd, pty: pty}
	c.before = c.mode()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return c
}

// repl is `aifb repl`, which gets signals also where the test is run under nohup.
func repl(home string, env ...string) *exec.Cmd {
	cmd := exec.Command("env", "--default-signal", "aifb", "repl")
	cmd.Env = append(replEnv(home), env...)
	return cmd
}

func replEnv(home string) []string {
	return append(os.Environ(), "HOME="+home, "TERM=xterm", "NO_COLOR=", "XDG_STATE_HOME=", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=")
}

// openTerminalPair opens a pseudo-terminal of 80 columns: pty is the side of a person, tty that of a program.
func openTerminalPair(t *testing.T) (pty, tty *os.File) {
	t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("the REPL on a terminal: this machine has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { pty.Close() })
	number := 0
	control(t, pty, func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		number = n
		return errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	})
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return pty, tty
}

// control calls f with the descriptor of a file, whose reads still end at a deadline.
func control(t *testing.T, file *os.File, f func(fd int) error) {
	t.Helper()
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { failed = f(int(fd)) }), failed); err != nil {
		t.Fatal(err)
	}
}

// mode returns how the terminal is set.
func (c *console) mode() (mode unix.Termios) {
	c.t.Helper()
	control(c.t, c.pty, func(fd int) error {
		m, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			mode = *m
		}
		return err
	})
	return mode
}

func (c *console) enter(keys string) {
	c.t.Helper()
	if _, err := c.pty.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// escapes are what moves the cursor and erases.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// expect waits until a text is shown, behind the one that was expected before.
func (c *console) expect(want string) {
	c.t.Helper()
	c.pty.SetReadDeadline(time.Now().Add(patience))
	for buf := make([]byte, 4096); ; {
		screen := escapes.ReplaceAllString(c.screen, "")
		if _, after, ok := strings.Cut(screen, want); ok {
			c.screen = after
			return
		}
		n, err := c.pty.Read(buf)
		c.screen += string(buf[:n])
		c.shown += string(buf[:n])
		if err != nil {
			c.t.Fatalf("%q was not shown, but %q: %v", want, screen, err)
		}
	}
}

// expectPrompt waits until the editor has the terminal, and Ctrl-C is a key as others are.
func (c *console) expectPrompt(prompt string) {
	c.t.Helper()
	c.expect(prompt)
	c.expectMode(0)
}

// expectRunning waits until a text is shown and the editor has left the terminal, and Ctrl-C is a signal.
func (c *console) expectRunning(shown string) {
	c.t.Helper()
	c.expect(shown)
	c.expectMode(unix.ISIG)
}

func (c *console) expectMode(signals uint32) {
	c.t.Helper()
	for late := time.Now().Add(patience); c.mode().Lflag&unix.ISIG != signals; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			c.t.Fatalf("the terminal does not change hands: %+v", c.mode())
		}
	}
}

// exit waits until the program ends, and checks its exit code and that it leaves the terminal as it was.
func (c *console) exit(want int) {
	c.t.Helper()
	waitExit(c.t, c.cmd, want)
	if mode := c.mode(); mode != c.before {
		c.t.Errorf("the terminal is left as %+v, and was %+v", mode, c.before)
	}
}

func waitExit(t *testing.T, cmd *exec.Cmd, want int) {
	t.Helper()
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Errorf("exit code %d, want %d: %v", code, want, cmd.ProcessState)
	}
}

// checkNothingLeft checks that the only run of a home directory has ended, and all of its jobs have.
func checkNothingLeft(t *testing.T, home string) {
	t.Helper()
	cmd := exec.Command("aifb", "runs", "--json")
	cmd.Env = replEnv(home)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Runs []runSummary }
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Runs) != 1 || list.Runs[0].Ended.IsZero() || list.Runs[0].Jobs != 1 || list.Runs[0].Live != 0 {
		t.Errorf("the runs are %+v; want one that has ended, whose only job has", list.Runs)
	}
	if left, err := os.ReadDir(home + "/.aifb/runs"); len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left on the target: %v, %v", left, err)
	}
}

const startJob = `j = job("j", command = "sleep 300"); wait_running(j); print("up " + "and running")`

func TestREPLEditing(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	c := openConsole(t, home)
	c.expect(">>> ")
	c.enter("1 + 3\x7f2\r")
	c.expect("\n3\r\n>>> ")
	c.enter("def twice(x):\r")
	c.expect("\n... ")
	c.enter("    return 2 * x\r\r")
	c.expect(">>> ")
	c.enter("wice(4)\x01t\r") // Ctrl-A goes to the beginning
	c.expect("\n8\r\n>>> ")
	c.enter("\x04")
	c.exit(0)

	c = openConsole(t, home)
	c.expect(">>> ")
	c.enter("\x1b[A\x1b[A\x1b[A") // up, to the first statement of before
	c.expect("1 + 2")
	c.enter(" + 4\r")
	c.expect("\n7\r\n>>> ")
	c.enter("\x1b[A\x1b[A\x1b[A") // a statement of several lines comes as one
	c.expect("def twice(x):⏎    return 2 * x")
	c.enter(" + 1\r")
	c.expect(">>> ")
	c.enter("twice(4)\r")
	c.expect("\n9\r\n>>> ")
	c.enter("\x04")
	c.exit(0)
}

func TestREPLCtrlC(t *testing.T) {
	t.Parallel()
	c := openConsole(t, t.TempDir())
	c.expect(">>> ")
	c.enter(startJob + "; wait_done(j)\r")
	c.expect("up and running")
	c.enter("\x03")
	c.expect("error: interrupted")

	// Where nothing runs it gives up what was entered.
	c.expectPrompt(">>> ")
	c.enter("\x03")
	c.expectPrompt(">>> ")
	c.enter("nonsense\x03")
	c.expectPrompt(">>> ")
	c.enter("def f():\r")
	c.expectPrompt("... ")
	c.enter("\x03")
	c.expectPrompt(">>> ")

	// The job still runs, and its handle is of use.
	c.enter("j\r")
	c.expect("\njob j: running")
	c.expect(">>> ")

	// A loop that calls nothing is stopped as well.
	c.enter("n = 7\r")
	c.enter("while True: pass\r\r")
	c.expectRunning("while True: pass\r\n... \r\n")
	c.enter("\x03")
	c.expect("error: interrupted")
	c.expectPrompt(">>> ")
	c.enter("n\r")
	c.expect("\n7\r\n>>> ")

	c.enter("\x04")
	c.expectPrompt("[C/k/s] ")
	c.enter("\x04")
	c.expect("stopped j")
	c.exit(0)
	checkNothingLeft(t, c.home)
}

// Who leaves while jobs run is asked what is to become of them.
func TestREPLLeave(t *testing.T) {
	t.Parallel()
	const question = "They still run: cancel, keep, or stay here? [C/k/s] "
	c := openConsole(t, t.TempDir())
	c.expect(">>> ")
	c.enter(startJob + "\r")
	c.expect("up and running\r\n")
	c.expectPrompt(">>> ")
	for _, leave := range []string{"\x04", ":quit\r", "exit(12)\r"} {
		for _, stay := range []string{"s\r", "what?\rstay\r", "\x03"} {
			c.enter(leave)
			c.expect("\njob j: running on 127.0.0.1\r\n")
			c.expectPrompt(question)
			c.enter(stay)
			c.expectPrompt(">>> ")
		}
	}
	c.enter("exit(12)\r")
	c.expectPrompt(question)
	c.enter("keep\r")
	c.expect("kept: jobs and files stay on local")
	c.exit(12)
	stop := atHome(c.home, "stop", "last")
	if out, err := stop.CombinedOutput(); err != nil || !strings.Contains(string(out), "stopped j") {
		t.Errorf("stop: %v\n%s", err, out)
	}
}

func TestREPLTab(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	cmd := repl(home)
	cmd.Dir = home
	c := openConsoleOf(t, home, cmd)
	c.expect(">>> ")
	c.enter("service(\"x\", part\t")
	c.expect("partition=")
	c.enter("\x15measurem\t).co\t)\r") // Ctrl-U erases
	c.expect("measurements().co")
	c.expect("error: ")
	c.enter("tab = measurements()\r")
	c.expect(">>> ")
	c.enter("tab.co\t)\r")
	c.expect("\n0\r\n>>> ")
	c.enter("metric.\t\t")
	c.expect("csv(")
	c.expect("json(")
	c.expect("regex(")
	c.enter("\x15load(\"@aifb//quick\t, \"ma\t)\r")
	c.expect(`load("@aifb//quickstart.star", "main")`)
	c.expect(">>> ")
	c.enter("main(conc\t")
	c.expect("main(concurrency=")
	c.enter("\x15def f(x):\r\treturn x\r\r") // at the beginning of a line it indents
	c.expect("...     return x")
	c.expect(">>> ")

	c.enter("warn?\r")
	c.expect("Says something on stderr.")
	c.enter("f(3)\r")
	c.expect("\n3\r\n>>> ")
	c.enter(":save s.star\r")
	c.expect("s.star: 5 statements; aifb exec s.star runs it")
	c.enter(":save s.star\r")
	c.expect("hint: :save! s.star replaces it")
	c.expect(">>> ")
	c.enter("\x04")
	c.exit(0)
	saved := atHome(home, "exec", "s.star")
	if out, err := saved.CombinedOutput(); err != nil {
		t.Errorf("the saved recipe: %v\n%s", err, out)
	}
}

// The partitions are those of the target, asked for once.
func TestREPLPartitions(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for name, text := range map[string]string{
		"c.yaml": "targets:\n  here: {scheduler: slurm}\n",
		"sinfo":  "#!/bin/sh\necho asked >>" + home + "/log\necho gpu\necho cpu-long\necho cpu-short\n",
	} {
		if err := os.WriteFile(home+"/"+name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := atHome(home, "repl", "-t", "here", "--config", "c.yaml")
	cmd.Env = append(cmd.Env, "PATH="+home+":"+os.Getenv("PATH"))
	c := openConsoleOf(t, home, cmd)
	c.expect(">>> ")
	c.enter(`service("x", partition = "g` + "\t")
	c.expect(`partition = "gpu"`)
	c.enter("\x15job(\"x\", partition = \"c\t\t")
	c.expect(`partition = "cpu-`)
	c.expect(`cpu-long" cpu-short"`)
	c.enter("l\t")
	c.expect(`partition = "cpu-long"`)
	c.enter("\x15\x04")
	c.exit(0)
	if log, err := os.ReadFile(home + "/log"); string(log) != "asked\n" {
		t.Errorf("sinfo was asked %q, %v", log, err)
	}
}

// What happens while a line is being edited is told above it, also why a job was refused.
func TestREPLAbove(t *testing.T) {
	t.Parallel()
	c := openConsole(t, t.TempDir())
	c.expect(">>> ")
	c.enter("job(\"j\", command = \"sleep 1; exit 3\")\r")
	c.expect("job j: ")
	c.expect(">>> ")
	c.enter("1 + 20")
	c.expect("1 + 20")
	c.expect("j: failed with exit code 3 on 127.0.0.1 after ")
	c.expect(">>> 1 + 20")
	c.enter("0\r")
	c.expect("\n201\r\n>>> ")
	c.enter("job(\"bad\", image = \"/no/such.sif\", command = \"x\")\r")
	c.expect("no readable file /no/such.sif on local")
	c.expect("--> <input 3>:1:20")
	c.expect("hint: ")
	c.expect(">>> ")
	c.enter("\x04")
	c.exit(0)
}

// exec -i stays at the prompt with what the recipe left, also after it failed.
func TestExecInteractive(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	writeRecipe(t, home, `
j = job("j", command = "sleep 300")
def main(n = 1):
    wait_running(j)
    print(n, "is n")
    while n > 1:
        pass
    fail("no")
`)
	c := openConsoleOf(t, home, atHome(home, "exec", "-i", "x.star", "n=2"))
	c.expect("2 is n")
	c.enter("\x03")
	c.expect("error: interrupted")
	c.expectPrompt(">>> ")
	c.enter("j\r")
	c.expect("job j: running")
	c.expect(">>> ")
	c.enter("main()\r")
	c.expect("1 is n")
	c.expect("--> x.star:8:5 in main")
	c.expect(">>> ")
	c.enter("\x04")
	c.expectPrompt("[C/k/s] ")
	c.enter("\r")
	c.expect("stopped j")
	c.expect("error: it failed, as shown above")
	c.exit(130)
	checkNothingLeft(t, home)
}

// TestREPLSignals ends the program while it waits for a line.
func TestREPLSignals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGTERM, 143}, {syscall.SIGHUP, 129}} {
		t.Run(test.signal.String(), func(t *testing.T) {
			t.Parallel()
			c := openConsole(t, t.TempDir())
			c.expect(">>> ")
			c.enter(startJob + "\r")
			c.expect("up and running\r\n")
			c.expect(">>> ")
			c.enter("half a li")
			c.expect("half a li")
			c.cmd.Process.Signal(test.signal)
			c.expect(": stopping the run")
			if test.signal == syscall.SIGHUP {
				c.cmd.Process.Signal(test.signal) // the shell sends one, and the kernel when the shell is gone
			}
			c.expect("stopped j")
			c.exit(test.code)
			checkNothingLeft(t, c.home)
		})
	}
}

// TestREPLTerminalLost closes the terminal, while something runs and while nothing does.
func TestREPLTerminalLost(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", "; wait_done(j)"} {
		t.Run(more, func(t *testing.T) {
			t.Parallel()
			c := openConsole(t, t.TempDir())
			c.expect(">>> ")
			c.enter(startJob + more + "\r")
			c.expect("up and running\r\n")
			if more == "" {
				c.expect(">>> ")
			}
			c.pty.Close()
			late := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
			defer late.Stop()
			c.cmd.Wait() // the end of the input may come before the signal, and then be what ends the run
			checkNothingLeft(t, c.home)
		})
	}
}

// TestREPLPlain has terminals that cannot be edited on, or shall have no colours.
func TestREPLPlain(t *testing.T) {
	t.Parallel()
	for _, env := range []string{"NO_COLOR=1", "TERM=dumb"} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			c := openConsole(t, t.TempDir(), env)
			c.expect(">>> ")
			c.enter("6 * 7\r")
			c.expect("\n42\r\n>>> ")
			c.enter("\x04")
			c.exit(0)
		})
	}
}

// TestREPLPipe ends the program while it waits for a line from a pipe that stays open.
func TestREPLPipe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGTERM, 143}, {syscall.SIGINT, 130}} {
		t.Run(test.signal.String(), func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			cmd := repl(home)
			in, err1 := cmd.StdinPipe()
			out, err2 := cmd.StdoutPipe()
			var log bytes.Buffer
			cmd.Stderr = &log
			if err := errors.Join(err1, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			fmt.Fprintln(in, startJob)
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			cmd.Process.Signal(test.signal)
			waitExit(t, cmd, test.code)
			if !strings.Contains(log.String(), "stopped j") {
				t.Errorf("stderr is %q", &log)
			}
			checkNothingLeft(t, home)
		})
	}
}
