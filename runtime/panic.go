package runtime

import (
	"fmt"
	"runtime/debug"
)

// An Internal error is a panic: a fault of this program.
type Internal struct {
	In    string // the builtin, or else what was being done
	Value any    // of the panic
	Stack []byte
}

func (e *Internal) Error() string { return fmt.Sprintf("internal error in %s: %v", e.In, e.Value) }

// Rescue turns a panic of the function that defers it into that function's error.
func Rescue(in string, err *error) {
	if p := recover(); p != nil {
		*err = &Internal{In: in, Value: p, Stack: debug.Stack()}
	}
}

// guarded returns f as what a goroutine of the session runs: a panic in it ends the run, as a store that fails does, and
// what the run started is cancelled.
func (s *Session) guarded(in string, f func()) func() {
	call := func() (err error) {
		defer Rescue(in, &err)
		f()
		return nil
	}
	return func() {
		if err := call(); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.broken == nil {
				s.broken = err
			}
			s.wakeAll()
		}
	}
}
