package slurm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// checkProgram asks what Check tells of, beside probeProgram. What of it there is not, is not needed. sacct comes last:
// it may hang.
var checkProgram = `ask version sbatch --version
ask partitions sinfo -h -o ` + runtime.Quote(strings.Join([]string{"%P", "%a", "%l", "%L", "%F"}, separator)) + `
ask queue ` + runtime.Quote(append(slices.Clone(squeueArgs), "-O", squeueFormat)...) + `
ask accounts sacctmgr -n -P show associations user="$(id -un)" format=cluster,account,partition,qos
for c in apptainer singularity; do
	! command -v $c >/dev/null || { ask container $c --version; break; }
done
ask sacct sacct -X -n -P --starttime=now-1minutes -o JobID
`

func checkCalls() calls {
	return calls{"scontrol": 1, "sinfo": 1, "squeue": 1, "sacctmgr": 1, "sacct": 1}
}

// Check implements runtime.Checker.
func (s *Scheduler) Check(ctx context.Context) []runtime.Finding {
	replies, err := s.hear(ctx, queryLimit, queryHead+askShell+probeProgram+checkProgram, checkCalls())
	version := answerOf(replies, "version")
	if err == nil || version.ok {
		err = s.failed("sbatch", version)
	}
	if err != nil {
		return []runtime.Finding{{Name: "slurm", Text: err.Error(), Hint: runtime.HintOf(err)}}
	}
	err = s.learn(replies)
	if err != nil {
		return []runtime.Finding{{Name: "slurm", Text: err.Error(), Hint: "is slurmctld up? `scontrol ping` tells"}}
	}
	caps := *s.known.Load()
	findings := []runtime.Finding{
		{Name: "slurm", OK: true, Text: clean(version.out) + clusterName(caps)},
		checkAccounting(caps, answerOf(replies, "sacct")),
		checkMinJobAge(caps),
		checkArrays(caps),
	}
	findings = append(findings, checkPartitions(answerOf(replies, "partitions"))...)
	findings = append(findings, checkAccounts(caps, answerOf(replies, "accounts")), checkContainers(answerOf(replies, "container")))
	return append(findings, checkQueue(answerOf(replies, "queue"))...)
}

// checkQueue says if what squeue prints is not understood as a whole.
func checkQueue(a answer) []runtime.Finding {
	var s skips
	if parseSqueue(a.out, &s); !a.ok || a.code != 0 || s.lines == 0 {
		return nil
	}
	return []runtime.Finding{{Name: "squeue", Text: fmt.Sprintf("lines of what it prints are not understood: %d, the first: %s", s.lines, s.first),
		Hint: "jobs may be missed; if a wrapper of squeue prints them, it should do so on stderr"}}
}

func clusterName(caps capabilities) string {
	if caps.cluster == "" {
		return ""
	}
	return ", cluster " + caps.cluster
}

// checkAccounting says whether sacct knows how jobs ended. That a cluster has no accounting is no fault of it.
func checkAccounting(caps capabilities, a answer) runtime.Finding {
	f := runtime.Finding{Name: "accounting", OK: true, Text: "sacct answers"}
	switch {
	case !caps.accounting || a.ok && isAccountless(reply{a.code, a.out + a.errs}):
		f.Text = "there is none: how a job ended is known from squeue, for a while, and from the job itself"
	case !a.ok || a.code != 0:
		f.OK = false
		f.Text = "sacct: " + cmp.Or(cleaned("sacct", a.errs), cleaned("sacct", a.out), "no answer")
		f.Hint = "how a job ended is known from squeue, for a while, and from the job itself; slurmdbd is down, or slow"
	}
	return f
}

// shortAge is a MinJobAge of which a poller may miss an end.
const shortAge = time.Minute

func checkMinJobAge(caps capabilities) runtime.Finding {
	f := runtime.Finding{Name: "MinJobAge", OK: true,
		Text: fmt.Sprintf("Slurm itself forgets a job %v after its end", caps.minJobAge)}
	if caps.minJobAge < shortAge && !caps.accounting {
		f.OK = false
		f.Hint = "without accounting, a job that is killed and cannot tell is lost; ask the administrators for a longer MinJobAge"
	}
	return f
}

func checkArrays(caps capabilities) runtime.Finding {
	if caps.maxArraySize < 2 {
		return runtime.Finding{Name: "MaxArraySize", OK: true, Text: "no job arrays: jobs are submitted one by one"}
	}
	return runtime.Finding{Name: "MaxArraySize", OK: true,
		Text: fmt.Sprintf("up to %d tasks in a job array", caps.maxArraySize)}
}

// checkPartitions says what partitions there are.
func checkPartitions(a answer) (findings []runtime.Finding) {
	if a.ok && a.code == 0 {
		for line := range strings.Lines(a.out) {
			if f, ok := checkPartition(fields(strings.TrimSuffix(line, "\n"))); ok {
				findings = append(findings, f)
			}
		}
	}
	if len(findings) == 0 {
		return []runtime.Finding{{Name: "partitions",
			Text: "sinfo: " + cmp.Or(cleaned("sinfo", a.errs), "no partition that you may use"),
			Hint: "ask the administrators for a partition"}}
	}
	return findings
}

// checkPartition reads the fields of sinfo: name, whether it is up, time limit, default time, and the numbers of nodes.
func checkPartition(f []string) (runtime.Finding, bool) {
	if len(f) != 5 || f[0] == "" {
		return runtime.Finding{}, false
	}
	name, isDefault := strings.CutSuffix(f[0], "*")
	nodes := strings.Split(f[4], "/") // allocated/idle/other/total
	if len(nodes) != 4 {
		return runtime.Finding{}, false
	}
	text := clean(f[1])
	if isDefault {
		text += ", the default"
	}
	text += fmt.Sprintf("; %s of %s nodes idle; time limit %s", clean(nodes[1]), clean(nodes[3]), clean(f[2]))
	if f[3] != "n/a" && f[3] != f[2] {
		text += ", if not said " + clean(f[3])
	}
	finding := runtime.Finding{Name: "partition " + clean(name), OK: f[1] == "up", Text: text}
	if !finding.OK {
		finding.Hint = "it starts no jobs at the moment"
	}
	return finding, true
}

// checkAccounts says which accounts the user may charge. Not every cluster lets its users ask.
func checkAccounts(caps capabilities, a answer) runtime.Finding {
	f := runtime.Finding{Name: "accounts", OK: true}
	if !caps.accounting || !a.ok || a.code != 0 {
		f.Text = "not known; none is needed, or the cluster does not tell"
		return f
	}
	var accounts []string
	for line := range strings.Lines(a.out) {
		part := strings.Split(strings.TrimSpace(line), "|")
		if len(part) != 4 || caps.cluster != "" && part[0] != caps.cluster {
			continue
		}
		account := part[1]
		if part[2] != "" {
			account += " in partition " + part[2]
		}
		if part[3] != "" {
			account += " with QOS " + strings.ReplaceAll(part[3], ",", ", ")
		}
		accounts = append(accounts, clean(account))
	}
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	switch {
	case len(accounts) == 0:
		f.Text, f.Hint = "none", "if the cluster refuses jobs for it, ask the administrators for an account"
	case len(accounts) > 1:
		f.Hint = "`account:` in the target's defaults says which one is charged, if not the default"
		fallthrough
	default:
		f.Text = strings.Join(accounts, "; ")
	}
	return f
}

// checkContainers says whether there is a container runtime. It is on the compute nodes that it is needed.
func checkContainers(a answer) runtime.Finding {
	if a.ok && a.code == 0 {
		return runtime.Finding{Name: "apptainer", OK: true,
			Text: clean(lastLine(strings.TrimSpace(a.out))) + " on the login node; compute nodes may differ"}
	}
	return runtime.Finding{Name: "apptainer", Text: "neither apptainer nor singularity is on the path of the login node",
		Hint: "compute nodes may differ; if it is in a module, add `setup: [module load Apptainer]` to the target"}
}
