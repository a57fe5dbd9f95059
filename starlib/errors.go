package starlib

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// A SourceError is an error with its place in a recipe.
type SourceError struct {
	Frames []Frame // the calls that led to it, the innermost first
	Err    error
}

func (e *SourceError) Error() string {
	if len(e.Frames) == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("%s: %v", e.Frames[0].Pos, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// A Frame is a place in a recipe.
type Frame struct {
	Pos   syntax.Position
	Func  string // that it is in; "" at the top level, or before anything runs
	Line  string // the text of the line; "" if it is not known
	Width int    // of what is meant on it, in characters
}

// maxErrors is how many errors of a file are shown.
const maxErrors = 20

func recipeError(hint string, err error) *SourceError {
	return &SourceError{Err: &runtime.Error{Fault: runtime.FaultRecipe, Hint: hint, Err: err}}
}

func joinErrors(errs []*SourceError) error {
	var all []error
	for i, err := range errs {
		if i == maxErrors {
			all = append(all, runtime.Faultf(runtime.FaultRecipe, "", "and %d more errors", len(errs)-i))
			break
		}
		all = append(all, err)
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

// frame returns the frame of a position, which is that of the parenthesis if it is a call.
func (l *loader) frame(pos syntax.Position, fn string) Frame {
	f := Frame{Pos: pos, Func: strings.TrimPrefix(fn, "<toplevel>"), Width: 1}
	for _, file := range l.files {
		if file != nil && file.name == pos.Filename() {
			lines := strings.Split(string(file.text), "\n")
			if n := int(pos.Line); n >= 1 && n <= len(lines) {
				f.Line = strings.TrimSuffix(lines[n-1], "\r")
			}
		}
	}
	f.underline()
	return f
}

// underline makes the frame mean the name that its position is at, or that is called there.
func (f *Frame) underline() {
	line := []rune(f.Line)
	start := int(f.Pos.Col) - 1
	if start < 0 || start >= len(line) {
		return
	}
	end := start
	if line[start] == '(' {
		for start > 0 && isName(line[start-1]) {
			start--
		}
	} else {
		for end < len(line) && isName(line[end]) {
			end++
		}
	}
	f.Pos.Col, f.Width = int32(start)+1, max(end-start, 1)
}

func isName(r rune) bool {
	return r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// compileErrors places the errors of reading a file, in the order of their places.
func (l *loader) compileErrors(f *file, err error) (errs []*SourceError) {
	switch err := err.(type) {
	case resolve.ErrorList:
		for _, e := range err {
			errs = append(errs, l.place(e.Pos, l.resolveHint(f, e.Msg), errors.New(e.Msg)))
		}
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			errs = append(errs, l.compileErrors(f, e)...)
		}
	default:
		if e := (syntax.Error{}); errors.As(err, &e) {
			hint := runtime.HintOf(err)
			if hint == "" {
				hint = habit(e.Msg)
			}
			return []*SourceError{l.place(e.Pos, hint, errors.New(e.Msg))}
		}
		return []*SourceError{recipeError(runtime.HintOf(err), err)}
	}
	slices.SortStableFunc(errs, compareErrors)
	return errs
}

func (l *loader) place(pos syntax.Position, hint string, err error) *SourceError {
	e := recipeError(hint, err)
	e.Frames = []Frame{l.frame(pos, "")}
	return e
}

// resolveHint says what might be meant by a name that is not defined.
func (l *loader) resolveHint(f *file, msg string) string {
	name, ok := strings.CutPrefix(msg, "undefined: ")
	if !ok {
		return habit(msg)
	}
	if hint := habit(msg); hint != "" {
		return hint
	}
	names := slices.Concat(universe(), predeclared().Keys())
	for _, stmt := range f.syntax.Stmts {
		switch s := stmt.(type) {
		case *syntax.DefStmt:
			names = append(names, s.Name.Name)
		case *syntax.AssignStmt:
			if id, ok := s.LHS.(*syntax.Ident); ok {
				names = append(names, id.Name)
			}
		case *syntax.LoadStmt:
			for _, to := range s.To {
				names = append(names, to.Name)
			}
		}
	}
	return runtime.DidYouMean(name, names)
}

// habits are what people write who know Python, by the message that they get.
var habits = []struct{ message, hint string }{
	{`^got import, want`, `load("//lib.star", "name") brings in names of a file; json, time and math are there already`},
	{`^got (try|raise), want`, `there are no exceptions: fail("...") ends the recipe`},
	{`^got (with|class|global|del|yield), want`, "Starlark has no such statement"},
	{`^got string literal, want newline`, `there are no f-strings: "%s" % x, or + to join`},
	{`^got ':', want '\)'`, "there are no type annotations"},
	{`^got '\*\*', want`, "math.pow(x, 2)"},
	{`^got is, want|^conditional expression without else`, "== compares, also with None; a conditional expression needs an else"},
	{`does not associate with`, "0 < x and x < 9"},
	{`^undefined: true$`, "True"},
	{`^undefined: false$`, "False"},
	{`^undefined: (null|nil|none)$`, "None"},
	{`unknown conversion %\.|format spec features not supported`, `fmt(x, ".2f")`},
	{`^unknown binary op: (string \+ |\w+ \+ string)`, "str(x) makes a string"},
	{`string value is not iterable`, `"abc".elems() are its characters`},
	{`^local variable \w+ referenced before assignment`, "a function cannot assign to a global: return the value instead"},
	{`cannot (append|insert|clear|pop|delete|update|add|set).* frozen|frozen (list|dict|set|hash table)`, "what the top level made cannot change in main: make it in main"},
	{`during iteration`, "for x in list(xs): goes over a copy"},
	{`list has no \.sort`, "sorted(xs)"},
}

// habit returns the hint for a message of Starlark's own, or "".
func habit(msg string) string {
	for _, h := range habits {
		if ok, _ := regexp.MatchString(h.message, msg); ok {
			return h.hint
		}
	}
	return ""
}

// locate places an error of a running recipe. If the run was cancelled, that is the error, whatever became of it.
func (r *run) locate(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range many.Unwrap() {
			all = append(all, r.locate(ctx, e))
		}
		return errors.Join(all...)
	}
	origin, refused := r.refusal(err)
	eval := (*starlark.EvalError)(nil)
	if !errors.As(err, &eval) {
		if refused != nil {
			return &SourceError{Frames: origin, Err: refused}
		}
		return err
	}
	located := &SourceError{Err: eval.Unwrap(), Frames: origin}
	inner := (*SourceError)(nil)
	switch {
	case refused != nil: // it matters who started the job, and not who noticed
		located.Err = refused
	case errors.As(located.Err, &inner): // of a file that was loaded
		located.Frames, located.Err = slices.Clone(inner.Frames), inner.Err
	case located.Err == nil:
		located.Err = runtime.Faultf(runtime.FaultRun, habit(eval.Msg), "%s", eval.Msg)
	case runtime.FaultOf(located.Err) == "":
		hint := cmp.Or(runtime.HintOf(located.Err), habit(eval.Msg))
		located.Err = &runtime.Error{Fault: runtime.FaultRun, Hint: hint, Err: located.Err}
	}
	located.Frames = append(located.Frames, r.loader.frames(eval.CallStack)...)
	if argument := (*argumentError)(nil); len(located.Frames) > 0 && errors.As(located.Err, &argument) {
		located.Frames[0].meanArgument(argument.name)
	}
	return located
}

// meanArgument makes the frame mean an argument of the call, if the line has it.
func (f *Frame) meanArgument(name string) {
	line := []rune(f.Line)
	from := min(int(f.Pos.Col)-1+f.Width, len(line))
	at := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\s*=`).FindStringIndex(string(line[from:]))
	if name == "" || at == nil {
		return
	}
	f.Pos.Col = int32(from + len([]rune(string(line[from:])[:at[0]])) + 1)
	f.Width = len([]rune(name))
}

// maxFrames is how many frames of an error are shown.
const maxFrames = 12

// FormatError writes an error for a person: what went wrong, where in the recipe, and what to do about it. Of several
// errors it writes each.
func FormatError(w io.Writer, err error, color bool) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			FormatError(w, e, color)
		}
		return
	}
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	var b strings.Builder
	located := (*SourceError)(nil)
	message := err
	if errors.As(err, &located) {
		message = located.Err
	}
	fmt.Fprintf(&b, "%s %s\n", paint("1;31", "error:"), printableLines(message.Error()))
	if located != nil {
		for i, f := range userFirst(located.Frames) {
			if i == maxFrames {
				b.WriteString("  ...\n")
				break
			}
			f.write(&b, i == 0, paint)
		}
	}
	if e := (*Internal)(nil); errors.As(err, &e) {
		fmt.Fprintf(&b, "  this is a fault of aifb; please report it with:\n%s\n", e.Stack)
	}
	for _, hint := range hints(err) {
		fmt.Fprintf(&b, "  %s %s\n", paint("1;36", "hint:"), hint)
	}
	io.WriteString(w, b.String())
}

// userFirst puts the innermost place in a file of the user's own before all others: that is the one to mend.
func userFirst(frames []Frame) []Frame {
	i := slices.IndexFunc(frames, func(f Frame) bool { return !strings.HasPrefix(f.Pos.Filename(), libraryPrefix) })
	if i <= 0 {
		return frames
	}
	return slices.Concat(frames[i:i+1], frames[:i], frames[i+1:])
}

func (f Frame) write(b *strings.Builder, excerpt bool, paint func(code, text string) string) {
	b.WriteString("  " + paint("1;34", "-->") + " " + f.Pos.String())
	if f.Func != "" {
		b.WriteString(" in " + f.Func)
	}
	b.WriteString("\n")
	if !excerpt || f.Line == "" {
		return
	}
	number := fmt.Sprintf("%6d", f.Pos.Line)
	line := strings.ReplaceAll(f.Line, "\t", " ")
	col := max(int(f.Pos.Col)-1, 0)
	fmt.Fprintf(b, "%s | %s\n", number, runtime.Printable(line))
	fmt.Fprintf(b, "%s | %s%s\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", col), paint("1;31", strings.Repeat("^", f.Width)))
}

// printableLines replaces the control characters of a text, but for newlines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = runtime.Printable(line)
	}
	return strings.Join(lines, "\n")
}

// hints returns the outermost hint of each of the errors that err is made of, each once.
func hints(err error) (all []string) {
	switch e := err.(type) {
	case nil:
	case *runtime.Error:
		if e.Hint != "" {
			return []string{e.Hint}
		}
		return hints(e.Err)
	case interface{ Unwrap() []error }:
		for _, e := range e.Unwrap() {
			for _, hint := range hints(e) {
				if !slices.Contains(all, hint) {
					all = append(all, hint)
				}
			}
		}
	case interface{ Unwrap() error }:
		return hints(e.Unwrap())
	}
	return all
}
