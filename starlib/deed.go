package starlib

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// origins are the calls that started something, by the key of their deed: what becomes of it is seen later.
type origins struct {
	mu    sync.Mutex
	calls map[string]starlark.CallStack
}

// deed names a call that acts. Run again, the recipe makes the same calls in the same order.
func (c *call) deed() runtime.Deed {
	c.deeds++
	key := fmt.Sprintf("%s%d", c.thread.Name, c.deeds)
	if c.step != nil {
		c.step.Key = key
	}
	stack := c.thread.CallStack()
	stack.Pop() // the builtin itself
	c.origins.mu.Lock()
	defer c.origins.mu.Unlock()
	c.origins.calls[key] = stack
	return runtime.Deed{Key: key, Pos: stack.At(0).Pos.String()}
}

// refusal returns the places of the call that started the job of a RefusedError, and what that is to it; nil if err is
// none.
func (r *run) refusal(err error) ([]Frame, error) {
	refused := (*runtime.RefusedError)(nil)
	if !errors.As(err, &refused) {
		return nil, nil
	}
	r.origins.mu.Lock()
	frames := r.loader.frames(r.origins.calls[refused.Deed.Key])
	r.origins.mu.Unlock()
	builtin, _, _ := strings.Cut(refused.Deed.Call, "(")
	return frames, runtime.Faultf(runtime.FaultOf(err), runtime.HintOf(err), "%s: %w", builtin, refused)
}

// frames returns the places of a stack in files of recipes, the innermost first.
func (l *loader) frames(stack starlark.CallStack) (frames []Frame) {
	for i := range stack {
		if f := stack.At(i); f.Pos.Filename() != "<builtin>" {
			frames = append(frames, l.frame(f.Pos, f.Name))
		}
	}
	return frames
}
