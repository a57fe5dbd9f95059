package ssh

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// begin prints a line, the mark, before what a command prints: login shells may print something of their own. The line
// has the process id of the command, which is also that of its process group. A shell that shows begin as it runs it
// does not show the mark.
const begin = "echo aifb:begin $$; echo aifb:begin $$ >&2; "

var mark = regexp.MustCompile(`aifb:begin ([0-9]+)\n`)

// commandLine returns what makes the login shell on the other side, whichever it is, print the mark and run exactly
// args.
//
// A line in which nothing but plain single quotes is special means the same to sh, csh and fish. Any other is handed
// to a POSIX shell in a form that no shell changes: each byte that one could interpret as an octal escape of printf.
func commandLine(args []string) (string, error) {
	line := runtime.Quote(args...)
	if strings.IndexByte(line, 0) >= 0 {
		return "", errors.New("an argument has a NUL byte")
	}
	if strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' || r == '!' }) < 0 {
		return "exec /bin/sh -c '" + begin + `exec "$@"' sh ` + line, nil
	}
	var b strings.Builder
	for i := range len(line) {
		switch c := line[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(" _@+=:,./-", c) >= 0:
			b.WriteByte(c)
		case c == '%':
			b.WriteString("%%")
		default:
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return "exec /bin/sh -c '" + begin + `eval "exec $(printf "` + b.String() + `")"'`, nil
}
