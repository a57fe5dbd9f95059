package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
)

// countingSbatch gives the ids 1, 2, ...
const countingSbatch = `n=$(($(cat last 2>/dev/null) + 1)); echo $n >last; echo $n`

// Whatever shell a login node's sh is, a script arrives as it is, and many go in one round trip.
func TestSubmit(t *testing.T) {
	for _, shell := range []string{"dash", "bash", "busybox", "ksh"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("a login node whose sh is %s: there is no %s here", shell, shell)
			}
			f := newFake(t, map[string]string{"sbatch": countingSbatch})
			if err := os.Symlink(path, filepath.Join(f.dir, "bin", "sh")); err != nil {
				t.Fatal(err)
			}
			var jobs []runtime.Job
			var want []runtime.JobID
			for i := range 20 {
				job := f.job(fmt.Sprintf("it's job %d $HOME %%s", i))
				job.Token = fmt.Sprintf("aifb-%d", i)
				job.Args = []string{"echo", "a'b\"c\\n$HOME `id` %s \x01\xff\r\n\n", strings.Repeat("x", 5000)}
				jobs, want = append(jobs, job), append(want, runtime.JobID(fmt.Sprint(i+1)))
			}
			if ids := f.submit(jobs...); !slices.Equal(ids, want) {
				t.Errorf("got %v", ids)
			}
			if n := f.runs.Load(); n != 1 {
				t.Errorf("%d round trips", n)
			}
			for i, job := range jobs {
				script, err := Script(job)
				if err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(filepath.Join(job.Dir, runtime.FileScript))
				if err != nil || string(got) != script {
					t.Errorf("script %d, %v:\n%q\nwant:\n%q", i, err, got, script)
				}
			}
		})
	}
}

// Jobs of 200 kB: more than an argument of a program may have, and more in all than one program.
func TestSubmitLarge(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"sbatch": countingSbatch})
	var jobs []runtime.Job
	for i := range 15 {
		jobs = append(jobs, f.job(fmt.Sprint(i)))
		jobs[i].Args = slices.Repeat([]string{strings.Repeat(fmt.Sprintf("it's %d ", i), 1500)}, 20)
	}
	if ids := f.submit(jobs...); ids[14] != "15" {
		t.Errorf("got %v", ids)
	}
	if n := f.runs.Load(); n < 2 || n > 6 {
		t.Errorf("%d round trips", n)
	}
}

func TestSubmitAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"sbatch": countingSbatch})
	a, b := f.job("a"), f.job("b")
	if ids := f.submit(a, b, a); fmt.Sprint(ids) != "[1 2 1]" {
		t.Errorf("got %v", ids)
	}
	f.Scheduler = New(f.shellConn, "meluxina")
	if ids := f.submit(b); ids[0] != "2" || f.calls("sbatch") != 2 {
		t.Errorf("got %v, sbatch was called %d times", ids, f.calls("sbatch"))
	}
}

// Where slurmctld does not answer, it is left alone: what is after in the same Submit is not tried.
func TestSubmitTransient(t *testing.T) {
	virtually(t, "fail 'Unable to contact slurm controller (connect failure)'", func(t *testing.T, f *fake) {
		subs, err := f.Submit(t.Context(), f.job("a"), f.job("b"), f.job("c"))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"sbatch: Unable to contact slurm controller (connect failure)",
			"sbatch: not tried, because it failed for another job", "sbatch: not tried, because it failed for another job"}
		for i, sub := range subs {
			if fmt.Sprint(sub.Err) != want[i] || runtime.ClassOf(sub.Err) != runtime.Transient ||
				runtime.FaultOf(sub.Err) != runtime.FaultInfra || sub.ID != "" {
				t.Errorf("%d: %+v, class %s", i, sub, runtime.ClassOf(sub.Err))
			}
		}
		if f.calls("sbatch") != 1 || f.calls("squeue") != 0 || f.runs.Load() != 1 {
			t.Errorf("%d round trips; the calls were\n%s", f.runs.Load(), f.read("calls"))
		}
		f.set("sbatch", queue["sbatch"]+"submit")
		if ids := f.submit(f.job("a"), f.job("b"), f.job("c")); f.jobs() != "aifb-b\naifb-c\naifb-a\n" {
			t.Errorf("got %v; the jobs are\n%s", ids, f.jobs())
		}
	})
}

// A job over a limit does not keep those out that are under other limits; those under the same are not tried.
func TestSubmitQuota(t *testing.T) {
	const sbatch = `case $(cat "$script") in *--qos=small*) ;; *) submit; exit ;; esac
echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
fail "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"`
	virtually(t, sbatch, func(t *testing.T, f *fake) {
		jobs := []runtime.Job{f.job("a"), f.job("b"), f.job("c"), f.job("d")}
		jobs[0].Needs.QOS, jobs[2].Needs.QOS = "small", "small"
		for range 3 { // each time, it is tried again
			subs, err := f.Submit(t.Context(), jobs...)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range []int{0, 2} {
				if runtime.ClassOf(subs[i].Err) != runtime.Quota || !strings.Contains(fmt.Sprint(subs[i].Err), "QOSMaxSubmitJobPerUserLimit") {
					t.Errorf("%d: %+v", i, subs[i])
				}
			}
			if subs[1].ID == "" || subs[3].ID == "" {
				t.Errorf("the others: %+v", subs)
			}
		}
		if n := f.calls("sbatch"); n != 5 || f.jobs() != "aifb-b\naifb-d\n" {
			t.Errorf("%d calls of sbatch; the jobs are\n%s", n, f.jobs())
		}
		f.set("sbatch", queue["sbatch"]+"submit")
		f.submit(jobs...)
		if f.jobs() != "aifb-b\naifb-d\naifb-a\naifb-c\n" {
			t.Errorf("the jobs are\n%s", f.jobs())
		}
	})
}

// A full cluster is full for all.
func TestSubmitFull(t *testing.T) {
	virtually(t, "fail 'Resource temporarily unavailable'", func(t *testing.T, f *fake) {
		subs, err := f.Submit(t.Context(), f.job("a"), f.job("b"))
		if err != nil || runtime.ClassOf(subs[0].Err) != runtime.Quota || runtime.ClassOf(subs[1].Err) != runtime.Transient {
			t.Errorf("got %+v, %v", subs, err)
		}
		if runtime.HintOf(subs[0].Err) != "the cluster's queue is full" || f.calls("sbatch") != 1 {
			t.Errorf("hint %q, %d calls", runtime.HintOf(subs[0].Err), f.calls("sbatch"))
		}
	})
}

func TestSubmitRefused(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"sinfo":  "printf 'gpu\ncpu\ngpu\n'",
		"squeue": "true",
		"sbatch": `case $2 in */good*) echo "welcome"; echo "7;alpha"; exit ;; esac
echo "sbatch: lua: your job is being looked at" >&2
echo "sbatch: error: invalid partition specified: gpuu" >&2
echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
exit 1`,
	})
	bad := f.job("bad")
	bad.Needs.Partition = "gpuu"
	worse := bad
	worse.Needs.Partition = "gpu\n#SBATCH --nodes=99"
	subs, err := f.Submit(t.Context(), bad, f.job("good"), worse, bad)
	if err != nil {
		t.Fatal(err)
	}
	if want := "sbatch: invalid partition specified: gpuu"; subs[0].Err == nil || subs[0].Err.Error() != want {
		t.Errorf("got %v, want %s", subs[0].Err, want)
	}
	if want := "the partitions of meluxina are cpu, gpu; did you mean gpu?"; runtime.HintOf(subs[0].Err) != want {
		t.Errorf("the hint is %q, want %q", runtime.HintOf(subs[0].Err), want)
	}
	if subs[1].Err != nil || subs[1].ID != "7;alpha" {
		t.Errorf("the good one: %+v", subs[1])
	}
	for _, i := range []int{0, 2, 3} {
		if subs[i].ID != "" || runtime.FaultOf(subs[i].Err) != runtime.FaultRun {
			t.Errorf("%d: %+v, want it refused, as the recipe's to mend", i, subs[i])
		}
	}
	if n := f.calls("sinfo"); n != 1 {
		t.Errorf("sinfo was called %d times", n)
	}
}

func TestSubmitDirectory(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"sbatch": countingSbatch})
	bad, full := f.job("bad"), f.job("full")
	bad.Dir = "/proc/none/job"
	if err := errors.Join(os.MkdirAll(full.Dir, 0o777), os.Symlink("/dev/full", filepath.Join(full.Dir, runtime.FileScript))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		subs, err := f.Submit(t.Context(), bad, full, f.job("good"))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"/proc/none", "No space left on device"} {
			if err := subs[i].Err; runtime.FaultOf(err) != runtime.FaultInfra || runtime.ClassOf(err) != runtime.Permanent ||
				!strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("got %v, class %s", err, runtime.ClassOf(err))
			}
		}
		if subs[2].ID != "1" {
			t.Errorf("the good one: %+v", subs[2])
		}
	}
	if f.calls("sbatch") != 1 {
		t.Errorf("the calls were\n%s", f.read("calls"))
	}
	os.Remove(filepath.Join(full.Dir, runtime.FileScript))
	if ids := f.submit(full); ids[0] != "2" {
		t.Errorf("with some space: %v", ids)
	}
}

func TestSubmitNoSbatch(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	os.Remove(filepath.Join(f.dir, "bin", "sbatch"))
	subs, err := f.Submit(t.Context(), f.job("a"))
	if err != nil {
		t.Fatal(err)
	}
	err = subs[0].Err
	if err == nil || err.Error() != "sbatch: there is no sbatch on meluxina" || runtime.FaultOf(err) != runtime.FaultInfra ||
		runtime.ClassOf(err) != runtime.Permanent || !strings.Contains(runtime.HintOf(err), "scheduler: local") {
		t.Errorf("got %v, class %s, hint %q", err, runtime.ClassOf(err), runtime.HintOf(err))
	}
}

// An error of a command has all that is known of it.
func TestCommandError(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"sbatch": "echo 'sbatch: error: Invalid qos specification' >&2; exit 1"})
	subs, err := f.Submit(t.Context(), f.job("a"))
	if err != nil {
		t.Fatal(err)
	}
	want := runtime.CommandError{Target: "meluxina", Command: "sbatch", Code: 1, Class: runtime.Permanent,
		Output: "sbatch: error: Invalid qos specification", Text: "Invalid qos specification"}
	if got := (*runtime.CommandError)(nil); !errors.As(subs[0].Err, &got) || *got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What the user's environment says of Slurm does not reach Slurm, except where its configuration is; and what this
// package says for itself does not reach the job.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"sbatch": `env | grep -E '^(SBATCH_|SQUEUE_|SACCT_|SLURM_|LC_ALL)' | sort >env.sbatch; echo 1`,
		"squeue": `env | grep -E '^(SBATCH_|SQUEUE_|SACCT_|SLURM_|LC_ALL)' | sort >env.squeue`,
		"sacct":  "true",
	})
	f.env = append(f.env, "LC_ALL=de_DE.UTF-8")
	f.submit(f.job("a"))
	if _, err := f.Status(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if got, want := f.read("env.sbatch"), "LC_ALL=de_DE.UTF-8\nSLURM_CONF=/etc/slurm.conf\n"; got != want {
		t.Errorf("sbatch has %q, want %q", got, want)
	}
	if got, want := f.read("env.squeue"), "LC_ALL=C\nSLURM_CONF=/etc/slurm.conf\nSLURM_TIME_FORMAT=%s\n"; got != want {
		t.Errorf("squeue has %q, want %q", got, want)
	}
}

// On some clusters, Slurm is where only a login shell looks.
func TestLoginShell(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"sbatch": countingSbatch})
	profile := "echo Welcome\nPATH=$PATH:" + f.dir + "/slurm\n"
	err := errors.Join(os.WriteFile(filepath.Join(f.dir, ".bash_profile"), []byte(profile), 0o666),
		os.Mkdir(filepath.Join(f.dir, "slurm"), 0o777),
		os.Rename(filepath.Join(f.dir, "bin", "sbatch"), filepath.Join(f.dir, "slurm", "sbatch")))
	if err != nil {
		t.Fatal(err)
	}
	f.env = append(f.env, "HOME="+f.dir)
	if ids := f.submit(f.job("a")); ids[0] != "1" {
		t.Errorf("got %v", ids)
	}
}

// Of a program that is cut short nothing runs, be it compressed or not.
func TestProgramCutShort(t *testing.T) {
	for name, size := range map[string]int{"plain": 1, "compressed": 20000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, map[string]string{"sbatch": countingSbatch})
			job := f.job("a")
			job.Args = []string{"echo", strings.Repeat("x", size)}
			conn := &cutConn{shellConn: f.shellConn, missing: len("\nexit 0\n") + 1, size: 100}
			for ; conn.missing < conn.size; conn.missing += 97 {
				conn.submit(t, job)
				if _, err := os.Stat(job.Dir); err == nil || f.read("calls") != "" {
					t.Fatalf("%d of %d bytes are missing; called: %s", conn.missing, conn.size, f.read("calls"))
				}
			}
			if conn.compressed != (name == "compressed") {
				t.Errorf("%d bytes are compressed: %v", conn.size, conn.compressed)
			}
			conn.missing = 0
			conn.submit(t, job)
			if f.calls("sbatch") != 1 {
				t.Errorf("whole: called: %s", f.read("calls"))
			}
		})
	}
}

// A cutConn does not deliver the last bytes of a command's standard input.
type cutConn struct {
	*shellConn
	missing    int
	size       int
	compressed bool
	cancel     func()
}

// submit submits a job by one command.
func (c *cutConn) submit(t *testing.T, job runtime.Job) {
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	New(c, "meluxina").Submit(ctx, job)
}

func (c *cutConn) Run(ctx context.Context, cmd runtime.Cmd) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	defer c.cancel()
	data, err := io.ReadAll(cmd.Stdin)
	if err != nil {
		return err
	}
	c.size, c.compressed = len(data), strings.Contains(cmd.Args[2], "gzip")
	cmd.Stdin = bytes.NewReader(data[:max(c.size-c.missing, 0)]) // the size differs a little each time
	return c.shellConn.Run(ctx, cmd)
}

func TestParseID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		out  string
		want runtime.JobID
	}{
		{"123\n", "123"},
		{"123", "123"},
		{"123;alpha", "123;alpha"},
		{"sbatch: lua: 5 SUs\n127652\n", "127652"},
		{"5\n127652\n", ""}, // which?
		{"Submitted batch job 127652\n", ""},
		{"127652 estimates 2 SUs\n", ""},
		{" 12", ""}, {"12 ", ""}, {"12;", ""}, {"12;a b", ""}, {"-1", ""}, {"0", ""}, {"12345678901", ""}, {"", ""}, {"x12", ""},
	}
	for _, test := range tests {
		if got := parseID(test.out); got != test.want {
			t.Errorf("%q: got %q, want %q", test.out, got, test.want)
		}
	}
}
