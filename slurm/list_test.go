package slurm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
)

func joined(fields ...string) string { return strings.Join(fields, separator) }

func TestParseListedJobs(t *testing.T) {
	t.Parallel()
	const end = "\x1eX"
	record := func(fields ...string) string { return joined(fields...) + separator + end + "\n" }
	out := "motd\n" +
		record("7", "alice", "p1", "cpu", "normal", "RUNNING", "2", "n[1-2]", "1-02:03:04", "2:00:00", "1795494739", "1795494800", "None", "train | a") +
		record("9_[0-63%4]", "bob", "(null)", "cpu,gpu", "(null)", "PENDING", "1", "", "0:00", "UNLIMITED", "1795494739", "N/A",
			"ReqNodeNotAvail, UnavailableNodes:n[1-2]", "x"+separator+"y\x1e\nz\x1b[2J") +
		record("10", "bob", "p", "cpu", "normal", "PENDING", "1", "", "0:00", "1:00", "5", "1795494800", "JobHeldUser", "held") +
		record("x", "alice", "p1", "cpu", "normal", "RUNNING", "2", "n1", "0:01", "1:00", "1", "2", "None", "no id") +
		joined("8", "cut off")
	want := [][]string{
		{"7", "train | a", "alice", "p1", "cpu", "normal", "RUNNING", "", "2", "n[1-2]", "93784", "7200",
			"2026-11-24T04:32:19Z", "2026-11-24T04:33:20Z"},
		{"9_[0-63%4]", "x y  z [2J", "bob", "", "cpu,gpu", "", "PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-2]", "1", "", "0", "",
			"2026-11-24T04:32:19Z", ""},
		{"10", "held", "bob", "p", "cpu", "normal", "PENDING", "JobHeldUser", "1", "", "0", "60", "1970-01-01T00:00:05Z", ""},
	}
	got, skipped := parseListedJobs(out, end)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := runtime.TableQueue.Check(got); err != nil {
		t.Error(err)
	}
	if skipped.lines != 3 {
		t.Errorf("%d lines were skipped, want 3", skipped.lines)
	}
}

func TestParseListedAccounts(t *testing.T) {
	t.Parallel()
	out := joined("7", "alice", "p1", "cpu", "normal", "COMPLETED", "0:0", "2", "8", "n[1-2]", "90", "60", "1795494739", "1795494800", "1795494890", "j") + "\n" +
		joined("8", "alice", "p1", "cpu", "normal", "CANCELLED by 1000", "0:15", "1", "1", "None assigned", "0", "Partition_Limit", "1795494739",
			"None", "1795494800", "a"+separator+"b") + "\n" +
		joined("9_[1-3]", "alice", "p1", "cpu", "", "PENDING", "0:0", "1", "1", "None assigned", "0", "UNLIMITED", "1795494739", "Unknown", "Unknown", "c") + "\n" +
		"slurm_persist_conn_open: noise\n"
	want := [][]string{
		{"7", "j", "alice", "p1", "cpu", "normal", "COMPLETED", "0", "2", "8", "n[1-2]", "90", "3600",
			"2026-11-24T04:32:19Z", "2026-11-24T04:33:20Z", "2026-11-24T04:34:50Z"},
		{"8", "a b", "alice", "p1", "cpu", "normal", "CANCELLED", "", "1", "1", "", "0", "",
			"2026-11-24T04:32:19Z", "", "2026-11-24T04:33:20Z"},
		{"9_[1-3]", "c", "alice", "p1", "cpu", "", "PENDING", "", "1", "1", "", "0", "", "2026-11-24T04:32:19Z", "", ""},
	}
	got, skipped := parseListedAccounts(out)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := runtime.TableAccounts.Check(got); err != nil {
		t.Error(err)
	}
	if skipped.lines != 1 {
		t.Errorf("%d lines were skipped, want 1", skipped.lines)
	}
}

func TestParseListedNodes(t *testing.T) {
	t.Parallel()
	const end = "\x1eX"
	out := joined("cpu*", "up", "2-00:00:00", "2", "idle", "64", "256000", "(null)", "(null)", "n[1-2]", end) + "\n" +
		joined("gpu", "down", "infinite", "1", "idle*", "64+", "1000+", "gpu:a100:4", "a100,nvme", "n3", end) + "\n" + "noise\n"
	want := [][]string{
		{"cpu", "up", "172800", "2", "idle", "64", "256000", "", "", "n[1-2]"},
		{"gpu", "down", "", "1", "idle*", "64", "1000", "gpu:a100:4", "a100,nvme", "n3"},
	}
	got, skipped := parseListedNodes(out, end)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := runtime.TableNodes.Check(got); err != nil {
		t.Error(err)
	}
	if skipped.lines != 1 {
		t.Errorf("%d lines were skipped, want 1", skipped.lines)
	}
}

// What is wanted goes to the command as one word each, and what could be taken for more than one value does not.
func TestListCommand(t *testing.T) {
	t.Parallel()
	type where = map[string][]string
	for _, test := range []struct {
		table runtime.TableName
		where where
		want  string // behind the format
	}{
		{runtime.TableQueue, nil, ""},
		{runtime.TableQueue, where{"user": {"me"}, "state": {"PENDING"}}, " --me"},
		{runtime.TableQueue, where{"user": {"me", "bob"}}, ""},
		{runtime.TableQueue, where{"user": {"bob", "eve"}, "partition": {"c p u"}, "name": {"$(id)"}}, " '--user=bob,eve' '--partition=c p u' '--name=$(id)'"},
		{runtime.TableQueue, where{"name": {"a,b"}, "partition": {""}}, ""},
		{runtime.TableAccounts, where{"user": {"me"}, "name": {"x"}}, " '--name=x'"},
		{runtime.TableNodes, where{"partition": {"gpu"}, "state": {"idle"}}, " '--partition=gpu'"},
	} {
		command := listCommand(runtime.Listing{Table: test.table, Where: test.where, Since: time.Hour}, "END")
		format := map[runtime.TableName]string{runtime.TableQueue: runtime.Quote(listQueue + separator + "END"),
			runtime.TableNodes: runtime.Quote(listNodes + separator + "END"), runtime.TableAccounts: " '--starttime=now-61minutes'"}[test.table]
		if _, got, ok := strings.Cut(command, format); !ok || got != test.want {
			t.Errorf("%s where %v: %q, want %q behind %q", test.table, test.where, command, test.want, format)
		}
	}
}

func TestListErrors(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1",
		"sacct":  "echo Slurm accounting storage is disabled >&2; exit 1",
		"sinfo":  "env | grep -q '^\\(SINFO\\|SLURM_CLUSTERS\\|SLURM_JOB_ID\\)' && exit 3; exit 0",
	})
	for table, want := range map[runtime.TableName]string{
		runtime.TableQueue:    "squeue: Unable to contact slurm controller",
		runtime.TableAccounts: "meluxina keeps no accounts of jobs",
		runtime.TableNodes:    "<nil>",
	} {
		_, err := f.List(t.Context(), runtime.Listing{Table: table, Since: time.Hour})
		got := "<nil>"
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", table, got, want)
		}
	}
	f.set("sacct", "echo 'sacct: error: slurm_persist_conn_open: Connection refused' >&2; exit 0")
	_, err := f.List(t.Context(), runtime.Listing{Table: runtime.TableAccounts, Since: time.Hour})
	if failed := (*runtime.CommandError)(nil); !errors.As(err, &failed) || failed.Class != runtime.Transient {
		t.Errorf("a database that is down: %v", err)
	}
}

func FuzzLists(f *testing.F) {
	f.Add(joined("7", "a", "(null)", "cpu", "q", "RUNNING", "2", "n[1-2]", "1-02:03:04", "9-9:9:9:9", "1", "-1", "None", "x", "E") + "\n")
	f.Add(joined("cpu*", "up", "infinite", "99999999999999999999", "idle", "64+", "+", "(null)", "\n", "n1", "E"))
	f.Add(joined("7", "a", "p", "cpu", "q", "CANCELLED by 1", "0:15", "1", "1", "None assigned", "5", "-5", "x", "None", "Unknown", "n", "m\r") + "\n")
	f.Fuzz(func(t *testing.T, out string) {
		jobs, _ := parseListedJobs(out, "E")
		accounts, _ := parseListedAccounts(out)
		nodes, _ := parseListedNodes(out, "E")
		for table, rows := range map[runtime.TableName][][]string{runtime.TableQueue: jobs, runtime.TableAccounts: accounts,
			runtime.TableNodes: nodes} {
			if err := table.Check(rows); err != nil {
				t.Errorf("%q: %v", out, err)
			}
		}
	})
}
