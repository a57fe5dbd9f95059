package ssh

import (
	"context"
	"io"
	"sync"
)

// stderrTail is how much of a command's stderr an ExitError keeps.
const stderrTail = 4 << 10

// streams is the output of a command. After close nothing is written to the caller's writers any more, even if the
// command still runs.
type streams struct {
	failed         context.CancelCauseFunc // called when a writer fails
	mu             sync.Mutex              // the caller may have given one writer for both
	stdout, stderr io.Writer               // nil discards
	last           []byte
}

func (s *streams) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stdout, s.stderr = nil, nil
}

// tail returns the last of stderr.
func (s *streams) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.last)
}

func (s *streams) writeStdout(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(&s.stdout, p)
}

func (s *streams) writeStderr(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last, p...)
	if over := len(s.last) - stderrTail; over > 0 {
		s.last = append(s.last[:0], s.last[over:]...)
	}
	return s.write(&s.stderr, p)
}

// write discards what follows an error, so that a command does not wait for it to be read.
func (s *streams) write(w *io.Writer, p []byte) (int, error) {
	if *w == nil {
		return len(p), nil
	}
	if _, err := (*w).Write(p); err != nil {
		*w = nil
		s.failed(err)
	}
	return len(p), nil
}

// A beginning passes to w what follows the mark.
type beginning struct {
	w      func(p []byte) (int, error)
	begun  func(pid string) // is called once
	passed bool
	before []byte // the last of what came before the mark
}

func (b *beginning) Write(p []byte) (int, error) {
	if b.passed {
		return b.w(p)
	}
	b.before = append(b.before, p...)
	if m := mark.FindSubmatchIndex(b.before); m != nil {
		b.passed = true
		b.begun(string(b.before[m[2]:m[3]]))
		if rest := b.before[m[1]:]; len(rest) > 0 {
			b.w(rest) // which never fails
		}
		b.before = nil
	} else if over := len(b.before) - stderrTail; over > 0 {
		b.before = append(b.before[:0], b.before[over:]...)
	}
	return len(p), nil
}

// A writerFunc is an io.Writer.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A source remembers why reading failed.
type source struct {
	r   io.Reader
	err error // but io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != io.EOF {
		s.err = err
	}
	return n, err
}
