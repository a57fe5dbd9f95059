package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// values are what a configuration says of one host: for each keyword, in lower case, the words of each of its lines.
// The first line of a keyword holds.
type values map[string][][]string

// list returns the words of the first line.
func (v values) list(key string, fallback ...string) []string {
	if len(v[key]) == 0 {
		return fallback
	}
	return v[key][0]
}

func (v values) first(key string) string { return or(v.list(key)...) }

func (v values) is(key, value string) bool { return strings.EqualFold(v.first(key), value) }

// all returns the first word of every line.
func (v values) all(key string) (list []string) {
	for _, words := range v[key] {
		list = append(list, or(words...))
	}
	return list
}

// add takes a line. Of ProxyCommand and ProxyJump, the one that comes first holds.
func (v values) add(key string, words []string) {
	if key == "proxyjump" && v["proxycommand"] != nil || key == "proxycommand" && v["proxyjump"] != nil {
		return
	}
	v[key] = append(v[key], words)
}

// hostName returns the address of a host.
func (v values) hostName(host string) string {
	return strings.ReplaceAll(or(v.first("hostname"), host), "%h", host)
}

// check names a setting that changes whom one reaches, or how one logs in, and that is not followed here.
func (v values) check() error {
	for _, s := range []struct{ keyword, harmless string }{
		{"ProxyCommand", "none"}, {"KnownHostsCommand", "none"}, {"RevokedHostKeys", "none"}, {"PKCS11Provider", "none"},
		{"CanonicalizeHostname", "no"}, {"BindAddress", ""}, {"BindInterface", ""},
	} {
		if value := v.first(strings.ToLower(s.keyword)); value != "" && !strings.EqualFold(value, s.harmless) {
			return fmt.Errorf("%s %s", s.keyword, value)
		}
	}
	if len(v.methods()) == 0 {
		return fmt.Errorf("PreferredAuthentications %s", v.first("preferredauthentications"))
	}
	return nil
}

// methods returns the ways to log in, in the order in which they are tried.
func (v values) methods() []string {
	preferred := []string{publicKey, interactive, password}
	if list := v.first("preferredauthentications"); list != "" {
		preferred = strings.Split(list, ",")
	}
	return slices.DeleteFunc(preferred, func(method string) bool {
		switch method {
		case publicKey:
			return v.is("pubkeyauthentication", "no")
		case interactive:
			return v.is("kbdinteractiveauthentication", "no") || v.is("challengeresponseauthentication", "no")
		case password:
			return v.is("passwordauthentication", "no")
		}
		return true
	})
}

// A reader collects what the files of a configuration say of one host.
type reader struct {
	*config
	host  string // as the user calls it
	login string // given together with it
	final bool   // this is the second pass
	again bool   // the files ask for a second pass
	said  values
}

// read reads all files; a second time, which adds to what was said, if they have a "Match final".
func (c *config) read(host, login string) (values, error) {
	r := &reader{config: c, host: host, login: login, said: make(values)}
	for pass := 0; pass == 0 || pass == 1 && r.again; pass++ {
		r.final = pass == 1
		for _, name := range c.files {
			err := r.file(name, 0)
			if err != nil && (c.named || !errors.Is(err, fs.ErrNotExist)) {
				return nil, err
			}
		}
	}
	return r.said, nil
}

// maxDepth is how deep includes may be nested, as in OpenSSH.
const maxDepth = 16

func (r *reader) file(name string, depth int) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return runtime.Faultf(runtime.FaultInfra, "", "read the SSH configuration: %w", err)
	}
	active := true
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		var err error
		switch key, args := splitLine(line); key {
		case "", "ignoreunknown":
		case "host":
			active = matches(args, r.host)
		case "match":
			active, err = r.match(args)
		case "include":
			if active {
				err = r.include(args, filepath.Dir(name), depth+1)
			}
		default:
			if active {
				r.said.add(key, args)
			}
		}
		if err != nil && runtime.FaultOf(err) == "" {
			err = runtime.Faultf(runtime.FaultInfra, openSSHHint(r.host), "%s:%d: %w", name, number, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// splitLine returns the keyword, in lower case, and the words after it.
func splitLine(line string) (key string, args []string) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") {
		return "", nil
	}
	i := strings.IndexAny(line, " \t=")
	if i < 0 {
		return strings.ToLower(line), nil
	}
	rest := strings.TrimPrefix(strings.TrimLeft(line[i:], " \t"), "=")
	return strings.ToLower(line[:i]), words(rest)
}

// words splits at spaces that are not in quotes, and ends at a comment.
func words(s string) (list []string) {
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == '#' {
			return list
		}
		var word strings.Builder
		for s != "" && s[0] != ' ' && s[0] != '\t' {
			if end := strings.IndexByte(s[1:], s[0]); (s[0] == '"' || s[0] == '\'') && end >= 0 {
				word.WriteString(s[1 : end+1])
				s = s[end+2:]
				continue
			}
			word.WriteByte(s[0])
			s = s[1:]
		}
		list = append(list, word.String())
	}
}

// match decides on a Match line. One that takes more than is known here is an error, unless it does not hold anyway.
func (r *reader) match(args []string) (bool, error) {
	holds, unknown := len(args) > 0, ""
	for i := 0; i < len(args); i++ {
		criterion, pattern, given := strings.Cut(args[i], "=")
		criterion, negated := strings.CutPrefix(strings.ToLower(criterion), "!")
		if takesPattern := !slices.Contains([]string{"all", "final", "canonical"}, criterion); takesPattern && !given {
			if i++; i == len(args) {
				return false, fmt.Errorf("a Match %s without a pattern", criterion)
			}
			pattern = args[i]
		}
		ok := true
		switch criterion {
		case "all":
		case "final":
			ok, r.again = r.final, true
		case "canonical":
			ok = r.final
		case "host":
			ok = matches(strings.Split(pattern, ","), r.said.hostName(r.host))
		case "originalhost":
			ok = matches(strings.Split(pattern, ","), r.host)
		case "user":
			ok = matches(strings.Split(pattern, ","), or(r.login, r.said.first("user"), r.user))
		case "localuser":
			ok = matches(strings.Split(pattern, ","), r.user)
		default:
			unknown = criterion
			continue
		}
		holds = holds && ok != negated
	}
	if holds && unknown != "" {
		return false, fmt.Errorf("aifb does not decide on Match %s itself", unknown)
	}
	return holds, nil
}

// matches reports whether a list of patterns matches s: one of them, and none of those after an exclamation mark.
func matches(patterns []string, s string) (yes bool) {
	for _, p := range patterns {
		p, negated := strings.CutPrefix(p, "!")
		if wildcard(p, s) {
			if negated {
				return false
			}
			yes = true
		}
	}
	return yes
}

// wildcard matches s against a pattern in which * stands for anything and ? for one character.
func wildcard(pattern, s string) bool {
	for ; pattern != ""; pattern, s = pattern[1:], s[1:] {
		switch {
		case pattern[0] == '*':
			rest := strings.TrimLeft(pattern, "*")
			for i := range len(s) + 1 {
				if wildcard(rest, s[i:]) {
					return true
				}
			}
			return false
		case s == "" || pattern[0] != '?' && pattern[0] != s[0]:
			return false
		}
	}
	return s == ""
}

func (r *reader) include(patterns []string, dir string, depth int) error {
	if depth > maxDepth {
		return errors.New("too many nested includes")
	}
	if !strings.HasPrefix(dir, "/etc/ssh") {
		dir = filepath.Join(r.home, ".ssh")
	}
	for _, p := range patterns {
		p, err := expandPath(p, r.home, nil)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		names, err := filepath.Glob(p)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := r.file(name, depth); err != nil {
				return err
			}
		}
	}
	return nil
}
