package slurm

import (
	"context"
	"errors"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// record makes a record of squeueFormat, or of another format of squeue, and row a line of sacctFormat.
func record(fields ...string) string {
	return strings.Join(fields, separator) + separator + terminator + "\n"
}
func row(fields ...string) string { return strings.Join(fields, separator) + "\n" }

// prints makes a program that prints s.
func prints(s string) string { return "printf %s " + runtime.Quote(s) }

func TestStatus(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": prints("motd\n" + record("7", "RUNNING", "0:0", "2", "1795494739", "1795495339", "n[1-2]", "None") +
			record("8", "FAILED", "768", "0", "1795494739", "1795494740", "n1", "NonZeroExitCode") +
			record("9", "PENDING", "0", "0", "1795494739", "N/A", "", "Priority") +
			record("10", "PENDING", "0", "0", "1795494739", "N/A", "", "JobHeldUser") +
			record("99", "RUNNING", "0", "0", "1795494739", "1795495339", "n1", "None")),
	})
	known, err := f.Status(t.Context(), "7", "8", "9", "10", "7")
	if err != nil {
		t.Fatal(err)
	}
	start, end := time.Unix(1795494739, 0).UTC(), time.Unix(1795494740, 0).UTC()
	want := map[runtime.JobID]runtime.Status{
		"7": {State: runtime.Running, Node: "n1", Start: start, Attempt: 2, By: "squeue"},
		"8": {State: runtime.Ended, Outcome: runtime.Failed, Exited: true, Code: 3,
			Reason: "NonZeroExitCode", Node: "n1", Start: start, End: end, By: "squeue"},
		"9": {State: runtime.Pending, Reason: "Priority", Class: "resources",
			Text: "jobs of higher priority come first", Start: start, By: "squeue"},
		"10": {State: runtime.Pending, Reason: "JobHeldUser", Class: "held", // nobody expects it to start
			Text: "held by its user; `scontrol release` lets it go on", By: "squeue"},
	}
	if !maps.Equal(known, want) {
		t.Errorf("got %+v, want %+v", known, want)
	}
	if n := f.runs.Load(); n != 1 {
		t.Errorf("%d round trips", n)
	}
	// Asked for by its number, a job that is gone would make squeue fail, and many jobs would make slurmctld send those of
	// all users.
	if calls := f.read("calls"); !strings.HasPrefix(calls, "squeue --me -a -t all -h -r -O ") || strings.Contains(calls, " -j") {
		t.Errorf("the calls were\n%s", calls)
	}
}

// A job that squeue has forgotten is in accounting.
func TestStatusForgotten(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": prints(record("7", "PENDING", "0", "0", "N/A", "N/A", "", "Priority")),
		"sacct": prints(row("8", "CANCELLED by 1000", "0:0", "1795494739", "1795494740", "n3", "1795494700", "3") +
			row("9", "RUNNING", "0:0", "1795494739", "Unknown", "n3", "1795494700", "0") +
			row("11", "COMPLETED", "0:0", "1795494739", "1795494740", "n3", "1795494700", "0")),
	})
	known, err := f.Status(t.Context(), "7", "8", "9", "10")
	if err != nil {
		t.Fatal(err)
	}
	want := map[runtime.JobID]string{
		"7": "squeue: pending Priority",
		"8": "sacct: ended cancelled n3 attempt 3 CANCELLED by 1000",
		"9": "sacct: accounting still has it as running",
	}
	if got := sayings(known); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if calls := f.read("calls"); !strings.Contains(calls, "-j 10,8,9\n") || !strings.Contains(calls, "--starttime=now-") {
		t.Errorf("the calls were\n%s", calls)
	}
}

// sayings says who says what.
func sayings(known map[runtime.JobID]runtime.Status) map[runtime.JobID]string {
	all := make(map[runtime.JobID]string)
	for id, st := range known {
		all[id] = st.By + ": " + describe(st)
	}
	return all
}

// Without accounting, slurmctld itself is asked once more, and then nobody.
func TestStatusWithoutAccounting(t *testing.T) {
	for name, sacct := range map[string]string{
		"disabled": "echo Slurm accounting storage is disabled >&2; exit 1",
		"no sacct": "",
		"probed":   "exit 3", // the capabilities are known
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			commands := map[string]string{"squeue": "true", "scontrol": `case $3 in
8) printf '%s\n' 'JobId=8 JobName=x' '   JobState=FAILED Reason=NonZeroExitCode Dependency=(null)' \
	'   Requeue=0 Restarts=0 ExitCode=3:0' '   StartTime=100 EndTime=200' '   NodeList=n1' ;;
*) echo slurm_load_jobs error: Invalid job id specified >&2; exit 1 ;;
esac`}
			if sacct != "" {
				commands["sacct"] = sacct
			}
			f := newFake(t, commands)
			if name == "probed" {
				f.known.Store(&capabilities{scontrol: true})
			}
			want := map[runtime.JobID]string{"8": "scontrol: ended failed 3 n1 NonZeroExitCode"}
			for range 4 {
				known, err := f.Status(t.Context(), "7", "8")
				if got := sayings(known); err != nil || !maps.Equal(got, want) {
					t.Errorf("got %v, %v; want %v", got, err, want)
				}
			}
			if f.calls("squeue") != 4 || f.calls("scontrol show job") != 2 || f.calls("sacct") > 1 {
				t.Errorf("the calls were\n%s", f.read("calls"))
			}
		})
	}
}

// A query that fails says nothing of a job.
func TestStatusErrors(t *testing.T) {
	tests := []struct {
		name, squeue, want string
		class              runtime.Class
	}{
		{"unreachable", "echo slurm_load_jobs error: Unable to contact slurm controller '(connect failure)' >&2; exit 1",
			"status: squeue: slurm_load_jobs error: Unable to contact slurm controller (connect failure)", runtime.Transient},
		{"half an answer", prints(record("7", "FAILED", "1:0", "0", "1", "2", "n1", "None")) + "; exit 1",
			"status: squeue: 7 FAILED 1:0 0 1 2 n1 None", runtime.Transient},
		{"silent", "exit 3", "status: squeue: exit status 3", runtime.Transient},
		{"killed", "kill -9 $$", "status: squeue: exit status 137", runtime.Transient},
		{"too old", "echo squeue: unrecognized option --all >&2; exit 1", "status: squeue: unrecognized option --all", runtime.Permanent},
		{"no squeue", "", "status: squeue: there is no squeue on meluxina", runtime.Permanent},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			commands := map[string]string{"sacct": "true"}
			if test.squeue != "" {
				commands["squeue"] = test.squeue
			}
			f := newFake(t, commands)
			known, err := f.Status(t.Context(), "7")
			if known != nil || err == nil || runtime.FaultOf(err) != runtime.FaultInfra || runtime.ClassOf(err) != test.class {
				t.Fatalf("got %+v, %v", known, err)
			}
			if got := strings.Join(strings.Fields(err.Error()), " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			e := (*runtime.CommandError)(nil)
			if !errors.As(err, &e) || e.Target != "meluxina" || e.Command != "squeue" || e.Code == 0 {
				t.Errorf("got %#v", e)
			}
		})
	}
}

// However often it fails, a query changes nothing of what is known, and the next one that succeeds tells the truth.
func TestStatusFailsLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]string{
			"squeue": prints(record("7", "RUNNING", "0:0", "0", "100", "200", "n1", "None")),
			"sacct":  prints(row("8", "COMPLETED", "0:0", "100", "200", "n1", "50")),
		})
		f.Status(t.Context(), "7")
		conn := f.conn
		f.conn = brokenConn{}
		for range 1000 {
			if known, err := f.Status(t.Context(), "7", "8"); known != nil || !errors.Is(err, errBroken) {
				t.Fatalf("got %+v, %v", known, err)
			}
		}
		f.conn = conn
		known, err := f.Status(t.Context(), "7", "8")
		want := map[runtime.JobID]string{"7": "squeue: running n1", "8": "sacct: ended completed 0 n1"}
		if got := sayings(known); err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	})
}

// A brokenConn has lost its connection.
type brokenConn struct{ runtime.Conn }

var errBroken = errors.New("connection lost")

func (brokenConn) Run(context.Context, runtime.Cmd) error { return errBroken }

// A squeue that does not know all that it is asked for is asked for less, also if all it does is leave out a field.
func TestOldSqueue(t *testing.T) {
	plain := prints(record("7", "FAILED", "", "", "100", "200", "n1", "NonZeroExitCode"))
	for name, squeue := range map[string]string{
		"option": `case " $* " in *" --me "*) echo "squeue: unrecognized option '--me'" >&2; exit 1 ;; esac
` + plain,
		"field": `case " $* " in
*RestartCnt*) echo squeue: error: Invalid job format specification: RestartCnt >&2
	` + prints(record("7", "FAILED", "3:0", "100", "200", "n1", "NonZeroExitCode")) + ` ;;
*) ` + plain + ` ;;
esac`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, map[string]string{"squeue": squeue})
			for range 3 {
				known, err := f.Status(t.Context(), "7")
				if want := "squeue: ended failed n1 NonZeroExitCode"; err != nil || sayings(known)["7"] != want {
					t.Errorf("got %v, %v; want %s", sayings(known), err, want)
				}
			}
			if n := f.calls("squeue"); n != 4 {
				t.Errorf("squeue was called %d times, want the old way to be remembered", n)
			}
			if calls := f.read("calls"); !strings.Contains(calls, "-u "+strconv.Itoa(os.Getuid())+"\n") {
				t.Errorf("the calls were\n%s", calls)
			}
		})
	}
}

// So is a sacct that does not.
func TestOldSacct(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"squeue": "true", "sacct": `case " $* " in
*Restarts*) echo 'sacct: error: Invalid field requested: "Restarts"' >&2; exit 1 ;;
esac
` + prints(row("7", "FAILED", "3:0", "100", "200", "n1", "50")+row("8", "FAILED", "3:0", "100", "200", "n1", "50"))})
	for _, id := range []runtime.JobID{"7", "8"} {
		known, err := f.Status(t.Context(), id)
		if want := "sacct: ended failed 3 n1"; err != nil || sayings(known)[id] != want {
			t.Errorf("got %v, %v; want %s", sayings(known), err, want)
		}
	}
	if n := f.calls("sacct"); n != 3 {
		t.Errorf("sacct was called %d times, want the old way to be remembered", n)
	}
}

// A word that nobody has heard of is no end, whoever says it.
func TestStatusUnheardOf(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": prints(record("7", "EXPLODED", "1:0", "0", "100", "200", "n1", "None") +
			record("8", "?", "1:0", "0", "100", "200", "n1", "None")),
		"sacct": prints(row("9", "VANISHED", "0:0", "100", "200", "n1", "50")),
	})
	known, err := f.Status(t.Context(), "7", "8", "9")
	want := map[runtime.JobID]string{"7": "squeue: n1 EXPLODED", "8": "squeue: n1 ?",
		"9": "sacct: accounting still has it as VANISHED"}
	if got := sayings(known); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

// A job that slurmctld does not know is gone, whatever accounting still has it as: records of jobs whose end was never
// told stay as they are. One that is in a state that nobody has heard of may run.
func TestStatusGone(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": prints(record("7", "EXPLODED", "1:0", "0", "100", "200", "n1", "None")),
		"sacct":  prints(row("9", "RUNNING", "0:0", "100", "Unknown", "n1", "50")),
	})
	known, err := f.Status(t.Context(), "7", "9")
	if err != nil || known["7"].Gone || !known["9"].Gone {
		t.Errorf("got %+v, %v", known, err)
	}
	f.federated.Store(true) // then another cluster, which squeue could not ask, may have it
	if known, err = f.Status(t.Context(), "9"); err != nil || known["9"].State != runtime.Unknown || known["9"].Gone {
		t.Errorf("in a federation: got %+v, %v", known, err)
	}
}

// A task of an array is a job of its own. Accounting has other numbers for them, and calls them what squeue does.
func TestStatusArrays(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": prints(record("100_1", "RUNNING", "0:0", "0", "100", "200", "n1", "None") +
			record("100_[2-9%2]", "PENDING", "0:0", "0", "N/A", "N/A", "", "JobArrayTaskLimit")),
		"sacct": prints(row("100_3", "FAILED", "1:0", "100", "200", "n1", "50", "0") +
			row("100_[4-9%2]", "PENDING", "0:0", "Unknown", "Unknown", "None assigned", "50", "0") +
			row("104", "COMPLETED", "0:0", "100", "200", "n1", "50", "0")),
	})
	known, err := f.Status(t.Context(), "100_1", "100_3", "100_4", "100")
	want := map[runtime.JobID]string{"100_1": "squeue: running n1", "100_3": "sacct: ended failed 1 n1"}
	if got := sayings(known); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if calls := f.read("calls"); !strings.Contains(calls, "-j 100,100_3,100_4\n") {
		t.Errorf("the calls were\n%s", calls)
	}
}

// A cluster is named only where sbatch named one.
func TestClusters(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": `case $1 in
--clusters=beta) echo CLUSTER: beta; ` + prints(record("7", "COMPLETED", "0:0", "0", "1", "2", "b1", "None")) + ` ;;
*) ` + prints(record("7", "RUNNING", "0:0", "0", "1", "2", "a1", "None")) + ` ;; esac`,
		"sacct":   prints(row("9", "FAILED", "2:0", "1", "2", "b2", "1")),
		"scancel": "true",
	})
	known, err := f.Status(t.Context(), "7", "7;beta", "9;beta")
	want := map[runtime.JobID]string{"7": "squeue: running a1", "7;beta": "squeue: ended completed 0 b1",
		"9;beta": "sacct: ended failed 2 b2"}
	if got := sayings(known); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if err := f.Cancel(t.Context(), "7;beta", "8"); err != nil {
		t.Error(err)
	}
	calls := f.read("calls")
	if !strings.Contains(calls, "\nsacct --clusters=beta -X ") || !strings.HasSuffix(calls, "\nscancel 8\nscancel --clusters=beta 7\n") {
		t.Errorf("the calls were\n%s", calls)
	}
	if n := f.runs.Load(); n != 3 {
		t.Errorf("%d round trips", n)
	}
}

func TestNothingToAsk(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{})
	for _, ids := range [][]runtime.JobID{nil, {"", "x", "-1", "0", "1;", "1\n2", "1 --all"}} {
		if known, err := f.Status(t.Context(), ids...); err != nil || len(known) != 0 {
			t.Errorf("status: %+v, %v", known, err)
		}
		if err := f.Cancel(t.Context(), ids...); err != nil {
			t.Errorf("cancel: %v", err)
		}
	}
	if n := f.runs.Load(); n != 0 {
		t.Errorf("%d round trips", n)
	}
}

// A reply is what stands between the marks, whatever else there is.
func TestParseReplies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		out  string
		want map[string]reply
	}{
		{"", map[string]reply{}},
		{"\nM begin a\nx\ny\nM end 3\n", map[string]reply{"a": {3, "x\ny"}}},
		{"motd\n\nM begin a\n\nM end 0\nnoise\n\nM begin b\nM\nM end 1\n", map[string]reply{"a": {0, ""}, "b": {1, "M"}}},
		{"\nM begin a\nx\nM end 0", map[string]reply{}},
		{"\nM begin a\nx\n", map[string]reply{}},
		{"\nM begin a\nx\nM end x\n", map[string]reply{}},
		{"\nM begin a\nM end 0\n", map[string]reply{}}, // what reply prints has a line for the output
	}
	for _, test := range tests {
		if got := parseReplies(test.out, "M"); !maps.Equal(got, test.want) {
			t.Errorf("%q: got %+v, want %+v", test.out, got, test.want)
		}
	}
}

// Tasks of an array that are cancelled before they start leave one record, with the number of the array.
func TestStatusOfCancelledTasks(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"squeue": prints(record("7_0", "FAILED", "3:0", "0", "100", "200", "n1", "None") +
		record("7", "CANCELLED", "0:0", "0", "200", "200", "", "None") + record("8", "RUNNING", "0:0", "0", "100", "N/A", "n1", "None"))})
	known, err := f.Status(t.Context(), "7_0", "7_1", "7_2")
	want := map[runtime.JobID]string{"7_0": "squeue: ended failed 3 n1", "7_1": "squeue: ended cancelled", "7_2": "squeue: ended cancelled"}
	if got := sayings(known); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if known, err := f.Status(t.Context(), "8_1"); err != nil || known["8_1"].State == runtime.Running {
		t.Errorf("got %v, %v: a job that runs is no task", sayings(known), err)
	}
}
