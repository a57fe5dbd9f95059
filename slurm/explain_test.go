package slurm

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

func TestWhy(t *testing.T) {
	t.Parallel()
	tests := []struct{ reason, class, text string }{
		{"", "other", "the scheduler has not looked at it yet"},
		{"None", "other", "the scheduler has not looked at it yet"},
		{"Priority", "resources", "jobs of higher priority come first"},
		{"Resources", "resources", "waits for nodes to become free"},
		{"ReqNodeNotAvail", "resources", "nodes that it needs are down, drained or reserved"},
		{"ReqNodeNotAvail, UnavailableNodes:nid00[408,411-415]", "resources",
			"nodes that it needs are down, drained or reserved: UnavailableNodes:nid00[408,411-415]"},
		{"ReqNodeNotAvail, May be reserved for other job", "resources",
			"nodes that it needs are down, drained or reserved: May be reserved for other job"},
		{"Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", "resources",
			"nodes that it needs are down, drained or reserved for jobs of higher priority"},
		{"NodeDown", "resources", "a node that it needs is down"},
		{"PartitionDown", "resources", "its partition starts no jobs at the moment"},
		{"PartitionInactive", "resources", "its partition takes no jobs at the moment"},
		{"Reservation", "resources", "waits for its reservation"},
		{"Licenses", "resources", "waits for licenses to become free"},
		{"BurstBufferResources", "resources", "waits for room in the burst buffer"},
		{"BurstBufferStageIn", "resources", "its files are being brought to the burst buffer"},
		{"BurstBufferSomethingNew", "resources", "waits for the burst buffer"},
		{"Constraints", "resources", "waits for nodes that have its features"},
		{"MaxPoweredUpNodes", "resources", "as many nodes are powered up as may be"},
		{"JobArrayTaskLimit", "quota", "as many tasks of its array run as may at a time"},
		{"QOSMaxCpuPerUserLimit", "quota", "your jobs of its QOS are at the limit of CPUs"},
		{"QOSMaxJobsPerUserLimit", "quota", "your jobs of its QOS are at the limit of jobs"},
		{"QOSMaxSubmitJobPerUserLimit", "quota", "your jobs of its QOS are at the limit of jobs in the queue"},
		{"QOSMaxNodePerUserLimit", "quota", "your jobs of its QOS are at the limit of nodes"},
		{"QOSMaxGRESPerUser", "quota", "your jobs of its QOS are at the limit of GPUs or other generic resources"},
		{"QOSMaxMemoryPerUser", "quota", "your jobs of its QOS are at the limit of memory"},
		{"QOSGrpCpuLimit", "quota", "all jobs of its QOS together are at the limit of CPUs"},
		{"QOSGrpCPUMinutesLimit", "quota", "all jobs of its QOS together are at the limit of CPUs"},
		{"QOSGrpGRES", "quota", "all jobs of its QOS together are at the limit of GPUs or other generic resources"},
		{"QOSGrpNodeLimit", "quota", "all jobs of its QOS together are at the limit of nodes"},
		{"QOSGrpJobsLimit", "quota", "all jobs of its QOS together are at the limit of jobs"},
		{"QOSGrpWallLimit", "quota", "all jobs of its QOS together are at the limit of time"},
		{"QOSGrpBilling", "quota", "all jobs of its QOS together are at the limit of billing units"},
		{"QOSJobLimit", "quota", "its QOS is at the limit of jobs"},
		{"QOSResourceLimit", "quota", "its QOS is at the limit of a resource (QOSResourceLimit)"},
		{"QOSUsageThreshold", "quota", "its QOS has used too much of late"},
		{"AssocGrpCpuLimit", "quota", "all jobs of its account together are at the limit of CPUs"},
		{"AssocGrpCPURunMinutesLimit", "quota", "all jobs of its account together are at the limit of CPUs"},
		{"AssocGrpBillingMinutes", "quota", "all jobs of its account together are at the limit of billing units"},
		{"AssocGrpGRESRunMinutes", "quota", "all jobs of its account together are at the limit of GPUs or other generic resources"},
		{"AssocGrpMemLimit", "quota", "all jobs of its account together are at the limit of memory"},
		{"AssocMaxJobsLimit", "quota", "your jobs of its account are at the limit of jobs"},
		{"AssocMaxSubmitJobLimit", "quota", "your jobs of its account are at the limit of jobs in the queue"},
		{"AssociationJobLimit", "quota", "its account is at the limit of jobs"},
		{"AssociationResourceLimit", "quota", "its account is at the limit of a resource (AssociationResourceLimit)"},
		{"MaxCpuPerAccount", "quota", "the jobs of your account are at the limit of CPUs"},
		{"MaxJobsPerAccount", "quota", "the jobs of your account are at the limit of jobs"},
		{"MaxGRESRunMinsPerUser", "quota", "your jobs are at the limit of GPUs or other generic resources"},
		{"AccountingPolicy", "quota", "a limit of its account or QOS is reached"},
		{"Dependency", "dependency", "waits for other jobs to end"},
		{"JobHeldUser", "held", "held by its user; `scontrol release` lets it go on"},
		{"JobHeldAdmin", "held", "held by an administrator"},
		{"JobHoldMaxRequeue", "held", "held, because it was requeued too often"},
		{"job requeued in held state", "held", "requeued, and held; `scontrol release` lets it go on"},
		{"launch failed requeued held", "held", "held, because its nodes could not start it"},
		{"REQUEUE_HOLD", "held", "requeued, and held; `scontrol release` lets it go on"},
		{"JobHeldByAPlugin", "held", "held: JobHeldByAPlugin"},
		{"DependencyNeverSatisfied", "unsatisfiable", "a job that it depends on did not end as it should have"},
		{"BadConstraints", "unsatisfiable", "no node can do what it asks for"},
		{"PartitionNodeLimit", "unsatisfiable", "it asks for more nodes, or fewer, than its partition allows or has up"},
		{"PartitionTimeLimit", "unsatisfiable", "it asks for more time than its partition allows"},
		{"PartitionConfig", "unsatisfiable", "its partition does not allow what it asks for"},
		{"InvalidAccount", "unsatisfiable", "its account is not valid"},
		{"InvalidQOS", "unsatisfiable", "its QOS is not valid"},
		{"QOSNotAllowed", "unsatisfiable", "its QOS may not use the partition"},
		{"AccountNotAllowed", "unsatisfiable", "its account may not use the partition"},
		{"QOSMaxWallDurationPerJobLimit", "unsatisfiable", "it asks for more than one job may: time"},
		{"AssocMaxWallDurationPerJobLimit", "unsatisfiable", "it asks for more than one job may: time"},
		{"AssocMaxCpuPerJobLimit", "unsatisfiable", "it asks for more than one job may: CPUs"},
		{"QOSMaxNodePerJobLimit", "unsatisfiable", "it asks for more than one job may: nodes"},
		{"QOSMaxGRESPerNode", "unsatisfiable", "it asks for more than one job may: GPUs or other generic resources"},
		{"QOSMinCpuNotSatisfied", "unsatisfiable", "it asks for less than a job of its QOS must: CPUs"},
		{"MaxMemPerLimit", "unsatisfiable", "it asks for more memory per CPU or node than is allowed"},
		{"DeadLine", "unsatisfiable", "it cannot end before its deadline"},
		{"BeginTime", "other", "may not begin yet"},
		{"Cleaning", "other", "its last attempt is being cleaned up"},
		{"Prolog", "other", "its nodes are being prepared"},
		{"CONFIGURING", "other", "its nodes are being prepared"},
		{"PartitionSomethingNew", "other", "its partition does not let it start: PartitionSomethingNew"},
		{"NobodyHasHeardOfThis", "other", "NobodyHasHeardOfThis"},
		{"waiting for the moon", "other", "waiting for the moon"},
		{"Resources, " + strings.Repeat("ü", 1000), "resources",
			"waits for nodes to become free: " + strings.Repeat("ü", maxDetail) + "..."},
		{strings.Repeat("ü", 1000), "other", strings.Repeat("ü", maxDetail) + "..."},
	}
	for _, test := range tests {
		if class, text := why(test.reason); class != test.class || text != test.text {
			t.Errorf("%s: got %s, %q; want %s, %q", test.reason, class, text, test.class, test.text)
		}
	}
}

func TestCountTasks(t *testing.T) {
	t.Parallel()
	for tasks, want := range map[string]int{
		"7": 1, "[0-999%50]": 1000, "[1,3,5]": 3, "[3-5,9]": 4, "[0-10:5%2]": 3, "[5%1]": 1,
		"[1,3,5,...]": 4, "": 1, "[": 1, "[9-1]": 1, "[1-9:0]": 1, "x-y": 1, "[0-4294967295]": maxTasks,
		"[0-4294967295,0-4294967295]": maxTasks,
	} {
		if got := countTasks(tasks); got != want {
			t.Errorf("%s: got %d, want %d", tasks, got, want)
		}
	}
}

func TestExplain(t *testing.T) {
	own := record("7", "PENDING", "10", "cpu", "1795494739", "Resources") +
		record("8", "PENDING", "10", "cpu,gpu", "N/A", "Priority") +
		record("9", "RUNNING", "10", "cpu", "1795494739", "None") +
		record("10", "REQUEUE_HOLD", "0", "cpu", "1795494739", "job requeued in held state") +
		record("11", "PENDING", "4", "cpu", "1795494739", "DependencyNeverSatisfied") +
		record("12_3", "PENDING", "3", "cpu", "N/A", "JobArrayTaskLimit") +
		record("99", "PENDING", "10", "cpu", "N/A", "Priority")
	queue := record("3_[1-50%2]", "20", "cpu") + record("2", "10", "cpu") + record("7", "10", "cpu") + record("8", "10", "cpu,gpu") +
		record("9", "5", "gpu") + record("5", "11", "gpu") + record("6", "9", "gpu") + record("10", "0", "cpu") +
		record("11", "4", "cpu") + record("12_[2-4]", "3", "cpu") + "noise\n"
	start := time.Unix(1795494739, 0).UTC()
	want := map[runtime.JobID]runtime.Queued{
		"7":  {Class: "resources", Text: "waits for nodes to become free", Start: start, Ahead: 51},
		"8":  {Class: "resources", Text: "jobs of higher priority come first", Ahead: 1}, // in gpu
		"10": {Class: "held", Text: "requeued, and held; `scontrol release` lets it go on", Ahead: -1},
		"11": {Class: "unsatisfiable", Text: "a job that it depends on did not end as it should have", Ahead: 53},
		"12_3": {Class: "quota", Text: "as many tasks of its array run as may at a time",
			Ahead: 54},
	}
	unknown := maps.Clone(want)
	for id, q := range unknown {
		q.Ahead = -1
		unknown[id] = q
	}
	asks := func(answer string) string { // of squeue's two calls, --me has the first
		return `case " $* " in *" --me "*) ` + prints(own) + ` ;; *) ` + answer + ` ;; esac`
	}
	for name, test := range map[string]struct {
		squeue, scontrol string
		want             map[runtime.JobID]runtime.Queued
	}{
		"all":              {asks(prints(queue)), "echo 'PrivateData             = none'", want},
		"without scontrol": {asks(prints(queue)), "exit 1", want},
		"private":          {asks(prints(queue)), "echo 'PrivateData             = accounts,jobs'", unknown},
		"no answer":        {asks("echo squeue: error: no; exit 1"), "true", unknown},
		"empty":            {asks("true"), "true", unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, map[string]string{"squeue": test.squeue, "scontrol": test.scontrol})
			got, err := f.Explain(t.Context(), "7", "8", "9", "10", "11", "12_3", "13")
			if err != nil || !maps.Equal(got, test.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
			asked := int32(2)
			if name == "private" { // it is known by then that the queue would not tell
				asked = 1
			}
			if f.runs.Load() != asked || f.calls("squeue") != int(asked) || f.calls("scontrol") > 2 || f.calls("scancel") != 0 {
				t.Errorf("%d round trips; the calls were\n%s", f.runs.Load(), f.read("calls"))
			}
		})
	}
}

func TestExplainNothing(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"squeue": prints(record("7", "RUNNING", "10", "cpu", "1", "None"))})
	for _, ids := range [][]runtime.JobID{nil, {"x"}} {
		if got, err := f.Explain(t.Context(), ids...); err != nil || len(got) != 0 || f.runs.Load() != 0 {
			t.Errorf("got %+v, %v; %d round trips", got, err, f.runs.Load())
		}
	}
	if got, err := f.Explain(t.Context(), "7"); err != nil || len(got) != 0 || f.runs.Load() != 1 {
		t.Errorf("a job that runs: got %+v, %v; %d round trips", got, err, f.runs.Load())
	}
	f = newFake(t, map[string]string{"squeue": "echo squeue: error: no >&2; exit 1"})
	if got, err := f.Explain(t.Context(), "7"); got != nil || runtime.ClassOf(err) != runtime.Transient {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCapturedExplain(t *testing.T) {
	t.Parallel()
	jobs, queues := captured(t, "jobs"), captured(t, "squeue.queue")
	want := map[string]string{
		"requeued": "other", "pending": "other", "requeuehold": "held", "specialexit": "held", "waits": "held",
		"depends": "dependency", "never": "unsatisfiable", "array_3": "quota", "array_5": "quota",
	}
	for version, out := range captured(t, "squeue.own") {
		names, numbers := make(map[string]string), []string(nil)
		for line := range strings.Lines(jobs[version]) {
			name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
			names[number], numbers = name, append(numbers, number)
		}
		got := make(map[string]string)
		waits := parseQueue(queues[version], new(skips))
		for number, w := range parseOwn(out, numbers, new(skips)) {
			q := w.queued(waits)
			got[names[number]] = q.Class
			if held := w.priority == 0; held != (q.Ahead < 0) || q.Ahead > 6 {
				t.Errorf("Slurm %s: %s: %+v", version, names[number], q)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("Slurm %s: got %v, want %v", version, got, want)
		}
	}
}

// Ten thousand jobs, each behind all the others.
func BenchmarkExplain(b *testing.B) {
	var own, queue strings.Builder
	var numbers []string
	for i := range 10000 {
		own.WriteString(record(fmt.Sprint(i+1), "PENDING", "1", "cpu", "N/A", "Priority"))
		queue.WriteString(record(fmt.Sprint(i+1), "1", "cpu"))
		numbers = append(numbers, fmt.Sprint(i+1))
	}
	for b.Loop() {
		waits := parseQueue(queue.String(), new(skips))
		for _, w := range parseOwn(own.String(), numbers, new(skips)) {
			w.queued(waits)
		}
	}
}
