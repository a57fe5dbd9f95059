package slurm

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// The texts are those of Slurm's slurm_errno.c and of sbatch, in lower case.

// unreached are the errors after which a request certainly had no effect: it was not sent, or Slurm said that it did
// nothing with it. A client that fails to connect has sent nothing, and what it sent before that, if it tries again by
// itself, was answered with one of these.
var unreached = []string{
	"unable to contact slurm controller (connect failure)",
	"communication connection failure",
	"connection timed out establishing",
	"could not establish a configuration source",
	"slurm backup controller in standby mode",
	"controller is in standby mode",
	"rate limit exceeded",
	"job creation temporarily disabled",
	"requested nodes are busy",
}

// unanswered are the errors after which a request may have had its effect.
var unanswered = []string{
	"unable to contact slurm controller", // send, receive and shutdown failure
	"socket timed out",
	"unexpected message re", // received; before Slurm 20, recieved
	"unexpected missing socket",
	"zero bytes were transmitted or received",
	"message send/receive failure",
	"message receive failure",
	"message send failure",
	"communication shutdown failure",
	"header lengths are longer than data received",
	"insane message length",
	"authentication", // also of the answer
	"connection timed out",
	"connection reset",
	"connection refused",
	"connection forced closed",
	"connection rejected",
	"delayed socket error",
	"process is shutting down",
	"broken pipe",
	"no route to host",
	"network is unreachable",
	"transport endpoint",
	"operation now in progress",
}

// crowded are the errors of a cluster that takes no more jobs at the moment, whoever's. sbatch has then tried for two
// minutes.
var crowded = []string{
	"maxjobcount limit reached",
	"job queue full",
	"temporarily unable to accept job",
	"resource temporarily unavailable",
}

// A limit on how many jobs there may be, in the words in which squeue gives a reason, and any limit at all.
var (
	jobsLimit = regexp.MustCompile(`(?i)(Max|Grp)(Submit)?Jobs?`)
	anyLimit  = regexp.MustCompile(`\b(QOS|Assoc)(Max|Min|Grp)[A-Za-z]+`)
)

// policy is what sbatch says of each limit of an account or QOS, be it on the number of jobs, which ends with other
// jobs, or on the size or time of one, which does not. Most versions put the limit's name before it. Without one it is
// taken for a limit on the number.
const policy = "accounting/qos policy"

// classOf says what can be done about a command that failed.
func classOf(r reply) runtime.Class {
	all := strings.ToLower(r.out)
	last := all // what counts if there is more: before, sbatch says what it tries again after
	if i := strings.LastIndex(all, "batch job submission failed: "); i >= 0 {
		last = all[i:]
	}
	switch {
	case r.code == 126 || r.code == 127: // there is no such command
		return runtime.Permanent
	case killed(r.code) || strings.TrimSpace(all) == "": // one that refuses says why
		return runtime.Ambiguous
	case containsAny(last, unreached):
		return runtime.Transient
	case containsAny(last, unanswered):
		return runtime.Ambiguous
	case containsAny(last, crowded) || overQuota(r.out):
		return runtime.Quota
	}
	return runtime.Permanent
}

func overQuota(out string) bool {
	if jobsLimit.MatchString(anyLimit.FindString(out)) || strings.Contains(out, "MaxSubmitJobs") {
		return true
	}
	return strings.Contains(strings.ToLower(out), policy) && !anyLimit.MatchString(out)
}

// killed reports whether a signal ended a command. Of a submission nobody then knows how far it came. (255 is sbatch's
// exit code for an option that it does not know.)
func killed(code int) bool { return code > 128 && code < 255 }

func containsAny(s string, texts []string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(s, text) })
}

// A cause is why a command failed.
type cause struct {
	text  string // in what sbatch prints; in lower case
	fault runtime.Fault
	field string // of the job, that it is of; "": of several, or of none
	hint  string
}

// causes has the particular before the general: the first that applies counts.
var causes = []cause{
	{"invalid partition", runtime.FaultRun, "partition", "partition= must be one of the cluster's partitions"},
	{"partition not available", runtime.FaultRun, "partition", "the partition is closed at the moment; `sinfo` shows which are up"},
	{"invalid account", runtime.FaultRun, "account",
		"account= must be one that you may use with this partition; `sacctmgr show associations user=$USER` lists them"},
	{"invalid qos", runtime.FaultRun, "qos",
		"qos= must be one that your account may use; `sacctmgr show associations user=$USER format=account,qos` lists them"},
	{"memory specification", runtime.FaultRun, "mem",
		"no node has as much memory as mem= asks for; `sinfo -o '%P %m'` shows what they have"},
	{"generic resource", runtime.FaultRun, "gpus", "the cluster does not have such gpus=; `sinfo -o '%P %G'` shows what it has"},
	{"invalid feature", runtime.FaultRun, "constraint",
		"constraint= must be made of the nodes' features; `sinfo -o '%P %f'` shows them"},
	{"invalid node name", runtime.FaultRun, "",
		"nodelist= and exclude= must name nodes of the cluster; `sinfo -N` lists them"},
	{"reservation", runtime.FaultRun, "reservation",
		"reservation= must be one that you may use; `scontrol show reservation` lists them"},
	{"time limit is invalid", runtime.FaultRun, "time", "time= is more than the partition allows; `sinfo -o '%P %l'` shows its limits"},
	{policy, runtime.FaultRun, "",
		"a limit of the account or QOS on the number, size or time of jobs is reached; `sacctmgr show qos` shows the limits"},
	{"node configuration", runtime.FaultRun, "",
		"no node has all that nodes=, cpus=, mem=, gpus= and constraint= ask for; `sinfo -N -l` shows what they have"},
	{"unrecognized option", runtime.FaultRun, "extra",
		"extra= must be options of this cluster's sbatch; `sbatch --help` lists them"},
	{"submissions disabled", runtime.FaultInfra, "", "the cluster takes no jobs at the moment"},
	{"maxjobcount", runtime.FaultInfra, "", "the cluster's queue is full"},
	{"job queue full", runtime.FaultInfra, "", "the cluster's queue is full"},
	{"temporarily unable to accept job", runtime.FaultInfra, "", "the cluster's queue is full"},
	{"resource temporarily unavailable", runtime.FaultInfra, "", "the cluster's queue is full"},
}

// causeOf returns why sbatch refused a job.
func causeOf(out string) cause {
	out = strings.ToLower(out)
	for _, c := range causes {
		if strings.Contains(out, c.text) {
			return c
		}
	}
	return cause{fault: runtime.FaultRun}
}

// refused returns the error of a job that sbatch did not submit, with whose it is to mend and how. It asks for the
// partitions only if they matter.
func (s *Scheduler) refused(e *runtime.CommandError, job runtime.Job, partitions func() []string) error {
	if e.Code == 127 {
		return s.missing(e)
	}
	if e.Class == runtime.Transient || e.Class == runtime.Ambiguous {
		return &runtime.Error{Fault: runtime.FaultInfra, Err: e}
	}
	c := causeOf(e.Output)
	if c.text == "invalid partition" {
		if names := partitions(); len(names) > 0 {
			c.hint = partitionHint(s.name, job.Needs.Partition, names)
		}
	}
	return &runtime.Error{Fault: c.fault, Hint: c.hint, Field: c.field, Err: e}
}

// partitionHint says which partitions there are.
func partitionHint(cluster, wrong string, names []string) string {
	hint := fmt.Sprintf("the partitions of %s are %s", cluster, strings.Join(names, ", "))
	if better := runtime.Suggest(wrong, names); better != "" {
		hint += fmt.Sprintf("; did you mean %s?", better)
	}
	return hint
}

// Partitions implements runtime.Partitioner. It is for hints and completion only.
func (s *Scheduler) Partitions(ctx context.Context) []string {
	replies, err := s.ask(ctx, queryLimit, "try sinfo sinfo -h -o %R\n", calls{"sinfo": 1})
	if err != nil || replies["sinfo"].code != 0 {
		return nil
	}
	names := strings.Fields(replies["sinfo"].out)
	slices.Sort(names)
	return slices.Compact(names)
}
