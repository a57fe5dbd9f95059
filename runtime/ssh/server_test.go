package ssh_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// A server is an SSH server in this process. It does what sshd does, as far as package ssh uses it.
type server struct {
	t           *testing.T
	addr        string
	hostKeys    []xssh.Signer
	shell       string         // that runs commands
	maxSessions int            // as MaxSessions of sshd_config; 0: any number
	noFiles     bool           // has no SFTP
	noise       string         // that comes before SFTP
	user        xssh.PublicKey // who may log in
	auth        func(*xssh.ServerConfig)
	work        sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // one of those below
	conns   map[net.Conn]bool
	running int // commands
	tries   int // to log in
	logins  int // that succeeded
	most    int // sessions at a time
}

// startServer starts a server that lets in whoever has the key.
func startServer(t *testing.T, user xssh.PublicKey, options ...func(*server)) *server {
	s := &server{t: t, shell: "/bin/sh", user: user, conns: make(map[net.Conn]bool)}
	s.changed = sync.NewCond(&s.mu)
	for _, o := range options {
		o(s)
	}
	if s.hostKeys == nil {
		s.hostKeys = []xssh.Signer{newKey(t)}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.work.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.drop()
		s.work.Wait()
	})
	return s
}

// drop cuts all connections.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// count counts a command that starts or ends.
func (s *server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
	s.changed.Broadcast()
}

// waitIdle waits until there is no connection, and no command that outlives its own.
func (s *server) waitIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 || s.running > 0 {
		s.changed.Wait()
	}
}

func (s *server) loggedIn() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

func (s *server) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

func (s *server) port() string { return s.addr[strings.LastIndexByte(s.addr, ':')+1:] }

// knownHosts is the server's line of a known_hosts file.
func (s *server) knownHosts() string {
	return knownhosts.Line([]string{s.addr}, s.hostKeys[0].PublicKey()) + "\n"
}

func (s *server) serve(conn net.Conn) {
	s.mu.Lock()
	s.conns[conn] = true
	s.mu.Unlock()
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.changed.Broadcast()
		s.mu.Unlock()
	}()
	conf := &xssh.ServerConfig{PublicKeyCallback: func(_ xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
		if s.user == nil || string(key.Marshal()) != string(s.user.Marshal()) {
			return nil, errors.New("who are you?")
		}
		return nil, nil
	}}
	for _, k := range s.hostKeys {
		conf.AddHostKey(k)
	}
	if s.auth != nil {
		s.auth(conf)
	}
	s.mu.Lock()
	s.tries++
	s.mu.Unlock()
	c, channels, requests, err := xssh.NewServerConn(conn, conf)
	if err != nil {
		return
	}
	defer c.Close()
	s.mu.Lock()
	s.logins++
	s.mu.Unlock()
	s.work.Go(func() { xssh.DiscardRequests(requests) })
	open := 0
	var mu sync.Mutex
	for ch := range channels {
		if ch.ChannelType() == "direct-tcpip" {
			s.work.Go(func() { s.forward(ch) })
			continue
		}
		mu.Lock()
		full := s.maxSessions > 0 && open >= s.maxSessions
		if !full {
			open++
			s.mu.Lock()
			s.most = max(s.most, open)
			s.mu.Unlock()
		}
		mu.Unlock()
		if full {
			ch.Reject(xssh.ConnectionFailed, "open failed")
			continue
		}
		s.work.Go(func() {
			s.session(ch)
			mu.Lock()
			defer mu.Unlock()
			open--
		})
	}
}

func (s *server) forward(ch xssh.NewChannel) {
	var to struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
	xssh.Unmarshal(ch.ExtraData(), &to)
	out, err := net.Dial("tcp", net.JoinHostPort(to.Host, fmt.Sprint(to.Port)))
	if err != nil {
		ch.Reject(xssh.ConnectionFailed, err.Error())
		return
	}
	in, requests, err := ch.Accept()
	if err != nil {
		out.Close()
		return
	}
	s.work.Go(func() { xssh.DiscardRequests(requests) })
	s.work.Go(func() { io.Copy(out, in); out.(*net.TCPConn).CloseWrite() })
	io.Copy(in, out)
	in.Close()
	out.Close()
}

// session serves one session until its command ends.
func (s *server) session(nc xssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	for r := range requests {
		var m struct{ Text string }
		xssh.Unmarshal(r.Payload, &m)
		switch {
		case r.Type == "exec":
			r.Reply(true, nil)
			s.exec(ch, requests, m.Text)
			return
		case r.Type == "subsystem" && m.Text == "sftp" && !s.noFiles:
			r.Reply(true, nil)
			io.WriteString(ch, s.noise)
			if files, err := sftp.NewServer(ch); err == nil {
				s.work.Go(func() { xssh.DiscardRequests(requests) })
				files.Serve()
			}
			return
		default:
			r.Reply(false, nil)
		}
	}
}

// exec runs a command, to which the client may send signals, as the leader of a process group.
func (s *server) exec(ch xssh.Channel, requests <-chan *xssh.Request, line string) {
	s.count(1)
	defer s.count(-1)
	cmd := exec.Command(s.shell, "-c", line)
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Error(err)
		return
	}
	s.work.Go(func() {
		io.Copy(stdin, ch)
		stdin.Close()
	})
	s.work.Go(func() {
		for r := range requests {
			if r.Type == "signal" {
				syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			}
			r.Reply(false, nil)
		}
	})
	cmd.Wait()
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	names := map[syscall.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGKILL: "KILL", syscall.SIGHUP: "HUP", syscall.SIGUSR1: "USR1"}
	if status.Signaled() {
		ch.SendRequest("exit-signal", false, xssh.Marshal(struct {
			Name      string
			Core      bool
			Msg, Lang string
		}{Name: names[status.Signal()]}))
	} else {
		ch.SendRequest("exit-status", false, xssh.Marshal(struct{ Code uint32 }{uint32(status.ExitStatus())}))
	}
}

func newKey(t *testing.T) xssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// newKeyFile makes a key pair and returns the name of the private key's file.
func newKeyFile(t *testing.T) (string, xssh.PublicKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := xssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	pub, err := xssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "id", string(pem.EncodeToMemory(block))), pub
}

// encryptedKey returns the name of an encrypted key's file, and what is in it. Its passphrase is "secret".
func encryptedKey(t *testing.T) (name string, key any, public xssh.PublicKey) {
	t.Helper()
	name = "testdata/id_encrypted"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	key, err = xssh.ParseRawPrivateKeyWithPassphrase(text, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return name, key, signer.PublicKey()
}

// writeFile writes a file in a new directory.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
