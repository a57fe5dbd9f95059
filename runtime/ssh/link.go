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
	slots chan struct{} // a token for each session that may run a command

	mu    sync.Mutex
	open  int           // sessions that run a command
	freed chan struct{} // closed, and replaced, when one of them ends
	files shared[*filesClient]
}

// maxSessions bounds the commands that run at a time. Most servers allow 10 sessions; one is for files, and the
// rest for those whose end the server has not yet noticed.
const maxSessions = 6

func newLink(client *xssh.Client) *link {
	return &link{
		Client: client,
		gone:   make(chan struct{}),
		slots:  make(chan struct{}, maxSessions),
		freed:  make(chan struct{}),
	}
}

// wait waits until the connection is lost.
func (l *link) wait() {
	l.cause = l.Client.Wait()
	close(l.gone)
}

// dead reports whether the connection is lost, also if nobody has noticed yet.
func (l *link) dead() bool {
	if _, _, err := l.SendRequest(keepAliveRequest, true, nil); err == nil {
		return false
	}
	<-l.gone
	return true
}

func (l *link) lost() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// newSession opens a session, waiting for another to end while the server refuses to have more. It gives up when
// the server does so for some seconds although no command runs.
func (l *link) newSession(ctx context.Context) (*xssh.Session, error) {
	for pause := 100 * time.Millisecond; ; {
		l.mu.Lock()
		freed, open := l.freed, l.open
		l.mu.Unlock()
		s, err := l.NewSession()
		if refused := (*xssh.OpenChannelError)(nil); !errors.As(err, &refused) {
			return s, err
		}
		if open == 0 && pause > 3*time.Second {
			return nil, runtime.Faultf(runtime.FaultInfra,
				"does its sshd_config have a MaxSessions below 2, or forbid commands?", "the server refuses a session: %w", err)
		}
		timer := time.NewTimer(pause) // an earlier session may end without our notice
		select {
		case <-freed:
			pause = 100 * time.Millisecond
		case <-timer.C:
			pause = min(2*pause, 5*time.Second)
		case <-l.gone:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		timer.Stop()
	}
}

// acquire takes a slot for a command. Whoever has it must release it.
func (l *link) acquire(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *link) release() { <-l.slots }

// began and ended count the sessions that run a command.
func (l *link) began() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
}

func (l *link) ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	close(l.freed)
	l.freed = make(chan struct{})
}
