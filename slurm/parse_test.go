package slurm

import (
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
	return strings.Join(strings.Fields(s+" "+st.Node+" "+st.Reason), " ")
}

// The fates of the jobs that testdata/slurm/capture makes, by their names.
func TestCapturedStatus(t *testing.T) {
	t.Parallel()
	jobs := captured(t, "jobs")
	check := func(source, version string, known map[string]runtime.Status, want map[string]string) {
		for line := range strings.Lines(jobs[version]) {
			name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
			st, ok := known[id]
			if ok && (st.Start.IsZero() != (st.Node == "") || st.End.IsZero() != (st.State != runtime.Ended)) {
				t.Errorf("Slurm %s, %s: %s started %v, ended %v", version, source, name, st.Start, st.End)
			}
			got := ""
			if ok {
				got = describe(st)
			}
			if !slices.Contains(strings.Split(want[name], " | "), got) {
				t.Errorf("Slurm %s, %s: %s is %q, want %q", version, source, name, got, want[name])
			}
		}
	}
	for version, out := range captured(t, "squeue") {
		check("squeue", version, parseSqueue(out), map[string]string{
			"completed": "ended completed 0 n1",
			"failed":    "ended failed 3 n1 NonZeroExitCode",
			"killed":    "ended failed signal 9 n1 JobLaunchFailure | ended failed signal 9 n1 RaisedSignal:9(Killed)",
			"cancelled": "ended cancelled signal 15 n1",
			"held":      "ended cancelled JobHeldUser",
			"timeout":   "ended timeout signal 15 n1 TimeLimit",
			"ending":    "running n1 COMPLETING",
			"node":      "ended node failure n2 NodeDown",
			"requeued":  "pending BeginTime | pending ReqNodeNotAvail, UnavailableNodes:n2",
			"running":   "running n1",
			"pending":   "pending BeginTime",
		})
	}
	for version, out := range captured(t, "sacct") { // which does not decide on what runs or waits
		check("sacct", version, parseSacct(out), map[string]string{
			"completed": "ended completed 0 n1",
			"failed":    "ended failed 3 n1",
			"killed":    "ended failed signal 9 n1",
			"cancelled": "ended cancelled n1 CANCELLED by 1000",
			"held":      "ended cancelled JobHeldUser | ended cancelled CANCELLED by 1000",
			"timeout":   "ended timeout n1",
			"ending":    "ended cancelled n1 CANCELLED by 1000",
			"node":      "ended node failure n2",
		})
	}
}

func TestMeaning(t *testing.T) {
	t.Parallel()
	tests := []struct {
		state   runtime.State
		outcome runtime.Outcome
		words   string
	}{
		{runtime.Pending, "", "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD"},
		{runtime.Running, "", "RUNNING COMPLETING SUSPENDED STOPPED RESIZING SIGNALING STAGE_OUT EXPEDITING"},
		{runtime.Ended, runtime.Completed, "COMPLETED"},
		{runtime.Ended, runtime.Failed, "FAILED"},
		{runtime.Ended, runtime.Cancelled, "CANCELLED"},
		{runtime.Ended, runtime.TimedOut, "TIMEOUT DEADLINE"},
		{runtime.Ended, runtime.OutOfMemory, "OUT_OF_MEMORY"},
		{runtime.Ended, runtime.Preempted, "PREEMPTED"},
		{runtime.Ended, runtime.NodeFailure, "NODE_FAIL BOOT_FAIL"},
		{runtime.Unknown, "", "? REVOKED UNHEARD_OF completed COMPLETED+ CD"},
	}
	for _, test := range tests {
		for _, word := range strings.Fields(test.words) {
			state, outcome := meaning(word)
			if state != test.state || outcome != test.outcome {
				t.Errorf("%s means %s %s, want %s %s", word, state, outcome, test.state, test.outcome)
			}
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
	}
	for _, test := range tests {
		known := parseSqueue(line("7", test.word, "0:0", "1", "2", "n1", test.reason))
		if got := known["7"].Reason; got != test.want {
			t.Errorf("%s, %s: the reason is %q, want %q", test.word, test.reason, got, test.want)
		}
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	first := line("7", "NODE_FAIL", "1:0", "100", "200", "n1", "None", "50")
	for want, second := range map[string]string{
		"ended completed 0 n2": line("7", "COMPLETED", "0:0", "300", "400", "n2", "None", "250"),
		"":                     line("7", "RUNNING", "0:0", "300", "Unknown", "n2", "None", "250"),
	} {
		for _, out := range []string{first + second, second + first} {
			if got := strings.TrimSpace(describe(parseSacct(out)["7"])); got != want {
				t.Errorf("%q: got %q, want %q", out, got, want)
			}
		}
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

// Parsers take what comes, and no line makes a job end that does not have a word for it.
func FuzzParse(f *testing.F) {
	f.Add(line("7", "RUNNING", "0:0", "1", "2", "n[1-2]", "None"))
	f.Add(line("7", "CANCELLED by 1", "0:15", "1", "2", "n[1-2]", "None", "3"))
	f.Add(line("7", "COMPLETED", "9999999999999999999", "-1", "x", "[[[", ""))
	f.Fuzz(func(t *testing.T, out string) {
		for _, known := range []map[string]runtime.Status{parseSqueue(out), parseSacct(out)} {
			for id, st := range known {
				if st.State != runtime.Ended {
					continue
				}
				said := false
				for _, word := range []string{"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY",
					"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"} {
					said = said || strings.Contains(out, word)
				}
				if !said {
					t.Errorf("%q ends job %s: %+v", out, id, st)
				}
			}
		}
		parseReplies(out, "M")
		parseID(out)
	})
}
