package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// A keyring holds the keys to log in with, in the order in which they are tried. Servers allow a few attempts only:
// what the configuration names goes first, then what the agent has, then the default files.
type keyring struct {
	unlock  func(name string, text []byte) (xssh.Signer, error) // nil: nobody to ask for a passphrase
	agent   net.Conn                                            // nil: none
	held    []xssh.Signer                                       // by the agent
	certs   []*xssh.Certificate                                 // that the configuration names
	signers []xssh.Signer
	tried   []string // for people: what signers has
	skipped []string // for people: what could not be used, and why
}

// newKeyring gathers the keys for a host. They can be used until close.
func newKeyring(h *host, unlock func(name string, text []byte) (xssh.Signer, error)) *keyring {
	k := &keyring{unlock: unlock}
	for _, name := range h.certs {
		cert, err := readCertificate(name)
		if err != nil {
			k.skipped = append(k.skipped, fmt.Sprintf("%s: %v", name, plain(err)))
			continue
		}
		k.certs = append(k.certs, cert)
	}
	k.connectAgent(h.agent)
	if h.defaultKeys && !h.identitiesOnly {
		k.addAgent()
	}
	for _, name := range h.keys {
		if err := k.addFile(name); err != nil && !(h.defaultKeys && errors.Is(err, fs.ErrNotExist)) {
			k.skipped = append(k.skipped, err.Error())
		}
	}
	if !h.defaultKeys && !h.identitiesOnly {
		k.addAgent()
	}
	return k
}

func (k *keyring) close() {
	if k.agent != nil {
		k.agent.Close()
	}
}

// agentTime is how long an agent may take to list its keys.
const agentTime = 5 * time.Second

func (k *keyring) connectAgent(socket string) {
	if socket == "" {
		return
	}
	conn, err := net.DialTimeout("unix", socket, agentTime)
	if err == nil {
		k.agent = conn
		conn.SetDeadline(time.Now().Add(agentTime))
		k.held, err = agent.NewClient(conn).Signers()
		conn.SetDeadline(time.Time{}) // to sign may take a person's touch
	}
	if err != nil {
		k.skipped = append(k.skipped, fmt.Sprintf("ssh-agent: %v", err))
	}
}

func (k *keyring) addAgent() {
	for _, s := range k.held {
		k.add(s, "ssh-agent")
	}
}

// add appends a key, unless it is there already, and before it the certificates for it.
func (k *keyring) add(s xssh.Signer, from string) {
	for _, cert := range k.certs {
		if bytes.Equal(cert.Key.Marshal(), s.PublicKey().Marshal()) {
			k.certify(s, cert, from)
		}
	}
	if findKey(k.signers, s.PublicKey()) == nil {
		k.signers = append(k.signers, s)
		k.tried = append(k.tried, fmt.Sprintf("%s of %s", describeKey(s.PublicKey()), from))
	}
}

func findKey(list []xssh.Signer, key xssh.PublicKey) xssh.Signer {
	i := slices.IndexFunc(list, func(s xssh.Signer) bool { return bytes.Equal(s.PublicKey().Marshal(), key.Marshal()) })
	if i < 0 {
		return nil
	}
	return list[i]
}

// certify adds a certificate for a key.
func (k *keyring) certify(s xssh.Signer, cert *xssh.Certificate, from string) {
	if certified, err := xssh.NewCertSigner(cert, s); err == nil {
		k.add(certified, from)
	}
}

// addFile adds the key of a file, and its certificate if one is beside it. An encrypted key, and one of which only
// the public part is there, may be with the agent.
func (k *keyring) addFile(name string) error {
	text, err := os.ReadFile(name)
	var signer xssh.Signer
	if err == nil {
		signer, err = xssh.ParsePrivateKey(text)
	}
	if err != nil {
		signer, err = k.find(name, text, err)
	}
	if err != nil {
		return err
	}
	if cert, err := readCertificate(name + "-cert.pub"); err == nil {
		k.certify(signer, cert, name)
	}
	k.add(signer, name)
	return nil
}

// find finds another way to sign with a key that could not be read because of err.
func (k *keyring) find(name string, text []byte, err error) (xssh.Signer, error) {
	locked := (*xssh.PassphraseMissingError)(nil)
	public, pubErr := readPublic(strings.TrimSuffix(name, ".pub") + ".pub")
	if errors.As(err, &locked) && locked.PublicKey != nil {
		public, pubErr = locked.PublicKey, nil
	}
	if pubErr == nil {
		if s := findKey(k.held, public); s != nil {
			return s, nil
		}
	}
	switch {
	case locked != nil && pubErr == nil && k.unlock != nil:
		return &lockedKey{name: name, text: text, public: public, unlock: k.unlock}, nil
	case pubErr == nil && strings.HasPrefix(public.Type(), "sk-"):
		return nil, fmt.Errorf("%s is of a hardware key, and not in the ssh-agent", name)
	case locked != nil:
		return nil, fmt.Errorf("%s is encrypted, and not in the ssh-agent", name)
	case pubErr == nil:
		return nil, fmt.Errorf("%s: %w, and its key is not in the ssh-agent", name, plain(err))
	}
	return nil, fmt.Errorf("%s: %w", name, plain(err))
}

// plain takes the file name out of err.
func plain(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

func readPublic(name string) (xssh.PublicKey, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := xssh.ParseAuthorizedKey(text)
	return key, err
}

func readCertificate(name string) (*xssh.Certificate, error) {
	key, err := readPublic(name)
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*xssh.Certificate)
	if !ok {
		return nil, errors.New("it is no certificate")
	}
	return cert, nil
}

// A lockedKey is unlocked when, and only when, the server has said that it takes the key.
type lockedKey struct {
	name   string
	text   []byte
	public xssh.PublicKey
	unlock func(name string, text []byte) (xssh.Signer, error)
}

func (k *lockedKey) PublicKey() xssh.PublicKey { return k.public }

func (k *lockedKey) Sign(rand io.Reader, data []byte) (*xssh.Signature, error) {
	return k.SignWithAlgorithm(rand, data, "")
}

func (k *lockedKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*xssh.Signature, error) {
	signer, err := k.unlock(k.name, k.text)
	if err != nil {
		return nil, err
	}
	if s, ok := signer.(xssh.AlgorithmSigner); ok && algorithm != "" {
		return s.SignWithAlgorithm(rand, data, algorithm)
	}
	return signer.Sign(rand, data)
}

// String says what was tried.
func (k *keyring) String() string {
	s := "no key to try"
	if len(k.tried) > 0 {
		s = "tried " + strings.Join(k.tried, ", ")
	}
	if len(k.skipped) > 0 {
		s += "; not tried: " + strings.Join(k.skipped, ", ")
	}
	return s
}
