// Package local implements runtime.Conn and runtime.Scheduler on this machine: the embedded default.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/aifb/aifb/runtime"
)

// grace is how long output is waited for after a command has ended; what it left running may hold the pipe open.
const grace = 2 * time.Second

// stderrTail is how much of a command's stderr an ExitError keeps.
const stderrTail = 4 << 10

// A Conn runs commands on this machine. The zero value is ready to use.
type Conn struct{}

// Run runs cmd in a process group of its own, which ends with ctx.
func (Conn) Run(ctx context.Context, cmd runtime.Cmd) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var out sync.Mutex // the caller may have given one writer for both
	last := &tail{w: cmd.Stderr}
	c := exec.CommandContext(ctx, cmd.Args[0], cmd.Args[1:]...)
	c.Stderr = &output{&out, last, cancel}
	if cmd.Stdout != nil {
		c.Stdout = &output{&out, cmd.Stdout, cancel}
	}
	c.WaitDelay = grace
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err := start(c, cmd.Stdin, cancel)
	if err == nil {
		err = c.Wait()
	}
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		return runtime.Faultf(runtime.FaultRun, "what is to go on is a job(), or has its output elsewhere: command >file 2>&1 &",
			"a command that it left in the background holds its output")
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &runtime.ExitError{Args: cmd.Args, Code: 127, Stderr: "not found"} // as a shell has it
	case errors.As(err, &exit):
		return &runtime.ExitError{Args: cmd.Args, Code: exitCode(exit), Stderr: string(last.buf)}
	}
	return fmt.Errorf("run %s: %w", cmd.Args[0], err)
}

// start starts c with r as its stdin. It is not left to os/exec, whose Wait waits for a reader that blocks. An error
// of r cancels the command, which must not take half of its input for the whole.
func start(c *exec.Cmd, r io.Reader, cancel context.CancelCauseFunc) error {
	if r == nil {
		return c.Start()
	}
	stdin, err := c.StdinPipe() // Wait closes it
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	go func() {
		in := &source{r: r}
		io.Copy(stdin, in) // the command need not read it all
		if in.err != nil {
			cancel(fmt.Errorf("stdin: %w", in.err))
		} else {
			stdin.Close()
		}
	}()
	return nil
}

// A source remembers why reading failed.
type source struct {
	r   io.Reader
	err error // but io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != io.EOF {
		s.err = err
	}
	return n, err
}

func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// Put writes a temporary file beside name and renames it.
func (Conn) Put(ctx context.Context, name string, mode fs.FileMode, r io.Reader) (err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	f, err := os.CreateTemp(dir, ".aifb-*")
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("put %s: %w", name, err)
		}
	}()
	if _, err := io.Copy(f, runtime.ReadUntil(ctx, r)); err != nil {
		return err
	}
	if err := f.Chmod(mode.Perm()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// Get copies the named file from an offset on.
func (Conn) Get(ctx context.Context, name string, from int64, w io.Writer) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if _, err := io.Copy(w, runtime.ReadUntil(ctx, f)); err != nil {
		return fmt.Errorf("get %s: %w", name, err)
	}
	return nil
}

// Dial connects to addr.
func (Conn) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c, err
}

// Close does nothing.
func (Conn) Close() error { return nil }

// An output is a stream of a command to a writer that another may share. An error of the writer cancels the command.
type output struct {
	mu     *sync.Mutex
	w      io.Writer
	cancel context.CancelCauseFunc
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.w.Write(p)
	if err != nil {
		o.cancel(err)
	}
	return n, err
}

// tail keeps the end of what is written to it, and passes all on to w if there is one.
type tail struct {
	w   io.Writer
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - stderrTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	if t.w == nil {
		return len(p), nil
	}
	return t.w.Write(p)
}
