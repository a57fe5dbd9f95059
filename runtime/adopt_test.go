package runtime_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A run whose process was killed is ended as that process would have, and what its jobs came to is told truly: the one
// that still ran was cancelled, the one that had ended well had, and the one of which nobody knows is lost.
func TestSessionAdopt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: map[string]play{
			"db":   {},
			"done": {run: time.Minute, outcome: runtime.Completed, stdout: "well\n"},
			"gone": {run: time.Minute, gone: true, silent: true},
		}}
		killed, store := session(t, c)
		for name := range c.plays {
			start(t, killed, name)
		}
		if err := killed.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := &memory{recs: slices.Clone(store.recs)}
		if _, err := killed.Close(t.Context(), nil, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)

		s := &runtime.Session{Run: killed.Run, Store: left, Files: t.TempDir(), Target: killed.Target}
		if err := s.Adopt(t.Context(), left.Records(t.Context(), runtime.Query{})); err != nil {
			t.Fatal(err)
		}
		stopped := finish(t, s, errors.New("stopped"))
		if !slices.Equal(stopped, []string{"db"}) {
			t.Errorf("stopped %v, want db", stopped)
		}
		if len(c.cancels) != 1 || len(c.jobs) != 3 {
			t.Errorf("cancelled %v of %d jobs, want 1 of 3", c.cancels, len(c.jobs))
		}
		st := fold(t, left)
		for name, want := range map[string]runtime.Outcome{"db": runtime.Cancelled, "done": runtime.Completed, "gone": runtime.Lost} {
			if got := st.Job(name).Status.Outcome; got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if st.End == nil || st.End.Error != "stopped" || st.End.Left != "" {
			t.Errorf("the end of the run: %+v", st.End)
		}
		if data, err := os.ReadFile(filepath.Join(s.Files, s.Run, "done", "stdout")); string(data) != "well\n" {
			t.Errorf("collected stdout: %q, %v", data, err)
		}

		before := len(left.recs)
		again := &runtime.Session{Run: killed.Run, Store: left, Files: s.Files, Target: killed.Target}
		if err := again.Adopt(t.Context(), left.Records(t.Context(), runtime.Query{})); err != nil {
			t.Fatal(err)
		}
		if stopped := finish(t, again, errors.New("stopped")); len(stopped) > 0 || len(left.recs) != before {
			t.Errorf("the second time it stopped %v and added %v", stopped, left.recs[before:])
		}
	})
}

// Of a run that is taken over there may be nothing new at first. Its jobs are looked after all the same.
func TestSessionAdoptNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{plays: map[string]play{"db": {}}}
		killed, store := session(t, c)
		db := start(t, killed, "db")
		if err := killed.WaitRunning(t.Context(), runtime.Wait{}, db); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		left := &memory{recs: slices.Clone(store.recs)}
		if _, err := killed.Close(t.Context(), nil, true); err != nil {
			t.Fatal(err)
		}

		s := &runtime.Session{Run: killed.Run, Store: left, Files: t.TempDir(), Target: killed.Target}
		if err := s.Adopt(t.Context(), left.Records(t.Context(), runtime.Query{})); err != nil {
			t.Fatal(err)
		}
		if n := len(left.recs); n != len(store.recs)-1 { // without the end
			t.Fatalf("there is something new: %v", left.recs[n-1])
		}
		time.Sleep(time.Second) // all goroutines have begun to wait
		if stopped := finish(t, s, errors.New("stopped")); !slices.Equal(stopped, []string{"db"}) {
			t.Errorf("stopped %v, want db", stopped)
		}
	})
}

// The files of a run are where it put them, also if the target has another workdir by now.
func TestSessionAdoptElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		killed, store := session(t, measuring())
		measured(t, killed)
		if err := killed.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := &memory{recs: slices.Clone(store.recs)}
		if _, err := killed.Close(t.Context(), nil, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)

		s := &runtime.Session{Run: killed.Run, Store: left, Files: t.TempDir(), Target: killed.Target}
		s.Target.Dir = t.TempDir()
		if err := s.Adopt(t.Context(), left.Records(t.Context(), runtime.Query{})); err != nil {
			t.Fatal(err)
		}
		finish(t, s, nil)
		if st := fold(t, left); len(st.Measurements) != 1 {
			t.Errorf("measurements: %+v", st.Measurements)
		}
		if left, _ := filepath.Glob(filepath.Join(killed.Target.Dir, "runs", "*")); len(left) > 0 {
			t.Errorf("left on the target: %v", left)
		}
	})
}

// fold returns the state that the records lead to.
func fold(t *testing.T, store *memory) *runtime.RunState {
	t.Helper()
	st := new(runtime.RunState)
	for rec, err := range store.Records(context.Background(), runtime.Query{}) {
		if err == nil {
			err = st.Apply(rec)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return st
}
