package ssh

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

// testConfig is a configuration file, with others beside it, of a user named me whose home is /home/me.
func testConfig(t *testing.T, text string, others map[string]string) (*config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range others {
		writeTestFile(t, filepath.Join(dir, name), text)
	}
	name := filepath.Join(dir, "config")
	writeTestFile(t, name, strings.ReplaceAll(text, "DIR", dir))
	f, err := readConfig(name, "/home/me", 0)
	return &config{files: []*configFile{f}, home: "/home/me", user: "me"}, err
}

func writeTestFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResolve(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "/agent")
	t.Setenv("OTHER", "/other")
	c, err := testConfig(t, `
# a comment
Include DIR/inc*.conf
Host meluxina mlux	MX # names
	HostName login.lxp.lu
	Port=8822
	user u100
	IdentityFile "~/.ssh/id of lxp"
	IdentityFile %d/keys/%r@%h-%n:%p.%u%%
	IdentitiesOnly yes
	ProxyJump me@gw:2222, inner
	ConnectTimeout 7
	ServerAliveInterval 5
	HostKeyAlias lxp
	StrictHostKeyChecking accept-new
	UserKnownHostsFile ~/known1 ${OTHER}/known2
	GlobalKnownHostsFile none
	IdentityAgent none
Host *.short !bad.short
	HostName %h.example.org
	IdentityAgent $OTHER
Match originalhost one,two
	User matched
Match canonical all
	User wrong
Match final all
	IdentityAgent ~/agent
Host *
	User everybody
	ProxyJump none
`, map[string]string{"inc1.conf": "Host one\n Port 1\n", "inc2.conf": "Host included\n User inc\nHost *\n"})
	if err != nil {
		t.Fatal(err)
	}
	home := "/home/me/.ssh/"
	defaults := func(h host) *host {
		h.strict, h.timeout, h.alive, h.defaultKeys = "ask", 30*time.Second, 15*time.Second, true
		h.keys = []string{home + "id_ed25519", home + "id_ecdsa", home + "id_rsa"}
		h.knownHosts = []string{home + "known_hosts", home + "known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
		if h.agent == "" {
			h.agent = "/home/me/agent"
		}
		return &h
	}
	for name, want := range map[string]*host{
		"mlux": {
			name: "mlux", addr: "login.lxp.lu", port: "8822", user: "u100", alias: "lxp", identitiesOnly: true,
			keys: []string{home + "id of lxp", "/home/me/keys/u100@login.lxp.lu-mlux:8822.me%"}, knownHosts: []string{"/home/me/known1", "/other/known2"},
			strict: "accept-new", jumps: []string{"me@gw:2222", "inner"}, timeout: 7 * time.Second, alive: 5 * time.Second,
		},
		"a.short":         defaults(host{name: "a.short", addr: "a.short.example.org", port: "22", user: "everybody", agent: "/other"}),
		"bad.short":       defaults(host{name: "bad.short", addr: "bad.short", port: "22", user: "everybody"}),
		"one":             defaults(host{name: "one", addr: "one", port: "1", user: "matched"}),
		"two":             defaults(host{name: "two", addr: "two", port: "22", user: "matched"}),
		"included":        defaults(host{name: "included", addr: "included", port: "22", user: "inc"}),
		"you@there:99":    defaults(host{name: "you@there:99", addr: "there", port: "99", user: "you"}),
		"you@one":         defaults(host{name: "you@one", addr: "one", port: "1", user: "you"}),
		"a@b@c":           defaults(host{name: "a@b@c", addr: "c", port: "22", user: "a@b"}),
		"[2001:db8::1]:9": defaults(host{name: "[2001:db8::1]:9", addr: "2001:db8::1", port: "9", user: "everybody"}),
		"2001:db8::1":     defaults(host{name: "2001:db8::1", addr: "2001:db8::1", port: "22", user: "everybody"}),
	} {
		if got, err := c.resolve(name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", name, err, got, want)
		}
	}
}

func TestResolveDefaults(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "/agent 100%")
	c, err := testConfig(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.resolve("x")
	if err != nil || h.user != "me" || h.agent != "/agent 100%" || h.port != "22" {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, other, want string }{
		{"Host a\n\nMatch exec \"true\"\n", "", `config:3: "Match exec true" is not understood`},
		{"Match host a user b", "", `config:1: "Match host a user b" is not understood`},
		{"Match host a host b", "", "is not understood"},
		{"Include DIR/other", "\nMatch tagged x\n", `other:2: "Match tagged x" is not understood`},
		{"Include DIR/other", "Include DIR/other", ""}, // DIR is replaced in the first file only
		{"Host a\n ProxyCommand nc %h %p", "", "has a ProxyCommand"},
		{"Host a\n ProxyJump b\n ProxyCommand nc %h %p", "", ""},
		{"IdentityFile ~/%Z", "", `%Z in "~/%Z" is not understood`},
	} {
		c, err := testConfig(t, test.text, map[string]string{"other": test.other})
		if err == nil {
			_, err = c.resolve("a")
		}
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.text, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: got %v, want %s", test.text, err, test.want)
		case strings.Contains(test.want, ":") && runtime.FaultOf(err) != runtime.FaultInfra:
			t.Errorf("%q: fault %q", test.text, runtime.FaultOf(err))
		}
	}
}

func TestConfigIncludesItself(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "config")
	writeTestFile(t, name, "Include "+name)
	if _, err := readConfig(name, "/home/me", 0); err == nil || !strings.Contains(err.Error(), name+":1: too many nested includes") {
		t.Errorf("got %v", err)
	}
}
