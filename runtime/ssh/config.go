package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kevinburke/ssh_config"

	"github.com/aifb/aifb/runtime"
)

// A config is an OpenSSH client configuration, as far as it matters here.
type config struct {
	files []*configFile // the user's before the system's
	home  string
	user  string // who runs this program
}

// A host is what the configuration says of one host.
type host struct {
	name           string // as the user calls it
	addr           string // to connect to
	port           string
	user           string
	alias          string // under which its key is known
	keys           []string
	defaultKeys    bool // the configuration names no keys
	identitiesOnly bool
	agent          string   // its socket; empty: none
	knownHosts     []string // the user's files, and then the system's
	strict         string   // StrictHostKeyChecking
	jumps          []string // to connect through, the first one first
	timeout        time.Duration
	alive          time.Duration // between two signs of life
}

// loadConfig reads the named file; with "" it reads those that OpenSSH reads, which need not exist.
func loadConfig(name string) (*config, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	c := &config{home: home, user: me.Username}
	names := []string{name}
	if name == "" {
		names = []string{filepath.Join(home, ".ssh/config"), "/etc/ssh/ssh_config"}
	}
	for _, n := range names {
		f, err := readConfig(n, home, 0)
		if name == "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.files = append(c.files, f)
	}
	return c, nil
}

// resolve says how to reach name: a host of the configuration, or [user@]host[:port].
func (c *config) resolve(name string) (*host, error) {
	u, h, port := splitName(name)
	v := make(values)
	for _, f := range c.files {
		f.collect(h, v)
	}
	if cmd := v.first("proxycommand"); cmd != "" && cmd != "none" && v.first("proxyjump") == "" {
		return nil, runtime.Faultf(runtime.FaultInfra, "use ProxyJump instead, or give another file as the SSH configuration",
			"ssh %s: its configuration has a ProxyCommand, which aifb does not run", name)
	}
	r := &host{
		name:           name,
		addr:           strings.ReplaceAll(or(v.first("hostname"), h), "%h", h),
		port:           or(port, v.first("port"), "22"),
		user:           or(u, v.first("user"), c.user),
		alias:          v.first("hostkeyalias"),
		identitiesOnly: v.first("identitiesonly") == "yes",
		strict:         strings.ToLower(or(v.first("stricthostkeychecking"), "ask")),
		timeout:        30 * time.Second,
		alive:          15 * time.Second,
	}
	if jumps := v.first("proxyjump"); jumps != "" && jumps != "none" {
		r.jumps = strings.Split(strings.ReplaceAll(jumps, " ", ""), ",")
	}
	if err := c.resolveFiles(r, h, v); err != nil {
		return nil, fmt.Errorf("ssh %s: %w", name, err)
	}
	if n, err := strconv.Atoi(v.first("connecttimeout")); err == nil && n > 0 {
		r.timeout = time.Duration(n) * time.Second
	}
	if n, err := strconv.Atoi(v.first("serveraliveinterval")); err == nil && n > 0 {
		r.alive = time.Duration(n) * time.Second
	}
	return r, nil
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
			paths = append(paths, p)
		}
		return slices.DeleteFunc(paths, func(p string) bool { return p == "none" }), nil
	}
	keys := v["identityfile"]
	if len(keys) == 0 {
		r.defaultKeys, keys = true, []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}
	}
	known := slices.Concat(
		words(or(v.first("userknownhostsfile"), "~/.ssh/known_hosts ~/.ssh/known_hosts2")),
		words(or(v.first("globalknownhostsfile"), "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")))
	var errs [3]error
	r.keys, errs[0] = expand(keys)
	r.knownHosts, errs[1] = expand(known)
	switch agent := v.first("identityagent"); {
	case agent == "" || agent == "SSH_AUTH_SOCK":
		r.agent = os.Getenv("SSH_AUTH_SOCK")
	case strings.HasPrefix(agent, "$") && !strings.HasPrefix(agent, "${"):
		r.agent = os.Getenv(agent[1:])
	case agent != "none":
		r.agent, errs[2] = expandPath(agent, c.home, tokens)
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

// words splits a list of file names. Quotes may be around any of them.
func words(s string) []string {
	list := strings.Fields(s)
	for i := range list {
		list[i] = strings.Trim(list[i], `"`)
	}
	return list
}

// values are what a configuration says of one host, by lower-case keyword. The first value of a keyword holds.
type values map[string][]string

func (v values) first(key string) string {
	if len(v[key]) == 0 {
		return ""
	}
	return v[key][0]
}

// A configFile is one file, and what it includes.
type configFile struct {
	cfg      *ssh_config.Config
	includes map[int][]*configFile // by line
}

// included stands in for the keyword Include. Package ssh_config would read the files itself; then its errors do not
// name them, and it does not understand all of what they have.
const included = "included"

// maxDepth is how deep includes may be nested, as in OpenSSH.
const maxDepth = 16

func readConfig(name, home string, depth int) (*configFile, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultInfra, "", "read the SSH configuration: %w", err)
	}
	f := &configFile{includes: make(map[int][]*configFile)}
	lines := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	for i, line := range lines {
		key, args := splitLine(line)
		switch key {
		case "host":
			lines[i] = "Host " + strings.Join(args, " ")
		case "match":
			lines[i], err = hostOfMatch(args)
		case "include":
			lines[i] = included + " " + strings.Join(args, " ")
			f.includes[i+1], err = readIncludes(args, filepath.Dir(name), home, depth+1)
		}
		if err != nil && runtime.FaultOf(err) == "" {
			return nil, runtime.Faultf(runtime.FaultInfra, "aifb can be given another file as the SSH configuration",
				"%s:%d: %w", name, i+1, err)
		} else if err != nil {
			return nil, err
		}
	}
	f.cfg, err = ssh_config.DecodeBytes([]byte(strings.Join(lines, "\n")))
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultInfra, "", "%s: line, column %w", name, err)
	}
	return f, nil
}

// splitLine returns the keyword, in lower case, and the words after it.
func splitLine(line string) (key string, args []string) {
	line, _, _ = strings.Cut(line, " #")
	line = strings.TrimSpace(line)
	i := strings.IndexAny(line, " \t=")
	if i < 0 {
		return strings.ToLower(line), nil
	}
	return strings.ToLower(line[:i]), words(strings.TrimLeft(line[i:], " \t="))
}

// hostOfMatch returns the Host line that means the same as a Match. "final" asks for a second pass over the file,
// which sees the same; "canonical" holds only after names were canonicalized, which is not done here.
func hostOfMatch(args []string) (string, error) {
	patterns := "*"
	for i := 0; i < len(args); i++ {
		switch word := strings.ToLower(args[i]); {
		case word == "all" || word == "final":
		case word == "canonical":
			return "Host !*", nil
		case (word == "host" || word == "originalhost") && i+1 < len(args) && patterns == "*":
			i++
			patterns = strings.ReplaceAll(args[i], ",", " ")
		default:
			return "", fmt.Errorf("%q is not understood", "Match "+strings.Join(args, " "))
		}
	}
	return "Host " + patterns, nil
}

func readIncludes(patterns []string, dir, home string, depth int) ([]*configFile, error) {
	if depth > maxDepth {
		return nil, errors.New("too many nested includes")
	}
	if !strings.HasPrefix(dir, "/etc/ssh") {
		dir = filepath.Join(home, ".ssh")
	}
	var files []*configFile
	for _, p := range patterns {
		p, err := expandPath(p, home, nil)
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		names, err := filepath.Glob(p)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			f, err := readConfig(name, home, depth)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

// collect appends what the file says of the host to v.
func (f *configFile) collect(host string, v values) {
	for _, h := range f.cfg.Hosts {
		if !h.Matches(host) {
			continue
		}
		for _, node := range h.Nodes {
			kv, ok := node.(*ssh_config.KV)
			if !ok {
				continue
			}
			if key := strings.ToLower(kv.Key); key != included {
				v[key] = append(v[key], kv.Value)
			}
			for _, in := range f.includes[kv.Pos().Line] {
				in.collect(host, v)
			}
		}
	}
}
