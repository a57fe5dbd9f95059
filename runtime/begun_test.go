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

// A service that cannot be asked whether it is ready runs when its command does, not while its image is pulled.
func TestBegun(t *testing.T) {
	for _, test := range []struct {
		name    string
		setup   []string
		does    sim.Behaviour
		timeout time.Duration
		want    time.Duration // until it runs
		error   string
	}{
		{"nothing to do", nil, sim.Behaviour{Setup: time.Minute, Run: time.Hour}, 0, 0, ""},
		{"setup", []string{"module load x"}, sim.Behaviour{Setup: time.Minute, Run: time.Hour}, 0, time.Minute, ""},
		{"too long", []string{"module load x"}, sim.Behaviour{Setup: time.Hour, Run: time.Hour}, time.Minute, time.Minute,
			"db (job 100) runs on n1, and after 1m0s its command has not begun: it is setting up, or pulling its image"},
		{"ends meanwhile", []string{"module load x"}, sim.Behaviour{Setup: 2 * time.Hour, Run: time.Hour}, 3 * time.Hour, time.Hour,
			"db (job 100) reached its time limit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := sim.New(sim.Config{})
				c.Behave("*", test.does)
				s, _ := open(t, c)
				spec := runtime.ServiceSpec{JobSpec: command("serve")}
				spec.Name, spec.Setup = "db", test.setup
				db, err := s.Service(t.Context(), spec)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				err = s.WaitRunning(t.Context(), runtime.Wait{Timeout: test.timeout}, db)
				if test.error == "" && err != nil || !strings.Contains(fmt.Sprint(err), test.error) && test.error != "" {
					t.Errorf("error %v, want %q", err, test.error)
				}
				if took := time.Since(begin); took < test.want || took > test.want+40*time.Second {
					t.Errorf("it took %v, want %v", took, test.want)
				}
				end(t, s, c)
			})
		})
	}
}
