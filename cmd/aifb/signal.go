package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// signals turns Ctrl-C, SIGTERM, the loss of the terminal (SIGHUP) and that nobody reads the output any more (SIGPIPE)
// into the end of contexts. Ctrl-C ends the innermost scope that has not ended, the others all. A Ctrl-C or SIGTERM that
// finds nothing left to end ends the program. A SIGHUP does not: with a terminal the shell sends one, and the kernel.
type signals struct {
	w     io.Writer
	leave string // what to say when the program ends at once; "" is nothing
	got   chan os.Signal
	pipe  chan os.Signal
	done  chan struct{}

	mu     sync.Mutex
	scopes []*scope
	ended  time.Time // when a signal last ended something
}

// echo is how long after a signal ended something another one ends not the program: timeout and others signal the
// process, and then the group that it is in.
const echo = 100 * time.Millisecond

type scope struct {
	cancel context.CancelCauseFunc // nil: where it is the innermost, Ctrl-C does nothing
	ended  bool
}

// catchSignals begins to catch signals; stop ends it.
func catchSignals(w io.Writer, leave string) (s *signals, stop func()) {
	s = &signals{w: w, leave: leave, got: make(chan os.Signal, 2), pipe: make(chan os.Signal, 1), done: make(chan struct{})}
	signal.Notify(s.got, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // it is under nohup
		signal.Notify(s.got, syscall.SIGHUP)
	}
	// A write that fails says itself that nobody reads. But as long as nobody is told of the signal, it kills.
	signal.Notify(s.pipe, syscall.SIGPIPE)
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
	return s, func() { signal.Stop(s.got); signal.Stop(s.pipe); close(s.done) }
}

// untilLeft is untilSignal for what only shows something: where nobody reads that any more, it dies, as programs do.
func untilLeft(ctx context.Context) (context.Context, func()) {
	ctx, done := untilSignal(ctx)
	signal.Reset(syscall.SIGPIPE)
	return ctx, done
}

// scope returns a context that a signal cancels. The caller calls done at its end.
func (s *signals) scope(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	pop := s.push(&scope{cancel: cancel})
	return ctx, func() { pop(); cancel(nil) }
}

// idle has Ctrl-C do nothing until the caller calls done, unless there is a scope within.
func (s *signals) idle() (done func()) { return s.push(new(scope)) }

func (s *signals) push(sc *scope) (pop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes = append(s.scopes, sc)
	depth := len(s.scopes)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.scopes = s.scopes[:depth-1]
	}
}

func (s *signals) handle(cause *interrupted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := false
	innermost := len(s.scopes) - 1
	for i := innermost; i >= 0; i-- {
		sc := s.scopes[i]
		if sc.cancel != nil && !sc.ended {
			sc.ended, ended = true, true
			s.ended = time.Now()
			sc.cancel(cause)
		}
		if cause.signal == syscall.SIGINT && (ended || sc.cancel == nil && i == innermost) {
			return
		}
	}
	if !ended && time.Since(s.ended) >= echo && (cause.signal == syscall.SIGINT || cause.signal == syscall.SIGTERM) {
		if s.leave != "" {
			fmt.Fprintln(s.w, s.leave)
		}
		os.Exit(exitCode(cause))
	}
}

// interrupted is the cause of a run's end by a signal.
type interrupted struct{ signal syscall.Signal }

func (e *interrupted) Error() string {
	switch e.signal {
	case syscall.SIGINT:
		return "interrupted"
	case syscall.SIGHUP:
		return "the terminal was lost"
	case syscall.SIGPIPE:
		return "nobody reads the output any more"
	}
	return "terminated"
}
