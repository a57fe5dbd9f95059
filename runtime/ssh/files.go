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
	"time"

	"github.com/pkg/sftp"
	xssh "golang.org/x/crypto/ssh"

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

// An sftpState is what a link knows of SFTP. The mutex of the link guards it, but for client.
type sftpState struct {
	client shared[*filesClient]
	off    bool          // for good: the server has no SFTP, or no session to spare for it
	users  int           // transfers under way
	ended  bool          // quit is closed
	quit   chan struct{} // ends the session
}

// giveUp has files go through commands from now on. Transfers that are under way end first.
func (s *sftpState) giveUp() {
	s.off = true
	if s.users == 0 && !s.ended {
		s.ended = true
		close(s.quit)
	}
}

// useSFTP counts a transfer, which the caller ends by done; not ok is that there is no SFTP.
func (l *link) useSFTP() (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sftp.off {
		return nil, false
	}
	l.sftp.users++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.sftp.users--; l.sftp.off {
			l.sftp.giveUp()
		}
	}, true
}

// errNoSFTP is why there is no SFTP session, nor will be one.
var errNoSFTP = errors.New("no SFTP")

// transfer runs f with the SFTP session, which it opens if need be, or without one if the server has none.
func (c *Conn) transfer(ctx context.Context, f func(*filesClient) error) error {
	var client *filesClient
	done := func() {}
	err := c.onLink(ctx, func(l *link) (err error) {
		end, ok := l.useSFTP()
		if !ok {
			return nil
		}
		client, err = l.sftp.client.get(ctx, c.start, (*filesClient).lost, func() (*filesClient, error) { return c.openFiles(l) })
		switch {
		case err == nil:
			done = end
			return nil
		case errors.Is(err, errNoSFTP):
			err = nil
		}
		end()
		return err
	})
	if err != nil {
		return err
	}
	defer done()
	return f(client)
}

// sftpTime is how long a server may take to begin to speak SFTP.
const sftpTime = 15 * time.Second

func (c *Conn) openFiles(l *link) (*filesClient, error) {
	if err := l.take(c.ctx, time.Now(), true); err != nil {
		return nil, err
	}
	s, _, err := l.attempt(nil)
	if refused(err) { // and so SFTP was given up
		return nil, errNoSFTP
	}
	if err != nil {
		return nil, err
	}
	f, err := c.speakSFTP(s)
	if err != nil {
		l.giveBack(s)
		if errors.Is(err, errNoSFTP) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.sftp.giveUp()
		}
		return nil, err
	}
	c.work.Go(func() {
		select {
		case <-f.gone:
		case <-l.sftp.quit:
			f.Close()
		}
	})
	c.work.Go(func() {
		f.Wait()
		l.giveBack(s)
		close(f.gone)
	})
	return f, nil
}

// speakSFTP starts SFTP in a session. A login shell that prints something spoils it, as with the program sftp.
func (c *Conn) speakSFTP(s *xssh.Session) (*filesClient, error) {
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	stderr, _ := s.StderrPipe()
	c.work.Go(func() { io.Copy(io.Discard, stderr) }) // the caller is counted, so that Close waits
	ok, err := s.SendRequest("subsystem", true, xssh.Marshal(struct{ Name string }{"sftp"}))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoSFTP
	}
	timer := time.AfterFunc(sftpTime, func() { s.Close() })
	defer timer.Stop()
	client, err := sftp.NewClientPipe(out, in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoSFTP, err)
	}
	return &filesClient{Client: client, gone: make(chan struct{})}, nil
}

// Put writes a temporary file beside name and renames it.
func (c *Conn) Put(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	return c.do(ctx, func() error {
		return c.transfer(ctx, func(f *filesClient) error {
			if f == nil {
				return c.putByCat(ctx, name, mode, r)
			}
			if err := f.put(ctx, name, mode, r); err != nil {
				return c.fileError("put", name, err)
			}
			return nil
		})
	})
}

// fileError says what failed, and whose fault it is if the connection was lost. An SFTP server calls most errors a failure,
// and says no more.
func (c *Conn) fileError(what, name string, err error) error {
	fault, hint := runtime.Fault(""), ""
	if errors.Is(err, sftp.ErrSSHFxConnectionLost) {
		fault = runtime.FaultInfra
	}
	if status := (*sftp.StatusError)(nil); what == "put" && errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxFailure {
		hint = fmt.Sprintf("is the disk there full, a quota used up, or %s a directory?", path.Base(name))
	}
	return runtime.Faultf(fault, hint, "ssh %s: %s %s: %w", c.name, what, name, err)
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
	_, err = file.ReadFromWithConcurrency(runtime.ReadUntil(ctx, r), inFlight)
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
		return c.transfer(ctx, func(f *filesClient) error {
			if f == nil {
				return c.getByCat(ctx, name, from, writerFunc(out.writeStdout))
			}
			if err := f.get(ctx, name, from, writerFunc(out.writeStdout)); err != nil {
				return c.fileError("get", name, err)
			}
			return nil
		})
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
