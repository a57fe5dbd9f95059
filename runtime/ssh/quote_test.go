package ssh

import "testing"

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string // "" is an error
	}{
		{[]string{"squeue", "-h", "--format=%i"}, "exec squeue -h '--format=%i'"},
		{[]string{"echo", "", "a b", "$x"}, "exec echo '' 'a b' '$x'"},
		{[]string{"echo", "it's"}, `exec /bin/sh -c 'eval "$(printf "exec echo \047it\047\134\047\047s\047")"'`},
		{[]string{"echo", "5%\n"}, `exec /bin/sh -c 'eval "$(printf "exec echo \0475%%\012\047")"'`},
		{[]string{"echo", "é!"}, `exec /bin/sh -c 'eval "$(printf "exec echo \047\303\251\041\047")"'`},
		{[]string{"echo", "\x00"}, ""},
	} {
		if got, err := commandLine(test.args); got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%q:\ngot  %s, %v\nwant %s", test.args, got, err, test.want)
		}
	}
}
