// Package ssh implements runtime.Conn over SSH and SFTP, for the hosts of the user's OpenSSH configuration, to which it
// logs in itself or has the system's ssh log in.
package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/aifb/aifb/runtime"
)

// A Conn is a connection to one host. It is made at its first use, and again at the next use after it was lost; what
// was under way when it was lost fails. Commands and files share it.
type Conn struct {
	// Ask, if not nil, puts a question to the user and returns the answer, which is not shown unless echo: a password,
	// or whether to trust a host. If it is nil, there is nobody to ask. It must be set before the first use.
	Ask func(ctx context.Context, prompt string, echo bool) (string, error)

	// Similar are names that the user may have meant if there is no host of this one.
	Similar []string

	name   string
	dial   func() (*xssh.Client, error)
	end    func() // what is to be done at last
	ended  sync.Once
	pace   pace
	ctx    context.Context
	cancel context.CancelFunc
	execs  atomic.Int64
	link   shared[*link]

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup // started only while not closed
}

// New returns a connection to the named host of an OpenSSH configuration file, or to [user@]host[:port]. The file ""
// stands for those that OpenSSH reads. Nothing is contacted yet.
func New(name, config string) *Conn {
	c := newConn(name)
	c.dial = c.dialer(config, (&net.Dialer{}).DialContext)
	return c
}

func newConn(name string) *Conn {
	ctx, cancel := context.WithCancel(context.Background())
	return &Conn{name: name, ctx: ctx, cancel: cancel, pace: pace{name: name}, end: func() {}}
}

// dialer returns how to connect, over tcp, and log in.
func (c *Conn) dialer(config string, tcp func(ctx context.Context, network, addr string) (net.Conn, error)) func() (*xssh.Client, error) {
	known := newAsker()
	return func() (*xssh.Client, error) {
		conf, err := loadConfig(config)
		if err != nil {
			return nil, err
		}
		known.ask = c.Ask
		d := &dialer{conf: conf, tcp: tcp, ask: known, work: &c.work, similar: c.Similar}
		return d.dial(c.ctx, c.name, nil, nil)
	}
}

// Execs returns how many commands the server was asked to run.
func (c *Conn) Execs() int64 { return c.execs.Load() }

// Close ends the connection and all that is under way.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
	c.ended.Do(c.end)
	return nil
}

// start runs f in a goroutine that Close waits for.
func (c *Conn) start(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("ssh %s: %w", c.name, net.ErrClosed)
	}
	c.work.Go(f)
	return nil
}

// grace is how long an operation may take to clean up behind itself after its context has ended.
const grace = 2 * time.Second

// do runs f, and returns soon after the context ends even if f does not.
func (c *Conn) do(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	if err := c.start(func() { done <- f() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	return context.Cause(ctx)
}

// connected returns the link, and makes it if need be.
func (c *Conn) connected(ctx context.Context) (*link, error) {
	return c.link.get(ctx, c.start, (*link).lost, c.connect)
}

func (c *Conn) connect() (*link, error) {
	if err := c.pace.begin(); err != nil {
		return nil, err
	}
	client, err := c.dial()
	if c.pace.end(err); err != nil {
		return nil, err
	}
	l := newLink(client)
	stop := context.AfterFunc(c.ctx, func() { client.Close() })
	c.work.Go(func() { // the caller is counted, so that Close waits
		l.wait()
		stop()
	})
	return l, nil
}

// onLink runs f, which begins something. Where the connection turns out to be lost, nothing has begun: it is made anew,
// once.
func (c *Conn) onLink(ctx context.Context, f func(*link) error) error {
	for again := false; ; again = true {
		l, err := c.connected(ctx)
		if err != nil {
			return err
		}
		if err = f(l); err == nil {
			return nil
		}
		if again || ctx.Err() != nil || refused(err) || runtime.FaultOf(err) != "" || !l.dead() {
			return fmt.Errorf("ssh %s: %w", c.name, err)
		}
	}
}

// Run runs cmd. When ctx ends, the command is sent SIGTERM.
func (c *Conn) Run(ctx context.Context, cmd runtime.Cmd) error {
	line, err := commandLine(cmd.Args)
	if err != nil {
		return fmt.Errorf("ssh %s: %s: %w", c.name, cmd.Args[0], err)
	}
	out := &streams{stdout: cmd.Stdout, stderr: cmd.Stderr}
	defer out.close()
	return c.do(ctx, func() error { return c.run(ctx, line, cmd, out) })
}

func (c *Conn) run(ctx context.Context, line string, cmd runtime.Cmd, out *streams) error {
	var l *link
	var s *xssh.Session
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	yield := cancel
	if !cmd.Yields {
		yield = nil
	}
	err := c.onLink(ctx, func(on *link) (err error) {
		l = on
		s, err = l.session(ctx, yield)
		return err
	})
	if err != nil {
		return err
	}
	defer l.giveBack(s)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ended := make(chan struct{})
	defer close(ended)
	var pid atomic.Pointer[string]
	defer context.AfterFunc(ctx, func() { terminate(l, s, &pid, ended) })()
	out.failed = cancel
	stdout := &beginning{w: out.writeStdout, begun: func(p string) { pid.Store(&p) }}
	stderr := &beginning{w: out.writeStderr, begun: func(string) {}}
	s.Stdout, s.Stderr = stdout, stderr
	stdin, err := s.StdinPipe()
	if err != nil {
		return err
	}
	c.execs.Add(1)
	if err := s.Start(line); err != nil {
		return c.lost(l, cmd.Args[0], err)
	}
	if cmd.Stdin == nil {
		stdin.Close()
	} else {
		go feed(stdin, cmd.Stdin, cancel) // not waited for: the reader may block for ever
	}
	err = s.Wait()
	exit := (*xssh.ExitError)(nil)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !errors.As(err, &exit):
		return c.lost(l, cmd.Args[0], err)
	case !stdout.passed || !stderr.passed:
		return runtime.Faultf(runtime.FaultInfra, fmt.Sprintf("compare with: ssh %s true", c.name),
			"ssh %s: %s: the login shell did not run it; it said %q", c.name, cmd.Args[0], bytes.TrimSpace(append(stdout.before, stderr.before...)))
	case exit != nil:
		return &runtime.ExitError{Args: cmd.Args, Code: exitCode(exit), Stderr: out.tail()}
	}
	return nil
}

// terminate ends the command of a session, or at least the session. Servers before OpenSSH 7.9 pass no signals on, and
// others pass none on to root; a shell that is about to start a program may miss one. Hence a command to kill it, for
// which there may be no other session.
func terminate(l *link, s *xssh.Session, pid *atomic.Pointer[string], ended <-chan struct{}) {
	defer s.Close()
	s.Signal(xssh.SIGTERM)
	if happens(ended, grace/4) || pid.Load() == nil {
		return
	}
	other, err := l.another()
	if err != nil {
		return
	}
	defer other.Close()
	killed := make(chan struct{})
	go func() {
		other.Run("exec /bin/sh -c 'kill -TERM -" + *pid.Load() + "'")
		close(killed)
	}()
	happens(killed, grace/4)
	happens(ended, grace/4)
}

// happens waits for done, and reports whether it came within d.
func happens(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// lost explains why a command ended without an exit code: most often because the connection did.
func (c *Conn) lost(l *link, program string, err error) error {
	if !l.dead() {
		return runtime.Faultf(runtime.FaultInfra, "", "ssh %s: %s: %w", c.name, program, err)
	}
	if l.cause != nil {
		err = l.cause
	}
	return runtime.Faultf(runtime.FaultInfra, "", "ssh %s: %s: connection lost: %w", c.name, program, err)
}

// exitCode returns 128+n for signal n. Package xssh does not know all of the signals that OpenSSH reports.
func exitCode(exit *xssh.ExitError) int {
	switch exit.Signal() {
	case "USR1":
		return 128 + 10
	case "USR2":
		return 128 + 12
	}
	return exit.ExitStatus()
}

// feed copies r to a command's stdin. An error of r cancels the command, which must not take half of its input for
// the whole.
func feed(stdin io.WriteCloser, r io.Reader, cancel context.CancelCauseFunc) {
	in := &source{r: r}
	io.Copy(stdin, in) // the command need not read it all
	if in.err != nil {
		cancel(fmt.Errorf("stdin: %w", in.err))
	} else {
		stdin.Close()
	}
}

// Dial connects to addr from the host. The connection has no deadlines.
func (c *Conn) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = c.onLink(ctx, func(l *link) (err error) {
		if conn, err = l.DialContext(ctx, network, addr); err != nil {
			err = fmt.Errorf("dial %s: %w", addr, err)
		}
		return err
	})
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return conn, err
}
