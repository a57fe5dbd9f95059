package sim_test

import (
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
	"github.com/aifb/aifb/runtime/sim"
)

func TestScheduler(t *testing.T) {
	t.Parallel()
	runtimetest.TestScripted(t, func(t *testing.T, config sim.Config) runtimetest.SchedulerTest {
		c := sim.New(config)
		return runtimetest.SchedulerTest{
			Dir: "/home/user/tests", Conn: c.Conn(), Cluster: c, Shortest: time.Minute,
			Open: func(*testing.T) runtime.Scheduler { return c },
		}
	})
}
