package starlib

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A Frame is a place in a recipe.
type Frame struct {
	Pos     syntax.Position
	Func    string // that it is in; "" at the top level, or before anything runs
	Line    string // the text of the line; "" if it is not known
	Width   int    // of what is meant on it, in characters
	Skipped int    // how many frames after it are left out

	at syntax.Position // where Starlark has it: of a call, its parenthesis
}

// builtinFile is the file that Starlark says builtins are in.
const builtinFile = "<builtin>"

// maxStack is how many frames of a stack are kept, beside those of a recursion, which are kept once.
const maxStack = 60

// frames returns the places of a stack in files of recipes, the innermost first.
func (l *loader) frames(stack starlark.CallStack) (frames []Frame) {
	var calls []starlark.CallFrame
	for i := range stack {
		if f := stack.At(i); f.Pos.Filename() != builtinFile {
			calls = append(calls, f)
		}
	}
	for len(calls) > 0 {
		n, times := cycle(calls)
		for _, c := range calls[:n] {
			frames = append(frames, Frame{at: c.Pos, Func: strings.TrimPrefix(c.Name, "<toplevel>")})
		}
		frames[len(frames)-1].Skipped = n * (times - 1)
		calls = calls[n*times:]
	}
	frames = cut(frames, maxStack)
	for i, f := range frames {
		frames[i] = l.frame(f.at, f.Func)
		frames[i].Skipped = f.Skipped
	}
	return frames
}

// cycle returns the length of the shortest sequence that calls begins with several times, and how often. If there is
// none, it is one call, once.
func cycle(calls []starlark.CallFrame) (n, times int) {
	const longest = 8
	for n := 1; n <= longest && 3*n <= len(calls); n++ {
		times := 1
		for (times+1)*n <= len(calls) && slices.Equal(calls[:n], calls[times*n:(times+1)*n]) {
			times++
		}
		if times > 2 {
			return n, times
		}
	}
	return 1, 1
}

// cut leaves out frames from the middle, if there are more than most.
func cut(frames []Frame, most int) []Frame {
	if len(frames) <= most {
		return frames
	}
	head, tail := 2*most/3, most/3
	shown := slices.Concat(frames[:head], frames[len(frames)-tail:])
	for _, f := range frames[head : len(frames)-tail] {
		shown[head-1].Skipped += 1 + f.Skipped
	}
	return shown
}

// frame returns the frame of a position. Of a call, it means what is called.
func (l *loader) frame(pos syntax.Position, fn string) Frame {
	f := Frame{Pos: pos, Func: strings.TrimPrefix(fn, "<toplevel>"), Width: 1, at: pos}
	file := l.named(pos.Filename())
	if file == nil {
		return f
	}
	f.Line = file.line(pos.Line)
	if start, end, ok := file.meant(pos); ok {
		f.mean(file, start, end)
		return f
	}
	if file.isYAML() {
		f.mean(file, pos, file.scalar(pos))
		return f
	}
	rest := []rune(f.Line)
	rest = rest[min(max(int(pos.Col)-1, 0), len(rest)):]
	for f.Width < len(rest) && isName(rest[0]) && isName(rest[f.Width]) {
		f.Width++
	}
	return f
}

// named is the file that positions call by that name, or nil.
func (l *loader) named(name string) *file {
	for _, f := range l.files {
		if f != nil && f.name == name {
			return f
		}
	}
	return nil
}

// line returns the text of a line, or "".
func (f *file) line(number int32) string {
	lines := strings.Split(string(f.text), "\n")
	if number < 1 || int(number) > len(lines) {
		return ""
	}
	return strings.TrimSuffix(lines[number-1], "\r")
}

// mean makes the frame mean what is from start to end, or to the end of the line.
func (fr *Frame) mean(f *file, start, end syntax.Position) {
	fr.Pos, fr.Line = start, f.line(start.Line)
	last := len([]rune(strings.TrimRight(fr.Line, " \t"))) + 1
	if end.Line == start.Line {
		last = min(last, int(end.Col))
	}
	fr.Width = max(last-int(start.Col), 1)
}

// meant returns what a position of Starlark's means: of a call, what is called; of x.name, the name; of x[y], y; of a
// loop, what it goes over.
func (f *file) meant(pos syntax.Position) (start, end syntax.Position, ok bool) {
	f.walk(func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.CallExpr:
			if n.Lparen == pos {
				start, end = callee(n.Fn)
				ok = end.Line == pos.Line || f.isYAML()
			}
		case *syntax.DotExpr:
			if n.Dot == pos {
				start, end = n.Name.Span()
				ok = true
			}
		case *syntax.IndexExpr:
			if n.Lbrack == pos {
				start, end = n.Y.Span()
				ok = true
			}
		case *syntax.ForStmt:
			if n.For == pos {
				start, end = n.X.Span()
				ok = true
			}
		case *syntax.Literal:
			if n.TokenPos == pos {
				start, end = n.Span()
				ok = true
			}
		}
	})
	if ok && f.isYAML() {
		end = f.scalar(start)
	}
	return start, end, ok
}

// gotToken is what the parser says of a token behind which it stands.
var gotToken = regexp.MustCompile(`^got (.*), want (?:newline|indent|:|'.*'|identifier)$|^(\S+) does not associate`)

// token is where the token begins that the error is of.
func (f *file) token(e syntax.Error) syntax.Position {
	m := gotToken.FindStringSubmatch(e.Msg)
	if m == nil {
		return e.Pos
	}
	line := []rune(f.line(e.Pos.Line))
	end := min(max(int(e.Pos.Col)-1, 0), len(line))
	start := end
	text := strings.Trim(m[1]+m[2], "'")
	switch {
	case text == "newline" && end == 0 && e.Pos.Line > 1: // it is that of the line before
		e.Pos.Line--
		start = len([]rune(strings.TrimRight(f.line(e.Pos.Line), " \t")))
	case text == "string literal" && start > 1:
		quote := line[start-1]
		for start--; start > 0 && line[start-1] != quote; start-- {
		}
		start = max(start-1, 0)
	case strings.HasSuffix(string(line[:end]), text):
		start -= len([]rune(text))
	default: // an identifier or a number
		for start > 0 && isName(line[start-1]) {
			start--
		}
	}
	e.Pos.Col = int32(start) + 1
	return e.Pos
}

// noClosing is what the parser says where a bracket was not closed, or a comma is missing.
var noClosing = regexp.MustCompile(`^got (?:(end of file), want .*|.*, want '([)\]}]|,)')$`)

// unclosed returns what might be meant by an error at a place within a bracket that an earlier line opened, or "". What the
// end of the file is not expected for is the bracket.
func (f *file) unclosed(pos syntax.Position, msg string) (at syntax.Position, hint string) {
	m := noClosing.FindStringSubmatch(msg)
	if m == nil {
		return pos, ""
	}
	before := f.text
	if m[1] == "" {
		before = bytes.Join(bytes.SplitAfterN(f.text, []byte("\n"), int(pos.Line))[:pos.Line-1], nil)
	}
	last := openBracket(before)
	if last < 0 {
		return pos, ""
	}
	at = f.at(last)
	hint = fmt.Sprintf("the %c of line %d is not closed", f.text[last], at.Line)
	switch {
	case m[1] != "":
		return at, "it is not closed"
	case m[2] == ",":
		hint = "a comma is missing, or " + hint
	}
	return pos, hint
}

// openBracket returns where the innermost bracket is that is open at the end of a text, or -1.
func openBracket(text []byte) int {
	tokens := regexp.MustCompile(`(?s)"""(?:\\.|[^\\])*?"""|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*|[()\[\]{}]`)
	open := []int{-1}
	for _, m := range tokens.FindAllIndex(text, -1) {
		switch c := text[m[0]]; {
		case strings.IndexByte("([{", c) >= 0:
			open = append(open, m[0])
		case strings.IndexByte(")]}", c) >= 0 && len(open) > 1:
			open = open[:len(open)-1]
		}
	}
	return open[len(open)-1]
}

// callee returns the name that is called, with the names before it.
func callee(fn syntax.Expr) (start, end syntax.Position) {
	start, end = fn.Span()
	if dot, ok := fn.(*syntax.DotExpr); ok {
		for x := dot.X; ; {
			switch y := x.(type) {
			case *syntax.DotExpr:
				x = y.X
				continue
			case *syntax.Ident:
				return start, end
			}
			return dot.Name.Span()
		}
	}
	return start, end
}

func (f *file) walk(visit func(syntax.Node)) {
	if f.syntax == nil {
		return
	}
	syntax.Walk(f.syntax, func(n syntax.Node) bool {
		if n != nil {
			visit(n)
		}
		return true
	})
}

// scalar returns the end of the key or the value of YAML that begins at a position.
func (f *file) scalar(start syntax.Position) (end syntax.Position) {
	line := []rune(f.line(start.Line))
	at := min(max(int(start.Col)-1, 0), len(line))
	before, rest := string(line[:at]), string(line[at:])
	n := len(rest)
	quoted := strings.HasPrefix(rest, `"`) || strings.HasPrefix(rest, "'")
	if key := strings.Index(rest, ":"); key >= 0 && !quoted && (key+1 == len(rest) || rest[key+1] == ' ') {
		n = key
	} else if comment := strings.Index(rest, " #"); comment >= 0 {
		n = comment
	}
	if quoted {
		if closing := strings.IndexByte(rest[1:], rest[0]); closing >= 0 {
			n = closing + 2
		}
	} else if last := strings.IndexAny(rest[:n], ",]}"); last > 0 && strings.ContainsAny(before, "[{") {
		n = last
	}
	end = start
	end.Col += int32(len([]rune(strings.TrimRight(rest[:n], " \t\r"))))
	return end
}

// meant makes the first frame mean the argument that the error is of, if the call there has it.
func (l *loader) meant(frames []Frame, err error) []Frame {
	argument := (*argumentError)(nil)
	if len(frames) == 0 || !errors.As(err, &argument) {
		return frames
	}
	file := l.named(frames[0].at.Filename())
	if file == nil {
		return frames
	}
	var node syntax.Node
	file.walk(func(n syntax.Node) {
		// In YAML, calls that the file does not show are at the same place; they come later.
		if c, ok := n.(*syntax.CallExpr); ok && c.Lparen == frames[0].at && node == nil {
			node = argument.in(c)
		}
	})
	if node == nil {
		return l.inYAML(frames, argument.name)
	}
	frames = slices.Clone(frames)
	start, end := node.Span()
	if file.isYAML() {
		end = file.scalar(start)
	}
	frames[0].mean(file, start, end)
	if file.isYAML() {
		return frames
	}
	return l.inYAML(frames, argument.name)
}

func (l *loader) isYAML(f Frame) bool {
	file := l.named(f.at.Filename())
	return file != nil && file.isYAML()
}

// inYAML makes a frame in YAML mean the key by which its call has an argument of that name, if it has. What it calls
// hands on under the same name what it does not use itself.
func (l *loader) inYAML(frames []Frame, name string) []Frame {
	for i, f := range frames {
		if !l.isYAML(f) {
			continue
		}
		file := l.named(f.at.Filename())
		value := syntax.Node(nil)
		file.walk(func(n syntax.Node) {
			if c, ok := n.(*syntax.CallExpr); ok && c.Lparen == f.at && value == nil {
				value = place{name: name, index: -1, value: true}.in(c)
			}
		})
		if value != nil {
			frames = slices.Clone(frames)
			start, _ := value.Span()
			frames[i].mean(file, start, file.scalar(start))
			return frames
		}
	}
	return frames
}

// in returns the argument, or its name, in a call, or nil. What *args and **kwargs bring is there.
func (p place) in(c *syntax.CallExpr) syntax.Node {
	positional := 0
	for _, arg := range c.Args {
		switch a := arg.(type) {
		case *syntax.BinaryExpr:
			if a.Op == syntax.EQ {
				if a.X.(*syntax.Ident).Name != p.name {
					continue
				}
				if p.value {
					return a.Y
				}
				return a.X
			}
		case *syntax.UnaryExpr:
			if a.Op == syntax.STAR && p.index >= positional || a.Op == syntax.STARSTAR && p.index < 0 && p.name != "" {
				return a
			}
			if a.Op == syntax.STAR || a.Op == syntax.STARSTAR {
				continue
			}
		}
		if positional == p.index {
			return arg
		}
		positional++
	}
	return nil
}

func isName(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func (f Frame) write(b *strings.Builder, excerpt bool, style Style) {
	b.WriteString("  " + style.paint("1;34", "-->") + " " + runtime.Printable(f.Pos.String()))
	if f.Func != "" {
		b.WriteString(" in " + f.Func)
	}
	b.WriteString("\n")
	if excerpt && f.Line != "" {
		line, before := f.excerpt()
		number := fmt.Sprintf("%6d", f.Pos.Line)
		fmt.Fprintf(b, "%s | %s\n", number, runtime.Printable(line))
		fmt.Fprintf(b, "%s | %s%s\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", before),
			style.paint("1;31", strings.Repeat("^", min(f.Width, maxExcerpt/2))))
	}
	if f.Skipped > 0 {
		fmt.Fprintf(b, "  ... %s\n", runtime.Plural(f.Skipped, "more call"))
	}
}

// maxExcerpt is how many characters of a line are shown.
const maxExcerpt = 160

// excerpt returns what is shown of the line, and how many characters of that are before what is meant.
func (f Frame) excerpt() (line string, before int) {
	const gap = "... "
	text := []rune(strings.ReplaceAll(f.Line, "\t", " "))
	before = max(int(f.Pos.Col)-1, 0)
	if from := before - maxExcerpt/2; from > 0 && len(text) > maxExcerpt {
		text = append([]rune(gap), text[from:]...)
		before += len(gap) - from
	}
	if len(text) > maxExcerpt {
		text = append(text[:maxExcerpt:maxExcerpt], []rune(" ...")...)
	}
	return string(text), before
}
