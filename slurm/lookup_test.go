package slurm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

var errCut = errors.New("connection lost")

// The answer to a submission is lost, or leaves open whether there is a job: there is one in the end, and Submit says
// which, after a time that is as long as it must be.
func TestSubmitLostAnswer(t *testing.T) {
	const (
		timedOut = `fail "Socket timed out on send/recv operation"`
		killed   = "kill -9 $$"

		// What runs sbatch is not in its process group.
		allKilled = `stat() { awk "{ print \$$2 }" /proc/$1/stat; }; kill -9 -- -$(stat $(stat $PPID 4) 5); kill -9 0`
	)
	tests := []struct {
		name   string
		sbatch string
		fault  func(run int32, cmd *runtime.Cmd, p *exec.Cmd) error
		calls  int // of sbatch
		after  time.Duration
	}{
		{"noise after", `submit; echo "estimates 2 SUs"`, nil, 1, 0},
		{"noise before", `echo "Welcome to meluxina"; submit`, nil, 1, 0},
		{"noise of a plugin", `echo "sbatch: lua: 17" >&2; echo 17 >&2; submit`, nil, 1, 0},
		{"not parsable", `echo "Submitted batch job $(submit) estimates 2 SUs"; echo "| 2 | 3 |"`, nil, 1, 0},
		{"a number too many", `echo 17; submit`, nil, 1, 0},
		{"no output", `submit >/dev/null`, nil, 1, 0},
		{"no output, no job", `first || submit`, nil, 2, 14 * time.Second},
		{"zero", `if first; then echo 0; else submit; fi`, nil, 2, 14 * time.Second},
		{"an id and an error", `submit; echo "sbatch: error: cannot log" >&2; exit 1`, nil, 1, 0},
		{"an error without a word", `if first; then exit 1; fi; submit`, nil, 2, 14 * time.Second},
		{"timed out, with a job", `submit >/dev/null; ` + timedOut, nil, 1, 0},
		{"timed out, with a job later", `delay=5 submit >/dev/null; ` + timedOut, nil, 1, 6 * time.Second},
		{"timed out, with a job much later", `delay=9 submit >/dev/null; ` + timedOut, nil, 1, 14 * time.Second},
		{"timed out, no job", `if first; then ` + timedOut + `; fi; submit`, nil, 2, 14 * time.Second},
		{"sbatch killed", `submit >/dev/null; ` + killed, nil, 1, 0},
		{"sbatch killed before", `if first; then ` + killed + `; fi; submit`, nil, 2, 174 * time.Second},

		// The connection is lost.
		{"cut before", "submit", func(run int32, _ *runtime.Cmd, _ *exec.Cmd) error {
			if run == 1 {
				return errCut
			}
			return nil
		}, 1, 0},
		{"cut for a minute", "submit", func(run int32, _ *runtime.Cmd, _ *exec.Cmd) error {
			if run < 9 {
				return errCut
			}
			return nil
		}, 1, 54 * time.Second},
		{"cut after", "submit", func(run int32, _ *runtime.Cmd, p *exec.Cmd) error {
			if run == 1 {
				return errors.Join(p.Run(), errCut)
			}
			return nil
		}, 1, 0},
		{"half an answer", "submit", func(run int32, _ *runtime.Cmd, p *exec.Cmd) error {
			if run == 1 {
				p.Stdout = &limitedWriter{w: p.Stdout, left: 20}
			}
			return nil
		}, 1, 0},
		{"no answer at all", "submit", func(run int32, _ *runtime.Cmd, p *exec.Cmd) error {
			if run == 1 {
				p.Stdout = nil
			}
			return nil
		}, 1, 0},

		// All that runs on the login node is killed.
		{"killed in mkdir", "submit", killIn("mkdir"), 1, 0},
		{"killed before sbatch", "first && { " + allKilled + "; }; submit", ownGroup, 2, 174 * time.Second},
		{"killed in sbatch", "submit; " + allKilled, ownGroup, 1, 0},
		{"killed in sbatch, with a job later", "delay=100 submit; " + allKilled, ownGroup, 1, 104 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			virtually(t, test.sbatch, func(t *testing.T, f *fake) {
				f.fault = test.fault
				start := time.Now()
				job := f.job("a")
				ids := f.submit(job)
				if f.jobs() != "aifb-a\n" || ids[0] != "101" {
					t.Errorf("got %v; the jobs are\n%s", ids, f.jobs())
				}
				if n := f.calls("sbatch"); n != test.calls {
					t.Errorf("sbatch was called %d times", n)
				}
				if took := time.Since(start); took != test.after {
					t.Errorf("it took %v, want %v", took, test.after)
				}
				f.set("squeue", "exit 1") // what was found is known from now on
				f.Scheduler = New(f.shellConn, "meluxina")
				if ids := f.submit(job); ids[0] != "101" {
					t.Errorf("another time: %v", ids)
				}
			})
		})
	}
}

// ownGroup makes what runs a process group of its own, all of which `kill -9 0` ends.
func ownGroup(_ int32, _ *runtime.Cmd, p *exec.Cmd) error {
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return nil
}

// killIn kills, in the first run, all that runs when it comes to a command.
func killIn(command string) func(int32, *runtime.Cmd, *exec.Cmd) error {
	return func(run int32, cmd *runtime.Cmd, p *exec.Cmd) error {
		if run == 1 {
			p.Stdin = io.MultiReader(strings.NewReader(command+"() { kill -9 0; }\n"), cmd.Stdin)
		}
		return ownGroup(run, cmd, p)
	}
}

type limitedWriter struct {
	w    io.Writer
	left int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	w.w.Write(p[:n])
	return len(p), nil
}

// The connection is lost while sbatch goes on, on a login node that lives. It is not submitted again, however long it
// takes, up to what sbatch may take at most.
func TestSubmitGoesOn(t *testing.T) {
	const sbatch = `echo >started; read x <go; submit; echo >"$script".done`
	virtually(t, sbatch, func(t *testing.T, f *fake) {
		for _, fifo := range []string{"started", "go"} {
			if err := syscall.Mkfifo(filepath.Join(f.dir, fifo), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.set("squeue", `if [ "$NOW" -ge 100 ] && [ ! -e released ]; then
	echo >released
	echo >go
	until [ -e run/a/script.done ]; do sleep 0.01; done
fi
`+queue["squeue"])
		var running *exec.Cmd
		f.fault = func(run int32, cmd *runtime.Cmd, p *exec.Cmd) error {
			if run > 1 {
				return nil
			}
			running = exec.Command(p.Path, p.Args[1:]...)
			running.Env, running.Stdin = p.Env, cmd.Stdin
			err := running.Start()
			os.ReadFile(filepath.Join(f.dir, "started"))
			return errors.Join(err, errCut)
		}
		start := time.Now()
		if ids := f.submit(f.job("a")); ids[0] != "101" || f.calls("sbatch") != 1 {
			t.Errorf("got %v, %d calls of sbatch", ids, f.calls("sbatch"))
		}
		if took := time.Since(start); took != 104*time.Second {
			t.Errorf("it took %v", took)
		}
		running.Wait()
	})
}

// aifb was killed in the middle of a Submit, and another process submits the same jobs, at once or later.
func TestSubmitAfterKill(t *testing.T) {
	tests := []struct {
		name   string
		answer string // of the first Submit
		age    time.Duration
		before func(f *fake) // the second
		want   runtime.JobID
		calls  int
		after  time.Duration
	}{
		{"no sbatch, at once", "M aifb-a -\n", 0, nil, "101", 1, 174 * time.Second},
		{"no sbatch, later", "M aifb-a -\n", 10 * time.Minute, nil, "101", 1, 14 * time.Second},
		{"nothing written", "", 10 * time.Minute, nil, "101", 1, 14 * time.Second},
		{"half a claim", "M aif", 10 * time.Minute, nil, "101", 1, 14 * time.Second},
		{"another job's", "M aifb-z -\n\nM begin out\n7\nM end 0\n", 0, nil, "101", 1, 0},
		{"in the queue", "M aifb-a -\n", 0, func(f *fake) { f.write("queue", "9 aifb-aa - 0\n8 aifb-a - 0\n") }, "8", 0, 0},
		{"in the queue soon", "M aifb-a -\n", 0, func(f *fake) { f.write("queue", "8 aifb-a - 50\n") }, "8", 0, 54 * time.Second},
		{"an answer", "M aifb-a -\nsbatch: lua: hello\n\nM begin out\n12\nM end 0\n", 0, nil, "12", 0, 0},
		{"an answer with a cluster", "M aifb-a -\n\nM begin out\n12;beta\nM end 0\n", 0, nil, "12;beta", 0, 0},
		{"half an answer", "M aifb-a -\n\nM begin out\n12\nM en", 0, nil, "101", 1, 174 * time.Second},
		{"a refusal", "M aifb-a -\nsbatch: error: Invalid qos specification\n\nM begin out\n\nM end 1\n", 0, nil, "101", 1, 0},
		{"a time-out", "M aifb-a -\nsbatch: error: Socket timed out\n\nM begin out\n\nM end 1\n", 0, nil, "101", 1, 14 * time.Second},
		{"it ran", "M aifb-a -\n", time.Hour, func(f *fake) {
			f.write("run/a/start.json", `{"host":"n1","port":0,"id":"33","attempt":0,"time":1}`+"\n")
		}, "33", 0, 0},
		{"in accounting", "M aifb-a -\n", 26 * time.Hour, func(f *fake) {
			f.set("sacct", `case "$*" in *"--name=aifb-a --starttime=now-2days"*) printf '44\037c\037aifb-a\n' ;; esac`)
		}, "44", 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			virtually(t, "submit", func(t *testing.T, f *fake) {
				f.write("run/a/answer.0", test.answer)
				old := realNow(t).Add(-test.age)
				if err := os.Chtimes(filepath.Join(f.dir, "run/a/answer.0"), old, old); err != nil {
					t.Fatal(err)
				}
				if test.before != nil {
					test.before(f)
				}
				start := time.Now()
				if ids := f.submit(f.job("a")); ids[0] != test.want || f.calls("sbatch") != test.calls {
					t.Errorf("got %v, %d calls of sbatch; want %s", ids, f.calls("sbatch"), test.want)
				}
				if took := time.Since(start); took != test.after {
					t.Errorf("it took %v, want %v", took, test.after)
				}
			})
		})
	}
}

// realNow returns the time by the clock that stamps files.
func realNow(t *testing.T) time.Time {
	t.Helper()
	name := filepath.Join(t.TempDir(), "now")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// slurmctld is stopped for a minute, just after it took a job, or just before.
func TestSubmitStopped(t *testing.T) {
	for name, sbatch := range map[string]string{
		"after":  `if first; then submit >/dev/null; fail "Zero Bytes were transmitted or received"; fi; submit`,
		"before": `if first; then fail "Message send/receive failure"; fi; submit`,
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, sbatch, func(t *testing.T, f *fake) {
				f.set("squeue", `[ "$NOW" -ge 60 ] || { echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1; }
`+queue["squeue"])
				start := time.Now()
				if ids := f.submit(f.job("a")); ids[0] != "101" || f.jobs() != "aifb-a\n" {
					t.Errorf("got %v; the jobs are\n%s", ids, f.jobs())
				}
				if took := time.Since(start); took < time.Minute || took > 90*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// While nobody says whether there is a job, none is submitted. The others are.
func TestSubmitUnknown(t *testing.T) {
	const sbatch = `case $name in aifb-b) fail "Socket timed out on send/recv operation" ;; *) submit ;; esac`
	tests := []struct{ name, squeue, sacct, want string }{
		{"squeue", "echo slurm_load_jobs error: Unexpected message received >&2; exit 1", queue["sacct"],
			"sbatch: Socket timed out on send/recv operation; then squeue: slurm_load_jobs error: Unexpected message received"},
		{"sacct", queue["squeue"], "echo sacct: error: Problem talking to the database: Connection refused >&2; exit 1",
			"sbatch: Socket timed out on send/recv operation; then sacct: Problem talking to the database: Connection refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			virtually(t, sbatch, func(t *testing.T, f *fake) {
				f.set("squeue", test.squeue)
				f.set("sacct", test.sacct)
				start := time.Now()
				subs, err := f.Submit(t.Context(), f.job("a"), f.job("b"), f.job("c"))
				if err != nil || subs[0].ID != "101" {
					t.Fatalf("got %+v, %v", subs, err)
				}
				if err := subs[1].Err; fmt.Sprint(err) != test.want || runtime.ClassOf(err) != runtime.Ambiguous ||
					runtime.FaultOf(err) != runtime.FaultInfra || !strings.Contains(runtime.HintOf(err), "aifb-b") {
					t.Errorf("got %v, class %s", err, runtime.ClassOf(err))
				}
				if runtime.ClassOf(subs[2].Err) != runtime.Transient {
					t.Errorf("the last one: %+v", subs[2])
				}
				if took := time.Since(start); took > patience || took < patience-20*time.Second || f.calls("sbatch") != 2 {
					t.Errorf("it took %v; sbatch was called %d times", took, f.calls("sbatch"))
				}
				if n := f.calls("squeue"); n > 20 {
					t.Errorf("squeue was called %d times", n)
				}
				f.set("squeue", queue["squeue"])
				f.set("sacct", queue["sacct"])
				f.set("sbatch", queue["sbatch"]+"submit")
				if ids := f.submit(f.job("a"), f.job("b"), f.job("c")); f.jobs() != "aifb-a\naifb-c\naifb-b\n" {
					t.Errorf("later: got %v; the jobs are\n%s", ids, f.jobs())
				}
			})
		})
	}
}

// Where squeue cannot have forgotten the job yet, accounting need not answer.
func TestSubmitYoung(t *testing.T) {
	virtually(t, `if first; then fail "Socket timed out on send/recv operation"; fi; submit`, func(t *testing.T, f *fake) {
		f.set("sacct", "echo sacct: error: Problem talking to the database: Connection refused >&2; exit 1")
		f.set("scontrol", prints(showConfig))
		if ids := f.submit(f.job("a")); ids[0] != "101" || f.calls("scontrol") != 1 {
			t.Errorf("got %v, %d calls of scontrol", ids, f.calls("scontrol"))
		}
	})
}

// Submit ends with its context, and says what it knows.
func TestSubmitContext(t *testing.T) {
	const sbatch = `case $name in aifb-b) fail "Socket timed out on send/recv operation" ;; *) submit ;; esac`
	virtually(t, sbatch, func(t *testing.T, f *fake) {
		f.set("squeue", "exit 1")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		subs, err := f.Submit(ctx, f.job("a"), f.job("b"))
		if err != nil || subs[0].ID != "101" || !errors.Is(subs[1].Err, context.DeadlineExceeded) ||
			runtime.ClassOf(subs[1].Err) != runtime.Ambiguous || time.Since(start) != 20*time.Second {
			t.Errorf("after %v: got %+v, %v", time.Since(start), subs, err)
		}
		if subs, err := f.Submit(ctx, f.job("b")); !errors.Is(err, context.DeadlineExceeded) || subs != nil {
			t.Errorf("got %+v, %v", subs, err)
		}
	})
}

// Two processes submit the same jobs at the same time.
func TestSubmitAtOnce(t *testing.T) {
	virtually(t, "submit", func(t *testing.T, f *fake) {
		var wg sync.WaitGroup
		for range 4 {
			s := New(f.shellConn, "meluxina")
			wg.Go(func() {
				jobs := f.group("g", 30)
				for i := range 5 {
					jobs = append(jobs, f.job(fmt.Sprint(i)))
				}
				subs, err := s.Submit(t.Context(), jobs...)
				if err != nil {
					t.Error(err)
				}
				for i, sub := range subs {
					if sub.Err != nil || i < 30 && !strings.HasSuffix(string(sub.ID), fmt.Sprintf("_%d", i)) {
						t.Errorf("%d: %+v", i, sub)
					}
				}
			})
		}
		wg.Wait()
		got := strings.Fields(f.jobs())
		slices.Sort(got)
		if want := strings.Fields("aifb-0 aifb-1 aifb-2 aifb-3 aifb-4 aifb-g"); !slices.Equal(got, want) {
			t.Errorf("the jobs are %s", got)
		}
	})
}

// However many jobs are in doubt, they are one question.
func TestSubmitManyLost(t *testing.T) {
	virtually(t, "submit", func(t *testing.T, f *fake) {
		f.fault = func(run int32, _ *runtime.Cmd, p *exec.Cmd) error {
			if run == 1 {
				p.Stdout = nil // what had come would count
				return errors.Join(p.Run(), errCut)
			}
			return nil
		}
		var jobs []runtime.Job
		for i := range 50 {
			jobs = append(jobs, f.job(fmt.Sprint(i)))
		}
		ids := f.submit(jobs...)
		if ids[49] != "150" || f.runs.Load() != 2 || f.calls("squeue") != 1 || f.calls("sbatch") != 50 {
			t.Errorf("got %v in %d round trips", ids, f.runs.Load())
		}
	})
}

// A job on a cluster that is not the login node's own is looked for there.
func TestSubmitLostOnCluster(t *testing.T) {
	virtually(t, `fail "Socket timed out on send/recv operation"`, func(t *testing.T, f *fake) {
		f.set("squeue", `case "$*" in --clusters=beta*) printf 'CLUSTER: beta\n7\037aifb-a\n' ;; esac`)
		job := f.job("a")
		job.Needs.Extra = []string{"--clusters=beta"}
		if ids := f.submit(job); ids[0] != "7;beta" {
			t.Errorf("got %v", ids)
		}
	})
}
