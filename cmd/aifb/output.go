package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/aifb/aifb/runtime"
)

// streams are where a command reads and writes. Results go to out, all else to err.
type streams struct {
	in       io.Reader
	out, err *output
}

// An output is a stream that remembers its first error, because much that prints returns none.
type output struct {
	w io.Writer

	mu     sync.Mutex
	used   bool // something was written
	err    error
	unread func()        // told that nobody reads any more; may be nil
	held   *bytes.Buffer // what is to be written later; nil: nothing is held back
	redraw func()        // draws the line again that is being edited below what is written; nil: there is none
}

func (o *output) Write(p []byte) (int, error) {
	if o.keep(p) {
		return len(p), nil
	}
	n, err := o.write(p)
	if err == nil {
		return n, nil
	}
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	unread := o.unread
	o.mu.Unlock()
	if unread != nil && errors.Is(err, syscall.EPIPE) {
		unread()
	}
	return n, err
}

// unused reports whether nothing was written.
func (o *output) unused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.used
}

// write writes above the line that is being edited, if there is one.
func (o *output) write(p []byte) (int, error) {
	o.mu.Lock()
	redraw := o.redraw
	o.mu.Unlock()
	if redraw == nil {
		return o.w.Write(p)
	}
	const eraseLine = "\r\x1b[K"
	n, err := o.w.Write(append([]byte(eraseLine), p...))
	redraw()
	return max(n-len(eraseLine), 0), err
}

// edited has a line redrawn that is being edited on the same terminal, until that is done.
func (o *output) edited(redraw func()) (done func()) {
	set := func(f func()) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.redraw = f
	}
	set(redraw)
	return func() { set(nil) }
}

// hold keeps back what is written, until release.
func (o *output) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = new(bytes.Buffer)
}

// keep reports whether it has kept p back.
func (o *output) keep(p []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used = true
	if o.held != nil {
		o.held.Write(p)
	}
	return o.held != nil
}

func (o *output) release() {
	o.mu.Lock()
	held := o.held
	o.held = nil
	o.mu.Unlock()
	if held.Len() > 0 {
		o.Write(held.Bytes()) // which remembers its error
	}
}

// onUnread has f called whenever a write finds that nobody reads any more.
func (o *output) onUnread(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unread = f
}

// failed returns the first error of a write.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// writeFile writes a file that the command line names: where that is no place for one is the command line's fault.
func writeFile(name string, write func(io.Writer) error) error {
	err := runtime.WriteFile(name, write)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) {
		return runtime.Faultf(runtime.FaultUsage, "", "%w", err)
	}
	return err
}

// isTerminal reports whether a person is at the other end of a stream.
func isTerminal(stream any) bool {
	if o, ok := stream.(*output); ok {
		stream = o.w
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// wantsColour reports whether a person sees what is written to o, and wants colours.
func wantsColour(o *output) bool {
	return isTerminal(o) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
