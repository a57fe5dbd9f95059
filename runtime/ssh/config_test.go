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
func testConfig(t *testing.T, text string, others map[string]string) *config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range others {
		writeTestFile(t, filepath.Join(dir, name), text)
	}
	name := filepath.Join(dir, "config")
	writeTestFile(t, name, strings.ReplaceAll(text, "DIR", dir))
	return &config{files: []string{name}, named: true, home: "/home/me", user: "me"}
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
	c := testConfig(t, `
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
	ServerAliveCountMax 4
	AddressFamily inet
	PreferredAuthentications password,gssapi-with-mic,publickey
	CertificateFile ~/.ssh/lxp-cert.pub
	BatchMode yes
	HashKnownHosts yes
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
	home := "/home/me/.ssh/"
	defaults := func(h host) *host {
		h.strict, h.timeout, h.alive, h.missed, h.defaultKeys = "ask", 30*time.Second, 15*time.Second, 3, true
		h.network, h.methods = "tcp", []string{publicKey, interactive, password}
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
			strict: "accept-new", jumps: []string{"me@gw:2222", "inner"}, timeout: 7 * time.Second, alive: 5 * time.Second, missed: 4,
			network: "tcp4", methods: []string{password, publicKey}, certs: []string{home + "lxp-cert.pub"}, batch: true, hashKnown: true,
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
	c := testConfig(t, "", nil)
	h, err := c.resolve("x")
	if err != nil || h.user != "me" || h.agent != "/agent 100%" || h.port != "22" {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestMatch is about which Match lines hold, for host a of user me.
func TestMatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ before, criteria, user string }{
		{"", "all", "yes"},
		{"", "host a", "yes"},
		{"", "Host=b,a", "yes"},
		{"", "host *,!a", "me"},
		{"", "!host b", "yes"},
		{"", "!host a", "me"},
		{"", "host ?", "yes"},
		{"HostName b", "host b", "yes"},
		{"HostName b.%h", "host b.*", "yes"},
		{"HostName b", "host a", "me"},
		{"HostName b", "originalhost a host b", "yes"},
		{"", "localuser me", "yes"},
		{"", "localuser you", "me"},
		{"", "user me", "yes"},
		{"Host b", "user me", "yes"}, // it begins after Host
		{"User you", "user you", "you"},
		{"", `host b exec "exit 1 # never"`, "me"}, // nobody has to know
		{"", "host b localnetwork 10.0.0.0/8", "me"},
		{"", "canonical", "me"},
		{"", "final", "yes"},
	} {
		h, err := testConfig(t, test.before+"\nMatch "+test.criteria+"\n User yes\n", nil).resolve("a")
		if err != nil || h.user != test.user {
			t.Errorf("%s, Match %s: user %v, %v, want %s", test.before, test.criteria, h, err, test.user)
		}
	}
	// What "final" says comes after all else; what is said twice counts once.
	h, err := testConfig(t, "Match final\n User late\nMatch all\n User early\n IdentityFile /k\nMatch canonical\n Port 7\n", nil).resolve("a")
	if err != nil || h.user != "early" || h.port != "7" || len(h.keys) != 1 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`Key a  b	c`:               {"a", "b", "c"},
		`Key = a`:                  {"a"},
		`Key=a=b`:                  {"a=b"},
		`Key "a b" 'c d' e" f"'g'`: {"a b", "c d", "e fg"},
		`Key a # b`:                {"a"},
		`Key a#b "#c"`:             {"a#b", "#c"},
		`Key "a b`:                 {`"a`, "b"},
		`Key it's`:                 {"it's"},
		`Key`:                      nil,
		` Key a` + "\r":            {"a"},
	} {
		if key, got := splitLine(line); key != "key" || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q %q, want %q", line, key, got, want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, other, want string }{
		{"Host a\n\nMatch exec \"true\"\n", "", `config:3: aifb does not decide on Match exec itself`},
		{"Match host a tagged x", "", `config:1: aifb does not decide on Match tagged itself`},
		{"Match what ever", "", "Match what itself"},
		{"Match host", "", "config:1: a Match host without a pattern"},
		{"Include DIR/other", "\nMatch localnetwork x\n", `other:2: aifb does not decide on Match localnetwork itself`},
		{"Include DIR/other", "Include DIR/other", ""}, // DIR is replaced in the first file only
		{"Host b\nInclude DIR/other", "Match exec x", ""},
		{"Host a\n ProxyCommand nc %h %p", "", "has ProxyCommand nc, which aifb does not do itself"},
		{"Host a\n ProxyCommand none", "", ""},
		{"Host a\n ProxyJump b\n ProxyCommand nc %h %p", "", ""},
		{"Host a\n ProxyCommand nc %h %p\n ProxyJump b", "", "has ProxyCommand nc"},
		{"PKCS11Provider /usr/lib/opensc.so", "", "has PKCS11Provider /usr/lib/opensc.so"},
		{"KnownHostsCommand /bin/keys", "", "has KnownHostsCommand"},
		{"RevokedHostKeys /etc/revoked", "", "has RevokedHostKeys"},
		{"CanonicalizeHostname always", "", "has CanonicalizeHostname always"},
		{"CanonicalizeHostname no", "", ""},
		{"BindAddress 10.0.0.1", "", "has BindAddress"},
		{"PreferredAuthentications gssapi-with-mic", "", "has PreferredAuthentications gssapi-with-mic"},
		{"GSSAPIAuthentication yes", "", ""}, // one of several ways
		{"IdentityFile ~/%Z", "", `%Z in "~/%Z" is not understood`},
	} {
		_, err := testConfig(t, test.text, map[string]string{"other": test.other}).resolve("a")
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.text, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: got %v, want %s", test.text, err, test.want)
		case strings.Contains(test.want, "itself") && (runtime.FaultOf(err) != runtime.FaultInfra || !strings.Contains(runtime.HintOf(err), "openssh:a")):
			t.Errorf("%q: fault %q, hint %q", test.text, runtime.FaultOf(err), runtime.HintOf(err))
		}
	}
}

func TestConfigIncludesItself(t *testing.T) {
	t.Parallel()
	c := testConfig(t, "Include DIR/config", nil)
	if _, err := c.resolve("a"); err == nil || !strings.Contains(err.Error(), c.files[0]+":1: too many nested includes") {
		t.Errorf("got %v", err)
	}
}
