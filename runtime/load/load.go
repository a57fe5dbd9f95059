// Package load makes load on a service and measures how it answers. It runs on the compute nodes, as aifb load.
//
// The load is a closed loop: each of a number of workers sends a request, waits for the whole answer, and sends the
// next. A closed loop asks what a service can do with so many users at once; it can't say how long users wait who come
// at a given rate, because a slow answer keeps its worker from sending (coordinated omission, see the README of wrk2).
//
// A [Config] says what to do, [Run] does it, and its [Result] has what was measured: [Result.Measurements] defines
// every metric. Nothing is retried, no redirect is followed, and what fails is counted by [Class].
package load

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A Config says what load to make.
type Config struct {
	Request     Request
	Concurrency int           // workers; each has a connection of its own and one request under way
	Duration    time.Duration // of the window in which is measured; 0: until Requests are answered
	Requests    int64         // how many to send in the window, if it does not end before; 0: no limit
	Warmup      time.Duration // of load before the window, measured apart; 0: none
	Dir         string        // for the files of Result.WriteFiles, such as $BENCHMARK_OUTPUT_DIR; "": none
}

// validate returns what the user must mend.
func (c *Config) validate() error {
	usage := func(hint, format string, args ...any) error {
		return runtime.Faultf(runtime.FaultUsage, hint, "load: "+format, args...)
	}
	switch {
	case c.Concurrency < 1:
		return usage("", "a concurrency of %d: there must be at least one worker", c.Concurrency)
	case c.Duration < 0:
		return usage("", "the duration %v is negative", c.Duration)
	case c.Requests < 0:
		return usage("", "the number of requests %d is negative", c.Requests)
	case c.Duration == 0 && c.Requests == 0:
		return usage("give a duration, a number of requests, or both", "nothing says when to stop")
	case c.Warmup < 0:
		return usage("", "the warm-up %v is negative", c.Warmup)
	}
	return nil
}

// Run makes the load and returns what it measured.
//
// The warm-up ends when each worker has sent for so long, and at least once, and has its last answer; so each begins
// the window with a connection, and no request belongs to both. At the end of the window what is under way is broken
// off.
//
// If ctx ends, Run stops at once and returns the cause. That no request succeeded is an error too, as is a file that
// could not be written. All of them come with the result of what was measured; it is nil only if nothing was tried,
// because of an invalid Config or a Dir that cannot be made.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	template, err := c.Request.template()
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultUsage, "", "load: %w", err)
	}
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, 0o777); err != nil {
			return nil, runtime.Faultf(runtime.FaultRun, "", "load: %w", err)
		}
	}
	workers := make([]worker, c.Concurrency)
	for i := range workers {
		workers[i].client = newClient(template, &c.Request)
		defer workers[i].client.close()
	}
	r := &Result{Config: c}
	if c.Warmup > 0 {
		r.Warmup = measure(ctx, workers, phase{length: c.Warmup, drain: true})
	}
	p := phase{length: c.Duration}
	if c.Requests > 0 {
		p.left = new(atomic.Int64)
		p.left.Store(c.Requests)
	}
	r.Window = *measure(ctx, workers, p)

	if ctx.Err() != nil {
		r.Interrupted, err = true, context.Cause(ctx)
	} else if r.OK.Count == 0 {
		err = r.noSuccess()
	}
	if c.Dir != "" {
		err = errors.Join(err, r.WriteFiles(c.Dir))
	}
	return r, err
}

// A phase is the warm-up or the window.
type phase struct {
	length time.Duration // 0: no limit
	drain  bool          // at the end what is under way is waited for; else it is broken off
	left   *atomic.Int64 // requests that may still be sent; nil: no limit
	end    time.Time     // of sending, once the phase has begun; zero: no limit
}

// over reports whether the time is up at t.
func (p *phase) over(t time.Time) bool { return !p.end.IsZero() && t.After(p.end) }

// more reports whether a worker that has sent so many requests may send one more.
func (p *phase) more(sent int) bool {
	if p.over(time.Now()) && (sent > 0 || !p.drain) {
		return false
	}
	return p.left == nil || p.left.Add(-1) >= 0
}

// context returns a worker's context, which ends when its request has to be broken off. Each worker has one of its own:
// else the contexts of all requests were registered with the same one, under its lock.
func (p *phase) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.drain || p.end.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, p.end)
}

// measure lets the workers send until the phase is over, and adds up what they measured.
func measure(ctx context.Context, workers []worker, p phase) *Window {
	start := time.Now()
	if p.length > 0 {
		p.end = start.Add(p.length)
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { workers[i].run(ctx, &p) })
	}
	wg.Wait()
	sum := newWindow()
	sum.Start, sum.Duration = start, time.Since(start)
	if p.length > 0 && !p.drain {
		sum.Duration = min(sum.Duration, p.length)
	}
	for i := range workers {
		sum.add(workers[i].window)
	}
	return sum
}

// A worker has one request under way at a time. It shares nothing with the others, not even a lock.
type worker struct {
	client *client
	window *Window // of the worker alone
}

func (w *worker) run(ctx context.Context, p *phase) {
	w.window = newWindow()
	ctx, cancel := p.context(ctx)
	defer cancel()
	ctx = w.client.traced(ctx)
	for sent := 0; ctx.Err() == nil && p.more(sent); sent++ {
		start := time.Now()
		a := w.client.do(ctx)
		end := time.Now()
		w.window.Connections += a.opened
		if !p.drain && p.over(end) || a.class != "" && ctx.Err() != nil {
			w.window.Incomplete++
		} else {
			w.window.record(end.Sub(start), a)
		}
	}
}
