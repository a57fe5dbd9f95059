package slurm

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
)

// shown shows findings, one a line.
func shown(findings []runtime.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		mark := "ok"
		if !f.OK {
			mark = "no"
		}
		fmt.Fprintf(&b, "%s %s: %s", mark, f.Name, f.Text)
		if f.Hint != "" {
			fmt.Fprintf(&b, " (%s)", f.Hint)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestCheck(t *testing.T) {
	good := map[string]string{
		"sbatch":   "echo slurm-wlm 26.05.5",
		"scontrol": prints(showConfig),
		"squeue":   "true",
		"sacct":    "true",
		"sinfo": prints(strings.Join([]string{"cpu*", "up", "2-00:00:00", "30:00", "1/2/0/3"}, separator) + "\n" +
			strings.Join([]string{"gpu", "down", "infinite", "n/a", "0/0/4/4"}, separator) + "\nnoise\n"),
		"sacctmgr":  "printf '%s\\n' 'aifb|p1||normal,high' 'aifb|p2|gpu|' 'beta|p3||normal'",
		"apptainer": "echo apptainer version 1.5.3",
	}
	const apptainer = `ok apptainer: apptainer version 1.5.3 on the login node; compute nodes may differ
`
	const partitions = `ok partition cpu: up, the default; 2 of 3 nodes idle; time limit 2-00:00:00, if not said 30:00
no partition gpu: down; 0 of 4 nodes idle; time limit infinite (it starts no jobs at the moment)
`
	const accounts = "ok accounts: p1 with QOS normal, high; p2 in partition gpu" +
		" (`account:` in the target's defaults says which one is charged, if not the default)\n"
	without := strings.NewReplacer("accounting_storage/slurmdbd", "(null)", "300 sec", "2 sec", "20001", "0").Replace(showConfig)
	tests := []struct {
		name   string
		change map[string]string // "": there is no such command
		want   string
	}{
		{"all is well", nil, `ok slurm: slurm-wlm 26.05.5, cluster aifb
ok accounting: sacct answers
ok MinJobAge: Slurm itself forgets a job 5m0s after its end
ok MaxArraySize: up to 20001 tasks in a job array
` + partitions + accounts + apptainer},
		{"a squeue that prints more", map[string]string{"squeue": "echo Hello"}, `ok slurm: slurm-wlm 26.05.5, cluster aifb
ok accounting: sacct answers
ok MinJobAge: Slurm itself forgets a job 5m0s after its end
ok MaxArraySize: up to 20001 tasks in a job array
` + partitions + accounts + apptainer + "no squeue: lines of what it prints are not understood: 1, the first: Hello " +
			"(jobs may be missed; if a wrapper of squeue prints them, it should do so on stderr)\n"},
		{"no accounting", map[string]string{"scontrol": prints(without), "sacctmgr": "exit 1"}, `ok slurm: slurm-wlm 26.05.5, cluster aifb
ok accounting: there is none: how a job ended is known from squeue, for a while, and from the job itself
no MinJobAge: Slurm itself forgets a job 2s after its end (without accounting, a job that is killed and cannot tell is lost; ask the administrators for a longer MinJobAge)
ok MaxArraySize: no job arrays: jobs are submitted one by one
` + partitions + `ok accounts: not known; none is needed, or the cluster does not tell
` + apptainer},
		{"little else", map[string]string{"sacct": "echo sacct: error: Problem talking to the database: Connection refused >&2; exit 1",
			"sinfo": "", "sacctmgr": "true", "apptainer": ""}, `ok slurm: slurm-wlm 26.05.5, cluster aifb
no accounting: sacct: Problem talking to the database: Connection refused (how a job ended is known from squeue, for a while, and from the job itself; slurmdbd is down, or slow)
ok MinJobAge: Slurm itself forgets a job 5m0s after its end
ok MaxArraySize: up to 20001 tasks in a job array
no partitions: sinfo: NOT FOUND (ask the administrators for a partition)
ok accounts: none (if the cluster refuses jobs for it, ask the administrators for an account)
no apptainer: neither apptainer nor singularity is on the path of the login node (compute nodes may differ; if it is in a module, add ` + "`setup: [module load Apptainer]`" + ` to the target)
`},
		{"slurmctld is down", map[string]string{"scontrol": "echo slurm_load_ctl_conf error: Unable to contact slurm controller '(connect failure)'; exit 1"},
			"no slurm: scontrol: slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure) (is slurmctld up? `scontrol ping` tells)\n"},
		{"no Slurm", map[string]string{"sbatch": ""}, `no slurm: sbatch: there is no sbatch on meluxina (is meluxina a login node of a Slurm cluster? If Slurm needs a module there, load it in the shell's start-up files; without Slurm, set scheduler: local)
`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			commands := maps.Clone(good)
			maps.Copy(commands, test.change)
			maps.DeleteFunc(commands, func(_, program string) bool { return program == "" })
			f := newFake(t, commands)
			if commands["sbatch"] == "" {
				remove(t, f, "sbatch")
			}
			got := shown(f.Check(t.Context()))
			if i := strings.Index(got, "sinfo: "); i >= 0 { // a shell's own words
				end := strings.Index(got[i:], " (")
				if end < 0 || !strings.Contains(got[i:i+end], "not found") {
					t.Errorf("got %s", got)
				}
				got = got[:i] + "sinfo: NOT FOUND" + got[i+end:]
			}
			if got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if n := f.runs.Load(); n != 1 {
				t.Errorf("%d round trips", n)
			}
		})
	}
}

func TestCheckUnreachable(t *testing.T) {
	t.Parallel()
	s := New(brokenConn{}, "meluxina")
	if got, want := shown(s.Check(t.Context())), "no slurm: connection lost\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
