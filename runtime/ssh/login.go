package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/aifb/aifb/runtime"
)

// The methods to log in, as the protocol calls them.
const (
	publicKey   = "publickey"
	interactive = "keyboard-interactive"
	password    = "password"
)

// An asker puts questions to the user. What will serve again when the connection was lost, it remembers.
type asker struct {
	ask       func(ctx context.Context, prompt string, echo bool) (string, error) // nil: nobody to ask
	passwords map[string]string                                                   // by user@host:port; they were right
	unlocked  map[string]xssh.Signer                                              // by the file of the key
}

func newAsker() *asker {
	return &asker{passwords: make(map[string]string), unlocked: make(map[string]xssh.Signer)}
}

// A refusal is why a login failed that would fail again. Sites lock out who tries again and again.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// errNobody is why a question is not answered.
var errNobody = errors.New("there is no terminal to ask on")

// A loginAttempt is the state of one attempt to log in.
type loginAttempt struct {
	ctx      context.Context
	host     *host
	asker    *asker
	limit    *time.Timer // ends ctx
	known    *hostKeys
	keys     *keyring
	password string // that was tried

	verified   bool     // the host key is right
	distrust   error    // it is not
	offered    []string // by the server: the methods that may work
	unanswered error    // a question that nobody could be asked
	given      error    // what the user, or a key of theirs, made fail; no other method is tried then
}

// login logs in to the host's server. The time that the user takes to answer a question is not limited.
func login(ctx context.Context, h *host, conn *watchedConn, ask *asker) (*xssh.Client, error) {
	slow := fmt.Errorf("no answer within %v", h.timeout)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &loginAttempt{ctx: ctx, host: h, asker: ask}
	a.limit = time.AfterFunc(h.timeout, func() { cancel(slow) })
	defer a.limit.Stop()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	unlock := a.unlock
	if !a.canAsk() {
		unlock = nil
	}
	a.keys = newKeyring(h, unlock)
	defer a.keys.close()
	defer context.AfterFunc(ctx, a.keys.close)() // it may be what does not answer
	var err error
	if a.known, err = newHostKeys(h, a.ask); err != nil {
		return nil, err
	}
	c, channels, requests, err := xssh.NewClientConn(conn, a.known.addr, a.config())
	if err != nil {
		return nil, a.explain(err, conn.broken.Load())
	}
	if a.password != "" {
		ask.passwords[a.account()] = a.password
	}
	return xssh.NewClient(c, channels, requests), nil
}

func (a *loginAttempt) config() *xssh.ClientConfig {
	conf := &xssh.ClientConfig{
		User:              a.host.user,
		HostKeyAlgorithms: a.known.algorithms(),
		HostKeyCallback: func(addr string, remote net.Addr, key xssh.PublicKey) error {
			a.distrust = a.known.verify(addr, remote, key)
			a.verified = a.distrust == nil
			return a.distrust
		},
		AuthCallback: func(state *xssh.ClientAuthContext) (xssh.AuthMethod, error) {
			a.offered = state.AllowedMethods
			return nil, a.given
		},
	}
	for _, method := range a.host.methods {
		switch method {
		case publicKey:
			conf.Auth = append(conf.Auth, xssh.PublicKeys(a.keys.signers...))
		case interactive:
			conf.Auth = append(conf.Auth, xssh.KeyboardInteractive(a.answer))
		case password:
			conf.Auth = append(conf.Auth, xssh.PasswordCallback(a.askPassword))
		}
	}
	return conf
}

func (a *loginAttempt) account() string {
	return a.host.user + "@" + net.JoinHostPort(a.host.addr, a.host.port)
}

func (a *loginAttempt) canAsk() bool { return a.asker.ask != nil && !a.host.batch }

// ask puts a question to the user.
func (a *loginAttempt) ask(prompt string, echo bool) (string, error) {
	if !a.canAsk() {
		return "", errNobody
	}
	a.limit.Stop()
	defer a.limit.Reset(a.host.timeout)
	return a.asker.ask(a.ctx, prompt, echo)
}

// answer answers the questions of the server, such as for a one-time password: answers serve once. What the server says
// is shown behind its name, lest it pass for somebody else's question.
func (a *loginAttempt) answer(title, instruction string, questions []string, echo []bool) ([]string, error) {
	var text string
	for _, line := range slices.Concat([]string{title}, strings.Split(instruction, "\n")) {
		if line = strings.TrimSpace(line); line != "" {
			text += fmt.Sprintf("(%s) %s\n", a.host.name, runtime.Printable(line))
		}
	}
	var answers []string
	for i, q := range questions {
		reply, err := a.ask(fmt.Sprintf("%s(%s) %s", text, a.host.name, runtime.Printable(q)), echo[i])
		if err != nil {
			return nil, a.noAnswer(fmt.Sprintf("the server asks %q", strings.TrimSpace(q)), err)
		}
		text, answers = "", append(answers, reply)
	}
	return answers, nil
}

func (a *loginAttempt) askPassword() (secret string, err error) {
	secret, known := a.asker.passwords[a.account()]
	if !known {
		secret, err = a.ask(fmt.Sprintf("Password of %s@%s: ", a.host.user, a.host.name), false)
	}
	if err != nil {
		return "", a.noAnswer("the server asks for a password", err)
	}
	a.password = secret
	delete(a.asker.passwords, a.account()) // until it has turned out to be right
	return secret, nil
}

// unlock reads an encrypted key.
func (a *loginAttempt) unlock(name string, text []byte) (xssh.Signer, error) {
	if s := a.asker.unlocked[name]; s != nil {
		return s, nil
	}
	passphrase, err := a.ask(fmt.Sprintf("Passphrase of %s: ", name), false)
	if err != nil {
		return nil, a.noAnswer("passphrase of "+name, err)
	}
	s, err := xssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
	if err != nil {
		a.given = runtime.Faultf("", "give the encrypted key to the ssh-agent: ssh-add FILE", "the passphrase of %s: %w", name, err)
		return nil, a.given
	}
	a.asker.unlocked[name] = s
	return s, nil
}

// noAnswer notes why there is no answer to a question. If there was nobody to ask, another method may still do.
func (a *loginAttempt) noAnswer(question string, err error) error {
	err = fmt.Errorf("%s: %w", question, err)
	if errors.Is(err, errNobody) {
		a.unanswered = err
	} else {
		a.given = err
	}
	return err
}

// explain says why the login failed. Where the connection broke and the server gave no reason, it refused nothing:
// package xssh takes that for a method which failed, and fails for what the next one lacks.
func (a *loginAttempt) explain(err error, broken bool) error {
	h := a.host
	algorithms := (*xssh.AlgorithmNegotiationError)(nil)
	goodbye := strings.HasPrefix(err.Error(), "ssh: disconnect") // of xssh's disconnectMsg
	switch {
	case a.distrust != nil:
		return refusal{a.distrust}
	case a.ctx.Err() != nil:
		return runtime.Faultf(runtime.FaultInfra, "is the network or VPN connected?", "ssh %s: log in: %w", h.name, context.Cause(a.ctx))
	case errors.As(err, &algorithms):
		return refusal{runtime.Faultf(runtime.FaultInfra, openSSHHint(h.name), "ssh %s: %w", h.name, err)}
	case !a.verified:
		return runtime.Faultf(runtime.FaultInfra, fmt.Sprintf("is there an SSH server? Compare with: ssh %s", h.name),
			"ssh %s: %w", h.name, err)
	case a.given != nil:
		return runtime.Faultf(runtime.FaultInfra, "", "ssh %s: log in to %s as %s: %w", h.name, h.addr, h.user, a.given)
	case broken && !goodbye:
		return runtime.Faultf(runtime.FaultInfra, "", "ssh %s: log in: connection lost", h.name)
	case a.unanswered != nil:
		err = a.unanswered
	}
	return refusal{runtime.Faultf(runtime.FaultInfra, a.hint(), "ssh %s: log in to %s as %s: %w; %s", h.name, h.addr, h.user, err, a.keys)}
}

func (a *loginAttempt) hint() string {
	offers := func(methods ...string) bool {
		return slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(a.offered, m) })
	}
	skipped := func(what string) bool {
		return slices.ContainsFunc(a.keys.skipped, func(s string) bool { return strings.Contains(s, what) })
	}
	switch {
	case skipped("encrypted"):
		return "give the encrypted key to the ssh-agent: ssh-add FILE"
	case a.unanswered != nil:
		return "give a key that the site has to the ssh-agent: ssh-add FILE; or run aifb on a terminal, where it can ask"
	case offers("gssapi-with-mic", "hostbased") || skipped("hardware key"):
		return "with Kerberos or a hardware key, " + openSSHHint(a.host.name)
	}
	return fmt.Sprintf("is %s the right user, and does the site have one of these keys? Compare with: ssh %s", a.host.user, a.host.name)
}
