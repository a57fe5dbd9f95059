package starlib

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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

// A failure is the message of fail(): where it was called says little.
type failure string

func (f failure) Error() string { return string(f) }

func recipeError(hint string, err error) *SourceError {
	return &SourceError{Err: &runtime.Error{Fault: runtime.FaultRecipe, Hint: hint, Err: err}}
}

// asSource is an error with its place, if it has one.
func asSource(err error) *SourceError {
	if e := (*SourceError)(nil); errors.As(err, &e) {
		return e
	}
	return &SourceError{Err: err}
}

// joinErrors returns the errors as one, which is the error itself if there is but one.
func joinErrors[E error](lists ...[]E) error {
	var all []error
	for _, err := range slices.Concat(lists...) {
		all = append(all, err)
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

// Split returns the errors that err is a join of, or err itself, or nothing if it is nil.
func Split(err error) (all []error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			all = append(all, Split(e)...)
		}
		return all
	}
	if err != nil {
		all = append(all, err)
	}
	return all
}

// Message is what went wrong, without the place; of several errors, a line for each.
func Message(err error) string {
	var lines []string
	for _, e := range Split(err) {
		lines = append(lines, asSource(e).Err.Error())
	}
	return strings.Join(lines, "\n")
}

// Hint is what to do about an error, or "".
func Hint(err error) string { return strings.Join(hints(err), "; ") }

// compileErrors places the errors of reading a file, in the order of their places.
func (l *loader) compileErrors(f *file, err error) (errs []*SourceError) {
	switch err := err.(type) {
	case resolve.ErrorList:
		names := slices.Concat(universe(), predeclared().Keys())
		for _, e := range err {
			hint, what := f.resolveError(e.Pos, e.Msg, names)
			errs = append(errs, l.place(e.Pos, hint, what))
		}
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			errs = append(errs, l.compileErrors(f, e)...)
		}
	default:
		if e := (syntax.Error{}); errors.As(err, &e) {
			pos, hint := e.Pos, runtime.HintOf(err)
			if !f.isYAML() {
				pos = f.token(e)
				hint = cmp.Or(lineHabits(f.line(pos.Line)), habits(e.Msg))
				if open, about := f.unclosed(pos, e.Msg); about != "" {
					pos, hint = open, about
				}
			}
			return []*SourceError{l.place(pos, hint, errors.New(e.Msg))}
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

// locate places an error of a running recipe. If the run was cancelled, that is the error, whatever became of it.
func (r *run) locate(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return r.place(err, nil)
}

// place places an error, or each of several, in what ran and in the calls that led there.
func (r *run) place(err error, outer []Frame) error {
	switch e := err.(type) {
	case *SourceError:
		return &SourceError{slices.Concat(e.Frames, outer), e.Err}
	case *starlark.EvalError:
		return r.placeEval(e, outer)
	case interface{ Unwrap() []error }:
		var all []error
		for _, e := range e.Unwrap() {
			all = append(all, r.place(e, outer))
		}
		return joinErrors(all)
	}
	if origin, refused := r.refusal(err); refused != nil {
		return &SourceError{slices.Concat(origin, outer), refused}
	}
	if len(outer) == 0 {
		return err
	}
	return &SourceError{outer, err}
}

// placeEval places an error of a thread.
func (r *run) placeEval(eval *starlark.EvalError, outer []Frame) error {
	frames := slices.Concat(r.loader.frames(eval.CallStack), outer)
	err := eval.Unwrap()
	if origin, refused := r.refusal(err); refused != nil { // it matters who started the job, and not who noticed
		if len(origin) > 0 && r.loader.isYAML(origin[len(origin)-1]) {
			frames = nil // nobody has written the wait
		}
		return &SourceError{slices.Concat(origin, frames), refused}
	}
	if inner := placed(err); inner != nil {
		return r.place(inner, frames)
	}
	var all []error
	for _, err := range Split(err) {
		if runtime.FaultOf(err) == "" {
			frames = begun(frames, err)
			err = r.loader.explain(err, frames)
		}
		all = append(all, &SourceError{r.ending(r.loader.meant(frames, err), err), err})
	}
	return joinErrors(all)
}

// placed returns the error within err that has its place already, or several that have, or nil: those of a file that is
// loaded, and of what runs in parallel.
func placed(err error) error {
	for ; err != nil; err = errors.Unwrap(err) {
		all := Split(err)
		if !slices.ContainsFunc(all, func(err error) bool { return !isPlaced(err) }) {
			return err
		}
		if len(all) > 1 {
			return nil
		}
	}
	return nil
}

func isPlaced(err error) bool {
	_, ok := err.(*SourceError)
	return ok
}

// What is shown of errors, if not all is asked for.
const (
	maxErrors = 20
	maxFrames = 12
)

// A Style is how errors are shown.
type Style struct {
	Colour  bool
	Verbose bool // with all frames and all errors
}

func (s Style) paint(code, text string) string {
	if !s.Colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// FormatError writes an error for a person: what went wrong, where in the recipe, and what to do about it. Of several
// errors it writes each.
func FormatError(w io.Writer, err error, style Style) {
	var b strings.Builder
	all := Split(err)
	for i, err := range all {
		if i == maxErrors && !style.Verbose {
			fmt.Fprintf(&b, "%s ... and %d more\n", style.paint("1;31", "error:"), len(all)-i)
			break
		}
		formatError(&b, err, style)
	}
	io.WriteString(w, b.String())
}

func formatError(b *strings.Builder, err error, style Style) {
	if _, ok := err.(*Exit); ok {
		return // it is no error, but what the recipe wants
	}
	located := asSource(err)
	fmt.Fprintf(b, "%s %s\n", style.paint("1;31", "error:"), printableLines(located.Err.Error()))
	frames := userFirst(located.Frames)
	if !style.Verbose {
		frames = cut(frames, maxFrames)
		if errors.As(err, new(failure)) {
			frames = frames[:min(len(frames), 1)]
		}
	}
	for i, f := range frames {
		f.write(b, i == 0, style)
	}
	if e := (*runtime.Internal)(nil); errors.As(err, &e) {
		fmt.Fprintf(b, "  this is a fault of aifb; please report it with:\n%s\n", e.Stack)
	}
	for _, hint := range hints(err) {
		fmt.Fprintf(b, "  %s %s\n", style.paint("1;36", "hint:"), printableLines(hint))
	}
}

// userFirst puts the innermost place in a file of the user's own before all others: that is the one to mend.
func userFirst(frames []Frame) []Frame {
	i := slices.IndexFunc(frames, func(f Frame) bool { return !strings.HasPrefix(f.Pos.Filename(), libraryPrefix) })
	if i <= 0 {
		return frames
	}
	return slices.Concat(frames[i:i+1], frames[:i], frames[i+1:])
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
