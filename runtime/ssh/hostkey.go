package ssh

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/aifb/aifb/runtime"
)

// hostKeys are the keys under which a host is known.
type hostKeys struct {
	host  *host
	addr  string // under which the files have it: host:port
	files []string
	check xssh.HostKeyCallback
	ask   func(prompt string, echo bool) (string, error)
}

func newHostKeys(h *host, ask func(string, bool) (string, error)) (*hostKeys, error) {
	k := &hostKeys{host: h, addr: net.JoinHostPort(h.addr, h.port), ask: ask}
	if h.alias != "" {
		k.addr = net.JoinHostPort(h.alias, "22")
	}
	for _, name := range h.knownHosts {
		if _, err := os.Stat(name); err == nil {
			k.files = append(k.files, name)
		}
	}
	var err error
	k.check, err = knownhosts.New(k.files...)
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultInfra, "mend or remove that line, or name another file with UserKnownHostsFile",
			"ssh %s: %w", h.name, err)
	}
	return k, nil
}

// algorithms lists what the server may prove its identity with, those of the known keys first: a server that has
// several keys shows one only, and a host that is known by another would seem to have changed.
func (k *hostKeys) algorithms() []string {
	var list []string
	for _, known := range k.known() {
		if isAuthority(known) {
			list = append(list, certificates(true)...)
		}
		switch t := known.Key.Type(); t {
		case xssh.KeyAlgoRSA:
			list = append(list, xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256)
		default:
			list = append(list, t)
		}
	}
	var unique []string
	for _, a := range slices.Concat(list, certificates(false)) {
		if !slices.Contains(unique, a) && slices.Contains(xssh.SupportedAlgorithms().HostKeys, a) {
			unique = append(unique, a)
		}
	}
	return unique
}

// certificates returns the algorithms that are for certificates, or those that are not.
func certificates(yes bool) []string {
	return slices.DeleteFunc(xssh.SupportedAlgorithms().HostKeys, func(a string) bool {
		return strings.Contains(a, "-cert-") != yes
	})
}

// known returns the keys that the files have for the host.
func (k *hostKeys) known() []knownhosts.KnownKey {
	none, err := xssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	key := (*knownhosts.KeyError)(nil)
	errors.As(k.check(k.addr, &net.TCPAddr{}, none), &key)
	if key == nil {
		return nil
	}
	return key.Want
}

// isAuthority reports whether the line that has the key says @cert-authority, which package knownhosts does not tell.
func isAuthority(key knownhosts.KnownKey) bool {
	f, err := os.Open(key.Filename)
	if err != nil {
		return false
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for range key.Line {
		s.Scan()
	}
	return strings.HasPrefix(strings.TrimSpace(s.Text()), "@cert-authority")
}

// verify is an xssh.HostKeyCallback.
func (k *hostKeys) verify(addr string, remote net.Addr, key xssh.PublicKey) error {
	err := k.check(addr, remote, key)
	unknown := (*knownhosts.KeyError)(nil)
	if !errors.As(err, &unknown) {
		if err != nil {
			return runtime.Faultf(runtime.FaultInfra, "", "ssh %s: host key %s: %w", k.host.name, describeKey(key), err)
		}
		return nil
	}
	switch {
	case k.host.strict == "no" || k.host.strict == "off":
		return nil
	case len(unknown.Want) > 0:
		return k.changed(key, unknown.Want)
	case k.host.strict == "accept-new":
		return k.add(key)
	case k.host.strict == "ask":
		answer, err := k.ask(fmt.Sprintf("The key of host %s is not known: %s\nConnect, and remember it (yes/no)? ",
			knownhosts.Normalize(k.addr), describeKey(key)), true)
		if err != nil && !errors.Is(err, errNobody) {
			return fmt.Errorf("ssh %s: %w", k.host.name, err)
		}
		if strings.TrimSpace(answer) == "yes" {
			return k.add(key)
		}
	}
	return runtime.Faultf(runtime.FaultInfra,
		fmt.Sprintf("compare the fingerprint with what the site publishes, then accept it by: ssh %s", k.host.name),
		"ssh %s: unknown host key of %s: %s is in none of %s",
		k.host.name, knownhosts.Normalize(k.addr), describeKey(key), strings.Join(k.host.knownHosts, ", "))
}

func (k *hostKeys) changed(key xssh.PublicKey, want []knownhosts.KnownKey) error {
	var known []string
	for _, w := range want {
		known = append(known, fmt.Sprintf("%s (%s:%d)", describeKey(w.Key), w.Filename, w.Line))
	}
	name := knownhosts.Normalize(k.addr)
	return runtime.Faultf(runtime.FaultInfra,
		fmt.Sprintf("somebody may be listening in. Only if the site says that the key has changed: ssh-keygen -R %s -f %s",
			runtime.Quote(name), runtime.Quote(want[0].Filename)),
		"ssh %s: the host key of %s has changed: it shows %s, known is %s", k.host.name, name, describeKey(key),
		strings.Join(known, ", "))
}

// add appends the key to the user's first file.
func (k *hostKeys) add(key xssh.PublicKey) error {
	if len(k.host.knownHosts) == 0 {
		return nil
	}
	name := k.host.knownHosts[0]
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("ssh %s: remember host key: %w", k.host.name, err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("ssh %s: remember host key: %w", k.host.name, err)
	}
	defer f.Close()
	line := k.line(key)
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	if _, err := f.WriteString(line); err != nil {
		return fmt.Errorf("ssh %s: remember host key: %w", k.host.name, err)
	}
	return f.Close()
}

// line is what a known_hosts file has of the host.
func (k *hostKeys) line(key xssh.PublicKey) string {
	line := knownhosts.Line([]string{k.addr}, key) + "\n"
	if k.host.hashKnown {
		name, rest, _ := strings.Cut(line, " ")
		line = knownhosts.HashHostname(name) + " " + rest
	}
	return line
}

func describeKey(key xssh.PublicKey) string {
	return key.Type() + " " + xssh.FingerprintSHA256(key)
}
