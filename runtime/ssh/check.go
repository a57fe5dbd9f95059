package ssh

import (
	"context"
	"fmt"

	xssh "golang.org/x/crypto/ssh"

	"github.com/aifb/aifb/runtime"
)

// Check implements runtime.Checker.
func (c *Conn) Check(ctx context.Context) []runtime.Finding {
	files := runtime.Finding{Name: "files", OK: true, Text: "by SFTP"}
	err := c.do(ctx, func() error {
		return c.transfer(ctx, func(f *filesClient) error {
			if f == nil {
				files.Text = "through commands: the server has no SFTP, or no session to spare for it"
			}
			return nil
		})
	})
	sessions := runtime.Finding{Name: "sessions", OK: true}
	if err == nil {
		sessions.Text, err = c.countSessions(ctx)
	}
	if err != nil {
		return []runtime.Finding{{Name: "files", Text: err.Error(), Hint: runtime.HintOf(err)}}
	}
	return []runtime.Finding{files, sessions}
}

// countSessions opens as many sessions as we would have at a time, and says how many that were. It runs nothing in them.
func (c *Conn) countSessions(ctx context.Context) (text string, err error) {
	err = c.do(ctx, func() error {
		return c.onLink(ctx, func(l *link) error {
			var held []*xssh.Session
			defer func() {
				for _, s := range held {
					l.giveBack(s)
				}
			}()
			for l.takeOne() {
				s, _, err := l.attempt(nil)
				if refused(err) {
					break
				}
				if err != nil {
					return err
				}
				held = append(held, s)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			text = fmt.Sprintf("%d at a time", l.open)
			if l.open < maxSessions {
				text += ", more the server refuses (MaxSessions): what needs more of them takes turns"
			}
			return nil
		})
	})
	return text, err
}

// takeOne takes a place for a session, if the limit allows another one.
func (l *link) takeOne() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken >= l.limit {
		return false
	}
	l.taken++
	return true
}
