package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/aifb/aifb/runtime"
)

// NewOpenSSH returns a connection to the named host, or [user@]host[:port], that the system's ssh makes: with all that
// it can do to log in, such as Kerberos, hardware keys and ProxyCommand. If a ControlMaster of the user's is logged in
// already, its connection is used; else there is one of our own while the Conn is open.
//
// Lend, if not nil, gives the terminal to what it calls, for ssh to ask on. It must be nil where there is none.
func NewOpenSSH(name, config string, lend func(ctx context.Context, use func() error) error) *Conn {
	c := newConn(name)
	m := &master{ctx: c.ctx, name: name, lend: lend}
	user, host, port := splitName(name)
	if user != "" {
		host = user + "@" + host
	}
	if config != "" {
		m.args = append(m.args, "-F", config)
	}
	if port != "" {
		m.args = append(m.args, "-p", port)
	}
	m.args = append(m.args, "--", host)
	c.dial, c.end = m.dial, m.stop
	return c
}

// A master makes clients of the connection that a process of the system's ssh has. They speak to it through its
// control socket, in the mode "proxy" of OpenSSH's PROTOCOL.mux, in which it passes the SSH protocol on.
type master struct {
	ctx  context.Context
	name string
	args []string // that say which host
	lend func(ctx context.Context, use func() error) error
	dir  string // of the socket of our own process; "": there is none
}

const (
	socketTime = 10 * time.Second // for what this machine alone has to do
	batchTime  = 2 * time.Minute  // to log in, when nobody is asked
)

// within returns a context for what has to end within d.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %v", d))
}

func (m *master) dial() (*xssh.Client, error) {
	m.stop() // what was ours is lost
	conf, err := m.config()
	if err != nil {
		return nil, err
	}
	if path := conf["controlpath"]; path != "" && path != "none" {
		if client, err := join(path); err == nil {
			return client, nil
		}
	}
	if err := m.start(conf); err != nil {
		return nil, err
	}
	client, err := join(filepath.Join(m.dir, "s"))
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultInfra, "it takes OpenSSH 7.4", "ssh %s: the system's ssh: %w", m.name, err)
	}
	return client, nil
}

// join makes a client of the connection behind a control socket.
func join(socket string) (*xssh.Client, error) {
	conn, err := net.DialTimeout("unix", socket, socketTime)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(socketTime))
	c, channels, requests, err := xssh.NewControlClientConn(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return xssh.NewClient(c, channels, requests), nil
}

// config asks ssh what its configuration says of the host.
func (m *master) config() (map[string]string, error) {
	ctx, cancel := within(m.ctx, socketTime)
	defer cancel()
	out, err := m.ssh(ctx, "-G")
	if err != nil {
		return nil, err
	}
	conf := make(map[string]string)
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		conf[key] = value
	}
	return conf, nil
}

// start starts a process that logs in, and then stays in the background until it is stopped, or has had no client for a
// while: also if this program is killed.
func (m *master) start(conf map[string]string) error {
	dir, err := os.MkdirTemp("", "aifb-")
	if err != nil {
		return fmt.Errorf("ssh %s: %w", m.name, err)
	}
	m.dir = dir
	options := []string{"-M", "-N", "-f", "-S", strings.ReplaceAll(filepath.Join(dir, "s"), "%", "%%"), "-oControlPersist=15",
		"-oClearAllForwardings=yes", "-oPermitLocalCommand=no"}
	if conf["serveraliveinterval"] == "0" {
		options = append(options, "-oServerAliveInterval=15", "-oServerAliveCountMax=3")
	}
	if conf["connecttimeout"] == "none" {
		options = append(options, "-oConnectTimeout=30")
	}
	if m.lend == nil {
		ctx, cancel := within(m.ctx, batchTime)
		defer cancel()
		_, err = m.ssh(ctx, append(options, "-oBatchMode=yes")...)
		return err
	}
	return m.lend(m.ctx, func() error {
		_, err := m.ssh(m.ctx, options...)
		return err
	})
}

// stop ends our own process, if there is one.
func (m *master) stop() {
	if m.dir == "" {
		return
	}
	ctx, cancel := within(context.Background(), socketTime)
	defer cancel()
	m.ssh(ctx, "-S", filepath.Join(m.dir, "s"), "-O", "exit") // it may have ended before
	os.RemoveAll(m.dir)
	m.dir = ""
}

// ssh runs ssh with options. A process that stays in the background keeps its stderr open: hence it is a file.
func (m *master) ssh(ctx context.Context, options ...string) (stdout string, err error) {
	out, err := os.CreateTemp("", "aifb-ssh-")
	if err != nil {
		return "", fmt.Errorf("ssh %s: %w", m.name, err)
	}
	defer out.Close()
	defer os.Remove(out.Name())
	cmd := exec.CommandContext(ctx, "ssh", slices.Concat(options, m.args)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it may have turned off the terminal's echo
	cmd.WaitDelay = grace
	err = cmd.Run()
	text, readErr := os.ReadFile(out.Name())
	if err == nil {
		return string(text), readErr
	}
	return "", m.explain(ctx, err, text)
}

// explain says why ssh failed, in its own words.
func (m *master) explain(ctx context.Context, err error, said []byte) error {
	text := strings.Join(strings.FieldsFunc(strings.TrimSpace(string(said)), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	hint := fmt.Sprintf("compare with: ssh %s", m.name)
	exit := (*exec.ExitError)(nil)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		hint = "install OpenSSH's ssh, or leave openssh: away"
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case text != "" && errors.As(err, &exit) && exit.Exited():
		err = errors.New(runtime.Printable(text))
	}
	err = runtime.Faultf(runtime.FaultInfra, hint, "ssh %s: the system's ssh: %w", m.name, err)
	for _, no := range []string{"Permission denied", "Host key verification failed", "Too many authentication failures"} {
		if bytes.Contains(said, []byte(no)) {
			return refusal{err}
		}
	}
	return err
}
