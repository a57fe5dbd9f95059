package ssh

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// commandLine returns what makes the login shell on the other side, whichever it is, run exactly args.
//
// A line in which nothing but plain single quotes is special means the same to sh, csh and fish. Any other is handed
// to a POSIX shell in a form that no shell changes: each byte that one could interpret as an octal escape of printf.
func commandLine(args []string) (string, error) {
	line := "exec " + runtime.Quote(args...)
	if strings.IndexByte(line, 0) >= 0 {
		return "", errors.New("an argument has a NUL byte")
	}
	if strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' || r == '!' }) < 0 {
		return line, nil
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
	return `exec /bin/sh -c 'eval "$(printf "` + b.String() + `")"'`, nil
}
