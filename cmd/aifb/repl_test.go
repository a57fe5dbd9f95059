package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
	"github.com/aifb/aifb/starlib"
	"github.com/aifb/aifb/storage"
)

// A connection that ends is no end of what is entered.
func TestREPLConnectionEnds(t *testing.T) {
	t.Parallel()
	cluster := sim.New(sim.Config{Exec: func(context.Context, runtime.Cmd) error { return fmt.Errorf("handshake failed: %w", io.EOF) }})
	session := &runtime.Session{Run: "20000101-000000-test", Store: storage.Memory(), Target: runtime.Target{Name: "far", Conn: cluster.Conn()}}
	if err := session.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	std := streams{out: &output{w: &out}, err: &output{w: &log}}
	repl := starlib.NewREPL(session, starlib.Env{Stdout: std.out, Warn: session.Warn}, recipes.FS)
	defer repl.Close()
	lines := pipe{bufio.NewReader(strings.NewReader("run(\"hostname\")\nprint(\"still\", \"here\")\n"))}
	d := &dialog{std: std, repl: repl, session: session, lines: lines}
	if err := d.run(t.Context()); err == nil || d.failed != 1 {
		t.Errorf("%d statements failed, and it ended with %v", d.failed, err)
	}
	if out.String() != "still here\n" || !strings.Contains(log.String(), "handshake failed") {
		t.Errorf("stdout is %q, stderr is %q", &out, &log)
	}
}
