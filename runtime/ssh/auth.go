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
	ask     func(prompt string) (string, error) // nil: nobody to ask
	agent   net.Conn                            // nil: none
	held    []xssh.Signer                       // by the agent
	signers []xssh.Signer
	tried   []string // for people: what signers has
	skipped []string // for people: what could not be used, and why
}

// newKeyring gathers the keys for a host. They can be used until close.
func newKeyring(h *host, ask func(string) (string, error)) *keyring {
	k := &keyring{ask: ask}
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

func (k *keyring) connectAgent(socket string) {
	if socket == "" {
		return
	}
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err == nil {
		k.agent = conn
		k.held, err = agent.NewClient(conn).Signers()
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

// add appends a key, unless it is there already.
func (k *keyring) add(s xssh.Signer, from string) {
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

// addFile adds the key of a file, and its certificate if one is beside it. An encrypted key, and one of which only
// the public part is there, may be with the agent.
func (k *keyring) addFile(name string) error {
	text, err := os.ReadFile(name)
	var signer xssh.Signer
	if err == nil {
		signer, err = xssh.ParsePrivateKey(text)
	}
	if err != nil {
		signer, err = k.unlock(name, text, err)
	}
	if err != nil {
		return err
	}
	if cert, err := readPublic(name + "-cert.pub"); err == nil {
		if c, ok := cert.(*xssh.Certificate); ok {
			if s, err := xssh.NewCertSigner(c, signer); err == nil {
				k.add(s, name+"-cert.pub")
			}
		}
	}
	k.add(signer, name)
	return nil
}

// unlock finds another way to sign with a key that could not be read because of err.
func (k *keyring) unlock(name string, text []byte, err error) (xssh.Signer, error) {
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
	case locked != nil && pubErr == nil && k.ask != nil:
		return &lockedKey{name: name, text: text, public: public, ask: k.ask}, nil
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

// A lockedKey asks for its passphrase when, and only when, the server has said that it takes the key.
type lockedKey struct {
	name   string
	text   []byte
	public xssh.PublicKey
	ask    func(prompt string) (string, error)
}

func (k *lockedKey) PublicKey() xssh.PublicKey { return k.public }

func (k *lockedKey) Sign(rand io.Reader, data []byte) (*xssh.Signature, error) {
	return k.SignWithAlgorithm(rand, data, "")
}

func (k *lockedKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*xssh.Signature, error) {
	passphrase, err := k.ask(fmt.Sprintf("Passphrase of %s: ", k.name))
	if err != nil {
		return nil, err
	}
	signer, err := xssh.ParsePrivateKeyWithPassphrase(k.text, []byte(passphrase))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	if s, ok := signer.(xssh.AlgorithmSigner); ok && algorithm != "" {
		return s.SignWithAlgorithm(rand, data, algorithm)
	}
	return signer.Sign(rand, data)
}
