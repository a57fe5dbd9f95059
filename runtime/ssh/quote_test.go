package ssh

import "testing"

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string // "" is an error
	}{
		{[]string{"squeue", "-h", "--format=%i"}, `exec "$@"' sh squeue -h '--format=%i'`},
		{[]string{"echo", "", "a b", "$x"}, `exec "$@"' sh echo '' 'a b' '$x'`},
		{[]string{"echo", "it's"}, `eval "exec $(printf "echo \047it\047\134\047\047s\047")"'`},
		{[]string{"echo", "5%\n"}, `eval "exec $(printf "echo \0475%%\012\047")"'`},
		{[]string{"echo", "é!"}, `eval "exec $(printf "echo \047\303\251\041\047")"'`},
		{[]string{"echo", "\x00"}, ""},
	} {
		if test.want != "" {
			test.want = "exec /bin/sh -c 'echo aifb:begin $$; echo aifb:begin $$ >&2; " + test.want
		}
		if got, err := commandLine(test.args); got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%q:\ngot  %s, %v\nwant %s", test.args, got, err, test.want)
		}
	}
}
