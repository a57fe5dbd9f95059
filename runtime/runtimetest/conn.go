package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// soon is a generous bound of what ends "soon".
const soon = 20 * time.Second

// TestConn checks that what open returns keeps the contract of runtime.Conn. Dir is a directory of that machine, which
// need not exist, for the suite to write in. Speaks is the address of a server, as seen from that machine, that sends
// something to whoever connects; by default the suite starts one, which only this machine sees.
//
// A Conn with a method OneAtATime is spared the clause "long", for which two commands have to run at once.
func TestConn(t *testing.T, dir string, open func(t *testing.T) runtime.Conn, speaks ...string) {
	c := open(t)
	t.Cleanup(func() { c.Close() })
	addr := strings.Join(speaks, "")
	if addr == "" {
		addr = listen(t)
	}
	_, alone := c.(interface{ OneAtATime() })
	for _, clause := range connClauses {
		if alone && clause.name == "long" {
			continue
		}
		t.Run(clause.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", clause.rule)
				}
			})
			clause.check(&connTest{T: t, conn: c, dir: path.Join(dir, clause.name), addr: addr, open: open})
		})
	}
}

// A connTest is what a clause works with.
type connTest struct {
	*testing.T
	conn runtime.Conn
	dir  string // of this clause
	addr string // of a server that speaks first
	open func(t *testing.T) runtime.Conn
}

var connClauses = []struct {
	name, rule string
	check      func(t *connTest)
}{
	{"args", "the program gets exactly cmd.Args; no shell interprets them", checkArgs},
	{"exit", "a non-zero exit is an *ExitError with the code and the last 4 KiB of stderr", checkExit},
	{"signal", "a command that signal n ended has exit code 128+n", checkSignal},
	{"missing program", "a program that is not there is an *ExitError", checkMissingProgram},
	{"stdin", "the command reads cmd.Stdin; nil is empty; a command need not read it", checkStdin},
	{"stdin error", "an error of cmd.Stdin is an error of Run, and no *ExitError", checkStdinError},
	{"streams", "stdout and stderr are separate, may be nil, and may be the same writer", checkStreams},
	{"output error", "an error of cmd.Stdout ends Run with that error", checkOutputError},
	{"binary", "bytes go through unchanged, in both directions, however many", checkBinary},
	{"cancel", "Run ends soon after its context, with the context's cause, and ends the command", checkCancel},
	{"concurrent", "all methods may be called concurrently", checkConcurrent},
	{"long", "a command that runs for long keeps nothing else from running", checkLong},
	{"ended", "with a context that has ended nothing is done, and the error is its cause", checkEnded},
	{"put", "Put makes directories, sets the mode, and replaces the file", checkPut},
	{"put error", "a Put that fails leaves the old file and no debris", checkPutError},
	{"put cancel", "a Put whose context ends leaves the old file and no debris, and reports the cause", checkPutCancel},
	{"get", "Get copies from the offset on; beyond the end is nothing; a missing file is fs.ErrNotExist", checkGet},
	{"get error", "an error of the writer ends Get", checkGetError},
	{"names", "a file name may have any character but / and NUL", checkNames},
	{"dial", "Dial connects as seen from that machine", checkDial},
	{"close", "Close may be called twice", checkClose},
}

// hard are strings that one shell or another would change.
var hard = []string{
	"", " ", "a b", " lead and trail ", "'", `"`, "it's", `'"'"'`, "$HOME", "${HOME}", "$(id)", "`id`", "*", "?", "[a-z]",
	`\`, `a\b`, `\n`, `\\`, `it\'s`, "!", "!!", "a!b", "#", "# no comment", "~", "~root", "{a,b}", "a;b", "a&b", "a|b",
	">x", "<x", "(", ")", "%s", "%", "50%%", "=", "a=b", "^a^b", "-", "--", "-n", "--help", "\n", "a\nb", "a\n", "\n\n", "\t",
	"\r\n", "\x01\x1b[0m", "é ü 漢字 🚀", "\xff\xfe", "\u2028", strings.Repeat("long ", 2000),
}

func checkArgs(t *connTest) {
	args := append([]string{"/bin/sh", "-c", `printf '<%s>' "$@"`, "sh"}, hard...)
	want := "<" + strings.Join(hard, "><") + ">"
	if got := t.output(args...); got != want {
		t.Errorf("all at once: got %q, want %q", got, want)
	}
	for _, arg := range hard {
		if got := t.output("/bin/sh", "-c", `printf '<%s>' "$@"`, "sh", arg); got != "<"+arg+">" {
			t.Errorf("got %q, want %q", got, "<"+arg+">")
		}
	}
}

func checkExit(t *connTest) {
	var stderr bytes.Buffer
	script := `i=0; while [ $i -lt 1000 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 42`
	err := t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", script}, Stderr: &stderr})
	exit := t.exitError(err)
	all := stderr.String()
	if exit.Code != 42 || exit.Stderr != all[len(all)-4096:] || exit.Args[2] != script {
		t.Errorf("code %d, %d bytes of stderr, args %q", exit.Code, len(exit.Stderr), exit.Args)
	}
	if strings.Count(all, "\n") != 1000 {
		t.Errorf("cmd.Stderr got %d bytes, want all", len(all))
	}
	for _, code := range []int{1, 127, 255} {
		err := t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", fmt.Sprint("exit ", code)}})
		if exit := t.exitError(err); exit.Code != code {
			t.Errorf("code %d, want %d", exit.Code, code)
		}
	}
	err = t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", "echo no such thing >&2; exit 3"}})
	if exit := t.exitError(err); exit.Code != 3 || exit.Stderr != "no such thing\n" {
		t.Errorf("with nil Stderr: %+v", exit)
	}
}

func checkSignal(t *connTest) {
	for name, code := range map[string]int{"TERM": 143, "KILL": 137, "USR1": 138} {
		err := t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", "kill -" + name + " $$"}})
		if exit := t.exitError(err); exit.Code != code {
			t.Errorf("%s: code %d, want %d", name, exit.Code, code)
		}
	}
}

func checkMissingProgram(t *connTest) {
	for _, name := range []string{"no-such-program", "/no/such program"} {
		err := t.conn.Run(t.Context(), runtime.Cmd{Args: []string{name, "x"}})
		if exit := t.exitError(err); exit.Code == 0 {
			t.Errorf("%s: code 0", name)
		}
	}
}

func checkStdin(t *connTest) {
	var out bytes.Buffer
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"cat"}, Stdin: strings.NewReader("a\x00b"), Stdout: &out}))
	if out.String() != "a\x00b" {
		t.Errorf("got %q", out.String())
	}
	if got := t.output("cat"); got != "" {
		t.Errorf("nil: got %q, want nothing", got)
	}
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"true"}, Stdin: bytes.NewReader(make([]byte, 4<<20))}))
}

func checkStdinError(t *connTest) {
	broken := errors.New("broken")
	in := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))
	err := t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"cat"}, Stdin: in})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func checkOutputError(t *connTest) {
	script := []string{"/bin/sh", "-c", "while echo more than a pipe holds; do :; done"}
	err := t.conn.Run(t.Context(), runtime.Cmd{Args: script, Stdout: &brokenWriter{left: 2}})
	if !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
}

func checkStreams(t *connTest) {
	script := []string{"/bin/sh", "-c", "echo out; echo err >&2"}
	var out, err, both bytes.Buffer
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: script, Stdout: &out, Stderr: &err}))
	if out.String() != "out\n" || err.String() != "err\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), err.String())
	}
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: script}))
	script[2] = "i=0; while [ $i -lt 100 ]; do echo out; echo err >&2; i=$((i+1)); done"
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: script, Stdout: &both, Stderr: &both}))
	if both.Len() != 800 {
		t.Errorf("the same writer for both: %d bytes, want 800", both.Len())
	}
}

// mixed returns n bytes in which every value occurs, and no block looks like the next.
func mixed(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func checkBinary(t *connTest) {
	data, name := mixed(1<<20), path.Join(t.dir, "data")
	var out, file bytes.Buffer
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"cat"}, Stdin: bytes.NewReader(data), Stdout: &out}))
	if !bytes.Equal(out.Bytes(), data) {
		t.Errorf("cat: %d bytes, and not the same", out.Len())
	}
	data = mixed(5<<20 + 1)
	t.must(t.conn.Put(t.Context(), name, 0o600, bytes.NewReader(data)))
	t.must(t.conn.Get(t.Context(), name, 0, &file))
	if !bytes.Equal(file.Bytes(), data) {
		t.Errorf("Put and Get: %d bytes, and not the same", file.Len())
	}
	if got := strings.TrimSpace(t.output("/bin/sh", "-c", `wc -c <"$1"`, "sh", name)); got != fmt.Sprint(len(data)) {
		t.Errorf("Put: wc says %s bytes, want %d", got, len(data))
	}
}

// A trigger calls do at the first byte that is written to it.
type trigger struct {
	buf  bytes.Buffer
	once sync.Once
	do   func()
}

func (w *trigger) Write(p []byte) (int, error) {
	defer w.once.Do(w.do)
	return w.buf.Write(p)
}

func checkCancel(t *connTest) {
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &trigger{do: func() { cancel(enough) }}
	stdin, w := io.Pipe() // nobody ever writes
	defer w.Close()
	start := time.Now()
	err := t.conn.Run(ctx, runtime.Cmd{Args: []string{"/bin/sh", "-c", "echo $$; exec sleep 100"}, Stdin: stdin, Stdout: out})
	if !errors.Is(err, enough) || time.Since(start) > soon {
		t.Errorf("after %v: %v, want %v", time.Since(start), err, enough)
	}
	pid := strings.TrimSpace(out.buf.String())
	if err := t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", `kill -0 "$1"`, "sh", pid}}); err == nil {
		t.Errorf("process %s lives on", pid)
	}
}

func checkEnded(t *connTest) {
	t.must(t.conn.Put(t.Context(), path.Join(t.dir, "file"), 0o600, strings.NewReader("x")))
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	var got bytes.Buffer
	_, dialed := t.conn.Dial(ctx, "tcp", t.addr)
	for what, err := range map[string]error{
		"Run":  t.conn.Run(ctx, runtime.Cmd{Args: []string{"touch", path.Join(t.dir, "touched")}}),
		"Put":  t.conn.Put(ctx, path.Join(t.dir, "put"), 0o600, strings.NewReader("x")),
		"Get":  t.conn.Get(ctx, path.Join(t.dir, "file"), 0, &got),
		"Dial": dialed,
	} {
		if !errors.Is(err, enough) {
			t.Errorf("%s: %v, want %v", what, err, enough)
		}
	}
	if got.Len() > 0 {
		t.Errorf("Get: %d bytes", got.Len())
	}
	t.wantFiles(t.dir, "file")
}

// checkLong is how jobs are watched: by one command for the whole of a run.
func checkLong(t *connTest) {
	stdin, w := io.Pipe()
	started := make(chan struct{})
	ended := make(chan error, 1)
	out := &trigger{do: func() { close(started) }}
	go func() {
		ended <- t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", "echo begun; cat"}, Stdin: stdin, Stdout: out})
	}()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	t.many(20)
	io.WriteString(w, "still here")
	w.Close()
	if err := <-ended; err != nil || out.buf.String() != "begun\nstill here" {
		t.Errorf("%q, %v", out.buf.String(), err)
	}
}

func checkConcurrent(t *connTest) { t.many(30) }

// many uses the Conn n times at once.
func (t *connTest) many(n int) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range n {
		want, name := fmt.Sprint("n", i), path.Join(t.dir, fmt.Sprint(i))
		wg.Go(func() {
			var out, file bytes.Buffer
			err := t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"printf", "%s", want}, Stdout: &out})
			if err != nil || out.String() != want {
				t.Errorf("Run %s: %q, %v", want, out.String(), err)
			}
			if err := t.conn.Put(t.Context(), name, 0o600, strings.NewReader(want)); err != nil {
				t.Errorf("Put %s: %v", want, err)
			}
			if err := t.conn.Get(t.Context(), name, 0, &file); err != nil || file.String() != want {
				t.Errorf("Get %s: %q, %v", want, file.String(), err)
			}
		})
	}
}

func checkPut(t *connTest) {
	name := path.Join(t.dir, "a/b/c", "file")
	for mode, text := range map[fs.FileMode]string{0o600: "a longer text", 0o755: "short", 0o444: ""} {
		t.must(t.conn.Put(t.Context(), name, mode, strings.NewReader(text)))
		if got := t.read(name); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
		if got := t.output("ls", "-l", name); !strings.HasPrefix(got, fs.FileMode(mode).String()) {
			t.Errorf("ls: %q, want mode %v", got, mode)
		}
	}
	t.wantFiles(path.Dir(name), "file")
	if err := t.conn.Put(t.Context(), path.Join(name, "below a file"), 0o600, strings.NewReader("")); err == nil {
		t.Errorf("a directory that cannot be made is no error")
	}
}

func checkPutError(t *connTest) {
	name, broken := path.Join(t.dir, "file"), errors.New("broken")
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"mkdir", "-p", t.dir}}))
	for _, old := range []string{"", "old"} {
		if old != "" {
			t.must(t.conn.Put(t.Context(), name, 0o600, strings.NewReader(old)))
		}
		half := io.MultiReader(bytes.NewReader(mixed(100_000)), iotest.ErrReader(broken))
		if err := t.conn.Put(t.Context(), name, 0o600, half); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		if old != "" {
			t.wantFiles(t.dir, "file")
			if got := t.read(name); got != old {
				t.Errorf("the old file has %q now", got)
			}
		} else {
			t.wantFiles(t.dir)
		}
	}
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"mkdir", path.Join(t.dir, "dir")}}))
	if err := t.conn.Put(t.Context(), path.Join(t.dir, "dir"), 0o600, strings.NewReader("x")); err == nil {
		t.Errorf("no error for a directory of that name")
	}
	t.wantFiles(t.dir, "dir", "file")
}

// A readFunc is an io.Reader.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func checkPutCancel(t *connTest) {
	name, enough := path.Join(t.dir, "file"), errors.New("enough")
	t.must(t.conn.Put(t.Context(), name, 0o600, strings.NewReader("old")))
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	endless := readFunc(func(p []byte) (int, error) {
		if n++; n == 20 {
			cancel(enough)
		}
		return len(p), nil
	})
	start := time.Now()
	if err := t.conn.Put(ctx, name, 0o600, endless); !errors.Is(err, enough) || time.Since(start) > soon {
		t.Errorf("after %v: %v, want %v", time.Since(start), err, enough)
	}
	t.wantFiles(t.dir, "file")
	if got := t.read(name); got != "old" {
		t.Errorf("the old file has %d bytes now", len(got))
	}
}

func checkGet(t *connTest) {
	name, data := path.Join(t.dir, "file"), mixed(3<<20)
	t.must(t.conn.Put(t.Context(), name, 0o600, bytes.NewReader(data)))
	for _, from := range []int{0, 1, 32768, 65535, 65536, 1 << 20, len(data) - 1, len(data)} {
		var got bytes.Buffer
		if err := t.conn.Get(t.Context(), name, int64(from), &got); err != nil || !bytes.Equal(got.Bytes(), data[from:]) {
			t.Errorf("from %d: %d bytes, %v", from, got.Len(), err)
		}
	}
	var got bytes.Buffer
	if err := t.conn.Get(t.Context(), name, int64(len(data)+1000), &got); err != nil || got.Len() != 0 {
		t.Errorf("beyond the end: %d bytes, %v", got.Len(), err)
	}
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", `printf more >>"$1"`, "sh", name}}))
	if err := t.conn.Get(t.Context(), name, int64(len(data)), &got); err != nil || got.String() != "more" {
		t.Errorf("of a file that has grown: %q, %v", got.String(), err)
	}
	for _, missing := range []string{"missing", "no/dir"} {
		if err := t.conn.Get(t.Context(), path.Join(t.dir, missing), 0, &got); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want fs.ErrNotExist", missing, err)
		}
	}
	if err := t.conn.Get(t.Context(), t.dir, 0, &got); err == nil {
		t.Errorf("of a directory: no error")
	}
}

// A brokenWriter fails after some writes.
type brokenWriter struct{ left int }

var errFull = errors.New("disk full")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left--; w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func checkGetError(t *connTest) {
	name := path.Join(t.dir, "file")
	t.must(t.conn.Put(t.Context(), name, 0o600, bytes.NewReader(mixed(3<<20))))
	if err := t.conn.Get(t.Context(), name, 0, &brokenWriter{left: 1}); !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := t.conn.Get(ctx, name, 0, &trigger{do: func() { cancel(enough) }}); !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

func checkNames(t *connTest) {
	for _, base := range hard {
		if base == "" || len(base) > 255 || base == "\xff\xfe" { // not every file system has the last
			continue
		}
		name := path.Join(t.dir, "dir "+base, base)
		if err := t.conn.Put(t.Context(), name, 0o600, strings.NewReader(base)); err != nil {
			t.Errorf("Put %q: %v", name, err)
			continue
		}
		if got := t.read(name); got != base {
			t.Errorf("Get %q: %q", name, got)
		}
		if got := t.output("cat", "--", name); got != base {
			t.Errorf("cat %q: %q", name, got)
		}
	}
	name := path.Join(t.dir, strings.Repeat("n", 255))
	t.must(t.conn.Put(t.Context(), name, 0o600, strings.NewReader("as long as a name may be")))
}

func checkDial(t *connTest) {
	conn, err := t.conn.Dial(t.Context(), "tcp", t.addr)
	t.must(err)
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("read: %v", err)
	}
	if c, err := t.conn.Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		c.Close()
		t.Errorf("port 1, on which nobody listens: no error")
	}
}

func checkClose(t *connTest) {
	unused := t.open(t.T)
	t.must(unused.Close())
	t.must(unused.Close())
	used := t.open(t.T)
	t.must(used.Run(t.Context(), runtime.Cmd{Args: []string{"true"}}))
	t.must(used.Close())
	t.must(used.Close())
}

// listen starts a server on this machine that greets whoever connects.
func listen(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func (t *connTest) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *connTest) exitError(err error) *runtime.ExitError {
	t.Helper()
	exit := (*runtime.ExitError)(nil)
	if !errors.As(err, &exit) {
		t.Fatalf("got %T %v, want an *ExitError", err, err)
	}
	return exit
}

// output returns what a command prints.
func (t *connTest) output(args ...string) string {
	t.Helper()
	var out bytes.Buffer
	t.must(t.conn.Run(t.Context(), runtime.Cmd{Args: args, Stdout: &out}))
	return out.String()
}

// read returns the content of a file.
func (t *connTest) read(name string) string {
	t.Helper()
	var b bytes.Buffer
	t.must(t.conn.Get(t.Context(), name, 0, &b))
	return b.String()
}

// wantFiles checks what is in a directory, hidden files too.
func (t *connTest) wantFiles(dir string, want ...string) {
	t.Helper()
	if got := strings.Fields(t.output("ls", "-A", dir)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}
