package ssh

import (
	"context"
	"errors"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/aifb/aifb/runtime"
)

// A link is a live SSH connection.
type link struct {
	*xssh.Client
	gone  chan struct{} // closed once it is lost
	cause error         // why; set before gone is closed

	// Servers bound the sessions that are open at a time (MaxSessions), and do not say how many that is: only that they
	// refuse another one. A command has one while it runs, and SFTP has one.
	mu      sync.Mutex
	taken   int                                       // sessions that are open or being opened
	limit   int                                       // of taken
	open    int                                       // sessions that are open
	most    int                                       // that were open at a time
	tried   time.Time                                 // when a session beyond the limit was last asked for
	yields  map[*xssh.Session]context.CancelCauseFunc // ends the commands that yield
	changed time.Time                                 // when a session was last opened or closed
	freed   chan struct{}                             // closed, and replaced, when one is closed

	sftp sftpState
}

const (
	maxSessions = 7                     // that we ask for; most servers allow 10
	firstPause  = 10 * time.Millisecond // after a refusal; the server may just not have noticed that a session has ended
	tryAgain    = 5 * time.Second       // between attempts to go beyond the limit, which may be too low by a mistake
	patience    = time.Minute           // how long a command may have the only session while others wait
)

func newLink(client *xssh.Client) *link {
	return &link{
		Client:  client,
		gone:    make(chan struct{}),
		limit:   maxSessions,
		changed: time.Now(),
		freed:   make(chan struct{}),
		yields:  make(map[*xssh.Session]context.CancelCauseFunc),
		sftp:    sftpState{quit: make(chan struct{})},
	}
}

// wait waits until the connection is lost.
func (l *link) wait() {
	l.cause = l.Client.Wait()
	close(l.gone)
}

// dead reports whether the connection is lost, or about to be: what used it may notice first.
func (l *link) dead() bool { return happens(l.gone, time.Second) }

func (l *link) lost() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// refused reports whether the server refused to open what was asked for.
func refused(err error) bool {
	e := (*xssh.OpenChannelError)(nil)
	return errors.As(err, &e)
}

// errGone is why a session can't be had from a link that is lost.
var errGone = errors.New("connection lost")

// session opens a session, for which it may have to wait until others end. Whoever has it gives it back. Yield, if not
// nil, ends what is done with it, for others that wait.
func (l *link) session(ctx context.Context, yield context.CancelCauseFunc) (*xssh.Session, error) {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, tryAgain) {
		if err := l.take(ctx, began, yield == nil); err != nil {
			return nil, err
		}
		s, freed, err := l.attempt(yield)
		if !refused(err) {
			return s, err
		}
		if err := l.stuck(began, err); err != nil {
			return nil, err
		}
		if err := l.sleep(ctx, freed, pause); err != nil { // one may also end without our notice
			return nil, err
		}
	}
}

// take waits until the limit allows another session, or it is time to try the limit.
func (l *link) take(ctx context.Context, began time.Time, urgent bool) error {
	for {
		l.mu.Lock()
		beyond := l.taken >= l.limit
		if !beyond || l.taken < maxSessions && time.Since(l.tried) >= tryAgain {
			if l.taken++; beyond {
				l.tried = time.Now()
			}
			l.mu.Unlock()
			return nil
		}
		if urgent {
			l.makeRoom()
		}
		freed := l.freed
		l.mu.Unlock()
		if err := l.stuck(began, nil); err != nil {
			return err
		}
		if err := l.sleep(ctx, freed, tryAgain); err != nil {
			return err
		}
	}
}

// attempt opens a session for which there was a place. If the server refuses, it learns from that.
func (l *link) attempt(yield context.CancelCauseFunc) (s *xssh.Session, freed <-chan struct{}, err error) {
	s, err = l.NewSession()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.open++
		l.most = max(l.most, l.open)
		l.limit = max(l.limit, l.open)
		l.changed = time.Now()
		if yield != nil {
			l.yields[s] = yield
		}
		return s, nil, nil
	}
	l.taken--
	// With fewer open than there once were, the server has not noticed yet that others ended.
	if refused(err) {
		if l.open > 0 && l.open == l.most {
			l.limit, l.tried = l.open, time.Now()
		}
		if yield == nil {
			l.makeRoom()
		}
		l.sftp.giveUp()
	}
	return nil, l.freed, err
}

// errYielded is why a command that yields has ended.
var errYielded = errors.New("it gave way to another command: the server allows one session at a time")

// makeRoom ends the commands that yield, if no other could run else. The caller holds the mutex.
func (l *link) makeRoom() {
	if l.limit == 1 {
		for _, yield := range l.yields {
			yield(runtime.Faultf(runtime.FaultInfra, "", "%w", errYielded))
		}
	}
}

// another opens a session beyond those that are counted, if the server has one to spare within a short time.
func (l *link) another() (*xssh.Session, error) {
	for pause := firstPause; ; pause *= 2 {
		s, err := l.NewSession()
		if !refused(err) || pause > grace/8 {
			return s, err
		}
		l.mu.Lock()
		l.sftp.giveUp()
		l.mu.Unlock()
		if happens(l.gone, pause) {
			return nil, errGone
		}
	}
}

// giveBack closes a session.
func (l *link) giveBack(s *xssh.Session) {
	s.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken--
	l.open--
	delete(l.yields, s)
	l.changed = time.Now()
	close(l.freed)
	l.freed = make(chan struct{})
}

// stuck returns an error when it makes no sense to wait any longer for a session. Refusal is why there is none.
func (l *link) stuck(began time.Time, refusal error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case refusal != nil && l.open == 0 && time.Since(began) > 3*time.Second:
		return runtime.Faultf(runtime.FaultInfra, "does its sshd_config forbid commands, or have MaxSessions 0? Do others use the same connection?",
			"the server refuses a session: %w", refusal)
	case l.limit == 1 && time.Since(began) > patience && time.Since(l.changed) > patience:
		return runtime.Faultf(runtime.FaultInfra, "ask the site for a greater MaxSessions in its sshd_config",
			"the server allows one session at a time, which a command has had for %v", time.Since(l.changed).Round(time.Second))
	}
	return nil
}

// sleep waits until a session is closed, but not for longer than d.
func (l *link) sleep(ctx context.Context, freed <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-freed:
	case <-timer.C:
	case <-l.gone:
		return errGone
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
