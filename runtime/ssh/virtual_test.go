package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/aifb/aifb/runtime"
)

// These tests are about time, and run in virtual time: the server is in the test, and its commands do not end.

// A virtualServer lets everybody in.
type virtualServer struct {
	t        *testing.T
	key      xssh.Signer
	sessions int // at a time, for each connection

	mu    sync.Mutex
	conns []*gate
	err   error // of the next connections
	tries int
}

// virtually runs f with a Conn to a server.
func virtually(t *testing.T, sessions int, f func(t *testing.T, c *Conn, s *virtualServer)) {
	synctest.Test(t, func(t *testing.T) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := xssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		s := &virtualServer{t: t, key: signer, sessions: sessions}
		c := newConn("test")
		c.dial = c.dialer(writeConfig(t, ""), s.dial)
		f(t, c, s)
		c.Close()
		for _, g := range s.conns {
			g.end()
		}
	})
}

func writeConfig(t *testing.T, more string) string {
	name := filepath.Join(t.TempDir(), "config")
	writeTestFile(t, name, "IdentityFile none\nIdentityAgent none\nUserKnownHostsFile none\nStrictHostKeyChecking no\n"+more)
	return name
}

func (s *virtualServer) dial(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.err != nil {
		return nil, s.err
	}
	near, far := net.Pipe()
	g := newGate(far)
	s.conns = append(s.conns, g)
	go s.serve(g)
	return looksLikeTCP{near}, nil
}

// goDead has the network swallow everything of the first connection.
func (s *virtualServer) goDead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.conns[0].shut)
}

// looksLikeTCP has an address that a host key can be of.
type looksLikeTCP struct{ net.Conn }

func (looksLikeTCP) RemoteAddr() net.Addr { return new(net.TCPAddr) }

func (s *virtualServer) serve(conn net.Conn) {
	conf := &xssh.ServerConfig{NoClientAuth: true}
	conf.AddHostKey(s.key)
	c, channels, requests, err := xssh.NewServerConn(conn, conf)
	if err != nil {
		return
	}
	go xssh.DiscardRequests(requests)
	free := make(chan struct{}, s.sessions)
	for nc := range channels {
		select {
		case free <- struct{}{}:
		default:
			nc.Reject(xssh.ConnectionFailed, "open failed")
			continue
		}
		ch, requests, err := nc.Accept()
		if err != nil {
			break
		}
		go func() {
			defer func() { <-free }()
			defer ch.Close()
			for r := range requests {
				r.Reply(r.Type == "exec", nil)
				switch r.Type {
				case "exec":
					io.WriteString(ch, "aifb:begin 1\n")
					io.WriteString(ch.Stderr(), "aifb:begin 1\n")
				case "subsystem", "signal":
					return
				}
			}
		}()
	}
	c.Close()
}

// A gate is a network connection over which, once it is shut, nothing comes any more. What the server writes it takes
// at once, as net.Pipe does not.
type gate struct {
	net.Conn
	out         chan []byte
	shut, ended chan struct{}
}

func newGate(conn net.Conn) *gate {
	g := &gate{Conn: conn, out: make(chan []byte, 1000), shut: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		for {
			select {
			case p := <-g.out:
				if !g.closed() {
					conn.Write(p)
				}
			case <-g.ended:
				return
			}
		}
	}()
	return g
}

func (g *gate) end() { close(g.ended); g.Conn.Close() }

func (g *gate) closed() bool {
	select {
	case <-g.shut:
		return true
	default:
		return false
	}
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if g.closed() {
		<-g.ended
	}
	return n, err
}

func (g *gate) Write(p []byte) (int, error) {
	g.out <- bytes.Clone(p)
	return len(p), nil
}

var endless = runtime.Cmd{Args: []string{"endless"}}

// TestPollerBacksOff has a poller look for a host that is down, and then is up again.
func TestPollerBacksOff(t *testing.T) {
	virtually(t, 10, func(t *testing.T, c *Conn, s *virtualServer) {
		s.err = errors.New("no route to host")
		start := time.Now()
		for ; time.Since(start) < 10*time.Minute; time.Sleep(time.Second) {
			asked := time.Now()
			err := c.Run(t.Context(), endless)
			if runtime.FaultOf(err) != runtime.FaultInfra || !strings.Contains(err.Error(), "no route to host") {
				t.Fatalf("got %v", err)
			}
			if d := time.Since(asked); d > 0 {
				t.Fatalf("it took %v to say so", d)
			}
		}
		if s.tries < 12 || s.tries > 20 {
			t.Errorf("%d attempts in 10 minutes", s.tries)
		}
		s.err = nil
		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Run(ctx, endless); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("when it is up again: %v", err)
		}
	})
}

// TestDeadPeer has the network swallow everything while a command runs that nobody waits for by a deadline.
func TestDeadPeer(t *testing.T) {
	virtually(t, 10, func(t *testing.T, c *Conn, s *virtualServer) {
		time.AfterFunc(10*time.Minute, s.goDead)
		start := time.Now()
		err := c.Run(t.Context(), endless)
		if runtime.FaultOf(err) != runtime.FaultInfra || !strings.Contains(err.Error(), "connection lost: nothing heard from the server for 45s") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start) - 10*time.Minute; d > 46*time.Second {
			t.Errorf("noticed after %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Run(ctx, endless); !errors.Is(err, context.DeadlineExceeded) || s.tries != 2 {
			t.Errorf("then: %v, %d connections", err, s.tries)
		}
	})
}

// TestLoginDeadline is about a server that takes connections, and then says nothing.
func TestLoginDeadline(t *testing.T) {
	virtually(t, 10, func(t *testing.T, c *Conn, s *virtualServer) {
		far := make(chan net.Conn, 1)
		c.dial = c.dialer(writeConfig(t, "ConnectTimeout 20\n"), func(context.Context, string, string) (net.Conn, error) {
			a, b := net.Pipe()
			far <- b
			return a, nil
		})
		start := time.Now()
		if err := c.Run(t.Context(), endless); err == nil || !strings.Contains(err.Error(), "no answer within 20s") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > 21*time.Second {
			t.Errorf("after %v", d)
		}
		(<-far).Close()
	})
}

// TestOneSessionForEver is about a server with MaxSessions 1, and a command that keeps it.
func TestOneSessionForEver(t *testing.T) {
	virtually(t, 1, func(t *testing.T, c *Conn, s *virtualServer) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx, endless) }()
		synctest.Wait()
		short, cancelShort := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancelShort()
		if err := c.Run(short, endless); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline of its own: %v", err)
		}
		start := time.Now()
		err := c.Put(t.Context(), "/x", 0o600, strings.NewReader(""))
		if err == nil || !strings.Contains(err.Error(), "allows one session at a time") || !strings.Contains(runtime.HintOf(err), "MaxSessions") {
			t.Errorf("got %v, hint %s", err, runtime.HintOf(err))
		}
		if d := time.Since(start); d < patience || d > patience+10*time.Second {
			t.Errorf("after %v", d)
		}
		cancel()
		<-done
		long, cancelLong := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancelLong()
		if err := c.Run(long, endless); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("when it is free again: %v", err)
		}
	})
}

// TestNoSession is about a server that refuses every session.
func TestNoSession(t *testing.T) {
	virtually(t, 0, func(t *testing.T, c *Conn, s *virtualServer) {
		start := time.Now()
		if err := c.Run(t.Context(), endless); err == nil || !strings.Contains(err.Error(), "the server refuses a session") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("after %v", d)
		}
	})
}
