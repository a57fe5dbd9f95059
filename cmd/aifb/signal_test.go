package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"
)

// TestSignals has the scopes of the REPL: the run, the time between statements, a statement, and the reading of it.
func TestSignals(t *testing.T) {
	t.Parallel()
	const run, statement = "run", "statement"
	for _, test := range []struct {
		name    string
		signals []syscall.Signal
		reading bool
		want    []string // what ends
	}{
		{"Ctrl-C at the prompt", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, true, nil},
		{"Ctrl-C", []syscall.Signal{syscall.SIGINT}, false, []string{statement}},
		{"Ctrl-C twice", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, false, []string{run, statement}},
		{"SIGTERM", []syscall.Signal{syscall.SIGTERM}, false, []string{run, statement}},
		{"SIGTERM at the prompt", []syscall.Signal{syscall.SIGTERM}, true, []string{run, statement}},
		{"SIGHUP, again and again", []syscall.Signal{syscall.SIGHUP, syscall.SIGHUP, syscall.SIGHUP}, true, []string{run, statement}},
		{"SIGPIPE, again and again", []syscall.Signal{syscall.SIGPIPE, syscall.SIGPIPE}, false, []string{run, statement}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &signals{w: io.Discard}
			outer, done := s.scope(t.Context())
			defer done()
			defer s.idle()()
			inner, done := s.scope(outer)
			defer done()
			if test.reading {
				defer s.idle()()
			}
			for _, sig := range test.signals {
				s.handle(&interrupted{sig})
			}
			var ended []string
			for name, ctx := range map[string]context.Context{run: outer, statement: inner} {
				if ctx.Err() == nil {
					continue
				}
				ended = append(ended, name)
				if cause := (*interrupted)(nil); !errors.As(context.Cause(ctx), &cause) || cause.signal != test.signals[0] {
					t.Errorf("%s ended by %v", name, context.Cause(ctx))
				}
			}
			slices.Sort(ended)
			if !slices.Equal(ended, test.want) {
				t.Errorf("%v ended, want %v", ended, test.want)
			}
		})
	}
}

// TestSignalsBetween interrupts nothing, and then what comes next.
func TestSignalsBetween(t *testing.T) {
	t.Parallel()
	s := &signals{w: io.Discard}
	outer, done := s.scope(t.Context())
	defer done()
	defer s.idle()()
	for range 3 {
		statement, done := s.scope(outer)
		s.handle(&interrupted{syscall.SIGINT})
		if statement.Err() == nil {
			t.Error("Ctrl-C did not end the statement")
		}
		done()
		s.handle(&interrupted{syscall.SIGINT})
		if outer.Err() != nil {
			t.Fatal("Ctrl-C between two statements ended the run")
		}
	}
}
