package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
)

// captured returns the captured output of a command, by the version of Slurm.
func captured(t testing.TB, command string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "slurm", "*", command))
	if err != nil || len(files) < 2 {
		t.Fatalf("captured output of %s: %q, %v", command, files, err)
	}
	outputs := make(map[string]string)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		outputs[filepath.Base(filepath.Dir(file))] = string(data)
	}
	return outputs
}

func TestCapturedRefusals(t *testing.T) {
	t.Parallel()
	want := map[string][2]string{
		"-p gpuu":            {"invalid partition specified: gpuu", "partition="},
		"--mem=900G":         {"Memory specification can not be satisfied", "mem="},
		"--gpus=2":           {"Invalid generic resource (gres) specification", "gpus="},
		"-C fast":            {"Invalid feature specification", "constraint="},
		"-w n77":             {"Invalid node name specified", "nodelist="},
		"--reservation=none": {"Requested reservation is invalid", "reservation="},
		"--nonsense":         {`unrecognized option '--nonsense'; Try "sbatch --help" for more information`, "extra="},
		"--time=abc":         {"Invalid --time specification", ""},
	}
	for version, out := range captured(t, "sbatch") {
		for _, part := range strings.Split("\n"+out, "\n== ")[1:] {
			options, out, _ := strings.Cut(part, "\n")
			out, _, refused := strings.Cut(out, "exit ")
			w, ok := want[options]
			if !ok || !refused {
				t.Errorf("Slurm %s: sbatch %s: %s", version, options, out)
				continue
			}
			if got := cleaned("sbatch", out); got != w[0] {
				t.Errorf("Slurm %s: sbatch %s: got %q, want %q", version, options, got, w[0])
			}
			if c := causeOf(out); !strings.Contains(c.hint, w[1]) || c.fault != runtime.FaultRun || w[1] == "" && c.hint != "" {
				t.Errorf("Slurm %s: sbatch %s: %+v", version, options, c)
			}
			if class := classOf(reply{1, out}); class != runtime.Permanent {
				t.Errorf("Slurm %s: sbatch %s: class %s", version, options, class)
			}
		}
	}
}

// A limit on how many jobs there may be is passing; one on what a job may be is not, though sbatch says the same of both
// but for the limit's name.
func TestCapturedLimits(t *testing.T) {
	t.Parallel()
	want := map[string]runtime.Class{
		"MaxSubmitJobs": runtime.Quota, "MaxSubmitJobs, an array": runtime.Quota, "MaxSubmitJobsPerUser": runtime.Quota,
		"GrpSubmitJobs": runtime.Quota, "MaxJobCount": runtime.Quota,
		"MaxWall": runtime.Permanent, "MaxTRESPerJob": runtime.Permanent, "MaxTRESPerUser": runtime.Permanent,
	}
	for version, out := range captured(t, "limits") {
		parts := strings.Split("\n"+out, "\n== ")[1:]
		if len(parts) != len(want) {
			t.Errorf("Slurm %s: %d limits, want %d", version, len(parts), len(want))
		}
		for _, part := range parts {
			limit, out, _ := strings.Cut(part, "\n")
			out, _, refused := strings.Cut(out, "exit 1")
			if class := classOf(reply{1, out}); !refused || class != want[limit] {
				t.Errorf("Slurm %s: %s: class %q, want %q, of: %s", version, limit, class, want[limit], out)
			}
			if c := causeOf(out); c.hint == "" {
				t.Errorf("Slurm %s: %s: no hint", version, limit)
			}
		}
	}
}

// The words are those of Slurm's slurm_errno.c and of sbatch.
func TestClassOf(t *testing.T) {
	t.Parallel()
	const general = "sbatch: error: Batch job submission failed: "
	tests := map[runtime.Class][]string{
		runtime.Transient: {
			"Unable to contact slurm controller (connect failure)",
			"Communication connection failure",
			"Connection timed out establishing",
			"Slurm backup controller in standby mode",
			"Controller is in standby mode, try a different controller",
			"Rate limit exceeded, please retry momentarily",
			"Rate limit exceeded, please retry later",
			"Requested nodes are busy",
			"sbatch: fatal: Could not establish a configuration source",
			"sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n" +
				general + "Unable to contact slurm controller (connect failure)",
		},
		runtime.Ambiguous: {
			"Unable to contact slurm controller (send failure)",
			"Unable to contact slurm controller (receive failure)",
			"Unable to contact slurm controller (shutdown failure)",
			"Unable to contact slurm controller",
			"Unexpected message received",
			"Unexpected message recieved",
			"Socket timed out on send/recv operation",
			"Zero Bytes were transmitted or received",
			"Message send/receive failure",
			"Message receive failure",
			"Message send failure",
			"Communication shutdown failure",
			"Header lengths are longer than data received",
			"Insane message length",
			"Protocol authentication error",
			"Invalid authentication credential",
			"Connection reset by peer",
			"Connection timed out reading",
			"Broken pipe",
			"Kernel reported delayed socket error after successful write(), client side likely closed",
			"sbatch: error: Slurm job queue full, sleeping and retrying\n" + general + "Socket timed out on send/recv operation",
		},
		runtime.Quota: {
			"Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
			"sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + general +
				"Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
			"sbatch: error: AssocMaxSubmitJobLimit\n" + general + "Job violates accounting/QOS policy",
			"sbatch: error: AssocGrpSubmitJobsLimit\n" + general + "Job violates accounting/QOS policy",
			"sbatch: error: QOSMaxJobsPerUserLimit\n" + general + "Job violates accounting/QOS policy",
			"sbatch: error: MaxSubmitJobsPerUser\n" + general + "Job violates accounting/QOS policy",
			"MaxJobCount limit reached",
			"sbatch: error: Slurm job queue full, sleeping and retrying\n" + general + "MaxJobCount limit reached",
			"Resource temporarily unavailable",
			"sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n" + general + "Resource temporarily unavailable",
		},
		runtime.Permanent: {
			"sbatch: error: QOSMaxWallDurationPerJobLimit\n" + general +
				"Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
			"sbatch: error: AssocMaxCpuPerJobLimit\n" + general + "Job violates accounting/QOS policy",
			"sbatch: error: QOSGrpMemLimit\n" + general + "Job violates accounting/QOS policy",
			"Invalid partition name specified",
			"Invalid account or account/partition combination specified",
			"Invalid qos specification",
			"Requested node configuration is not available",
			"Invalid generic resource (gres) specification",
			"Requested time limit is invalid (missing or exceeds some limit)",
			"Invalid job array specification",
			"Access/permission denied",
			"System submissions disabled",
			"Unspecified error",
			"something new",
			"sbatch: error: Slurm job queue full, sleeping and retrying\n" + general + "Invalid partition name specified",
		},
	}
	for want, texts := range tests {
		for _, text := range texts {
			if !strings.Contains(text, "sbatch: ") {
				text = general + text
			}
			if got := classOf(reply{1, text + "\n"}); got != want {
				t.Errorf("%s: got %s, want %s", text, got, want)
			}
		}
	}
	for _, r := range []struct {
		reply
		want runtime.Class
	}{
		{reply{127, "sh: sbatch: not found"}, runtime.Permanent}, {reply{126, "sh: sbatch: Permission denied"}, runtime.Permanent},
		{reply{137, ""}, runtime.Ambiguous}, {reply{143, "sbatch: error: Terminated"}, runtime.Ambiguous}, {reply{1, " \n"}, runtime.Ambiguous},
		{reply{255, "sbatch: unrecognized option '--nonsense'"}, runtime.Permanent},
	} {
		if got := classOf(r.reply); got != r.want {
			t.Errorf("%+v: got %s, want %s", r.reply, got, r.want)
		}
	}
}

func TestCauseOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text  string
		fault runtime.Fault
		hint  string
	}{
		{"Invalid partition name specified", runtime.FaultRun, "partition="},
		{"Required partition not available (inactive or drain)", runtime.FaultRun, "partition is closed"},
		{"Invalid account or account/partition combination specified", runtime.FaultRun, "account="},
		{"Invalid qos specification", runtime.FaultRun, "qos="},
		{"Requested node configuration is not available", runtime.FaultRun, "nodes="},
		{"Invalid generic resource (gres) specification", runtime.FaultRun, "gpus="},
		{"Requested time limit is invalid (missing or exceeds some limit)", runtime.FaultRun, "time="},
		{"Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", runtime.FaultRun, "limit"},
		{"Access denied to requested reservation", runtime.FaultRun, "reservation="},
		{"System submissions disabled", runtime.FaultInfra, ""},
		{"Slurm temporarily unable to accept job, sleeping and retrying", runtime.FaultInfra, "full"},
		{"MaxJobCount limit reached", runtime.FaultInfra, "full"},
		{"Access/permission denied", runtime.FaultRun, ""},
		{"something new", runtime.FaultRun, ""},
	}
	for _, test := range tests {
		c := causeOf("sbatch: error: Batch job submission failed: " + test.text)
		if c.fault != test.fault || !strings.Contains(c.hint, test.hint) {
			t.Errorf("%s: got %+v, want %s, hint with %q", test.text, c, test.fault, test.hint)
		}
		if field, _, ok := strings.Cut(test.hint, "="); ok && field != "nodes" && c.field != field { // nodes are not alone
			t.Errorf("%s: the field is %q, want %q", test.text, c.field, field)
		}
	}
}

// The shell goes on with other jobs after what concerns one job alone.
func TestShellGoesOn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text  string
		calls int // of three jobs under two limits
	}{
		{"Invalid partition name specified", 3},
		{"Unspecified error", 3},
		{"Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", 2},
		{"QOSMaxWallDurationPerJobLimit: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", 3},
		{"AssocMaxSubmitJobLimit: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", 2},
		{"Rate limit exceeded, please retry later", 1},
		{"MaxJobCount limit reached", 1},
	}
	for _, test := range tests {
		f := newFake(t, map[string]string{"sbatch": "echo " + runtime.Quote("sbatch: error: Batch job submission failed: "+test.text) + " >&2; exit 1"})
		jobs := []runtime.Job{f.job("authentication"), f.job("maxjobs"), f.job("c")}
		jobs[2].Needs.QOS = "other"
		subs, err := f.Submit(t.Context(), jobs...)
		if n := f.calls("sbatch"); err != nil || n != test.calls {
			t.Errorf("%s: %d calls of sbatch, want %d; %+v, %v", test.text, n, test.calls, subs, err)
		}
	}
}

func TestCleaned(t *testing.T) {
	t.Parallel()
	const general = "sbatch: error: Batch job submission failed: Unspecified error\n"
	tests := []struct{ out, want string }{
		{"", ""},
		{general, "Unspecified error"},
		{"sbatch: error: lua: no account\n" + general, "lua: no account"},
		{"sbatch: lua: hello\n" + general, "Unspecified error"},
		{"sbatch: error: one\nsbatch: error: two\n", "one; two"},
		{"sbatch: error: one\nsbatch: error: one\n", "one"},
		{"/etc/profile: noise\nsbatch: error: one\r\n", "one"},
		{"sbatch: unrecognized option\n\nTry sbatch --help\n", "unrecognized option; Try sbatch --help"},
	}
	for _, test := range tests {
		if got := cleaned("sbatch", test.out); got != test.want {
			t.Errorf("%q: got %q, want %q", test.out, got, test.want)
		}
	}
}
