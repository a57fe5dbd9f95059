package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
)

// askHelper is a program that asks twice, and prints the answers with what was printed while it asked.
func askHelper() {
	std := streams{os.Stdin, &output{w: os.Stdout}, &output{w: os.Stderr}}
	p := newPerson(&cli.App{Reader: std.in, Writer: std.out, ErrWriter: std.err})
	if p == nil {
		fmt.Println("nobody")
		os.Exit(3)
	}
	caught, _ := catchSignals(std.err, "")
	ctx, done := caught.scope(context.Background())
	defer done()
	secret, err := p.ask(ctx, "See your phone.\nPassword: ", false)
	if err == nil {
		err = p.lend(ctx, func() error {
			fmt.Fprintln(std.out, "later")
			os.Stdout.WriteString("first\n")
			return nil
		})
	}
	if err != nil {
		<-ctx.Done() // the signal comes to all
		fmt.Fprintf(std.out, "%v, %v\n", err, context.Cause(ctx))
		os.Exit(exitCode(err))
	}
	name, err := p.ask(ctx, "Name: ", true)
	fmt.Fprintf(std.out, "%q %q %v\n", secret, name, err)
}

// TestAskPipe has no terminal for stdin.
func TestAskPipe(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("ask")
	cmd.Stdin = strings.NewReader("secret\n")
	if out, err := cmd.Output(); string(out) != "nobody\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestLendInterrupted has a program that asks by itself end by Ctrl-C.
func TestLendInterrupted(t *testing.T) {
	t.Parallel()
	p := &person{turn: make(chan struct{}, 1)}
	err := p.lend(t.Context(), func() error { return fmt.Errorf("log in: %w", exec.Command("sh", "-c", "kill -INT $$").Run()) })
	if code := exitCode(err); code != 130 {
		t.Errorf("exit code %d: %v", code, err)
	}
	err = p.lend(t.Context(), func() error { return exec.Command("false").Run() })
	if code := exitCode(err); code != 1 {
		t.Errorf("exit code %d: %v", code, err)
	}
}

func TestSSHConn(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"openssh": "target", "openssh:alias": "alias", "openssh-host": "openssh-host", "me@host:22": "me@host:22"} {
		c := sshConn(nil, host, "target", nil)
		defer c.Close()
		if err := c.Run(t.Context(), runtime.Cmd{Args: []string{"a\x00b"}}); err == nil || !strings.HasPrefix(err.Error(), "ssh "+want+": ") {
			t.Errorf("%s: %v", host, err)
		}
	}
}
