package slurm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
)

// describe says in one line what a status says, without the times.
func describe(st runtime.Status) string {
	s := fmt.Sprintf("%s %s", st.State, st.Outcome)
	if st.Exited {
		s += fmt.Sprintf(" %d", st.Code)
	}
	if st.Signal != 0 {
		s += fmt.Sprintf(" signal %d", st.Signal)
	}
	s += " " + st.Node
	if st.Attempt != 0 {
		s += fmt.Sprintf(" attempt %d", st.Attempt)
	}
	return strings.Join(strings.Fields(s+" "+st.Reason), " ")
}

// fates are those of the jobs that testdata/slurm/capture makes, by their names, as squeue and scontrol say them.
var fates = map[string]string{
	"completed":   "ended completed 0 n1",
	"failed":      "ended failed 3 n1 NonZeroExitCode",
	"killed":      "ended failed signal 9 n1 JobLaunchFailure | ended failed signal 9 n1 RaisedSignal:9(Killed)",
	"cancelled":   "ended cancelled signal 15 n1",
	"held":        "ended cancelled JobHeldUser",
	"timeout":     "ended timeout signal 15 n1 TimeLimit",
	"ending":      "running n1 COMPLETING",
	"node":        "ended node failure n2 NodeDown",
	"requeued":    "pending attempt 1 BeginTime",
	"running":     "running n1",
	"pending":     "pending BeginTime",
	"again":       "ended failed 5 n1 attempt 1 NonZeroExitCode",
	"requeuehold": "pending attempt 1 job requeued in held state",
	"specialexit": "pending attempt 1 SPECIAL_EXIT, job requeued in held state",
	"suspended":   "running n1 SUSPENDED",
	"waits":       "pending JobHeldUser",
	"depends":     "pending Dependency",
	"never":       "pending DependencyNeverSatisfied",
	"array_1":     "ended failed 7 n1 NonZeroExitCode",
	"array_2":     "running n1",
	"array_3":     "pending JobArrayTaskLimit",
	"array_5":     "pending JobArrayTaskLimit",
}

// plainFates are those that an old squeue says otherwise: it does not tell exit codes, nor how often a job was requeued.
var plainFates = map[string]string{
	"completed":   "ended completed n1",
	"failed":      "ended failed n1 NonZeroExitCode",
	"killed":      "ended failed n1 JobLaunchFailure | ended failed n1 RaisedSignal:9(Killed)",
	"cancelled":   "ended cancelled n1",
	"timeout":     "ended timeout n1 TimeLimit",
	"requeued":    "pending BeginTime",
	"again":       "ended failed n1 NonZeroExitCode",
	"requeuehold": "pending job requeued in held state",
	"specialexit": "pending SPECIAL_EXIT, job requeued in held state",
	"array_1":     "ended failed n1 NonZeroExitCode",
}

// accountedFates are those that accounting says otherwise. It has no reasons, and no single tasks of an array that wait;
// 24.11 has the first that waits.
var accountedFates = map[string]string{
	"failed":      "ended failed 3 n1",
	"killed":      "ended failed signal 9 n1",
	"cancelled":   "ended cancelled n1 CANCELLED by 1000",
	"held":        "ended cancelled CANCELLED by 1000",
	"timeout":     "ended timeout n1",
	"ending":      "ended cancelled n1 CANCELLED by 1000",
	"node":        "ended node failure n2",
	"requeued":    "pending attempt 1",
	"pending":     "pending",
	"again":       "ended failed 5 n1 attempt 1",
	"requeuehold": "pending attempt 1",
	"specialexit": "pending attempt 1",
	"waits":       "pending",
	"depends":     "pending",
	"never":       "pending",
	"array_1":     "ended failed 7 n1",
	"array_3":     " | pending",
	"array_5":     " | pending",
}

func TestCapturedStatus(t *testing.T) {
	t.Parallel()
	jobs := captured(t, "jobs")
	check := func(version, source string, other map[string]string, status func(name, id string) (runtime.Status, bool)) {
		for line := range strings.Lines(jobs[version]) {
			name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
			want, ok := other[name]
			if !ok {
				want = fates[name]
			}
			got := ""
			if st, ok := status(name, id); ok {
				got = describe(st)
				if st.By != source || st.End.IsZero() != (st.State != runtime.Ended) ||
					st.Start.IsZero() != (st.Node == "" && !strings.Contains(got, "BeginTime")) {
					t.Errorf("Slurm %s, %s: %s: %+v", version, source, name, st)
				}
			}
			if !slices.Contains(strings.Split(want, " | "), got) {
				t.Errorf("Slurm %s, %s: %s is %q, want %q", version, source, name, got, want)
			}
		}
	}
	in := func(known map[string]runtime.Status) func(name, id string) (runtime.Status, bool) {
		return func(_, id string) (runtime.Status, bool) {
			st, ok := known[id]
			return st, ok
		}
	}
	for version, out := range captured(t, "squeue") {
		check(version, "squeue", nil, in(parseSqueue(out, new(skips))))
	}
	for version, out := range captured(t, "squeue.plain") {
		check(version, "squeue", plainFates, in(parseSqueue(out, new(skips))))
	}
	for version, out := range captured(t, "sacct") {
		check(version, "sacct", accountedFates, in(parseSacct(out, new(skips))))
	}
	for version, out := range captured(t, "scontrol") {
		records := make(map[string]string)
		for _, record := range strings.Split("\n"+out, "\n== ")[1:] {
			name, text, _ := strings.Cut(record, "\n")
			records[name] = text
		}
		check(version, "scontrol", map[string]string{
			"ending":      "running n1 COMPLETING | ended cancelled signal 9 n1", // it was asked a little later
			"requeuehold": "pending attempt 1 job_requeued_in_held_state",
			"specialexit": "pending attempt 1 SPECIAL_EXIT, job_requeued_in_held_state",
		}, func(name, id string) (runtime.Status, bool) { return parseScontrol(records[name], id) })
	}
}

// Slurm prints the first flag of a job's state that has a word, or else its base state. Whatever is printed, only a base
// state is an end.
func TestStates(t *testing.T) {
	t.Parallel()
	bases := []struct {
		word    string
		state   runtime.State
		outcome runtime.Outcome
	}{
		{"PENDING", runtime.Pending, ""},
		{"RUNNING", runtime.Running, ""},
		{"SUSPENDED", runtime.Running, ""},
		{"COMPLETED", runtime.Ended, runtime.Completed},
		{"CANCELLED", runtime.Ended, runtime.Cancelled},
		{"FAILED", runtime.Ended, runtime.Failed},
		{"TIMEOUT", runtime.Ended, runtime.TimedOut},
		{"NODE_FAIL", runtime.Ended, runtime.NodeFailure},
		{"PREEMPTED", runtime.Ended, runtime.Preempted},
		{"BOOT_FAIL", runtime.Ended, runtime.NodeFailure},
		{"DEADLINE", runtime.Ended, runtime.TimedOut},
		{"OUT_OF_MEMORY", runtime.Ended, runtime.OutOfMemory},
	}
	flags := []struct {
		word  string // "": the flag has none
		state runtime.State
	}{
		{"COMPLETING", runtime.Running}, // the outcome may still change
		{"STAGE_OUT", runtime.Running},
		{"CONFIGURING", runtime.Pending},
		{"EXPEDITING", runtime.Running},
		{"RESIZING", runtime.Running},
		{"REQUEUED", runtime.Pending},
		{"REQUEUE_FED", runtime.Pending},
		{"REQUEUE_HOLD", runtime.Pending},
		{"SPECIAL_EXIT", runtime.Pending},
		{"STOPPED", runtime.Running},
		{"REVOKED", runtime.Unknown}, // another cluster of the federation has it
		{"RESV_DEL_HOLD", runtime.Pending},
		{"SIGNALING", runtime.Running},
		{"", ""}, // LAUNCH_FAILED
		{"", ""}, // GETENV_FAILED
		{"", ""}, // RECONFIG_FAIL
		{"", ""}, // POWER_UP_NODE
	}
	for _, base := range bases {
		for _, flag := range flags {
			word, state, outcome := base.word, base.state, base.outcome
			if flag.word != "" {
				word, state, outcome = flag.word, flag.state, ""
			}
			checkWord(t, word, state, outcome)
			checkWord(t, base.word+","+cmp.Or(flag.word, "LAUNCH_FAILED"), runtime.Unknown, "") // as JSON has them
		}
		checkWord(t, base.word, base.state, base.outcome)
		checkWord(t, base.word+"+", runtime.Unknown, "")
		checkWord(t, strings.ToLower(base.word), runtime.Unknown, "")
	}
	checkWord(t, "CANCELLED by 1000", runtime.Ended, runtime.Cancelled)
	for _, word := range []string{"?", "", "UNHEARD_OF", "CD", "COMPLETED\x00", "ENDED", "DONE", "None",
		"COMPLETED by 1000", "FAILED 1", "CANCELLED-by 1000"} {
		checkWord(t, word, runtime.Unknown, "")
	}
}

// checkWord checks what a state means in the words of each source.
func checkWord(t *testing.T, word string, state runtime.State, outcome runtime.Outcome) {
	t.Helper()
	known := map[string]runtime.Status{
		"squeue": parseSqueue(record("7", word, "0:0", "0", "100", "200", "n1", "None"), new(skips))["7"],
		"sacct":  parseSacct(row("7", word, "0:0", "100", "200", "n1", "50"), new(skips))["7"],
	}
	if !strings.Contains(word, " ") {
		known["scontrol"], _ = parseScontrol(fmt.Sprintf("JobId=7 JobName=x\n   JobState=%s Reason=None Dependency=(null)\n"+
			"   Requeue=1 Restarts=0 ExitCode=0:0\n   StartTime=100 EndTime=200\n   NodeList=n1\n", word), "7")
	}
	for source, st := range known {
		if st.State != state || st.Outcome != outcome {
			t.Errorf("%s: %q means %q %q, want %q %q", source, word, st.State, st.Outcome, state, outcome)
		}
		if ended := st.State == runtime.Ended; ended == st.End.IsZero() {
			t.Errorf("%s: %q: the end is %v", source, word, st.End)
		}
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	tests := []struct{ word, reason, want string }{
		{"PENDING", "Priority", "Priority"},
		{"PENDING", "None", ""},
		{"PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1,3]", "ReqNodeNotAvail, UnavailableNodes:n[1,3]"},
		{"SUSPENDED", "None", "SUSPENDED"},
		{"COMPLETING", "None", "COMPLETING"},
		{"REVOKED", "", "REVOKED"},
		{"CANCELLED by 1000", "None", "CANCELLED by 1000"},
		{"TIMEOUT", "TimeLimit", "TimeLimit"},
		{"REQUEUE_HOLD", "None", "REQUEUE_HOLD"},
		{"REQUEUE_HOLD", "job requeued in held state", "REQUEUE_HOLD, job requeued in held state"},
		{"PENDING", "a|b\x1fc \u00fc\nJobHeldUser\n8 \x1f", "a|b c \u00fc JobHeldUser 8"},
		{"PENDING", "\xff", "\ufffd"},
		{"PENDING", strings.Repeat("nid00408,", 500), strings.Repeat("nid00408,", 500)},
	}
	for _, test := range tests {
		known := parseSqueue(record("7", test.word, "0:0", "0", "1", "2", "n1", test.reason), new(skips))
		if got := known["7"].Reason; got != test.want {
			t.Errorf("%s, %s: the reason is %q, want %q", test.word, test.reason, got, test.want)
		}
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	failed := row("7", "NODE_FAIL", "1:0", "100", "200", "n1", "50")
	tests := []struct{ before, after, want string }{
		{failed, row("7", "COMPLETED", "0:0", "300", "400", "n2", "250"), "ended completed 0 n2 attempt 1"},
		{failed, row("7", "RUNNING", "0:0", "300", "Unknown", "n2", "250"), "running n2 attempt 1"},
		{failed, row("7", "PENDING", "0:0", "Unknown", "Unknown", "None assigned", "250"), "pending attempt 1"},
		{row("7", "REQUEUED", "0:0", "100", "200", "n1", "50", "0"), row("7", "FAILED", "3:0", "300", "400", "n2", "250", "1"),
			"ended failed 3 n2 attempt 1"},
		{"", row("7", "FAILED", "3:0", "300", "400", "n2", "250", "4"), "ended failed 3 n2 attempt 4"}, // older rows are purged
		{"", row("7", "FAILED", "3:0", "300", "400", "n2", "250", "-1"), "ended failed 3 n2"},
		{row("6", "FAILED", "3:0", "300", "400", "n2", "900"), failed, "ended node failure n1"},
	}
	for _, test := range tests {
		for _, out := range []string{test.before + test.after, test.after + test.before} {
			if got := describe(parseSacct(out, new(skips))["7"]); got != test.want {
				t.Errorf("%q: got %q, want %q", out, got, test.want)
			}
		}
	}
	// Submitted again in the same second: the order of the rows counts.
	out := row("7", "REQUEUED", "0:0", "50", "50", "n1", "50") + row("7", "COMPLETED", "0:0", "51", "52", "n1", "50")
	if got := describe(parseSacct(out, new(skips))["7"]); got != "ended completed 0 n1 attempt 1" {
		t.Errorf("%q: got %q", out, got)
	}
}

// What is no record is skipped, and what stands before one.
func TestParseSqueueNoise(t *testing.T) {
	t.Parallel()
	good := record("8", "RUNNING", "0:0", "0", "100", "200", "n1", "None")
	for _, noise := range []string{
		"CLUSTER: beta\n", "motd 7\n\n", record("7", "FAILED"), record("7", "FAILED", "0:0", "0", "100", "200", "n1"),
		record("", "FAILED", "0:0", "0", "100", "200", "n1", "None"), record("x7", "FAILED", "0:0", "0", "100", "200", "n1", "None"),
		record("7_[1-3]", "PENDING", "0:0", "0", "100", "200", "n1", "None"), record("7+1", "FAILED", "0:0", "0", "1", "2", "n1", "None"),
		terminator + terminator, separator + terminator,
	} {
		if known := parseSqueue(noise+good, new(skips)); len(known) != 1 || known["8"].State != runtime.Running {
			t.Errorf("%q before a record: got %+v", noise, known)
		}
	}
	// Of two records of a job, the one on the cluster of a federation that has it counts.
	revoked := record("8", "REVOKED", "0:0", "0", "100", "200", "n1", "None")
	for _, out := range []string{good + revoked, revoked + good} {
		if known := parseSqueue(out, new(skips)); known["8"].State != runtime.Running {
			t.Errorf("%q: got %+v", out, known)
		}
	}
}

// A job's name and comments may look like fields, and another job's record is not this one's.
func TestParseScontrol(t *testing.T) {
	t.Parallel()
	const out = `JobId=107 ArrayJobId=100 ArrayTaskId=7 JobName=x JobState=COMPLETED
   UserId=alice(1000) GroupId=alice(1000) MCS_label=N/A
   JobState=PENDING Reason=ReqNodeNotAvail,_UnavailableNodes:n[1-2] Dependency=(null)
   Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0
   StartTime=100 EndTime=200 Deadline=N/A
   NodeList= SchedNodeList=n1
   Comment=NodeList=n9 JobState=FAILED Restarts=9
   JobState=FAILED Reason=None Dependency=(null)
`
	for _, id := range []string{"107", "100_7"} {
		number := out
		if id == "107" {
			number = strings.Replace(out, "ArrayJobId=100 ArrayTaskId=7 ", "", 1)
		}
		st, ok := parseScontrol(number, id)
		if want := "pending attempt 2 ReqNodeNotAvail, UnavailableNodes:n[1-2]"; !ok || describe(st) != want || st.By != "scontrol" {
			t.Errorf("%s: got %q, want %q", id, describe(st), want)
		}
	}
	for _, id := range []string{"100", "100_8", "107", "7", ""} {
		if st, ok := parseScontrol(out, id); ok {
			t.Errorf("%s: got %+v", id, st)
		}
	}
	if st, ok := parseScontrol(out+"\n"+strings.ReplaceAll(out, "107", "100"), "100_7"); ok {
		t.Errorf("of two jobs: got %+v", st)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		s            string
		code, signal int
	}{
		{"0:0", 0, 0}, {"3:0", 3, 0}, {"143:0", 143, 0}, {"0:9", 0, 9},
		{"0", 0, 0}, {"768", 3, 0}, {"36608", 143, 0}, {"9", 0, 9}, {"137", 0, 9}, // with a core dump
		{"0:53", -1, 0}, {"4021", -1, 0}, // an error of slurmd's
		{"", -1, 0}, {"x", -1, 0}, {"3:", -1, 0}, {":3", -1, 0}, {"-1", -1, 0},
		{"300:0", -1, 0}, {"1:2:3", -1, 0}, {"N/A", -1, 0},
	}
	for _, test := range tests {
		if code, signal := exitCode(test.s); code != test.code || signal != test.signal {
			t.Errorf("%q: got %d and %d, want %d and %d", test.s, code, signal, test.code, test.signal)
		}
	}
}

func TestFirstNode(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"n1": "n1", "n1,n2": "n1", "n[1-2,5]": "n1", "n[07-12,20],login1": "n07", "rack[1-2]n[03,05]": "rack1n03",
		"nid00[408,411-415]": "nid00408", "gpu-a_1.cluster": "gpu-a_1.cluster", "n[12": "n12",
		"": "", "None assigned": "", "(null)": "", "n1;rm": "", "n[1[2]]": "", "n]": "",
	} {
		if got := firstNode(list); got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}
