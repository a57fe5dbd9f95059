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

// The words are those of Slurm's slurm_errno.c.
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
		{"Access/permission denied", runtime.FaultRun, ""},
		{"something new", runtime.FaultRun, ""},
	}
	for _, test := range tests {
		c := causeOf("sbatch: error: Batch job submission failed: " + test.text)
		if c.fault != test.fault || !strings.Contains(c.hint, test.hint) {
			t.Errorf("%s: got %+v, want %s, hint with %q", test.text, c, test.fault, test.hint)
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
