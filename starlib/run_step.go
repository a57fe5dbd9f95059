package starlib

import (
	"strings"

	"go.starlark.net/starlark"
)

// A Step is a call of a builtin by a recipe that runs.
type Step struct {
	Builtin string
	Acts    bool    // it does something on the target or on this machine
	Frames  []Frame // where it is, the innermost place first, but one in a file of the user's before those of the library
	Key     string  // of its deed, once it is known; "": it is none

	args   starlark.Tuple
	kwargs []starlark.Tuple
}

func newStep(c *call, b *Builtin, args starlark.Tuple, kwargs []starlark.Tuple) *Step {
	return &Step{Builtin: b.Name, Acts: b.acts, Frames: userFirst(c.loader.frames(c.stack())), args: args, kwargs: kwargs}
}

// maxValue is how many characters of an argument are shown.
const maxValue = 72

// Text is the call as a recipe would write it, with the values that its arguments have now. Long ones are cut off.
func (s *Step) Text() string {
	var words []string
	for _, v := range s.args {
		words = append(words, showArgument(v))
	}
	for _, kw := range s.kwargs {
		words = append(words, string(kw[0].(starlark.String))+" = "+showArgument(kw[1]))
	}
	return s.Builtin + "(" + strings.Join(words, ", ") + ")"
}

func showArgument(v starlark.Value) string {
	if hs, err := toHandles("", v); err == nil && len(hs) > 0 {
		var names []string
		for _, h := range hs {
			names = append(names, h.Name)
		}
		return strings.Join(names, ", ")
	}
	text := v.String()
	if runes := []rune(text); len(runes) > maxValue {
		text = string(runes[:maxValue]) + "…"
	}
	return text
}
