package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// These tests are not parallel: for a Clock, nothing else may be going on in the program.

// However goroutines wait for time and for each other, and read and write files in between, what happens by a clock
// happens in the same order each time.
func TestClockOrder(t *testing.T) {
	dir := t.TempDir()
	once := func() (log []string) {
		var mu sync.Mutex
		c := sim.NewClock(epoch)
		c.Run(t.Context(), time.Hour, func(ctx context.Context) {
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					name := filepath.Join(dir, fmt.Sprint(i))
					for n := range 5 {
						// Those of one moment are as far apart as their numbers.
						runtime.PauseOn(ctx, c, time.Second+time.Duration(i)*time.Microsecond)
						os.WriteFile(name, make([]byte, 100_000), 0o600)
						os.Remove(name)
						mu.Lock()
						log = append(log, fmt.Sprint(i, n, c.Now().Sub(epoch)))
						mu.Unlock()
					}
				})
			}
			wg.Wait()
		})
		return log
	}
	want := once()
	if len(want) != 40 || want[39] != "7 4 5.000035s" {
		t.Fatalf("%q", want)
	}
	for range 50 {
		if diff := cmp.Diff(want, once()); diff != "" {
			t.Fatal(diff)
		}
	}
}

// Time that nobody waits for does not pass, also while somebody computes for long.
func TestClockStands(t *testing.T) {
	c := sim.NewClock(epoch)
	c.Run(t.Context(), time.Hour, func(context.Context) {
		fired := false
		stop := c.AfterFunc(time.Millisecond, func() { fired = true })
		for begin := time.Now(); time.Since(begin) < 50*time.Millisecond; {
		}
		if fired || !c.Now().Equal(epoch) {
			t.Errorf("fired: %v, at %v", fired, c.Now())
		}
		if !stop() || stop() {
			t.Error("stop is to prevent it once")
		}
		if runtime.PauseOn(t.Context(), c, time.Minute); fired || c.Now().Sub(epoch) != time.Minute {
			t.Errorf("fired: %v, at %v", fired, c.Now())
		}
	})
	if !c.Now().Equal(epoch.Add(time.Minute)) {
		t.Errorf("it goes on after Run: %v", c.Now())
	}
}

// What waits forever ends.
func TestClockEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		wait func(ctx context.Context, c *sim.Clock) error
		want string
		at   time.Duration
	}{
		{"too long", func(ctx context.Context, c *sim.Clock) error { return runtime.PauseOn(ctx, c, 1000*time.Hour) },
			"it waits for more than 2 days of simulated time", 48 * time.Hour},
		{"again and again", func(ctx context.Context, c *sim.Clock) error {
			for {
				if err := runtime.PauseOn(ctx, c, time.Minute); err != nil {
					return err
				}
			}
		}, "it waits for more than 2 days of simulated time", 48 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := sim.NewClock(epoch)
			var err error
			c.Run(t.Context(), 48*time.Hour, func(ctx context.Context) { err = test.wait(ctx, c) })
			if err == nil || err.Error() != test.want || runtime.FaultOf(err) != runtime.FaultTimeout || c.Now().Sub(epoch) != test.at {
				t.Errorf("%v after %v", err, c.Now().Sub(epoch))
			}
		})
	}
}

// When the context of Run ends, so does that of its function, with the cause.
func TestClockInterrupted(t *testing.T) {
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	c := sim.NewClock(epoch)
	var err error
	c.Run(ctx, time.Hour, func(ctx context.Context) {
		c.AfterFunc(time.Second, func() { cancel(stop) })
		err = runtime.PauseOn(ctx, c, time.Minute)
	})
	if err != stop || c.Now().Sub(epoch) != time.Second {
		t.Errorf("%v at %v", err, c.Now())
	}
}

// What is plausible is what the job's metrics read, and its service is waited for.
func TestPlausible(t *testing.T) {
	t.Parallel()
	for _, m := range []runtime.Metric{
		{Kind: "regex", Source: "stdout", Pattern: `^Requests/sec:\s+(?P<rps>[0-9.]+) of (?P<total>\d{3})(ms|s)?$`},
		{Kind: "regex", Source: "stdout", Pattern: `(?i)rps[=:] *(-?[0-9]*)`, Name: "rps"},
		{Kind: "json", Source: "stdout", Fields: map[string]string{"p99": "latency.p99", "p50": "latency.p50", "third": "all.2.x"}},
		{Kind: "json", Source: "stdout"},
		{Kind: "csv", Source: "stdout", Fields: map[string]string{"rps": "r", "p99": "p"}},
		{Kind: "csv", Source: "stdout"},
	} {
		b := sim.Plausible(runtime.Intent{Metrics: []runtime.Metric{m}})
		ms, err := m.Parse([]byte(b.Stdout))
		if err != nil {
			t.Errorf("%+v: %q: %v", m, b.Stdout, err)
		}
		if n := max(len(m.Fields), strings.Count(m.Pattern, "?P<"), 1); len(ms) != n {
			t.Errorf("%+v: %q: %+v", m, b.Stdout, ms)
		}
	}
	b := sim.Plausible(runtime.Intent{Ready: runtime.Ready{Kind: "log", Pattern: "(?:[Rr]eady|up) to accept .* on port [0-9]+"},
		Metrics: []runtime.Metric{{Kind: "csv", Source: "out.csv"}}})
	if b.Stdout != "Ready to accept 1 on port 1" || b.Files["metrics/out.csv"] != "value\n1" {
		t.Errorf("%+v", b)
	}
}
