package ssh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A config is an OpenSSH client configuration, as far as it matters here.
type config struct {
	files []string // the user's before the system's
	named bool     // the file is one that the user named, and has to be there
	home  string
	user  string // who runs this program
}

// A host is what the configuration says of one host.
type host struct {
	name           string // as the user calls it
	network        string // tcp, tcp4 or tcp6
	addr           string // to connect to
	port           string
	user           string
	alias          string // under which its key is known
	keys           []string
	defaultKeys    bool     // the configuration names no keys
	certs          []string // files with certificates for the keys
	identitiesOnly bool
	agent          string   // its socket; empty: none
	methods        []string // to log in, in the order in which they are tried
	batch          bool     // nobody is to be asked
	knownHosts     []string // the user's files, and then the system's
	hashKnown      bool     // a name that is added to them is hashed
	strict         string   // StrictHostKeyChecking
	jumps          []string // to connect through, the first one first
	timeout        time.Duration
	alive          time.Duration // between two signs of life
	missed         int           // of which so many may be missing
}

// loadConfig names the file to read; with "" those that OpenSSH reads, which need not exist.
func loadConfig(name string) (*config, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	c := &config{files: []string{name}, named: name != "", home: home, user: me.Username}
	if name == "" {
		c.files = []string{filepath.Join(home, ".ssh/config"), "/etc/ssh/ssh_config"}
	}
	return c, nil
}

// resolve says how to reach name: a host of the configuration, or [user@]host[:port].
func (c *config) resolve(name string) (*host, error) {
	u, h, port := splitName(name)
	v, err := c.read(h, u)
	if err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, runtime.Faultf(runtime.FaultInfra, openSSHHint(name), "ssh %s: its configuration has %w, which aifb does not do itself", name, err)
	}
	r := &host{
		name:           name,
		network:        map[string]string{"inet": "tcp4", "inet6": "tcp6"}[v.first("addressfamily")],
		addr:           v.hostName(h),
		port:           or(port, v.first("port"), "22"),
		user:           or(u, v.first("user"), c.user),
		alias:          v.first("hostkeyalias"),
		identitiesOnly: v.is("identitiesonly", "yes"),
		methods:        v.methods(),
		batch:          v.is("batchmode", "yes"),
		hashKnown:      v.is("hashknownhosts", "yes"),
		strict:         strings.ToLower(or(v.first("stricthostkeychecking"), "ask")),
		timeout:        parseTime(v.first("connecttimeout"), 30*time.Second),
		alive:          parseTime(v.first("serveraliveinterval"), 15*time.Second),
		missed:         3,
	}
	r.network = or(r.network, "tcp")
	if jumps := strings.Join(v.list("proxyjump"), ""); jumps != "" && jumps != "none" {
		r.jumps = strings.Split(jumps, ",")
	}
	if n, err := strconv.Atoi(v.first("serveralivecountmax")); err == nil && n > 0 {
		r.missed = n
	}
	if err := c.resolveFiles(r, h, v); err != nil {
		return nil, fmt.Errorf("ssh %s: %w", name, err)
	}
	return r, nil
}

// openSSHHint is for what the system's ssh can do and this package can't.
func openSSHHint(name string) string {
	return fmt.Sprintf("let the system's ssh log in: ssh: openssh:%s, of the target, in the config file of aifb", name)
}

// resolveFiles sets what names files, in which tokens like %d are replaced.
func (c *config) resolveFiles(r *host, name string, v values) error {
	tokens := map[byte]string{'%': "%", 'd': c.home, 'u': c.user, 'h': r.addr, 'n': name, 'p': r.port, 'r': r.user}
	expand := func(files []string) (paths []string, err error) {
		for _, f := range files {
			p, err := expandPath(f, c.home, tokens)
			if err != nil {
				return nil, err
			}
			if p != "none" && !slices.Contains(paths, p) {
				paths = append(paths, p)
			}
		}
		return paths, nil
	}
	keys := v.all("identityfile")
	if len(keys) == 0 {
		r.defaultKeys, keys = true, []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}
	}
	known := slices.Concat(
		v.list("userknownhostsfile", "~/.ssh/known_hosts", "~/.ssh/known_hosts2"),
		v.list("globalknownhostsfile", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"))
	var errs [4]error
	r.keys, errs[0] = expand(keys)
	r.certs, errs[1] = expand(v.all("certificatefile"))
	r.knownHosts, errs[2] = expand(known)
	switch agent := v.first("identityagent"); {
	case agent == "" || agent == "SSH_AUTH_SOCK":
		r.agent = os.Getenv("SSH_AUTH_SOCK")
	case strings.HasPrefix(agent, "$") && !strings.HasPrefix(agent, "${"):
		r.agent = os.Getenv(agent[1:])
	case agent != "none":
		r.agent, errs[3] = expandPath(agent, c.home, tokens)
	}
	return errors.Join(errs[:]...)
}

// splitName splits [user@]host[:port]. A host with several colons is an IPv6 address.
func splitName(name string) (user, host, port string) {
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		user, name = name[:i], name[i+1:]
	}
	if h, p, err := net.SplitHostPort(name); err == nil {
		return user, h, p
	}
	return user, name, ""
}

// expandPath replaces ~, ${NAME} and tokens.
func expandPath(s, home string, tokens map[byte]string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		end := strings.IndexByte(s[i:], '}')
		switch {
		case i == 0 && strings.HasPrefix(s, "~/"):
			b.WriteString(home)
		case s[i] == '%' && i+1 < len(s):
			i++
			value, ok := tokens[s[i]]
			if !ok {
				return "", fmt.Errorf("%%%c in %q is not understood", s[i], s)
			}
			b.WriteString(value)
		case strings.HasPrefix(s[i:], "${") && end > 0:
			b.WriteString(os.Getenv(s[i+2 : i+end]))
			i += end
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

func or(s ...string) string {
	i := slices.IndexFunc(s, func(s string) bool { return s != "" })
	if i < 0 {
		return ""
	}
	return s[i]
}

// parseTime reads a time as OpenSSH writes it: 30, 90s, 1m30s. What is no positive time is the default.
func parseTime(s string, fallback time.Duration) time.Duration {
	d, err := time.ParseDuration(strings.ToLower(s))
	if n, e := strconv.Atoi(s); e == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 {
		return fallback
	}
	return d
}
