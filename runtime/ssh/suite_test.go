package ssh_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
	"github.com/aifb/aifb/runtime/ssh"
)

// eachConn runs f for each way to make a Conn.
func eachConn(t *testing.T, f func(t *testing.T, open func(name, config string) *ssh.Conn)) {
	t.Run("own", func(t *testing.T) { f(t, ssh.New) })
	t.Run("openssh", func(t *testing.T) {
		needOpenSSH(t)
		if testing.Short() {
			t.Skip("the suite through the system's ssh: -short")
		}
		f(t, func(name, config string) *ssh.Conn { return ssh.NewOpenSSH(name, config, nil) })
	})
}

func needOpenSSH(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("the system's ssh was not tested: there is none on this machine")
	}
}

func TestConn(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	for name, option := range map[string]func(*server){
		"as most":      func(s *server) { s.maxSessions = 10 },
		"no sftp":      func(s *server) { s.noFiles = true },
		"spoilt sftp":  func(s *server) { s.noise = "Welcome!\n" },
		"two sessions": func(s *server) { s.maxSessions = 2 },
		"one session":  func(s *server) { s.maxSessions = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachConn(t, func(t *testing.T, open func(name, config string) *ssh.Conn) {
				s := startServer(t, public, option)
				conf := writeFile(t, "config", hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts())))
				runtimetest.TestConn(t, t.TempDir(), func(*testing.T) runtime.Conn {
					if s.maxSessions == 1 {
						return oneAtATime{open("test", conf)}
					}
					return open("test", conf)
				})
				if s.maxSessions > 0 && s.most > s.maxSessions {
					t.Errorf("%d sessions at a time", s.most)
				}
			})
		})
	}
}

// oneAtATime is a Conn to a server that has one session.
type oneAtATime struct{ *ssh.Conn }

func (oneAtATime) OneAtATime() {}

// TestCluster is about the login host of a real cluster.
func TestCluster(t *testing.T) {
	conf := os.Getenv("AIFB_TEST_SSH_CONFIG")
	if conf == "" {
		t.Skip("the sshd of a real cluster: AIFB_TEST_SSH_CONFIG is not set; testdata/cluster/run sets it")
	}
	eachConn(t, func(t *testing.T, open func(name, config string) *ssh.Conn) {
		c := open("cluster", conf)
		defer c.Close()
		dir, err := runtime.Output(t.Context(), c, "mktemp", "-d")
		if err != nil {
			t.Fatal(err)
		}
		dir = strings.TrimSpace(dir)
		defer c.Run(t.Context(), runtime.Cmd{Args: []string{"rm", "-rf", dir}})
		runtimetest.TestConn(t, dir, func(*testing.T) runtime.Conn { return open("cluster", conf) }, "127.0.0.1:22")
	})
}

// TestSSHD is about a real sshd that is set up as sites set it up.
func TestSSHD(t *testing.T) {
	if testing.Short() {
		t.Skip("a real sshd on this machine: -short")
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd" // which is not on everybody's path
	}
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("a real sshd was not tested: it is not installed")
	}
	t.Parallel()
	for name, config := range map[string]string{
		"as it comes":  "Subsystem sftp internal-sftp\n",
		"broken sftp":  "Subsystem sftp /no/such/sftp-server\n",
		"two sessions": "Subsystem sftp internal-sftp\nMaxSessions 2\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := startSSHD(t, sshd, config)
			eachConn(t, func(t *testing.T, open func(name, config string) *ssh.Conn) {
				runtimetest.TestConn(t, t.TempDir(), func(*testing.T) runtime.Conn { return open("test", conf) })
			})
		})
	}
}

// startSSHD starts a real sshd, and returns a configuration that knows it as "test".
func startSSHD(t *testing.T, sshd, config string) string {
	t.Helper()
	if os.Getuid() == 0 { // it wants that directory
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hostKey, hostPublic := newKeyFile(t)
	key, public := newKeyFile(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	keys := writeFile(t, "keys", string(xssh.MarshalAuthorizedKey(public)))
	name := writeFile(t, "sshd_config", fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\n"+
		"PidFile none\nStrictModes no\nUsePAM no\nLogLevel ERROR\nMaxStartups 100\nSetEnv HOME=%s\n%s", port, hostKey, keys, t.TempDir(), config))
	l.Close()
	cmd := exec.Command(sshd, "-D", "-e", "-f", name)
	cmd.Stderr = t.Output()
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for tries := 0; ; tries++ {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if tries == 500 {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // there is nothing that it would tell us by
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	known := writeFile(t, "known_hosts", knownhosts.Line([]string{addr}, hostPublic)+"\n")
	return writeFile(t, "config", fmt.Sprintf("Host test\n HostName 127.0.0.1\n Port %s\n User %s\n IdentityFile %s\n IdentitiesOnly yes\n"+
		" UserKnownHostsFile %s\n", port, me.Username, key, known))
}
