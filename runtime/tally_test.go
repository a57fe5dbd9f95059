package runtime_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// tallied is a scheduler that tells what it counted.
type tallied struct {
	*counted
	skipped atomic.Int64
}

func (c *tallied) Tallies() map[string]runtime.Tally {
	t := runtime.Tally{Calls: int(c.queries.Load()), Skipped: int(c.skipped.Load())}
	if t.Skipped > 0 {
		t.First = "what\x1b is this"
	}
	return map[string]runtime.Tally{"squeue": t, "sbatch": {Calls: int(c.submits.Load())}}
}

// What a run asks its cluster is in its state, also of a run that is resumed; that lines were skipped is said once.
func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("*", sim.Behaviour{Run: time.Hour})
		s, calls := open(t, c)
		var warned []string
		s.Warn = func(text string) { warned = append(warned, text) }
		counts := &tallied{counted: calls}
		s.Target.Scheduler = counts
		hs := clients(t, s, 2, nil)
		time.Sleep(10 * time.Minute)
		counts.skipped.Store(3)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if want := "squeue of sim printed a line that is not understood, and was skipped: "; len(warned) != 1 || !strings.HasPrefix(warned[0], want) ||
			strings.Contains(warned[0], "\x1b") {
			t.Errorf("warned %q", warned)
		}
		var before runtime.RunState
		records := slices.Collect(recordsOf(s))
		for _, rec := range records {
			before.Apply(rec)
		}
		if n := before.Calls["squeue"].Calls; n == 0 || n > int(calls.queries.Load()) {
			t.Errorf("stored %v of %d queries", before.Calls, calls.queries.Load())
		}
		if err := s.Stop(t.Context(), hs...); err != nil {
			t.Fatal(err)
		}
		end(t, s, c)
		var after runtime.RunState
		for rec := range recordsOf(s) {
			after.Apply(rec)
		}
		if !cmp.Equal(after.Calls, counts.Tallies()) {
			t.Error(cmp.Diff(counts.Tallies(), after.Calls))
		}
		if got := runtime.Tallies(map[string]runtime.Tally{"squeue": {Calls: 12, Skipped: 1}, "sbatch": {Calls: 3}, "sacct": {Calls: 1, Skipped: 2}}); got != "1 sacct (2 lines skipped), 3 sbatch, 12 squeue (1 line skipped)" {
			t.Errorf("it says %q", got)
		}
	})
}

// recordsOf yields the records of a session's run.
func recordsOf(s *runtime.Session) func(func(runtime.Record) bool) {
	return func(yield func(runtime.Record) bool) {
		for rec, err := range s.Store.Records(context.Background(), runtime.Query{Run: s.Run}) {
			if err != nil || !yield(rec) {
				return
			}
		}
	}
}
