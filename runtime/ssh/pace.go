package ssh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A pace keeps a host from being connected to too often: after failures, and after connections that were soon lost, it
// makes ever longer pauses.
type pace struct {
	name    string
	strikes int       // in a row
	err     error     // of the last attempt
	next    time.Time // no attempt before it
	made    time.Time // when a connection was made that counts for nothing yet
	known   bool      // the host has let the user in
}

const (
	shortPause   = time.Second // at first
	longestPause = time.Minute
	steady       = time.Minute      // a connection that lasts so long makes up for what was before
	refusedPause = 10 * time.Minute // lest the site lock the user out
	knownPause   = 30 * time.Second // at first, after a refusal by a host that knows the user: it cannot look users up, say
)

// begin returns an error, which says when, if it is too early for another attempt.
func (p *pace) begin() error {
	if !p.made.IsZero() { // that connection is lost
		if time.Since(p.made) >= steady {
			p.strikes = 0
		}
		p.err = fmt.Errorf("ssh %s: connections are soon lost", p.name)
		if p.strikes > 0 { // the first time, it may be bad luck
			p.next = p.made.Add(pause(p.strikes, shortPause, longestPause))
		}
		p.strikes++
		p.made = time.Time{}
	}
	left := time.Until(p.next)
	if left <= 0 {
		return nil
	}
	return runtime.Faultf(runtime.FaultInfra, "", "%w; the next attempt to connect is in %v", p.err, max(left.Round(time.Second), time.Second))
}

// end notes the outcome of an attempt.
func (p *pace) end(err error) {
	if err == nil {
		p.made, p.next, p.known = time.Now(), time.Time{}, true
		return
	}
	p.strikes++
	p.err = err
	wait := pause(p.strikes, shortPause, longestPause)
	if errors.As(err, new(refusal)) {
		wait = refusedPause
		if p.known {
			wait = pause(p.strikes, knownPause, refusedPause)
		}
	}
	p.next = time.Now().Add(wait)
}

// pause returns about 1, 2, 4, ... times first, but not much more than longest. Programs that lost their connections at
// the same time do not come back at the same time.
func pause(strikes int, first, longest time.Duration) time.Duration {
	d := min(first<<min(strikes-1, 10), longest)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
