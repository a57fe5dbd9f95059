package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

const (
	// followMin and followMax are between two looks at the logs: while they grow, and when they have not for long.
	followMin = 250 * time.Millisecond
	followMax = 2 * time.Second

	// followLimit bounds how many files are read at a time.
	followLimit = 8

	// longLine is how much of a line is waited for before it is shown.
	longLine = 64 << 10
)

// follow shows what jobs print, from the beginning or the last lines on, until those of the name, or the run, have ended
// and all was read. Lines begin with the name of their job, unless only one job is named.
func (l *logs) follow(ctx context.Context, name string, named int) error {
	f := &follower{logs: l, mux: &mux{w: l.out, prefixed: name == "" || named > 1}, streams: make(map[string]*stream)}
	for wait := followMin; ; wait = min(wait*3/2, followMax) {
		v, err := l.look(ctx) // what ended before what is read now, is read whole
		if err != nil {
			return err
		}
		jobs, err := selectJobs(v.st, name)
		if err != nil {
			return err
		}
		grown, err := f.read(ctx, v, jobs)
		if err = f.report(ctx, err); err != nil {
			return err
		}
		over := !f.failing && (name != "" || v.summary.State != runRunning)
		for _, j := range jobs {
			over = over && f.done(v, j)
		}
		if err := f.mux.flush(over || !grown); err != nil || over {
			return err
		}
		if grown {
			wait = followMin
		}
		if err := runtime.Pause(ctx, wait); err != nil {
			return err
		}
	}
}

// A follower remembers how far it has read.
type follower struct {
	*logs
	mux     *mux
	streams map[string]*stream // by job, try and name of the file
	worked  bool               // reading did, at least once
	failing bool               // and does not now
}

// report returns the error of the first reading. One of a later reading it tells, once: a connection that is lost comes
// back.
func (f *follower) report(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !f.worked:
		return err
	case err != nil && !f.failing:
		fmt.Fprintf(f.err, "%v; it is tried again\n", err)
	}
	f.worked, f.failing = true, err != nil
	return nil
}

// done reports whether all that a job will ever print was there to be read in this round.
func (f *follower) done(v *view, j *runtime.JobState) bool {
	switch {
	case j.Collected != nil || j.Refused != nil:
		return !j.Retried()
	case v.summary.State == runRunning:
		return false // its files are about to come here
	}
	return !j.Live()
}

// read reads what is new. It reports whether there was any.
func (f *follower) read(ctx context.Context, v *view, jobs []*runtime.JobState) (grown bool, err error) {
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	tokens := make(chan struct{}, followLimit)
	for _, j := range jobs {
		conn, dir, err := f.source(v.st, j)
		if err != nil {
			return false, err
		}
		for _, name := range f.names {
			s := f.stream(j, name)
			if conn == nil || s.whole || j.Collected == nil && j.Status.State == runtime.Pending {
				continue
			}
			tokens <- struct{}{}
			all.Go(func() {
				defer func() { <-tokens }()
				n, err := s.read(ctx, conn, path.Join(dir, name), f.tail)
				mu.Lock()
				defer mu.Unlock()
				grown = grown || n > 0
				if err != nil {
					errs = append(errs, fmt.Errorf("logs of %s: %w", j.Job.Name, err))
				}
				s.whole = err == nil && j.Collected != nil
			})
		}
	}
	all.Wait()
	return grown, errors.Join(errs...)
}

// stream returns the stream of a file of a job. Each time that a job is tried or run again, it has new ones.
func (f *follower) stream(j *runtime.JobState, name string) *stream {
	attempt := 0
	if j.Started != nil {
		attempt = j.Started.Attempt
	}
	key := fmt.Sprintf("%s %d %s", j.Job.Token, attempt, name)
	s := f.streams[key]
	if s == nil {
		s = f.mux.stream(j.Job.Name)
		f.streams[key] = s
	}
	return s
}

// A mux writes the lines of several streams, each as a whole.
type mux struct {
	mu       sync.Mutex
	w        io.Writer
	prefixed bool // lines begin with the name of the stream
	streams  []*stream
	open     *stream // whose line has begun and not ended; nil: none
}

// A stream is a file that is followed.
type stream struct {
	mux    *mux
	name   string
	offset int64
	begun  bool
	whole  bool   // all of it was read
	rest   []byte // the line that has begun
}

func (m *mux) stream(name string) *stream {
	s := &stream{mux: m, name: name}
	m.streams = append(m.streams, s)
	return s
}

// read copies what is new in the stream's file, and returns how much that was.
func (s *stream) read(ctx context.Context, conn runtime.Conn, name string, tail int) (n int64, err error) {
	if !s.begun && tail >= 0 {
		s.offset, err = copyLog(ctx, conn, name, tail, s)
		s.begun = err == nil
		return s.offset, err
	}
	c := &counter{w: s}
	err = conn.Get(ctx, name, s.offset, c)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	s.begun = true
	s.offset += c.n
	return c.n, err
}

// Write shows the lines that are whole, and keeps the rest.
func (s *stream) Write(p []byte) (int, error) {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	i := bytes.LastIndexByte(p, '\n') + 1
	if i == 0 && len(s.rest)+len(p) <= longLine {
		s.rest = append(s.rest, p...)
		return len(p), nil
	}
	if i == 0 {
		i = len(p)
	}
	err := s.show(p[:i])
	s.rest = append(s.rest, p[i:]...)
	return len(p), err
}

// show writes the rest, and p. The caller holds mu.
func (s *stream) show(p []byte) error {
	m := s.mux
	if m.open != nil && m.open != s {
		if _, err := io.WriteString(m.w, "\n"); err != nil {
			return err
		}
		m.open = nil
	}
	text := slices.Concat(s.rest, p)
	s.rest = s.rest[:0]
	if len(text) == 0 {
		return nil
	}
	if m.prefixed {
		text = s.prefix(text, m.open == s)
	}
	m.open = s
	if text[len(text)-1] == '\n' {
		m.open = nil
	}
	_, err := m.w.Write(text)
	return err
}

// prefix puts the name of the stream before each line, unless the first one goes on.
func (s *stream) prefix(text []byte, goesOn bool) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		if !goesOn {
			b.WriteString(s.name + " | ")
		}
		goesOn = false
		b.Write(line)
	}
	return b.Bytes()
}

// flush shows what lines have begun, if nothing has come for a while.
func (m *mux) flush(quiet bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.streams {
		if quiet && len(s.rest) > 0 {
			if err := s.show(nil); err != nil {
				return err
			}
		}
	}
	return nil
}
