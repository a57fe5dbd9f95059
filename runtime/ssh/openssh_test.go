package ssh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/ssh"
)

// openSSH is a Conn to a new server by the system's ssh, and its configuration.
func openSSH(t *testing.T, more ...string) (c *ssh.Conn, s *server, conf string) {
	t.Helper()
	needOpenSSH(t)
	key, public := newKeyFile(t)
	s = startServer(t, public)
	conf = writeFile(t, "config", hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts()), more...))
	c = ssh.NewOpenSSH("test", conf, nil)
	t.Cleanup(func() { c.Close() })
	return c, s, conf
}

func TestOpenSSHLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	c, s, _ := openSSH(t)
	if err := run(t, c); err != nil {
		t.Fatal(err)
	}
	if err := run(t, c); err != nil || s.loggedIn() != 1 || c.Execs() != 2 {
		t.Errorf("%v, %d logins, %d execs", err, s.loggedIn(), c.Execs())
	}
	inside, err := os.ReadDir(dir)
	if err != nil || len(inside) != 1 {
		t.Fatalf("%v, %v", inside, err)
	}
	if info, err := inside[0].Info(); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.waitIdle()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestOpenSSHReconnects(t *testing.T) {
	t.Parallel()
	c, s, _ := openSSH(t)
	for i := 1; i <= 2; i++ {
		if err := run(t, c); err != nil || s.loggedIn() != i {
			t.Fatalf("%v, %d logins", err, s.loggedIn())
		}
		cut(t, c, s)
	}
	wantError(t, run(t, c), "connections are soon lost; the next attempt to connect is in 1s", "")
}

// TestOpenSSHUsersMaster has the user logged in already.
func TestOpenSSHUsersMaster(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	c, s, conf := openSSH(t, "ControlPath "+socket)
	control := func(args ...string) error {
		out, err := exec.Command("ssh", append([]string{"-F", conf}, args...)...).CombinedOutput()
		if err != nil {
			t.Logf("ssh %q: %s", args, out)
		}
		return err
	}
	master := exec.Command("ssh", "-F", conf, "-M", "-N", "-f", "test")
	if err := master.Run(); err != nil {
		t.Fatal(err)
	}
	defer control("-O", "exit", "test")
	if err := run(t, c); err != nil || s.loggedIn() != 1 {
		t.Errorf("%v, %d logins", err, s.loggedIn())
	}
	c.Close()
	if err := control("-O", "check", "test"); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestOpenSSHRefused(t *testing.T) {
	t.Parallel()
	key, _ := newKeyFile(t)
	_, s, conf := openSSH(t)
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewOpenSSH("you@test", writeFile(t, "config", "IdentityFile "+key+"\nIdentitiesOnly yes\n"+strings.ReplaceAll(string(text), "IdentityFile", "#")), nil)
	defer c.Close()
	wantError(t, run(t, c), "ssh you@test: the system's ssh: you@127.0.0.1: Permission denied (publickey)", "compare with: ssh you@test")
	tries := s.tried()
	wantError(t, run(t, c), "the next attempt to connect is in 10m0s", "")
	if s.tried() != tries {
		t.Errorf("%d attempts to log in", s.tried())
	}
	unknown := ssh.NewOpenSSH("127.0.0.1:"+s.port(), writeFile(t, "config", "UserKnownHostsFile none\nGlobalKnownHostsFile none\n"), nil)
	defer unknown.Close()
	wantError(t, run(t, unknown), "Host key verification failed", "")
	broken := ssh.NewOpenSSH("test", writeFile(t, "config", "What ever\n"), nil)
	defer broken.Close()
	wantError(t, run(t, broken), "Bad configuration option: what", "")
}

// TestOpenSSHProxyCommand is what only the system's ssh can do, here in two hops.
func TestOpenSSHProxyCommand(t *testing.T) {
	t.Parallel()
	_, gate, conf := openSSH(t)
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	inner := "Host inner\n ProxyCommand ssh -F " + conf + " -W %h:%p test\n HostKeyAlias inner\n StrictHostKeyChecking no\n" +
		strings.ReplaceAll(string(text), "Host test", "Host inner")
	wantError(t, run(t, newConn(t, "inner", inner)), "has ProxyCommand ssh", "openssh:inner")
	c := ssh.NewOpenSSH("inner", writeFile(t, "config", inner), nil)
	defer c.Close()
	if err := run(t, c); err != nil || gate.loggedIn() != 2 {
		t.Errorf("%v, %d logins", err, gate.loggedIn())
	}
}

// TestOpenSSHLends checks that ssh has the terminal while it logs in, and only then.
func TestOpenSSHLends(t *testing.T) {
	t.Parallel()
	_, s, conf := openSSH(t)
	lent := 0
	c := ssh.NewOpenSSH("test", conf, func(ctx context.Context, use func() error) error {
		lent++
		return use()
	})
	defer c.Close()
	for range 2 {
		if err := run(t, c); err != nil || lent != 1 || s.loggedIn() != 1 {
			t.Errorf("%v, lent %d times, %d logins", err, lent, s.loggedIn())
		}
	}
	enough := errors.New("enough")
	c = ssh.NewOpenSSH("test", conf, func(context.Context, func() error) error { return enough })
	defer c.Close()
	if err := run(t, c); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestNoOpenSSH(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c := ssh.NewOpenSSH("test", "", nil)
	defer c.Close()
	wantError(t, run(t, c), `exec: "ssh": executable file not found`, "install OpenSSH")
}

// TestOpenSSHCancelled is about a server that says nothing.
func TestOpenSSHCancelled(t *testing.T) {
	needOpenSSH(t)
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := ssh.NewOpenSSH(l.Addr().String(), writeFile(t, "config", ""), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	hungUp := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		cancel(enough)
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
			conn.Close()
		}
		hungUp <- err
	}()
	if err := c.Run(ctx, runtime.Cmd{Args: []string{"true"}}); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	c.Close() // it ends ssh
	if err := <-hungUp; err != nil {
		t.Errorf("the server saw %v", err)
	}
}
