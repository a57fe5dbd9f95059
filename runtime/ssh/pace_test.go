package ssh

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// poll asks for a connection every second for an hour, and returns when an attempt was made. Outcome is how it went; a
// connection that was made lasts for so long.
func poll(t *testing.T, outcome error, lasts time.Duration) (attempts []time.Duration) {
	start := time.Now()
	p := &pace{name: "test"}
	var until time.Time
	for ; time.Since(start) < time.Hour; time.Sleep(time.Second) {
		if time.Now().Before(until) {
			continue
		}
		if err := p.begin(); err != nil {
			if runtime.FaultOf(err) != runtime.FaultInfra || !strings.Contains(err.Error(), "; the next attempt to connect is in ") {
				t.Fatalf("got %v", err)
			}
			continue
		}
		attempts = append(attempts, time.Since(start))
		if p.end(outcome); outcome == nil {
			until = time.Now().Add(lasts)
		}
	}
	return attempts
}

func TestPaceOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := poll(t, errors.New("no route to host"), 0)
		if n := len(at); n < 50 || n > 85 {
			t.Errorf("%d attempts in an hour: %v", n, at)
		}
		if at[1] > 3*time.Second || at[6] < 50*time.Second {
			t.Errorf("attempts at %v", at[:7])
		}
	})
}

func TestPaceOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := poll(t, refusal{errors.New("who are you?")}, 0)
		if len(at) != 6 || at[1] != 10*time.Minute {
			t.Errorf("attempts at %v", at)
		}
	})
}

// TestPaceOfLaterRefusals checks that a host which let the user in before is tried again sooner: its users' directory may
// be down for a moment.
func TestPaceOfLaterRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{name: "test"}
		p.end(nil)
		time.Sleep(2 * steady)
		var waits []time.Duration
		for range 8 {
			began := time.Now()
			for p.begin() != nil {
				time.Sleep(time.Second)
			}
			waits = append(waits, time.Since(began))
			p.end(refusal{errors.New("who are you?")})
		}
		if waits[0] != 0 || waits[1] > 2*time.Minute || waits[7] < 8*time.Minute {
			t.Errorf("waited %v", waits)
		}
	})
}

func TestPaceOfShortConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := poll(t, nil, 2*time.Second)
		if n := len(at); n < 50 || n > 85 || at[1] != 2*time.Second {
			t.Errorf("%d attempts in an hour: %v", n, at)
		}
	})
}

// TestPaceIsForgotten checks that a connection that lasted makes up for what was before.
func TestPaceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := poll(t, nil, 2*time.Minute)
		for i := 1; i < len(at); i++ {
			if at[i]-at[i-1] != 2*time.Minute {
				t.Errorf("attempts at %v", at)
				break
			}
		}
	})
}
