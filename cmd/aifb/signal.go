package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signals turns Ctrl-C, SIGTERM and the loss of the terminal (SIGHUP) into the end of contexts. Ctrl-C ends the innermost
// scope, the others all. A signal that finds nothing left to end ends the program.
type signals struct {
	w     io.Writer
	leave string // what to say when the program ends at once; "" is nothing
	got   chan os.Signal
	done  chan struct{}

	mu     sync.Mutex
	scopes []*scope
}

type scope struct {
	cancel context.CancelCauseFunc
	ended  bool
}

// catchSignals begins to catch signals; stop ends it.
func catchSignals(w io.Writer, leave string) (s *signals, stop func()) {
	s = &signals{w: w, leave: leave, got: make(chan os.Signal, 2), done: make(chan struct{})}
	signal.Notify(s.got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for {
			select {
			case sig := <-s.got:
				s.handle(&interrupted{sig.(syscall.Signal)})
			case <-s.done:
				return
			}
		}
	}()
	return s, func() { signal.Stop(s.got); close(s.done) }
}

// scope returns a context that a signal cancels. The caller calls done at its end.
func (s *signals) scope(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes = append(s.scopes, &scope{cancel: cancel})
	depth := len(s.scopes)
	return ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.scopes = s.scopes[:depth-1]
		cancel(nil)
	}
}

func (s *signals) handle(cause *interrupted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := max(len(s.scopes)-1, 0)
	if cause.signal != syscall.SIGINT {
		first = 0
	}
	ended := false
	for _, scope := range s.scopes[first:] {
		if !scope.ended {
			scope.ended, ended = true, true
			scope.cancel(cause)
		}
	}
	if !ended {
		if s.leave != "" {
			fmt.Fprintln(s.w, s.leave)
		}
		os.Exit(exitCode(cause))
	}
}
