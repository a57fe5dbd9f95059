package ssh

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pkg/sftp"

	"github.com/aifb/aifb/runtime"
)

// A filesClient is the SFTP session of a link.
type filesClient struct {
	*sftp.Client
	gone chan struct{} // closed once it has ended
}

func (f *filesClient) lost() bool {
	select {
	case <-f.gone:
		return true
	default:
		return false
	}
}

// files returns the SFTP session, and opens it if need be.
func (c *Conn) files(ctx context.Context) (*filesClient, error) {
	l, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	f, err := l.files.get(ctx, c.start, (*filesClient).lost, func() (*filesClient, error) { return c.openFiles(l) })
	if err != nil {
		return nil, fmt.Errorf("ssh %s: sftp: %w", c.name, err)
	}
	return f, nil
}

func (c *Conn) openFiles(l *link) (*filesClient, error) {
	s, err := l.newSession(c.ctx)
	if err != nil {
		return nil, err
	}
	// Package sftp would leave the session open if there is no such subsystem.
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	stderr, _ := s.StderrPipe()
	if err := s.RequestSubsystem("sftp"); err != nil {
		s.Close()
		return nil, runtime.Faultf(runtime.FaultInfra, "ask the site to enable SFTP", "%w", err)
	}
	client, err := sftp.NewClientPipe(out, in)
	if err != nil {
		s.Close()
		return nil, err
	}
	f := &filesClient{Client: client, gone: make(chan struct{})}
	c.work.Go(func() { io.Copy(io.Discard, stderr) }) // the caller is counted, so that Close waits
	c.work.Go(func() {
		client.Wait()
		s.Close()
		close(f.gone)
	})
	return f, nil
}

// Put writes a temporary file beside name and renames it.
func (c *Conn) Put(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	return c.do(ctx, func() error {
		f, err := c.files(ctx)
		if err != nil {
			return err
		}
		if err := f.put(ctx, name, mode, r); err != nil {
			return c.fileError("put", name, err)
		}
		return nil
	})
}

// fileError says what failed, and whose fault it is if the connection was lost.
func (c *Conn) fileError(what, name string, err error) error {
	fault := runtime.Fault("")
	if errors.Is(err, sftp.ErrSSHFxConnectionLost) {
		fault = runtime.FaultInfra
	}
	return runtime.Faultf(fault, "", "ssh %s: %s %s: %w", c.name, what, name, err)
}

// inFlight is how many packets of 32 KiB are under way for one file: 2 MiB, as much as an SSH channel allows.
const inFlight = 64

func (f *filesClient) put(ctx context.Context, name string, mode fs.FileMode, r io.Reader) (err error) {
	temp := path.Join(path.Dir(name), ".aifb-"+rand.Text())
	file, err := f.create(temp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			f.Remove(temp)
		}
	}()
	chmod := make(chan error, 1)
	go func() { chmod <- f.Chmod(temp, mode.Perm()) }() // costs no round trip of its own
	_, err = file.ReadFromWithConcurrency(until{ctx, r}, inFlight)
	if err := errors.Join(err, <-chmod); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return f.PosixRename(temp, name)
}

// create makes a file that does not exist, and the directories above it.
func (f *filesClient) create(name string) (*sftp.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := f.OpenFile(name, flags)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if err := f.MkdirAll(path.Dir(name)); err != nil {
		return nil, err
	}
	return f.OpenFile(name, flags)
}

// Get copies the named file from an offset on. That of a small file takes two round trips.
func (c *Conn) Get(ctx context.Context, name string, from int64, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &streams{stdout: w, failed: cancel}
	defer out.close()
	return c.do(ctx, func() error {
		f, err := c.files(ctx)
		if err != nil {
			return err
		}
		if err := f.get(ctx, name, from, writerFunc(out.writeStdout)); err != nil {
			return c.fileError("get", name, err)
		}
		return nil
	})
}

// get does not use File.WriteTo: of a file that grows meanwhile, that can leave out a part.
func (f *filesClient) get(ctx context.Context, name string, from int64, w io.Writer) error {
	file, err := f.Open(name)
	if err != nil {
		return err
	}
	defer func() { go file.Close() }() // nobody needs its answer
	size := make(chan int64, 1)
	go func() {
		info, err := file.Stat()
		if err != nil {
			size <- 0
			return
		}
		size <- info.Size()
	}()
	end := int64(-1)
	for buf := make([]byte, 64<<10); ; buf = grow(buf) {
		n, err := file.ReadAt(buf, from)
		if err != nil && err != io.EOF {
			return err
		}
		w.Write(buf[:n]) // an error ends ctx
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		from += int64(n)
		if end < 0 {
			end = <-size
		}
		// An EOF after some bytes may also be a server that returns less than it was asked for.
		if err == io.EOF && (n == 0 || from >= end) {
			return nil
		}
	}
}

// grow returns a buffer for the rest of a file that was not small.
func grow(buf []byte) []byte {
	if len(buf) == inFlight<<15 {
		return buf
	}
	return make([]byte, inFlight<<15)
}
