package runtime

import (
	"context"
	"io"
	"time"
)

// Now is the time on a clock. Here and below, nil is the real one.
func Now(c Clock) time.Time {
	if c == nil {
		return time.Now()
	}
	return c.Now()
}

// After returns a channel that has an element once d has passed, unless stop was called.
func After(c Clock, d time.Duration) (passed <-chan time.Time, stop func() bool) {
	if c == nil {
		timer := time.NewTimer(d)
		return timer.C, timer.Stop
	}
	ch := make(chan time.Time, 1)
	return ch, c.AfterFunc(d, func() { ch <- c.Now() })
}

// Pause waits for d, or until ctx ends: then the error is its cause.
func Pause(ctx context.Context, d time.Duration) error { return PauseOn(ctx, nil, d) }

// PauseOn is Pause by a clock.
func PauseOn(ctx context.Context, c Clock, d time.Duration) error {
	passed, stop := After(c, d)
	defer stop()
	select {
	case <-passed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// withTimeout returns a context that ends with the cause, if it is not nil, once d has passed.
func withTimeout(ctx context.Context, c Clock, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	if c == nil {
		return context.WithTimeoutCause(ctx, d, cause)
	}
	if cause == nil {
		cause = context.DeadlineExceeded
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := c.AfterFunc(d, func() { cancel(cause) })
	return ctx, func() { stop(); cancel(nil) }
}

// These are the same by the clock of a session.

func (s *Session) now() time.Time { return Now(s.Clock) }

func (s *Session) since(t time.Time) time.Duration { return s.now().Sub(t) }

func (s *Session) pause(ctx context.Context, d time.Duration) error { return PauseOn(ctx, s.Clock, d) }

func (s *Session) withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return withTimeout(ctx, s.Clock, d, nil)
}

// ReadUntil returns a reader of r that fails, with the cause, once ctx has ended.
func ReadUntil(ctx context.Context, r io.Reader) io.Reader { return until{ctx, r} }

type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}
