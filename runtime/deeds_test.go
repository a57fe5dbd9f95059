package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// scripted returns a cluster on whose login node a command prints and exits as its line says: "CODE STDOUT STDERR".
func scripted() *sim.Cluster {
	return sim.New(sim.Config{Exec: func(ctx context.Context, cmd runtime.Cmd) error {
		line := cmd.Args[len(cmd.Args)-1]
		if line == "1M" || line == "more" {
			line = "0 " + strings.Repeat("x", map[string]int{"1M": 1 << 20, "more": 1<<20 + 1}[line])
		}
		if line == "hang" {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		var code int
		var stdout, stderr string
		fmt.Sscan(line, &code, &stdout, &stderr)
		_, err := io.WriteString(cmd.Stdout, stdout)
		_, err2 := io.WriteString(cmd.Stderr, stderr)
		if code != 0 {
			return &runtime.ExitError{Args: cmd.Args, Code: code, Stderr: stderr}
		}
		return errors.Join(err, err2)
	}})
}

func TestCommand(t *testing.T) {
	t.Setenv("AIFB_TEST_SECRET", "hidden")
	synctest.Test(t, func(t *testing.T) {
		c := scripted()
		s, _ := open(t, c)
		if err := s.Secret("AIFB_TEST_SECRET"); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			command runtime.Command
			want    runtime.CommandResult
			err     string
			fault   runtime.Fault
		}{
			{runtime.Command{Line: "0 out err"}, runtime.CommandResult{Stdout: "out", Stderr: "err"}, "", ""},
			{runtime.Command{Line: "0 a\xff the-hidden-one"}, runtime.CommandResult{Stdout: "a\ufffd", Stderr: "the-***-one"}, "", ""},
			{runtime.Command{Line: "3 out err", NoCheck: true}, runtime.CommandResult{Stdout: "out", Stderr: "err", Code: 3}, "", ""},
			{runtime.Command{Line: "3 out err"}, runtime.CommandResult{Stdout: "out", Stderr: "err", Code: 3},
				"3 out err: exit code 3; its last lines:\n  | err", runtime.FaultRun},
			{runtime.Command{Line: "hang"}, runtime.CommandResult{}, "hang: not done within 1m0s", runtime.FaultTimeout},
			{runtime.Command{Line: "hang", Timeout: time.Second}, runtime.CommandResult{}, "hang: not done within 1s", runtime.FaultTimeout},
			{runtime.Command{Line: strings.Repeat("x", 30<<10+1)}, runtime.CommandResult{}, "the command has more than 30 KiB", runtime.FaultRun},
			{runtime.Command{Line: "0 a\x00b"}, runtime.CommandResult{}, "the command has a zero byte, which no shell can get", runtime.FaultRun},
		} {
			got, err := s.Command(t.Context(), test.command)
			if text := fmt.Sprint(err); test.err == "" && err != nil || test.err != "" && text != test.err || runtime.FaultOf(err) != test.fault {
				t.Errorf("%q: %v (%s), want %s (%s)", test.command.Line, err, runtime.FaultOf(err), test.err, test.fault)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%q: %s", test.command.Line, diff)
			}
		}
		if r, err := s.Command(t.Context(), runtime.Command{Line: "1M"}); err != nil || len(r.Stdout) != 1<<20 {
			t.Errorf("1 MiB: %d bytes, %v", len(r.Stdout), err)
		}
		if _, err := s.Command(t.Context(), runtime.Command{Line: "more"}); err == nil || err.Error() != "more: it printed more than 1 MiB" {
			t.Errorf("more than 1 MiB: %v", err)
		}
		end(t, s, c)
	})
}

// A machine without a shell gets files and directories one by one, and they come back as they were.
func TestCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "1", "d/b": "2", "d/e/c": "3"} {
		if err := runtime.WriteFile(mkdir(t, filepath.Join(dir, name)), func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		s, _ := open(t, c)
		files := "/home/user/.aifb/runs/" + s.Run + "/.files/"
		for _, test := range []struct{ local, remote, want string }{
			{"a", "", files + "a"}, {"a", "x/", files + "x/a"}, {"a", "x/y", files + "x/y"}, {"a", "~/z", "/home/user/z"}, {"a", "/t/../z", "/z"},
			{"d", "", files + "d"},
		} {
			if got, err := s.Upload(t.Context(), runtime.Deed{}, filepath.Join(dir, test.local), test.remote); got != test.want || err != nil {
				t.Errorf("upload %s to %q: %q, %v; want %q", test.local, test.remote, got, err, test.want)
			}
		}
		for remote, want := range map[string]string{"../x": "leads out of", "a\x00": "zero byte", "x/../../y": "leads out of"} {
			if _, err := s.Upload(t.Context(), runtime.Deed{}, filepath.Join(dir, "a"), remote); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("upload to %q: %v, want %q", remote, err, want)
			}
		}
		for _, test := range []struct{ remote, local, file, want string }{
			{"x/y", "new/y", "new/y", "1"}, {"~/z", "", "z", "1"}, {"d", "new", "new/d/e/c", "3"}, {"d/", "fresh", "fresh/b", "2"}, {"d", "fresh/", "fresh/d/b", "2"},
		} {
			to := filepath.Join(dir, test.local)
			if strings.HasSuffix(test.local, "/") {
				to += "/"
			}
			if _, err := s.Download(t.Context(), runtime.Deed{}, test.remote, to); err != nil {
				t.Errorf("download %s to %q: %v", test.remote, test.local, err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, test.file)); string(got) != test.want {
				t.Errorf("download %s to %q: %s has %q, %v", test.remote, test.local, test.file, got, err)
			}
		}
		if _, err := s.Download(t.Context(), runtime.Deed{}, "nosuch", dir); err == nil || runtime.FaultOf(err) != runtime.FaultRun {
			t.Errorf("download what is not there: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*", ".aifb-*")); left != nil {
			t.Errorf("left: %v", left)
		}
		end(t, s, c)
		var b bytes.Buffer
		if err := c.Conn().Get(t.Context(), files+"a", 0, &b); err == nil {
			t.Error("the files of the run are left")
		}
	})
}

func mkdir(t *testing.T, name string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{Nodes: 2, Cores: 4})
		c.Behave("*", sim.Behaviour{Run: time.Hour})
		s, _ := open(t, c)
		h, err := s.Job(t.Context(), command("j"))
		if err == nil {
			err = s.WaitRunning(t.Context(), runtime.Wait{}, h)
		}
		if err != nil {
			t.Fatal(err)
		}
		count := func(l runtime.Listing) int {
			table, err := s.List(t.Context(), runtime.Deed{}, l)
			if err == nil {
				err = l.Table.Check(table.Rows)
			}
			if err != nil {
				t.Errorf("%+v: %v", l, err)
			}
			return len(table.Rows)
		}
		type where = map[string][]string
		for _, test := range []struct {
			l    runtime.Listing
			want int
		}{
			{runtime.Listing{Table: runtime.TableNodes}, 2},
			{runtime.Listing{Table: runtime.TableNodes, Where: where{"state": {"idle"}}}, 1},
			{runtime.Listing{Table: runtime.TableQueue}, 1},
			{runtime.Listing{Table: runtime.TableQueue, Where: where{"user": {"me"}, "state": {"pending", "running"}}}, 1},
			{runtime.Listing{Table: runtime.TableQueue, Where: where{"user": {"bob"}}}, 0},
			{runtime.Listing{Table: runtime.TableQueue, Where: where{"nodes": {"1"}, "state": {"PENDING"}}}, 0},
			{runtime.Listing{Table: runtime.TableAccounts}, 1},
		} {
			if got := count(test.l); got != test.want {
				t.Errorf("%+v: %d rows, want %d", test.l, got, test.want)
			}
		}
		_, err = s.List(t.Context(), runtime.Deed{}, runtime.Listing{Table: runtime.TableQueue, Where: where{"sate": nil}})
		if runtime.FaultOf(err) != runtime.FaultRecipe || runtime.HintOf(err) != "did you mean state?" {
			t.Errorf("a column that is not there: %v (%s)", err, runtime.HintOf(err))
		}
		begin := time.Now()
		for range 100 {
			count(runtime.Listing{Table: runtime.TableQueue})
		}
		if took := time.Since(begin); took < 10*time.Minute {
			t.Errorf("a loop of 100 questions took %v: more than one every ten seconds", took)
		}
		end(t, s, c)
	})
}

// A secret is nowhere but in its file, and is there before the job is.
func TestSecretFiles(t *testing.T) {
	t.Setenv("AIFB_TEST_SECRET", "it's hidden\n")
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("*", sim.Behaviour{Stdout: "it's hidden\nand shown", Stderr: "it's hidden"})
		s, _ := open(t, c)
		store := s.Store.(*memory)
		spec := command("j")
		spec.Secrets = map[string]string{"TOKEN": "AIFB_TEST_SECRET"}
		h, err := s.Client(t.Context(), runtime.ClientSpec{JobSpec: spec, Count: 3})
		if err == nil {
			err = s.WaitDone(t.Context(), runtime.Wait{}, h)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range c.Jobs() {
			var b strings.Builder
			if err := c.Conn().Get(t.Context(), "/home/user/.aifb/runs/"+s.Run+"/.secrets/"+j.Name, 0, &b); err != nil {
				t.Error(err)
			}
			if text, _, _ := strings.Cut(b.String(), "#"); text != "export TOKEN='it'\\''s hidden\n'\n" {
				t.Errorf("the file of %s has %q", j.Name, text)
			}
			if script := runtime.Script(j.Job); strings.Contains(script, "hidden") || !strings.Contains(script, ".secrets") {
				t.Errorf("the script:\n%s", script)
			}
		}
		if logs, err := h.Logs(t.Context(), 10); logs != "***and shown\n***\n" {
			t.Errorf("the logs are %q, %v", logs, err)
		}
		end(t, s, c)
		for _, rec := range store.recs {
			if strings.Contains(fmt.Sprintf("%+v %s", rec, rec.Data), "hidden") {
				t.Errorf("the store has %s %s", rec.Kind, rec.Data)
			}
		}
		filepath.WalkDir(s.Files, func(name string, _ os.DirEntry, _ error) error {
			if text, _ := os.ReadFile(name); strings.Contains(string(text), "hidden") {
				t.Errorf("%s has %q", name, text)
			}
			return nil
		})
	})
}

func TestSecretMissing(t *testing.T) {
	t.Setenv("AIFB_TEST_SECRET", "")
	for name, want := range map[string]string{"AIFB_TEST_SECRET": "the environment variable AIFB_TEST_SECRET is not set", "A B": `"A B" is not the name of an environment variable`} {
		if err := new(runtime.Session).Secret(name); err == nil || err.Error() != want || runtime.FaultOf(err) != runtime.FaultRun {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
