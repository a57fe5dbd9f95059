package slurm

import (
	"fmt"
	"strings"

	"github.com/aifb/aifb/runtime"
)

const (
	minPart  = 200 // bytes; a shorter text is not worth a variable
	maxParts = 50
)

// A commonText writes texts that are much alike as words of a shell program, with what they share in variables: a shell
// that has less in its memory starts other programs faster.
type commonText struct {
	lines []string       // of the first text
	at    map[string]int // where a line of these is
	parts map[[2]int]int // which variable has the lines from one to another
	vars  strings.Builder
}

// word returns a word of the shell that is the text. The variables in it are set by c.vars.
func (c *commonText) word(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if c.at == nil {
		c.lines, c.at, c.parts = lines, make(map[string]int), make(map[[2]int]int)
		for i := len(lines) - 1; i >= 0; i-- {
			c.at[lines[i]] = i
		}
	}
	var word, own strings.Builder
	flush := func() {
		if own.Len() > 0 {
			word.WriteString(runtime.Quote(own.String()))
			own.Reset()
		}
	}
	for i := 0; i < len(lines); {
		n, size := c.shared(lines[i:])
		part := ""
		if size >= minPart {
			part = c.part(c.at[lines[i]], n)
		}
		if part == "" {
			own.WriteString(lines[i])
			i++
			continue
		}
		flush()
		word.WriteString(part)
		i += n
	}
	flush()
	if word.Len() == 0 {
		return "''"
	}
	return word.String()
}

// shared returns how many of the lines are in the first text as they are here, and their size.
func (c *commonText) shared(lines []string) (n, size int) {
	at, ok := c.at[lines[0]]
	for ok && n < len(lines) && at+n < len(c.lines) && lines[n] == c.lines[at+n] {
		size += len(lines[n])
		n++
	}
	return n, size
}

// part returns a variable that has n lines of the first text, or "" if there are enough variables.
func (c *commonText) part(at, n int) string {
	key := [2]int{at, n}
	v, ok := c.parts[key]
	if !ok {
		if len(c.parts) == maxParts {
			return ""
		}
		v = len(c.parts)
		c.parts[key] = v
		fmt.Fprintf(&c.vars, "part%d=%s\n", v, runtime.Quote(strings.Join(c.lines[at:at+n], "")))
	}
	return fmt.Sprintf(`"$part%d"`, v)
}
