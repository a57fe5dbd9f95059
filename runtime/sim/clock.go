package sim

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A Clock is a time that passes in steps, from one thing that somebody waits for to the next, whenever the whole program
// has nothing else to do. An hour on it takes no time, and what happens by it happens in the same order each time.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	timers timers
	made   int // timers so far
}

// NewClock returns a clock on which time does not pass before Run.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now implements runtime.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc implements runtime.Clock.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	t := &timer{at: c.now.Add(max(d, 0)), seq: c.made, f: f}
	heap.Push(&c.timers, t)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.index < 0 {
			return false
		}
		heap.Remove(&c.timers, t.index)
		return true
	}
}

// Run runs f, and lets time pass until f returns. The context that f gets ends when so much time has passed, and when
// nothing can happen any more. Nothing else may be going on in the program that time is to wait for or to pass over, and
// meanwhile only one of its threads runs Go code.
func (c *Clock) Run(ctx context.Context, limit time.Duration, f func(context.Context)) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(1))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer c.AfterFunc(limit, func() {
		cancel(runtime.Faultf(runtime.FaultTimeout, "", "it waits for more than %s of simulated time", days(limit)))
	})()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	for w := new(watch); ; {
		idle := w.allWait()
		select {
		case <-done:
			return
		default:
		}
		if idle && !c.step() {
			cancel(runtime.Faultf(runtime.FaultRun, "", "it waits for what never happens"))
			<-done
			return
		}
	}
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}

// step lets time pass until the next timer, and reports whether there is one. Of several at one time, what the first one
// brings about happens before the second one.
func (c *Clock) step() bool {
	c.mu.Lock()
	if len(c.timers) == 0 {
		c.mu.Unlock()
		return false
	}
	t := heap.Pop(&c.timers).(*timer)
	if t.at.After(c.now) {
		c.now = t.at
	}
	c.mu.Unlock()
	t.f()
	return true
}

// A watch sees whether the program has nothing to do.
type watch struct{ stacks []byte }

// allWait reports whether all goroutines but the caller's wait for each other, or for the clock. What the scheduler counts
// of them is approximate; what it says of each while the world is stopped is not.
func (w *watch) allWait() bool {
	goruntime.Gosched()
	if w.stacks == nil {
		w.stacks = make([]byte, 64<<10)
	}
	n := goruntime.Stack(w.stacks, true)
	for n == len(w.stacks) {
		w.stacks = make([]byte, 2*n)
		n = goruntime.Stack(w.stacks, true)
	}
	_, others, _ := bytes.Cut(w.stacks[:n], []byte("\n\n")) // the caller is the first
	for len(others) > 0 {
		var one []byte
		one, others, _ = bytes.Cut(others, []byte("\n\n"))
		if !waits(one) {
			return false
		}
	}
	return true
}

// waits reports whether a goroutine, as a stack trace shows it, waits for another one. The one that waits for signals, in
// a system call, counts as one that does.
func waits(stack []byte) bool {
	_, state, _ := bytes.Cut(stack, []byte(" ["))
	for _, s := range []string{"chan ", "select", "sync.", "semacquire", "finalizer wait", "cleanup wait"} {
		if bytes.HasPrefix(state, []byte(s)) {
			return true
		}
	}
	_, top, _ := bytes.Cut(state, []byte(":\n"))
	return bytes.HasPrefix(top, []byte("os/signal.signal_recv"))
}

// A timer is what is to happen at a time.
type timer struct {
	at    time.Time
	seq   int // of two at one time, the one that was made first is the first
	f     func()
	index int // in the heap; -1: it is in none
}

// timers is a heap, the next one first.
type timers []*timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	if t[i].at.Equal(t[j].at) {
		return t[i].seq < t[j].seq
	}
	return t[i].at.Before(t[j].at)
}
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}
func (t *timers) Push(x any) {
	x.(*timer).index = len(*t)
	*t = append(*t, x.(*timer))
}
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	x.index = -1
	return x
}
