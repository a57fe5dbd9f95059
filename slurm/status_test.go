package slurm

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

// line makes a line of squeueFormat or sacctFormat.
func line(fields ...string) string { return strings.Join(fields, " "+separator) + "\n" }

// prints makes a program that prints s.
func prints(s string) string { return "printf %s " + runtime.Quote(s) }

func TestStatus(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": prints("motd\n" + line("7", "RUNNING", "0:0", "1795494739", "1795495339", "n[1-2]", "None") +
			line("8", "FAILED", "768", "1795494739", "1795494740", "n1", "NonZeroExitCode") +
			line("99", "RUNNING", "0", "1795494739", "1795495339", "n1", "None")),
	})
	known, err := f.Status(t.Context(), "7", "8")
	if err != nil {
		t.Fatal(err)
	}
	start, end := time.Unix(1795494739, 0).UTC(), time.Unix(1795494740, 0).UTC()
	want := map[runtime.JobID]runtime.Status{
		"7": {State: runtime.Running, Node: "n1", Start: start},
		"8": {State: runtime.Ended, Outcome: runtime.Failed, Exited: true, Code: 3,
			Reason: "NonZeroExitCode", Node: "n1", Start: start, End: end},
	}
	if !maps.Equal(known, want) {
		t.Errorf("got %+v, want %+v", known, want)
	}
	if n := f.runs.Load(); n != 1 {
		t.Errorf("%d round trips", n)
	}
}

// A job that squeue has forgotten is in accounting.
func TestStatusForgotten(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": prints(line("7", "PENDING", "0", "N/A", "N/A", "", "Priority")),
		"sacct": prints(line("8", "CANCELLED by 1000", "0:0", "1795494739", "1795494740", "n3", "None", "1795494700") +
			line("9", "RUNNING", "0:0", "1795494739", "Unknown", "n3", "None", "1795494700")),
	})
	known, err := f.Status(t.Context(), "7", "8", "9", "10")
	if err != nil {
		t.Fatal(err)
	}
	if known["7"].State != runtime.Pending || known["7"].Reason != "Priority" {
		t.Errorf("the pending job: %+v", known["7"])
	}
	if known["8"].Outcome != runtime.Cancelled || known["8"].Reason != "CANCELLED by 1000" || known["8"].Exited {
		t.Errorf("the cancelled job: %+v", known["8"])
	}
	if len(known) != 2 {
		t.Errorf("got %+v; accounting does not know that a job runs, nor one that nobody knows", known)
	}
	if calls := f.read("calls"); !strings.Contains(calls, "-j 8,9,10\n") {
		t.Errorf("the calls were\n%s", calls)
	}
}

func TestStatusWithoutAccounting(t *testing.T) {
	for name, commands := range map[string]map[string]string{
		"disabled": {"squeue": "true", "sacct": "echo Slurm accounting storage is disabled >&2; exit 1"},
		"no sacct": {"squeue": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, commands)
			for range 3 {
				if known, err := f.Status(t.Context(), "7"); err != nil || len(known) != 0 {
					t.Fatalf("%+v, %v", known, err)
				}
			}
			if n := f.runs.Load(); n != 4 {
				t.Errorf("%d round trips, want accounting to be asked once", n)
			}
		})
	}
}

// A query that fails says nothing of a job.
func TestStatusErrors(t *testing.T) {
	tests := []struct {
		name, squeue, sacct, want string
	}{
		{"squeue", "echo slurm_load_jobs error: Unable to contact slurm controller '(connect failure)' >&2; exit 1", "true",
			"status: squeue: slurm_load_jobs error: Unable to contact slurm controller (connect failure)"},
		{"sacct", "true", "echo sacct: error: Problem talking to the database: Connection refused >&2; exit 1",
			"status: sacct: Problem talking to the database: Connection refused"},
		{"silent", "exit 3", "true", "status: squeue: exit status 3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, map[string]string{"squeue": test.squeue, "sacct": test.sacct})
			known, err := f.Status(t.Context(), "7")
			if known != nil || err == nil || err.Error() != test.want || runtime.FaultOf(err) != runtime.FaultInfra {
				t.Errorf("got %+v, %v; want %s", known, err, test.want)
			}
		})
	}
	f := newFake(t, map[string]string{})
	if _, err := f.Status(t.Context(), "7"); err == nil || err.Error() != "status: squeue: there is no squeue on meluxina" {
		t.Errorf("without squeue: %v", err)
	}
}

// A cluster is named only where sbatch named one.
func TestClusters(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": `case $1 in
--clusters=beta) echo CLUSTER: beta; ` + prints(line("7", "COMPLETED", "0:0", "1", "2", "b1", "None")) + ` ;;
*) ` + prints(line("7", "RUNNING", "0:0", "1", "2", "a1", "None")) + ` ;; esac`,
		"scancel": "true",
	})
	known, err := f.Status(t.Context(), "7", "7;beta")
	if err != nil || known["7"].Node != "a1" || known["7;beta"].Node != "b1" || len(known) != 2 {
		t.Errorf("%+v, %v", known, err)
	}
	if err := f.Cancel(t.Context(), "7;beta", "8"); err != nil {
		t.Error(err)
	}
	if calls := f.read("calls"); !strings.HasSuffix(calls, "\nscancel 8\nscancel --clusters=beta 7\n") {
		t.Errorf("the calls were\n%s", calls)
	}
	if n := f.runs.Load(); n != 2 {
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
