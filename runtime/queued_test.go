package runtime_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

func TestQueuedString(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	for want, q := range map[string]runtime.Queued{
		"": {Ahead: -1},
		"waits for nodes to become free (resources)":                  {Class: "resources", Text: "waits for nodes to become free", Ahead: -1},
		"waits for nodes to become free (resources); 1 job ahead":     {Class: "resources", Text: "waits for nodes to become free", Ahead: 1},
		"waits for nodes to become free (resources); 2 jobs ahead":    {Class: "resources", Text: "waits for nodes to become free", Ahead: 2},
		"may not begin yet; expected to start at 2026-01-02 03:04:05": {Class: "other", Text: "may not begin yet", Start: start},
	} {
		if got := q.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// line returns what is said of a handle's job once it waits for d.
func line(d time.Duration, h *runtime.Handle) (string, string) {
	time.Sleep(d)
	j := h.State()
	return h.String(), j.Reason()
}

// Why a job waits is known as soon as that it does; how long the queue is, soon after, and what changes, rarely. A job
// that runs waits for nothing.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{Nodes: 1, Cores: 1})
		c.Behave("*", sim.Behaviour{Run: 20 * time.Minute})
		s, calls := open(t, c)
		hs := clients(t, s, 4, nil)
		last := hs[3]
		if got, _ := line(8*time.Second, last); got != "client client-4: pending: Priority (resources) (job 103)" {
			t.Errorf("after 8 s: %q", got)
		}
		if got, why := line(15*time.Second, last); !strings.Contains(got, ": Priority (resources); 2 jobs ahead (job") ||
			why != "Priority (resources); 2 jobs ahead" {
			t.Errorf("after 23 s: %q, reason %q", got, why)
		}
		if got, _ := line(25*time.Minute, last); !strings.Contains(got, ": Priority (resources); 1 job ahead (job") {
			t.Errorf("after 25 min: %q", got)
		}
		if n := calls.whys.Load(); n < 2 || n > 10 {
			t.Errorf("it was asked %d times", n)
		}
		err := s.WaitRunning(t.Context(), runtime.Wait{Queue: 30 * time.Minute}, last)
		if want := "client-4 (job 103) is pending for longer than 30m0s: Priority (resources); 1 job ahead"; fmt.Sprint(err) != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if err := s.WaitRunning(t.Context(), runtime.Wait{}, last); err != nil {
			t.Error(err)
		}
		if got, why := line(time.Minute, last); got != "client client-4: running on n1 (job 103)" || why != "" {
			t.Errorf("while it runs: %q, reason %q", got, why)
		}
		whys := calls.whys.Load()
		time.Sleep(5 * time.Minute)
		if n := calls.whys.Load() - whys; n != 0 {
			t.Errorf("with no job that waits, it was asked %d times", n)
		}
		end(t, s, c)
	})
}
