package slurm

import "strings"

// The classes of reasons; see runtime.Queued.
const (
	resources     = "resources"
	quota         = "quota"
	dependency    = "dependency"
	held          = "held"
	unsatisfiable = "unsatisfiable"
	other         = "other"
)

// A motive is what a reason of Slurm's means.
type motive struct {
	reason, class, text string
}

// motives are the reasons that say something of their own. Slurm has more than two hundred, and new ones come.
var motives = []motive{
	{"", other, "the scheduler has not looked at it yet"},
	{"Priority", resources, "jobs of higher priority come first"},
	{"Resources", resources, "waits for nodes to become free"},
	{"ReqNodeNotAvail", resources, "nodes that it needs are down, drained or reserved"},
	{"Constraints", resources, "waits for nodes that have its features"},
	{"Licenses", resources, "waits for licenses to become free"},
	{"Reservation", resources, "waits for its reservation"},
	{"NodeDown", resources, "a node that it needs is down"},
	{"PartitionDown", resources, "its partition starts no jobs at the moment"},
	{"PartitionInactive", resources, "its partition takes no jobs at the moment"},
	{"BurstBufferResources", resources, "waits for room in the burst buffer"},
	{"BurstBufferStageIn", resources, "its files are being brought to the burst buffer"},
	{"MaxPoweredUpNodes", resources, "as many nodes are powered up as may be"},
	{"NvidiaImexChannels", resources, "waits for IMEX channels to become free"},
	{"MpiPortsBusy", resources, "waits for ports to become free"},

	{"JobArrayTaskLimit", quota, "as many tasks of its array run as may at a time"},
	{"AccountingPolicy", quota, "a limit of its account or QOS is reached"},
	{"QOSUsageThreshold", quota, "its QOS has used too much of late"},

	{"Dependency", dependency, "waits for other jobs to end"},

	{"JobHeldUser", held, "held by its user; `scontrol release` lets it go on"},
	{"JobHeldAdmin", held, "held by an administrator"},
	{"JobHoldMaxRequeue", held, "held, because it was requeued too often"},
	{"ReservationDeleted", held, "held, because its reservation is gone"},
	{"REQUEUE_HOLD", held, "requeued, and held; `scontrol release` lets it go on"},
	{"SPECIAL_EXIT", held, "requeued after a special exit code, and held; `scontrol release` lets it go on"},
	{"RESV_DEL_HOLD", held, "held, because its reservation is gone"},
	{"job requeued in held state", held, "requeued, and held; `scontrol release` lets it go on"},
	{"job requeued in special exit state", held,
		"requeued after a special exit code, and held; `scontrol release` lets it go on"},
	{"launch failed requeued held", held, "held, because its nodes could not start it"},

	{"DependencyNeverSatisfied", unsatisfiable, "a job that it depends on did not end as it should have"},
	{"BadConstraints", unsatisfiable, "no node can do what it asks for"},
	{"PartitionConfig", unsatisfiable, "its partition does not allow what it asks for"},
	{"PartitionNodeLimit", unsatisfiable, "it asks for more nodes, or fewer, than its partition allows or has up"},
	{"PartitionTimeLimit", unsatisfiable, "it asks for more time than its partition allows"},
	{"ReservationInvalid", unsatisfiable, "its reservation cannot be used"},
	{"AccountNotAllowed", unsatisfiable, "its account may not use the partition"},
	{"QOSNotAllowed", unsatisfiable, "its QOS may not use the partition"},
	{"InvalidAccount", unsatisfiable, "its account is not valid"},
	{"InvalidQOS", unsatisfiable, "its QOS is not valid"},
	{"MaxMemPerLimit", unsatisfiable, "it asks for more memory per CPU or node than is allowed"},
	{"DeadLine", unsatisfiable, "it cannot end before its deadline"},

	{"BeginTime", other, "may not begin yet"},
	{"Prolog", other, "its nodes are being prepared"},
	{"CONFIGURING", other, "its nodes are being prepared"},
	{"Cleaning", other, "its last attempt is being cleaned up"},
	{"SchedDefer", other, "the scheduler looks at it later"},
	{"FedJobLock", other, "the clusters of the federation are agreeing on who runs it"},
	{"SystemFailure", other, "Slurm or a node failed"},
	{"JobLaunchFailure", other, "its nodes could not start it"},
	{"BurstBufferOperation", other, "the burst buffer failed"},
}

// limits are whose limit holds a job back, by how the reason begins.
var limits = []motive{
	{"QOSGrp", quota, "all jobs of its QOS together are"},
	{"QOSMax", quota, "your jobs of its QOS are"},
	{"QOS", quota, "its QOS is"},
	{"AssocGrp", quota, "all jobs of its account together are"},
	{"AssocMax", quota, "your jobs of its account are"},
	{"Assoc", quota, "its account is"}, // AssociationJobLimit
	{"Max", quota, "your jobs are"},    // MaxCpuPerAccount, MaxJobsPerAccount
}

// amounts are what there is a limit of, by a part of the reason. The first that is there counts: CpuPerNode is about CPUs.
var amounts = []struct{ part, text string }{
	{"Submit", "jobs in the queue"},
	{"Jobs", "jobs"},
	{"GRES", "GPUs or other generic resources"},
	{"Mem", "memory"},
	{"Wall", "time"},
	{"TimeLimit", "time"},
	{"License", "licenses"},
	{"Energy", "energy"},
	{"Billing", "billing units"},
	{"BB", "space in the burst buffer"},
	{"Cpu", "CPUs"},
	{"CPU", "CPUs"},
	{"Node", "nodes"},
	{"JobLimit", "jobs"},
}

// maxDetail is how much of what Slurm adds to a reason is told: a list of nodes may be long.
const maxDetail = 200

// why says what a reason for which a job waits means: a class of runtime.Queued, and a text for a person. Slurm may add
// a detail after a comma, such as the nodes that are down.
func why(reason string) (class, text string) {
	if strings.HasPrefix(reason, "Nodes required for job are ") {
		return resources, "nodes that it needs are down, drained or reserved for jobs of higher priority"
	}
	word, detail, _ := strings.Cut(strings.TrimPrefix(reason, "None"), ",")
	m := motiveOf(shorten(strings.TrimSpace(word), maxDetail))
	if detail = strings.TrimSpace(detail); detail != "" {
		m.text += ": " + shorten(detail, maxDetail)
	}
	return m.class, m.text
}

func motiveOf(word string) motive {
	for _, m := range motives {
		if m.reason == word {
			return m
		}
	}
	for _, l := range limits {
		if strings.HasPrefix(word, l.reason) {
			return limitOf(l, word)
		}
	}
	switch {
	case strings.HasPrefix(word, "BurstBuffer"):
		return motive{word, resources, "waits for the burst buffer"}
	case strings.HasPrefix(word, "Partition"):
		return motive{word, other, "its partition does not let it start: " + word}
	case strings.HasPrefix(word, "Reservation"):
		return motive{word, other, "its reservation does not let it start: " + word}
	case strings.Contains(word, "Held"), strings.Contains(word, "Hold"), strings.Contains(word, "held"):
		return motive{word, held, "held: " + word}
	}
	return motive{word, other, word}
}

// limitOf says which limit of an account or QOS holds a job back: one on the job itself it can never satisfy, one on
// many jobs it can when others have ended.
func limitOf(l motive, word string) motive {
	rest := strings.TrimPrefix(word, l.reason)
	amount := "a resource (" + word + ")"
	for _, a := range amounts {
		if strings.Contains(rest, a.part) {
			amount = a.text
			break
		}
	}
	switch {
	case strings.HasPrefix(rest, "Min"): // QOSMinCpuNotSatisfied
		return motive{word, unsatisfiable, "it asks for less than a job of its QOS must: " + amount}
	case strings.Contains(rest, "PerJob"), strings.Contains(rest, "PerNode"):
		return motive{word, unsatisfiable, "it asks for more than one job may: " + amount}
	case strings.Contains(rest, "PerAccount"):
		l.text = "the jobs of your account are"
	}
	return motive{word, quota, l.text + " at the limit of " + amount}
}

// shorten leaves out the end of a text that is too long.
func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
