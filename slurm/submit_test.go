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

// Two jobs of 100 kB: more than an argument of a program may have.
func TestSubmitLarge(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"sbatch": countingSbatch})
	jobs := []runtime.Job{f.job("a"), f.job("b")}
	for i := range jobs {
		jobs[i].Args = slices.Repeat([]string{strings.Repeat("it's ", 2000)}, 20)
	}
	if ids := f.submit(jobs...); ids[1] != "2" {
		t.Errorf("got %v", ids)
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

// The answer to a submission is lost. The next Submit finds the job by its name, by what it wrote itself, or finds that
// there is none.
func TestSubmitLostAnswer(t *testing.T) {
	const unlucky = `echo x >>last
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1`
	tests := []struct {
		name, squeue, start string
		want                runtime.JobID
		wantSubmits         int
	}{
		{name: "in the queue", squeue: "echo 41", want: "41", wantSubmits: 1},
		{name: "ended long ago", squeue: "true", start: `{"host":"n1","port":0,"id":"42"}`, want: "42", wantSubmits: 1},
		{name: "never arrived", squeue: "true", want: "9", wantSubmits: 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, map[string]string{"sbatch": "[ ! -e last ] || { echo 9; exit; }\n" + unlucky, "squeue": test.squeue})
			a, b := f.job("a"), f.job("b")
			subs, err := f.Submit(t.Context(), a, b)
			if err == nil || runtime.FaultOf(err) != runtime.FaultInfra || subs != nil {
				t.Fatalf("got %+v, %v; want an error of the infrastructure", subs, err)
			}
			if want := "sbatch: Socket timed out on send/recv operation"; err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
			if n := f.calls("sbatch"); n != 1 {
				t.Errorf("sbatch was called %d times while slurmctld was not reached", n)
			}
			if test.start != "" {
				if err := os.WriteFile(filepath.Join(a.Dir, runtime.FileStart), []byte(test.start+"\n"), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if ids := f.submit(a); ids[0] != test.want || f.calls("sbatch") != test.wantSubmits {
					t.Errorf("got %v, sbatch was called %d times", ids, f.calls("sbatch"))
				}
			}
		})
	}
}

// While it is not known whether there is a job, none is submitted.
func TestSubmitLostAnswerNoQueue(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"sbatch": "echo sbatch: error: Zero Bytes were transmitted or received; exit 1",
		"squeue": "echo slurm_load_jobs error: Unable to contact slurm controller '(connect failure)'; exit 1",
	})
	f.Submit(t.Context(), f.job("a"))
	_, err := f.Submit(t.Context(), f.job("a"))
	if err == nil || runtime.FaultOf(err) != runtime.FaultInfra || f.calls("sbatch") != 1 {
		t.Errorf("%v; sbatch was called %d times", err, f.calls("sbatch"))
	}
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
	bad := f.job("bad")
	bad.Dir = "/proc/none/job"
	subs, err := f.Submit(t.Context(), bad, f.job("good"))
	if err != nil {
		t.Fatal(err)
	}
	if err := subs[0].Err; runtime.FaultOf(err) != runtime.FaultInfra || !strings.Contains(fmt.Sprint(err), "/proc/none") {
		t.Errorf("got %v", err)
	}
	if subs[1].ID != "1" {
		t.Errorf("the good one: %+v", subs[1])
	}
}

func TestSubmitErrors(t *testing.T) {
	tests := []struct{ name, sbatch, want string }{
		{"no sbatch", "", "no sbatch on meluxina"},
		{"no id", "echo Submitted batch job 5", `sbatch: an answer without a job id: "Submitted batch job 5"`},
		{"killed", "kill -9 $$", "sbatch: exit status 137"},
		{"unreachable", "echo sbatch: error: Unable to contact slurm controller '(connect failure)'; exit 1",
			"sbatch: Unable to contact slurm controller (connect failure)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, map[string]string{"sbatch": test.sbatch})
			if test.sbatch == "" {
				os.Remove(filepath.Join(f.dir, "bin", "sbatch"))
			}
			subs, err := f.Submit(t.Context(), f.job("a"))
			if err == nil || err.Error() != test.want || runtime.FaultOf(err) != runtime.FaultInfra {
				t.Errorf("got %+v, %v; want %s", subs, err, test.want)
			}
		})
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

// Of a program that is cut short nothing runs.
func TestProgramCutShort(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"sbatch": countingSbatch})
	conn := &cutConn{shellConn: f.shellConn}
	s := New(conn, "meluxina")
	jobs := []runtime.Job{f.job("a"), f.job("b")}
	s.Submit(t.Context(), jobs...)
	for size := conn.size; conn.after < size-len("main\nexit 0\n"); conn.after += 97 {
		if subs, err := s.Submit(t.Context(), jobs...); err == nil || f.read("calls") != "" {
			t.Fatalf("after %d of %d bytes: %+v, %v; called: %s", conn.after, size, subs, err, f.read("calls"))
		}
	}
}

// A cutConn delivers the first bytes of a command's standard input.
type cutConn struct {
	*shellConn
	after, size int
}

func (c *cutConn) Run(ctx context.Context, cmd runtime.Cmd) error {
	data, err := io.ReadAll(cmd.Stdin)
	if err != nil {
		return err
	}
	c.size = len(data)
	cmd.Stdin = bytes.NewReader(data[:min(c.size, c.after)])
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
		{"sbatch: lua: 5 SUs\n5\n127652\n", "127652"},
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

func TestRefusalIsNoError(t *testing.T) {
	t.Parallel()
	// A refusal says that there is no job. That must not be said when slurmctld was not reached.
	for _, text := range passing {
		r := reply{code: 1, out: "sbatch: error: Batch job submission failed: " + text + "\n"}
		_, err := New(nil, "x").submitted(0, map[string]reply{"sbatch.0": r})
		if refused := (*refusal)(nil); err == nil || errors.As(err, &refused) || runtime.FaultOf(err) != runtime.FaultInfra {
			t.Errorf("%s: %v", text, err)
		}
	}
}
