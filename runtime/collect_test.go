package runtime_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/local"
)

// A patchy connection loses what is fetched over it at times.
type patchy struct {
	local.Conn
	fails func() error // what it fails with now
}

func (p patchy) Run(ctx context.Context, cmd runtime.Cmd) error {
	if strings.Contains(strings.Join(cmd.Args, " "), "tar -cf") {
		if err := p.fails(); err != nil {
			return err
		}
	}
	return p.Conn.Run(ctx, cmd)
}

// measured is a client that measures something.
func measured(t *testing.T, s *runtime.Session) *runtime.Handle {
	t.Helper()
	spec := runtime.ClientSpec{JobSpec: command("bench")}
	spec.Metrics = []runtime.Metric{{Kind: "regex", Source: "stdout", Pattern: `rps: ([\d.]+)`, Name: "rps"}}
	h, err := s.Client(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func measuring() *cluster {
	return &cluster{plays: map[string]play{"client-1": {run: time.Second, outcome: runtime.Completed, stdout: "rps: 42\n"}}}
}

// However long the connection is lost, what a job measured is fetched.
func TestCollectWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := session(t, measuring())
		began := time.Now()
		s.Target.Conn = patchy{fails: func() error {
			if time.Since(began) < time.Hour {
				return runtime.Faultf(runtime.FaultInfra, "", "ssh fake: no route to host")
			}
			return nil
		}}
		var warnings []string
		s.Warn = func(text string) { warnings = append(warnings, text) }
		h := measured(t, s)
		if err := s.WaitDone(t.Context(), runtime.Wait{}, h); err != nil {
			t.Error(err)
		}
		if got := h.Measurements(runtime.Where{}); len(got) != 1 || got[0].Value != 42 {
			t.Errorf("measurements: %+v", got)
		}
		if len(warnings) != 2 || !strings.Contains(warnings[0], "fetch files: ssh fake: no route to host; it is tried again") {
			t.Errorf("warnings: %q", warnings)
		}
		finish(t, s, nil)
	})
}

// What could not be fetched stays on the target, and is fetched when the run is ended once more.
func TestCollectLater(t *testing.T) {
	for name, broken := range map[string]error{
		"connection": runtime.Faultf(runtime.FaultInfra, "", "no route to host"),
		"no tar":     &runtime.ExitError{Args: []string{"sh"}, Code: 127, Stderr: "tar: not found"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, store := session(t, measuring())
				s.Target.Conn = patchy{fails: func() error { return broken }}
				measured(t, s)
				time.Sleep(time.Minute)
				_, err := s.Close(context.Background(), nil, false)
				if err == nil || !strings.Contains(err.Error(), "client-1") || !strings.Contains(err.Error(), "files") {
					t.Errorf("error %v", err)
				}
				left, err := os.ReadFile(filepath.Join(s.Target.Dir, "runs", s.Run, "client-1", "stdout"))
				if string(left) != "rps: 42\n" {
					t.Errorf("on the target is %q, %v", left, err)
				}

				again := &runtime.Session{Run: s.Run, Store: store, Files: s.Files, Target: s.Target}
				again.Target.Conn = local.Conn{}
				if err := again.Adopt(t.Context(), store.Records(t.Context(), runtime.Query{})); err != nil {
					t.Fatal(err)
				}
				finish(t, again, nil)
				st := fold(t, store)
				if len(st.Measurements) != 1 || st.End == nil || st.End.Left != "" || st.Job("client-1").Collected.Left {
					t.Errorf("measurements %+v; end %+v", st.Measurements, st.End)
				}
			})
		})
	}
}

// A shared file system may take its time to show what was written.
func TestCollectLateFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := session(t, measuring())
		var hidden time.Time
		s.Target.Conn = patchy{fails: func() error {
			dir := filepath.Join(s.Target.Dir, "runs", s.Run, "client-1")
			if hidden.IsZero() {
				hidden = time.Now()
				return os.Rename(dir, dir+".hidden")
			}
			if time.Since(hidden) > 40*time.Second {
				os.Rename(dir+".hidden", dir)
			}
			return nil
		}}
		h := measured(t, s)
		if err := s.WaitDone(t.Context(), runtime.Wait{}, h); err != nil {
			t.Error(err)
		}
		finish(t, s, nil)
	})
}
