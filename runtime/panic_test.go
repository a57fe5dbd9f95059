package runtime_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// panicking is a scheduler whose queries panic, if they are about a job.
type panicking struct{ *sim.Cluster }

func (p panicking) Status(_ context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	if len(ids) > 0 {
		panic("a fault of this program")
	}
	return nil, nil
}

// A panic behind the back of the recipe ends the run, with its stack, and the jobs are cancelled.
func TestPanicOfTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("*", sim.Behaviour{Run: time.Hour})
		s, _ := open(t, c)
		s.Target.Scheduler = panicking{c}
		hs := clients(t, s, 2, nil)
		err := s.WaitDone(t.Context(), runtime.Wait{}, hs...)
		internal := (*runtime.Internal)(nil)
		if !errors.As(err, &internal) || len(internal.Stack) == 0 {
			t.Fatalf("error %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		began := time.Now()
		s.Close(ctx, err, false) // its error is that nobody saw the jobs end
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("it took %v to close", took)
		}
		once(t, c)
	})
}
