package ssh_test

import (
	"os/exec"
	"testing"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
	"github.com/aifb/aifb/runtime/ssh"
)

// eachConn runs f for each way to make a Conn.
func eachConn(t *testing.T, f func(t *testing.T, open func(name, config string) *ssh.Conn)) {
	t.Run("own", func(t *testing.T) { f(t, ssh.New) })
	t.Run("openssh", func(t *testing.T) {
		needOpenSSH(t)
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
				runtimetest.TestConn(t, t.TempDir(), func(*testing.T) runtime.Conn { return open("test", conf) })
			})
		})
	}
}
