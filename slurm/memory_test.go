package slurm

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// sources are a fake's commands that say what is in its files: queue and accounts have records of squeue and rows of
// sacct, and down is why sacct fails. sacct tells of the jobs that it is asked for.
var sources = map[string]string{
	"squeue": "cat queue 2>/dev/null; true",
	"sacct": `[ ! -s down ] || { cat down >&2; exit 1; }
for ids; do :; done
awk -F '\037' -v ids=",$ids," 'index(ids, "," $1 ",")' accounts 2>/dev/null; true`,
	"scontrol": "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1",
}

// put writes a file of a fake.
func put(t *testing.T, f *fake, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

// remove removes a command of a fake.
func remove(t *testing.T, f *fake, command string) {
	t.Helper()
	if err := os.Remove(filepath.Join(f.dir, "bin", command)); err != nil {
		t.Fatal(err)
	}
}

// only returns what is known of a job.
func only(t *testing.T, f *fake, id runtime.JobID) string {
	t.Helper()
	known, err := f.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return sayings(known)[id]
}

const (
	isRunning = "squeue: running n1"
	isBehind  = "sacct: accounting still has it as running"
	isMissing = "sacct: accounting does not have it yet"
	isDone    = "sacct: ended completed 0 n1"
)

// A job ends, and squeue forgets it, long before accounting knows. In between nothing is said that is not so.
func TestAccountingIsBehind(t *testing.T) {
	for _, lag := range []time.Duration{0, 5 * time.Second, time.Minute, 5 * time.Minute} {
		for before, want := range map[string]string{
			"": isMissing,
			row("7", "RUNNING", "0:0", "100", "Unknown", "n1", "50", "0"): isBehind,
		} {
			t.Run(fmt.Sprintf("%v, %s", lag, want), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t, sources)
					put(t, f, "queue", record("7", "RUNNING", "0:0", "0", "100", "200", "n1", "None"))
					put(t, f, "accounts", before)
					if got := only(t, f, "7"); got != isRunning {
						t.Errorf("at first: %s", got)
					}
					put(t, f, "queue", "")
					start := time.Now()
					for tick := 2 * time.Second; ; tick = min(tick*3/2, 30*time.Second) {
						since := time.Since(start)
						if since >= lag {
							put(t, f, "accounts", row("7", "COMPLETED", "0:0", "100", "200", "n1", "50", "0"))
						}
						got := only(t, f, "7")
						if got == isDone && since >= lag {
							break
						}
						if got != want || since > 2*lag+30*time.Second {
							t.Fatalf("after %v: %q", since, got)
						}
						time.Sleep(tick)
					}
					if n := f.calls("sacct"); n > 8 {
						t.Errorf("sacct was called %d times", n)
					}
				})
			})
		}
	}
}

// What accounting does not know in the end, nobody does.
func TestNobodyKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, sources)
		put(t, f, "queue", record("7", "RUNNING", "0:0", "0", "100", "200", "n1", "None"))
		put(t, f, "accounts", row("8", "RUNNING", "0:0", "100", "Unknown", "n1", "50", "0"))
		only(t, f, "7")
		put(t, f, "queue", "")
		for range 4 {
			known, err := f.Status(t.Context(), "7", "8", "9")
			want := map[runtime.JobID]string{"7": isMissing, "8": isBehind} // 9 was never seen
			if got := sayings(known); err != nil || !maps.Equal(got, want) {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
			time.Sleep(lag / 4)
		}
		for range 10 {
			if known, err := f.Status(t.Context(), "7", "8", "9"); err != nil || len(known) != 0 {
				t.Errorf("after %v: %v, %v", lag, sayings(known), err)
			}
			time.Sleep(30 * time.Second)
		}
		if n := f.calls("sacct"); n > 10 {
			t.Errorf("sacct was called %d times", n)
		}
		if n := f.calls("scontrol show job"); n != 3 {
			t.Errorf("scontrol was called %d times, want once for each job", n)
		}
	})
}

// A job that ended with its node may have been requeued before accounting knows it.
func TestEndedWithItsNode(t *testing.T) {
	for name, after := range map[string]string{
		"requeued": row("7", "COMPLETED", "0:0", "300", "400", "n1", "250", "1"), "not": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, sources)
				failed := row("7", "NODE_FAIL", "1:0", "100", "200", "n2", "50", "0")
				put(t, f, "accounts", failed)
				got, want := only(t, f, "7"), "sacct: accounting may not know yet whether it was requeued after: node failure"
				if got != want {
					t.Errorf("at first: %q, want %q", got, want)
				}
				put(t, f, "accounts", failed+after)
				time.Sleep(requeueLag)
				if want = "sacct: ended node failure n2"; after != "" {
					want = "sacct: ended completed 0 n1 attempt 1"
				}
				if got := only(t, f, "7"); got != want {
					t.Errorf("then: %q, want %q", got, want)
				}
			})
		})
	}
}

// So may one that its configuration makes run again after it failed; but squeue had told of the second attempt.
func TestEarlierAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, sources)
		put(t, f, "queue", record("7", "RUNNING", "0:0", "1", "100", "200", "n1", "None"))
		only(t, f, "7")
		put(t, f, "queue", "")
		failed := row("7", "FAILED", "1:0", "100", "200", "n2", "50", "0")
		put(t, f, "accounts", failed)
		if got, want := only(t, f, "7"), "sacct: accounting does not have its last attempt yet"; got != want {
			t.Errorf("at first: %q, want %q", got, want)
		}
		put(t, f, "accounts", failed+row("7", "COMPLETED", "0:0", "300", "400", "n1", "250", "1"))
		time.Sleep(firstGap)
		if got, want := only(t, f, "7"), "sacct: ended completed 0 n1 attempt 1"; got != want {
			t.Errorf("then: %q, want %q", got, want)
		}
	})
}

// While accounting is down, what squeue says is said, and what only accounting may know is unknown.
func TestAccountingIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, sources)
		put(t, f, "queue", record("7", "RUNNING", "0:0", "0", "100", "200", "n1", "None"))
		put(t, f, "accounts", row("8", "COMPLETED", "0:0", "100", "200", "n1", "50", "0"))
		put(t, f, "down", "sacct: error: Problem talking to the database: Connection refused\n")
		want := map[runtime.JobID]string{"7": isRunning,
			"8": "sacct: accounting does not answer: Problem talking to the database: Connection refused"}
		for range 120 { // an hour
			known, err := f.Status(t.Context(), "7", "8")
			if got := sayings(known); err != nil || !maps.Equal(got, want) {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
			time.Sleep(30 * time.Second)
		}
		if n := f.calls("sacct"); n > 20 {
			t.Errorf("sacct was called %d times in an hour", n)
		}
		put(t, f, "down", "")
		time.Sleep(lastGap)
		if got := only(t, f, "8"); got != isDone {
			t.Errorf("when it is up again: %s", got)
		}
	})
}

// A sacct that prints nothing but errors has not answered, even if it claims success.
func TestAccountingFailsSilently(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"squeue": "true", "sacct": "echo sacct: error: slurmdbd: no >&2"})
	if got, want := only(t, f, "7"), "sacct: accounting does not answer: slurmdbd: no"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A database that hangs does not keep back what squeue said, nor does a connection that breaks then.
func TestAccountingHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, sources)
		put(t, f, "queue", record("7", "RUNNING", "0:0", "0", "100", "200", "n1", "None"))
		f.conn = &secondHangs{Conn: f.conn}
		start := time.Now()
		known, err := f.Status(t.Context(), "7", "8")
		want := map[runtime.JobID]string{"7": isRunning, "8": "sacct: accounting does not answer: no answer from meluxina within 20s"}
		if got := sayings(known); err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
		if d := time.Since(start); d > followLimit {
			t.Errorf("it took %v", d)
		}
		f.conn.(*secondHangs).runs = 0
		time.Sleep(firstGap)
		start = time.Now()
		if _, err := f.Status(t.Context(), "7", "8"); err != nil || time.Since(start) != 2*followLimit {
			t.Errorf("the next time: %v after %v, want it to have more time", err, time.Since(start))
		}
		f.conn.(*secondHangs).runs = 0
		time.Sleep(2 * firstGap)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(followLimit/2, cancel)
		if known, err := f.Status(ctx, "7", "8"); err == nil {
			t.Errorf("of a query that was cancelled: %v", sayings(known))
		}
	})
}

// A secondHangs is a connection whose second command gets no answer.
type secondHangs struct {
	runtime.Conn
	runs int
}

func (c *secondHangs) Run(ctx context.Context, cmd runtime.Cmd) error {
	if c.runs++; c.runs == 2 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return c.Conn.Run(ctx, cmd)
}

// Of two queries at the same time, one asks accounting.
func TestAskedOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t, sources)
	put(t, f, "accounts", row("7", "COMPLETED", "0:0", "100", "200", "n1", "50", "0"))
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			known, err := f.Status(t.Context(), "7")
			if got := sayings(known)["7"]; err != nil || got != isDone && got != "sacct: accounting has not answered yet" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if got := only(t, f, "7"); got != isDone || f.calls("sacct") != 1 {
		t.Errorf("%s; sacct was called %d times", got, f.calls("sacct"))
	}
}

// Many jobs are asked for in few calls, in one round trip.
func TestChunks(t *testing.T) {
	t.Parallel()
	f := newFake(t, sources)
	var ids []runtime.JobID
	var accounts strings.Builder
	for i := range 1000 {
		ids = append(ids, runtime.JobID(fmt.Sprint(i+1)))
		accounts.WriteString(row(fmt.Sprint(i+1), "COMPLETED", "0:0", "100", "200", "n1", "50", "0"))
	}
	put(t, f, "accounts", accounts.String())
	known, err := f.Status(t.Context(), ids...)
	if err != nil || len(known) != 1000 || f.calls("sacct") != 5 || f.runs.Load() != 2 {
		t.Errorf("%d jobs, %v; %d calls in %d round trips", len(known), err, f.calls("sacct"), f.runs.Load())
	}
	for id, st := range known {
		if st.Outcome != runtime.Completed {
			t.Errorf("%s: %+v", id, st)
		}
	}
	if _, err := f.Status(t.Context(), ids...); err != nil || f.runs.Load() != 3 {
		t.Errorf("%v: asked again about jobs that have ended: %d round trips", err, f.runs.Load())
	}
}

// A thousand jobs that end in the course of an hour on a cluster that forgets them at once, with accounting a minute
// behind: all ends are known in the end, and Slurm was asked little.
func TestBudget(t *testing.T) {
	const jobs, tick = 1000, 30 * time.Second
	for name, end := range map[string]func(i int) time.Duration{
		"one by one": func(i int) time.Duration { return time.Duration(i+1) * time.Hour / jobs },
		"at once":    func(int) time.Duration { return 10 * time.Minute },
		"in waves":   func(i int) time.Duration { return time.Duration(i/100)*6*time.Minute + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, sources)
				open := make(map[runtime.JobID]int)
				for i := range jobs {
					open[runtime.JobID(fmt.Sprint(i+1))] = i
				}
				start, sacct := time.Now(), 0
				for len(open) > 0 && time.Since(start) < 2*time.Hour {
					now := time.Since(start)
					var queue, accounts strings.Builder
					var ids []runtime.JobID
					for id, i := range open {
						ids = append(ids, id)
						if end(i) > now {
							queue.WriteString(record(string(id), "RUNNING", "0:0", "0", "100", "200", "n1", "None"))
						} else if end(i)+time.Minute <= now {
							accounts.WriteString(row(string(id), "COMPLETED", "0:0", "100", "200", "n1", "50", "0"))
						}
					}
					put(t, f, "queue", queue.String())
					put(t, f, "accounts", accounts.String())
					known, err := f.Status(t.Context(), ids...)
					if err != nil || len(known) != len(ids) {
						t.Fatalf("after %v: %d of %d jobs, %v", now, len(known), len(ids), err)
					}
					for id, st := range known {
						if st.State == runtime.Ended {
							if st.Outcome != runtime.Completed || end(open[id])+time.Minute > now {
								t.Errorf("job %s after %v: %+v", id, now, st)
							}
							delete(open, id)
						}
					}
					if now <= time.Hour {
						sacct = f.calls("sacct")
					}
					time.Sleep(tick)
				}
				if sacct > 60 || f.calls("squeue") > 150 {
					t.Errorf("in an hour sacct was called %d times, squeue until the end %d times", sacct, f.calls("squeue"))
				}
				t.Logf("%d calls of sacct in the first hour, %d of squeue; all was known after %v", sacct, f.calls("squeue"), time.Since(start))
				if len(open) > 0 {
					t.Errorf("%d jobs are not known to have ended", len(open))
				}
			})
		})
	}
}

// The memory of jobs that nobody asks about any more goes.
func TestForgets(t *testing.T) {
	t.Parallel()
	var m memory
	now := time.Now()
	m.plan(now, map[runtime.JobID]runtime.Status{"1": {State: runtime.Running}}, []runtime.JobID{"2"})
	m.plan(now.Add(forgetAfter), nil, []runtime.JobID{"3"})
	m.plan(now.Add(forgetAfter+1), map[runtime.JobID]runtime.Status{"4": {State: runtime.Ended}}, nil)
	if len(m.jobs) != 1 || m.jobs["3"] == nil {
		t.Errorf("it remembers %v", m.jobs)
	}
}
