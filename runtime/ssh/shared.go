package ssh

import (
	"context"
	"sync"
)

// A shared value is made at its first use, for all who wait for it, and made again if it was lost.
type shared[T any] struct {
	mu  sync.Mutex
	cur *attempt[T]
}

// An attempt to make a value. Those who came while it was under way share its outcome.
type attempt[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// get returns the value. Start runs build, which makes it.
func (s *shared[T]) get(ctx context.Context, start func(func()) error, lost func(T) bool,
	build func() (T, error)) (T, error) {
	var none T
	a, err := s.attempt(start, lost, build)
	if err != nil {
		return none, err
	}
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func (s *shared[T]) attempt(start func(func()) error, lost func(T) bool, build func() (T, error)) (*attempt[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.cur; a != nil {
		select {
		case <-a.done:
			if a.err == nil && !lost(a.value) {
				return a, nil
			}
		default:
			return a, nil
		}
	}
	a := &attempt[T]{done: make(chan struct{})}
	err := start(func() {
		a.value, a.err = build()
		close(a.done)
	})
	if err != nil {
		return nil, err
	}
	s.cur = a
	return a, nil
}
