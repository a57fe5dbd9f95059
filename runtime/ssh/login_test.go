package ssh_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/ssh"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	other, otherPublic := newKeyFile(t)
	known := func(s *server) string { return writeFile(t, "known_hosts", s.knownHosts()) }

	s := startServer(t, public)
	err := run(t, newConn(t, "test", hostConfig("test", s, other, known(s), "IdentityFile /no/such/key")))
	wantError(t, err, "log in to 127.0.0.1 as tester: ", "right user")
	wantError(t, err, "tried "+otherPublic.Type()+" "+xssh.FingerprintSHA256(otherPublic)+" of "+other, "")
	wantError(t, err, "not tried: /no/such/key: no such file", "")
	if err := run(t, newConn(t, "test", hostConfig("test", s, other, known(s), "IdentityFile "+key))); err != nil {
		t.Errorf("the second key: %v", err)
	}
}

func TestAgent(t *testing.T) {
	t.Parallel()
	locked, key, public := encryptedKey(t)
	socket := serveAgent(t, key)
	s := startServer(t, public)
	known := writeFile(t, "known_hosts", s.knownHosts())
	other, _ := newKeyFile(t)
	for name, test := range map[string]struct {
		key, more string
		ok        bool
	}{
		"any key":             {other, "", true},
		"the encrypted key":   {locked, "IdentitiesOnly yes", true},
		"only another key":    {other, "IdentitiesOnly yes", false},
		"a public key's name": {writePublic(t, public), "IdentitiesOnly yes", true},
	} {
		conf := "IdentityAgent " + socket + "\n" + hostConfig("test", s, test.key, known, test.more)
		if err := run(t, newConn(t, "test", conf)); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// writePublic writes the public key only, and returns the name that the private one would have.
func writePublic(t *testing.T, key xssh.PublicKey) string {
	return strings.TrimSuffix(writeFile(t, "id.pub", string(xssh.MarshalAuthorizedKey(key))), ".pub")
}

// serveAgent starts an agent that holds a key, and returns its socket.
func serveAgent(t *testing.T, key any) string {
	t.Helper()
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { agent.ServeAgent(keys, conn); conn.Close() })
		}
	})
	return socket
}

// A person answers questions. Each is noted with whether its answer is shown.
type person struct {
	answers map[string]string // by a part of the question
	asked   []string
}

func (p *person) ask(_ context.Context, prompt string, echo bool) (string, error) {
	p.asked = append(p.asked, fmt.Sprintf("%s|%v", prompt, echo))
	for part, answer := range p.answers {
		if strings.Contains(prompt, part) {
			return answer, nil
		}
	}
	return "", errors.New("what?")
}

func (p *person) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	if fmt.Sprint(p.asked) != fmt.Sprint(want) {
		t.Errorf("asked %q, want %q", p.asked, want)
	}
	p.asked = nil
}

// cut cuts the connection, and waits until the client knows.
func cut(t *testing.T, c *ssh.Conn, s *server) {
	t.Helper()
	err := c.Run(t.Context(), runtime.Cmd{Args: []string{"/bin/sh", "-c", "echo; exec cat"}, Stdin: endless{}, Stdout: calls{s.drop}})
	if runtime.FaultOf(err) != runtime.FaultInfra {
		t.Fatalf("of the lost connection: %v", err)
	}
}

// passwords lets in who knows the password.
func passwords(conf *xssh.ServerConfig) {
	conf.PasswordCallback = func(_ xssh.ConnMetadata, password []byte) (*xssh.Permissions, error) {
		if string(password) != "s3cret" {
			return nil, errors.New("wrong")
		}
		return nil, nil
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil, func(s *server) { s.auth = passwords })
	key, _ := newKeyFile(t)
	conf := hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts()))
	p := &person{answers: map[string]string{"Password": "s3cret"}}
	c := newConn(t, "test", conf)
	c.Ask = p.ask
	for range 2 {
		if err := run(t, c); err != nil {
			t.Fatal(err)
		}
		cut(t, c, s)
	}
	p.wantAsked(t, "Password of tester@test: |false") // once, for two logins
	if s.loggedIn() != 2 {
		t.Errorf("%d logins", s.loggedIn())
	}

	wantError(t, run(t, newConn(t, "test", conf)), "the server asks for a password: there is no terminal to ask on; tried ssh-ed25519", "ssh-add")
	c = newConn(t, "test", conf+" BatchMode yes\n")
	c.Ask = p.ask
	wantError(t, run(t, c), "no terminal", "ssh-add")
	p.wantAsked(t)

	wrong := &person{answers: map[string]string{"Password": "guess"}}
	c = newConn(t, "test", conf)
	c.Ask = wrong.ask
	before := s.tried()
	for range 5 { // a poller; the site must not see it
		wantError(t, run(t, c), "unable to authenticate, attempted methods [none publickey password]", "right user")
	}
	wantError(t, run(t, c), "the next attempt to connect is in 10m0s", "right user")
	if s.tried() != before+1 {
		t.Errorf("%d attempts to log in", s.tried()-before)
	}
	wrong.wantAsked(t, "Password of tester@test: |false")
}

// factors asks for a password and a code, and shows the code as it is typed.
func factors(_ xssh.ConnMetadata, ask xssh.KeyboardInteractiveChallenge) (*xssh.Permissions, error) {
	answers, err := ask("Two factors", "Take your phone.\x1b[2J\n", []string{"Password: ", "Code: "}, []bool{false, true})
	if err != nil || len(answers) != 2 || answers[0] != "s3cret" || answers[1] != "123456" {
		return nil, errors.New("wrong")
	}
	return nil, nil
}

func TestKeyboardInteractive(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	for name, auth := range map[string]func(*xssh.ServerConfig){
		"alone": func(conf *xssh.ServerConfig) { conf.KeyboardInteractiveCallback = factors },
		"after a key": func(conf *xssh.ServerConfig) {
			check := conf.PublicKeyCallback
			conf.PublicKeyCallback = func(meta xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
				if _, err := check(meta, key); err != nil {
					return nil, err
				}
				return nil, &xssh.PartialSuccessError{Next: xssh.ServerAuthCallbacks{KeyboardInteractiveCallback: factors}}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, map[string]xssh.PublicKey{"after a key": public}[name], func(s *server) { s.auth = auth })
			conf := hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts()))
			p := &person{answers: map[string]string{"Password": "s3cret", "Code": "123456"}}
			c := newConn(t, "test", conf)
			c.Ask = p.ask
			for range 2 { // a code serves once
				if err := run(t, c); err != nil {
					t.Fatal(err)
				}
				p.wantAsked(t, "(test) Two factors\n(test) Take your phone.·[2J\n(test) Password: |false", "(test) Code: |true")
				cut(t, c, s)
			}
			c = newConn(t, "test", conf)
			wantError(t, run(t, c), `the server asks "Password:": there is no terminal to ask on`, "on a terminal")
		})
	}
}

// TestKeyboardWithoutQuestions is about servers that ask elsewhere, such as on a phone: nobody need be at a terminal.
func TestKeyboardWithoutQuestions(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil, func(s *server) {
		s.auth = func(conf *xssh.ServerConfig) {
			conf.KeyboardInteractiveCallback = func(_ xssh.ConnMetadata, ask xssh.KeyboardInteractiveChallenge) (*xssh.Permissions, error) {
				_, err := ask("", "See your phone.", nil, nil)
				return nil, err
			}
		}
	})
	key, _ := newKeyFile(t)
	if err := run(t, newConn(t, "test", hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts())))); err != nil {
		t.Error(err)
	}
}

// TestNoAnswer is about a user who would rather not: no other way to log in is tried, and nothing is asked again.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	locked, _, public := encryptedKey(t)
	s := startServer(t, public, func(s *server) { s.auth = passwords })
	conf := hostConfig("test", s, locked, writeFile(t, "known_hosts", s.knownHosts()))
	c := newConn(t, "test", conf)
	enough, asked := errors.New("enough"), 0
	c.Ask = func(context.Context, string, bool) (string, error) { asked++; return "", enough }
	if err := run(t, c); !errors.Is(err, enough) || asked != 1 {
		t.Errorf("%v after %d questions", err, asked)
	}
	// The end of the Conn ends a question.
	c = newConn(t, "test", conf)
	c.Ask = func(ctx context.Context, _ string, _ bool) (string, error) {
		go c.Close()
		<-ctx.Done()
		return "", context.Cause(ctx)
	}
	if err := run(t, c); err == nil {
		t.Error("no error")
	}
}

// TestCutLogin checks that a server which goes away while the user logs in has not refused the user, whom it would then
// see again only after a long time.
func TestCutLogin(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	s := startServer(t, public, func(s *server) {
		s.auth = func(conf *xssh.ServerConfig) {
			passwords(conf)
			conf.PublicKeyCallback = func(xssh.ConnMetadata, xssh.PublicKey) (*xssh.Permissions, error) {
				s.drop()
				return nil, nil
			}
		}
	})
	c := newConn(t, "test", hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts())))
	if err := run(t, c); err == nil || !strings.HasSuffix(err.Error(), "log in: connection lost") {
		t.Errorf("got %v", err)
	}
	if err := run(t, c); err == nil || !strings.HasSuffix(err.Error(), "the next attempt to connect is in 1s") {
		t.Errorf("got %v", err)
	}
}

func TestEncryptedKey(t *testing.T) {
	t.Parallel()
	locked, _, public := encryptedKey(t)
	s := startServer(t, public)
	conf := hostConfig("test", s, locked, writeFile(t, "known_hosts", s.knownHosts()))
	wantError(t, run(t, newConn(t, "test", conf)), locked+" is encrypted, and not in the ssh-agent", "ssh-add")
	p := &person{answers: map[string]string{"Passphrase": "secret"}}
	c := newConn(t, "test", conf)
	c.Ask = p.ask
	for range 2 {
		if err := run(t, c); err != nil {
			t.Fatal(err)
		}
		cut(t, c, s)
	}
	p.wantAsked(t, "Passphrase of "+locked+": |false")
	p.answers["Passphrase"] = "wrong"
	c = newConn(t, "test", conf)
	c.Ask = p.ask
	wantError(t, run(t, c), locked+": ", "ssh-add")
	p.wantAsked(t, "Passphrase of "+locked+": |false")
}

// TestCertificates is about a server that knows no keys, only who signs them.
func TestCertificates(t *testing.T) {
	t.Parallel()
	authority := newKey(t)
	s := startServer(t, nil, func(s *server) {
		s.auth = func(conf *xssh.ServerConfig) {
			check := &xssh.CertChecker{IsUserAuthority: func(key xssh.PublicKey) bool {
				return bytes.Equal(key.Marshal(), authority.PublicKey().Marshal())
			}}
			conf.PublicKeyCallback = check.Authenticate
		}
	})
	known := writeFile(t, "known_hosts", s.knownHosts())
	certify := func(public xssh.PublicKey) string {
		cert := &xssh.Certificate{Key: public, CertType: xssh.UserCert, ValidPrincipals: []string{"tester"}, ValidBefore: xssh.CertTimeInfinity}
		if err := cert.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		return string(xssh.MarshalAuthorizedKey(cert))
	}
	key, public := newKeyFile(t)
	elsewhere := writeFile(t, "cert.pub", certify(public))
	locked, raw, lockedPublic := encryptedKey(t)
	ofLocked := writeFile(t, "cert.pub", certify(lockedPublic))
	socket := serveAgent(t, raw)
	wantError(t, run(t, newConn(t, "test", hostConfig("test", s, key, known))), "unable to authenticate", "")
	wantError(t, run(t, newConn(t, "test", hostConfig("test", s, key, known, "CertificateFile /no/such"))), "/no/such: no such file", "")
	for name, conf := range map[string]string{
		"CertificateFile":             hostConfig("test", s, key, known, "CertificateFile "+elsewhere),
		"CertificateFile of an agent": "IdentityAgent " + socket + "\n" + hostConfig("test", s, locked, known, "CertificateFile "+ofLocked),
	} {
		if err := run(t, newConn(t, "test", conf)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(key+"-cert.pub", []byte(certify(public)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t, newConn(t, "test", hostConfig("test", s, key, known))); err != nil {
		t.Errorf("beside the key: %v", err)
	}
}
