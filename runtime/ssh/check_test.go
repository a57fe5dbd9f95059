package ssh_test

import (
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/ssh"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	key, public := newKeyFile(t)
	for name, test := range map[string]struct {
		option func(*server)
		want   string
	}{
		"all":          {func(*server) {}, "by SFTP; 7 at a time"},
		"no sftp":      {func(s *server) { s.noFiles = true }, "through commands: the server has no SFTP, or no session to spare for it; 7 at a time"},
		"two sessions": {func(s *server) { s.maxSessions = 2 }, "by SFTP; 2 at a time, more the server refuses (MaxSessions): what needs more of them takes turns"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, public, test.option)
			c := ssh.New("test", writeFile(t, "config", hostConfig("test", s, key, writeFile(t, "known_hosts", s.knownHosts()))))
			defer c.Close()
			var texts []string
			for _, f := range c.Check(t.Context()) {
				texts = append(texts, f.Text)
				if !f.OK {
					t.Errorf("%+v", f)
				}
			}
			if got := strings.Join(texts, "; "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if out, err := runtime.Output(t.Context(), c, "echo", "works"); out != "works\n" || err != nil {
				t.Errorf("afterwards: %q, %v", out, err)
			}
		})
	}
}
