package slurm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// A refusal is the answer to a job that does not exist because of it.
type refusal struct {
	program string
	reply
	fault runtime.Fault // "" is decided by what the program says
}

func (r *refusal) Error() string { return said(r.program, r.reply) }

// passing are the errors after which it is unknown whether there is a job: slurmctld was not reached, or was, and its
// answer was lost. They concern the cluster, not the job.
var passing = []string{
	"Unable to contact slurm controller",
	"Socket timed out",
	"Unexpected message received",
	"Unexpected message recieved", // before Slurm 20
	"Zero Bytes were transmitted or received",
	"Message send/receive failure",
	"Message receive failure",
	"Message send failure",
	"Slurm backup controller in standby mode",
	"Communication connection failure",
	"Rate limit exceeded",
}

func isPassing(out string) bool {
	return slices.ContainsFunc(passing, func(text string) bool { return strings.Contains(out, text) })
}

// A cause is why a job was refused.
type cause struct {
	text  string // in what sbatch prints; in lower case
	fault runtime.Fault
	hint  string
}

// causes has the particular before the general: the first that applies counts.
var causes = []cause{
	{"invalid partition", runtime.FaultRun, "partition= must be one of the cluster's partitions"},
	{"partition not available", runtime.FaultRun, "the partition is closed at the moment; `sinfo` shows which are up"},
	{"invalid account", runtime.FaultRun,
		"account= must be one that you may use with this partition; `sacctmgr show associations user=$USER` lists them"},
	{"invalid qos", runtime.FaultRun,
		"qos= must be one that your account may use; `sacctmgr show associations user=$USER format=account,qos` lists them"},
	{"memory specification", runtime.FaultRun,
		"no node has as much memory as mem= asks for; `sinfo -o '%P %m'` shows what they have"},
	{"generic resource", runtime.FaultRun, "the cluster does not have such gpus=; `sinfo -o '%P %G'` shows what it has"},
	{"invalid feature", runtime.FaultRun,
		"constraint= must be made of the nodes' features; `sinfo -o '%P %f'` shows them"},
	{"invalid node name", runtime.FaultRun,
		"nodelist= and exclude= must name nodes of the cluster; `sinfo -N` lists them"},
	{"reservation", runtime.FaultRun,
		"reservation= must be one that you may use; `scontrol show reservation` lists them"},
	{"time limit", runtime.FaultRun, "time= is more than the partition allows; `sinfo -o '%P %l'` shows its limits"},
	{"accounting/qos policy", runtime.FaultRun,
		"a limit of the account or QOS on the number, size or time of jobs is reached; `sacctmgr show qos` shows the limits"},
	{"node configuration", runtime.FaultRun,
		"no node has all that nodes=, cpus=, mem=, gpus= and constraint= ask for; `sinfo -N -l` shows what they have"},
	{"unrecognized option", runtime.FaultRun,
		"extra= must be options of this cluster's sbatch; `sbatch --help` lists them"},
	{"submissions disabled", runtime.FaultInfra, "the cluster takes no jobs at the moment"},
	{"maxjobcount", runtime.FaultInfra, "the cluster's queue is full"},
	{"temporarily unable to accept job", runtime.FaultInfra, "the cluster's queue is full"},
	{"resource temporarily unavailable", runtime.FaultInfra, "the cluster's queue is full"},
}

// classify returns why sbatch refused a job.
func classify(out string) cause {
	out = strings.ToLower(out)
	for _, c := range causes {
		if strings.Contains(out, c.text) {
			return c
		}
	}
	return cause{fault: runtime.FaultRun}
}

// explain adds to a refusal whose it is to mend and how. It asks for the partitions only if they matter.
func (s *Scheduler) explain(r *refusal, job runtime.Job, partitions func() []string) error {
	if r.fault != "" {
		return &runtime.Error{Fault: r.fault, Err: r}
	}
	c := classify(r.out)
	if c.text == "invalid partition" {
		if names := partitions(); len(names) > 0 {
			c.hint = partitionHint(s.name, job.Needs.Partition, names)
		}
	}
	return &runtime.Error{Fault: c.fault, Hint: c.hint, Err: r}
}

// partitionHint says which partitions there are.
func partitionHint(cluster, wrong string, names []string) string {
	hint := fmt.Sprintf("the partitions of %s are %s", cluster, strings.Join(names, ", "))
	if better := runtime.Suggest(wrong, names); better != "" {
		hint += fmt.Sprintf("; did you mean %s?", better)
	}
	return hint
}

// partitions asks for the names of the partitions. It is for a hint only: without an answer there are none.
func (s *Scheduler) partitions(ctx context.Context) []string {
	replies, err := s.ask(ctx, queryLimit, "try sinfo sinfo -h -o %R\n")
	if err != nil || replies["sinfo"].code != 0 {
		return nil
	}
	names := strings.Fields(replies["sinfo"].out)
	slices.Sort(names)
	return slices.Compact(names)
}
