package main

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// askConsole starts the helper on a new terminal, from which it reads, but not to which it prints.
func askConsole(t *testing.T) (c *console, printed func() string) {
	t.Helper()
	pty, tty := openTerminalPair(t)
	cmd := exec.Command("ask")
	var out strings.Builder
	cmd.Stdin, cmd.Stdout = tty, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c = &console{t: t, cmd: cmd, pty: pty}
	c.before = c.mode()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return c, out.String
}

func TestAsk(t *testing.T) {
	t.Parallel()
	c, printed := askConsole(t)
	c.expect("See your phone.\r\nPassword: ")
	c.enter("sec\x7fcret\r")
	c.expect("\r\nName: ")
	c.enter("alice\r")
	c.expect("alice\r\n")
	c.exit(0)
	if got := printed(); got != "first\nlater\n\"secret\" \"alice\" <nil>\n" {
		t.Errorf("got %s", got)
	}
	if strings.Contains(c.shown, "sec") {
		t.Errorf("the secret is shown: %q", c.shown)
	}
}

func TestAskInterrupted(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *console){
		"Ctrl-C":  func(c *console) { c.enter("half\x03") },
		"Ctrl-D":  func(c *console) { c.enter("\x04") },
		"SIGTERM": func(c *console) { c.cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, printed := askConsole(t)
			c.expect("Password: ")
			end(c)
			want, code := "interrupted", 130
			if name == "SIGTERM" {
				want, code = "terminated", 143
			}
			c.exit(code)
			if got := printed(); got != want+", "+want+"\n" {
				t.Errorf("got %s", got)
			}
		})
	}
}
