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

func (o *origins) add(key string, stack starlark.CallStack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[key] = stack
}

func (o *origins) get(key string) starlark.CallStack {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.calls[key]
}

// key names a call that acts, or that starts threads whose calls do. Run again, the recipe makes the same calls in the
// same order; and a thread is named after the call that started it. So it does not matter how threads interleave.
func (c *call) key() string {
	c.deeds++
	key := fmt.Sprintf("%s%d", c.thread.Name, c.deeds)
	if c.step != nil {
		c.step.Key = key
	}
	return key
}

// deed is a call that acts.
func (c *call) deed() runtime.Deed {
	d := runtime.Deed{Key: c.key()}
	stack := c.stack()
	c.origins.add(d.Key, stack)
	for i := range stack {
		if pos := stack.At(i).Pos; pos.Filename() != builtinFile { // parallel(stop, jobs) calls it from a builtin
			d.Pos = pos.String()
			break
		}
	}
	return d
}

// refusal returns the places of the call that started the job of a RefusedError, and what that is to it; nil if err is
// none.
func (r *run) refusal(err error) ([]Frame, error) {
	refused := (*runtime.RefusedError)(nil)
	if !errors.As(err, &refused) {
		return nil, nil
	}
	builtin, _, _ := strings.Cut(refused.Deed.Call, "(")
	return r.loader.inYAML(r.loader.frames(r.origins.get(refused.Deed.Key)), refused.Field),
		runtime.Faultf(runtime.FaultOf(err), runtime.HintOf(err), "%s: %w", builtin, refused)
}

// jobFields are the parameters of jobs that decide about how one ends.
var jobFields = map[runtime.Outcome]string{runtime.Failed: "command", runtime.TimedOut: "time", runtime.OutOfMemory: "mem"}

// ending returns the places of the call that started the job of a JobError, if that is in YAML, whose waits nobody has
// written; else the frames themselves.
func (r *run) ending(frames []Frame, err error) []Frame {
	job := (*runtime.JobError)(nil)
	if len(frames) == 0 || !r.loader.isYAML(frames[len(frames)-1]) || !errors.As(err, &job) {
		return frames
	}
	if origin := r.loader.frames(r.origins.get(job.Deed.Key)); len(origin) > 0 {
		return r.loader.inYAML(origin, jobFields[job.Status.Outcome])
	}
	return frames
}
