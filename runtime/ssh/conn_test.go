package ssh_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/ssh"
)

// hostConfig is an OpenSSH configuration that knows the server by a name.
func hostConfig(name string, s *server, key, knownHosts string, more ...string) string {
	return fmt.Sprintf("Host %s\n HostName 127.0.0.1\n Port %s\n User tester\n IdentityFile %s\n IdentityAgent none\n"+
		" UserKnownHostsFile %s\n GlobalKnownHostsFile none\n %s\n", name, s.port(), key, knownHosts, strings.Join(more, "\n "))
}

// connect returns a Conn to a new server, which knows its host key.
func connect(t *testing.T, options ...func(*server)) (*ssh.Conn, *server) {
	t.Helper()
	key, public := newKeyFile(t)
	s := startServer(t, public, options...)
	conf := hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts()))
	return newConn(t, "test", conf), s
}

func newConn(t *testing.T, name, config string) *ssh.Conn {
	t.Helper()
	c := ssh.New(name, writeFile(t, "config", config))
	t.Cleanup(func() { c.Close() })
	return c
}

// TestShells checks that arguments survive whichever login shell the user has.
func TestShells(t *testing.T) {
	t.Parallel()
	var bytes []byte
	for i := 1; i < 256; i++ {
		bytes = append(bytes, byte(i))
	}
	args := []string{"plain", "", "a b", "$HOME", "`id`", "*", "~", "it's", `"`, `\`, `\n`, "a!b", "50%", "%%s", "a\nb", "\n", "é", string(bytes)}
	want := "<" + strings.Join(args, "><") + ">"
	for _, shell := range []string{"dash", "bash", "ksh", "zsh", "tcsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("the login shell %s was not tested: it is not installed", shell)
			}
			t.Parallel()
			c, _ := connect(t, func(s *server) { s.shell = path })
			checkShell(t, c, args, want)
			c, _ = connect(t, func(s *server) { s.shell = noisy(t, path) })
			checkShell(t, c, args, want)
		})
	}
}

func checkShell(t *testing.T, c *ssh.Conn, args []string, want string) {
	if got, err := runtime.Output(t.Context(), c, append([]string{"printf", "<%s>"}, args...)...); got != want || err != nil {
		t.Errorf("all at once: %q, %v", got, err)
	}
	for _, arg := range args {
		if got, err := runtime.Output(t.Context(), c, "printf", "<%s>", arg); got != "<"+arg+">" || err != nil {
			t.Errorf("%q: %q, %v", arg, got, err)
		}
	}
	var stderr strings.Builder
	err := c.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", "echo oh! >&2; exit 3"}, Stderr: &stderr})
	if exit := (*runtime.ExitError)(nil); !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "oh!\n" || stderr.String() != "oh!\n" {
		t.Errorf("exit: %v, stderr %q", err, stderr.String())
	}
}

// noisy makes a shell that says something before it does what it is told, and shows that.
func noisy(t *testing.T, shell string) string {
	return executable(t, fmt.Sprintf("#!/bin/sh\necho Welcome to the cluster; printf %%s \"+ $*\"; echo 'quota: 90%%' >&2; echo \"+ $*\" >&2\nexec %s \"$@\"\n", shell))
}

func executable(t *testing.T, script string) string {
	t.Helper()
	name := writeFile(t, "shell", script)
	if err := os.Chmod(name, 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestNoShell is about accounts that may not run commands.
func TestNoShell(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 1} {
		script := fmt.Sprintf("#!/bin/sh\necho This account is not available.\nexit %d\n", code)
		c, _ := connect(t, func(s *server) { s.shell = executable(t, script) })
		wantError(t, run(t, c), `true: the login shell did not run it; it said "This account is not available."`, "ssh test true")
	}
}

func TestUnusedConnContactsNobody(t *testing.T) {
	t.Parallel()
	c, s := connect(t)
	if err := c.Close(); err != nil || s.loggedIn() != 0 {
		t.Errorf("%v, %d logins", err, s.loggedIn())
	}
	if err := c.Run(t.Context(), runtime.Cmd{Args: []string{"true"}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOneLogin(t *testing.T) {
	t.Parallel()
	c, s := connect(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.Run(t.Context(), runtime.Cmd{Args: []string{"true"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.loggedIn() != 1 || c.Execs() != 20 || s.most > 7 {
		t.Errorf("%d logins, %d execs, %d sessions at a time", s.loggedIn(), c.Execs(), s.most)
	}
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	c, s := connect(t)
	for i := 1; i <= 2; i++ {
		if err := c.Run(t.Context(), runtime.Cmd{Args: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
		if err := c.Put(t.Context(), filepath.Join(t.TempDir(), "f"), 0o600, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		if s.loggedIn() != i {
			t.Errorf("%d logins, want %d", s.loggedIn(), i)
		}
		err := c.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", "echo; exec cat"}, Stdin: endless{}, Stdout: calls{s.drop}})
		if exit := (*runtime.ExitError)(nil); err == nil || errors.As(err, &exit) || runtime.FaultOf(err) != runtime.FaultInfra {
			t.Errorf("of the lost connection: %T %v", err, err)
		}
	}
}

// A calls calls f for each write.
type calls struct{ f func() }

func (c calls) Write(p []byte) (int, error) { c.f(); return len(p), nil }

// An endless reader has zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestYield is about a server that has one session, and a command that would have it for as long as the run lasts.
func TestYield(t *testing.T) {
	t.Parallel()
	for sessions := 1; sessions <= 2; sessions++ {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			t.Parallel()
			c, s := connect(t, func(s *server) { s.maxSessions = sessions })
			for range 3 { // it comes back, as the watch of a run does
				stdin, w := io.Pipe()
				began, ended := make(chan struct{}), make(chan error, 1)
				go func() {
					ended <- c.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", "echo; exec cat"}, Stdin: stdin, Yields: true,
						Stdout: calls{sync.OnceFunc(func() { close(began) })}})
				}()
				<-began
				var wg sync.WaitGroup
				for i := range 5 {
					wg.Go(func() {
						name := filepath.Join(t.TempDir(), "file")
						if out, err := runtime.Output(t.Context(), c, "echo", "hello"); out != "hello\n" || err != nil {
							t.Errorf("Run %d: %q, %v", i, out, err)
						}
						if err := c.Put(t.Context(), name, 0o600, strings.NewReader("text")); err != nil {
							t.Errorf("Put %d: %v", i, err)
						}
						if err := c.Get(t.Context(), name, 0, io.Discard); err != nil {
							t.Errorf("Get %d: %v", i, err)
						}
					})
				}
				wg.Wait()
				w.Close()
				switch err := <-ended; {
				case sessions > 1 && err != nil && !strings.Contains(err.Error(), "gave way"):
					t.Errorf("it ended with %v", err) // a server that is late to notice ends may seem to allow one only
				case sessions == 1:
					wantError(t, err, "it gave way to another command", "")
				}
			}
			if s.most > sessions || s.loggedIn() != 1 {
				t.Errorf("%d sessions at a time, %d logins", s.most, s.loggedIn())
			}
		})
	}
}

func TestProxyJump(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	a, b, end := startServer(t, public), startServer(t, public), startServer(t, public)
	known := writeFile(t, "known_hosts", a.knownHosts()+b.knownHosts()+end.knownHosts())
	conf := hostConfig("a", a, key, known) + hostConfig("b", b, key, known) + hostConfig("end", end, key, known, "ProxyJump a,b") +
		hostConfig("nested", end, key, known, "ProxyJump c") + hostConfig("c", b, key, known, "ProxyJump a") +
		hostConfig("x", end, key, known, "ProxyJump y") + hostConfig("y", end, key, known, "ProxyJump x")
	for i, name := range []string{"end", "nested"} {
		c := newConn(t, name, conf)
		if out, err := runtime.Output(t.Context(), c, "echo", "hello"); out != "hello\n" || err != nil {
			t.Errorf("%s: %q, %v", name, out, err)
		}
		for _, s := range []*server{a, b, end} {
			if s.loggedIn() != i+1 {
				t.Errorf("%s: %d logins, want %d", name, s.loggedIn(), i+1)
			}
		}
	}
	wantError(t, newConn(t, "x", conf).Run(t.Context(), runtime.Cmd{Args: []string{"true"}}), "x through y through x", "ProxyJump")
}

// wantError checks for an infrastructure error that has the text, and for a hint that has the other.
func wantError(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil || runtime.FaultOf(err) != runtime.FaultInfra {
		t.Fatalf("got %T %v, want an infrastructure error", err, err)
	}
	if !strings.Contains(err.Error(), text) || !strings.Contains(runtime.HintOf(err), hint) {
		t.Errorf("got  %v\nhint %s\nwant %s\nhint %s", err, runtime.HintOf(err), text, hint)
	}
}

func run(t *testing.T, c *ssh.Conn) error {
	return c.Run(t.Context(), runtime.Cmd{Args: []string{"true"}})
}

func TestHostKey(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	s := startServer(t, public)
	address := "[127.0.0.1]:" + s.port()
	other := knownhosts.Line([]string{s.addr}, newKey(t).PublicKey()) + "\n"
	hashed := knownhosts.HashHostname(knownhosts.Normalize(s.addr)) + s.knownHosts()[strings.IndexByte(s.knownHosts(), ' '):]
	fingerprint := xssh.FingerprintSHA256(s.hostKeys[0].PublicKey())
	for _, test := range []struct {
		name, known, strict string
		text, hint          string // of the error
	}{
		{"known", s.knownHosts(), "yes", "", ""},
		{"hashed", hashed, "yes", "", ""},
		{"unknown", "", "yes", "unknown host key of " + address + ": ssh-ed25519 " + fingerprint, "ssh test"},
		{"nobody to ask", "", "ask", "unknown host key", "ssh test"},
		{"accepted", "", "no", "", ""},
		{"changed", other, "yes", "known_hosts:1", "ssh-keygen -R '" + address + "'"},
		{"changed, new ones are accepted", other, "accept-new", "has changed: it shows ssh-ed25519 " + fingerprint, "ssh-keygen -R"},
		{"revoked", "@revoked * " + s.knownHosts()[strings.IndexByte(s.knownHosts(), ' ')+1:], "no", "revoked", ""},
		{"unreadable", "test what?\n", "yes", "known_hosts:1", "mend"},
	} {
		t.Run(test.name, func(t *testing.T) {
			known := writeFile(t, "known_hosts", test.known)
			c := newConn(t, "test", hostConfig("test", s, key, known, "StrictHostKeyChecking "+test.strict))
			if err := run(t, c); test.text != "" {
				wantError(t, err, test.text, test.hint)
			} else if err != nil {
				t.Error(err)
			}
			if after, _ := os.ReadFile(known); string(after) != test.known {
				t.Errorf("known_hosts has changed: %s", after)
			}
		})
	}
}

func TestAcceptNewHostKey(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	s := startServer(t, public)
	known := writeFile(t, "known_hosts", "# no newline")
	for _, strict := range []string{"accept-new", "yes"} {
		if err := run(t, newConn(t, "test", hostConfig("test", s, key, known, "StrictHostKeyChecking "+strict))); err != nil {
			t.Errorf("%s: %v", strict, err)
		}
	}
	if after, _ := os.ReadFile(known); string(after) != "# no newline\n"+s.knownHosts() {
		t.Errorf("known_hosts has %q", after)
	}
	missing := filepath.Join(t.TempDir(), "new", "known_hosts")
	c := newConn(t, "test", hostConfig("test", s, key, missing))
	c.Ask = func(context.Context, string, bool) (string, error) { return "yes\n", nil }
	if err := run(t, c); err != nil {
		t.Errorf("asked: %v", err)
	}
	if after, _ := os.ReadFile(missing); string(after) != s.knownHosts() {
		t.Errorf("known_hosts has %q", after)
	}
}

// TestHostKeyTypes is about servers with several keys, of which known_hosts has one that they do not offer first.
func TestHostKeyTypes(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := xssh.NewSignerFromKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	ed, authority := newKey(t), newKey(t)
	cert := &xssh.Certificate{Key: ecKey.PublicKey(), CertType: xssh.HostCert, ValidPrincipals: []string{"alias"}, ValidBefore: xssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	certified, err := xssh.NewCertSigner(cert, ecKey)
	if err != nil {
		t.Fatal(err)
	}
	key, public := newKeyFile(t)
	s := startServer(t, public, func(s *server) { s.hostKeys = []xssh.Signer{ecKey, ed, certified} })
	for name, known := range map[string]string{
		"ecdsa":     knownhosts.Line([]string{"alias"}, ecKey.PublicKey()),
		"ed25519":   knownhosts.Line([]string{"alias"}, ed.PublicKey()),
		"authority": "@cert-authority " + knownhosts.Line([]string{"alias"}, authority.PublicKey()),
	} {
		conf := hostConfig("test", s, key, writeFile(t, "known_hosts", known), "HostKeyAlias alias")
		if err := run(t, newConn(t, "test", conf)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	wantError(t, run(t, newConn(t, l.Addr().String(), "")), "connect to "+l.Addr().String(), "VPN")
	wantError(t, run(t, newConn(t, "no-such-host.invalid", "")), "connect to no-such-host.invalid:22", "no host of the SSH configuration")
	for name, meant := range map[string]string{"no-such-hots.invalid": "; did you mean no-such-host.invalid?", "other.invalid": "knows"} {
		c := newConn(t, name, "")
		c.Similar = []string{"a", "no-such-host.invalid"}
		if err := run(t, c); !strings.HasSuffix(runtime.HintOf(err), meant) {
			t.Errorf("%s: the hint is %q, want it to end in %q", name, runtime.HintOf(err), meant)
		}
	}
	wantError(t, run(t, ssh.New("x", filepath.Join(t.TempDir(), "missing"))), "read the SSH configuration", "")
}

// TestMute is about a server that takes connections and says nothing.
func TestMute(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantError(t, run(t, newConn(t, l.Addr().String(), "ConnectTimeout 1")), "no answer within 1s", "")
	c := newConn(t, l.Addr().String(), "")
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
		}
		cancel(enough)
	}()
	if err := c.Run(ctx, runtime.Cmd{Args: []string{"true"}}); !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

// TestCutPut cuts the connection while a file is written without SFTP: the end of what came is not the end of the file.
func TestCutPut(t *testing.T) {
	t.Parallel()
	c, s := connect(t, func(s *server) { s.noFiles = true })
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := c.Put(t.Context(), name, 0o600, strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := c.Put(t.Context(), name, 0o600, readFunc(func(p []byte) (int, error) {
		if n++; n == 50 {
			s.drop()
		}
		return len(p), nil
	}))
	if runtime.FaultOf(err) != runtime.FaultInfra {
		t.Errorf("got %v", err)
	}
	s.waitIdle()
	files, err := os.ReadDir(dir)
	if text, _ := os.ReadFile(name); string(text) != "old" || err != nil || len(files) != 1 {
		t.Errorf("%d bytes, %v, %v", len(text), files, err)
	}
}

// A readFunc is an io.Reader.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestGetGrowingFile(t *testing.T) {
	t.Parallel()
	c, _ := connect(t)
	name := writeFile(t, "log", "")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want, got bytes.Buffer
	grow := calls{func() {
		line := bytes.Repeat([]byte(fmt.Sprintf("%d ", want.Len())), 4000)
		want.Write(line)
		f.Write(line)
	}}
	grow.f()
	for range 20 {
		if err := c.Get(t.Context(), name, int64(got.Len()), io.MultiWriter(&got, grow)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.HasPrefix(want.Bytes(), got.Bytes()) || got.Len() == 0 {
		t.Errorf("what was read is not what was written")
	}
}

func TestGetPermission(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("a file that may not be read was not tested: root may read all")
	}
	c, _ := connect(t)
	name := writeFile(t, "secret", "x")
	os.Chmod(name, 0)
	if err := c.Get(t.Context(), name, 0, io.Discard); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// Of a file that cannot be written, SFTP servers say that there was a failure. What that may be, aifb says.
func TestPutFailure(t *testing.T) {
	t.Parallel()
	c, _ := connect(t)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := c.Put(t.Context(), dir, 0o600, strings.NewReader("x"))
	if want := "is the disk there full, a quota used up, or dir a directory?"; runtime.HintOf(err) != want {
		t.Errorf("%v: the hint is %q, want %q", err, runtime.HintOf(err), want)
	}
}
