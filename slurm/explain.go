package slurm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// ownFormat and queueFormat ask the older -o of squeue, which all versions know, for what parseOwn and parseQueue read.
var (
	ownFormat   = strings.Join([]string{"%i", "%T", "%Q", "%P", "%S", "%r"}, separator) + separator + terminator
	queueFormat = strings.Join([]string{"%i", "%Q", "%P"}, separator) + separator + terminator
)

// Explain implements runtime.Explainer. It asks for the user's own jobs, and then for who else waits for the partitions
// that they wait for. It decides nothing: no job is cancelled for its reason.
func (s *Scheduler) Explain(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Queued, error) {
	known := make(map[runtime.JobID]runtime.Queued)
	wanted := byCluster(ids)
	if len(wanted) == 0 {
		return known, nil
	}
	clusters := slices.Sorted(maps.Keys(wanted))
	outs, err := s.ownJobs(ctx, clusters, []string{"-o", ownFormat}, []string{"-o", ownFormat})
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	waiting := make(map[string]map[string]waiter)
	for i, cluster := range clusters {
		var skipped skips
		waiting[cluster] = parseOwn(outs[i], wanted[cluster], &skipped)
		s.meter.skip("squeue", skipped)
	}
	queues := s.queues(ctx, waiting)
	for cluster, jobs := range waiting {
		for number, w := range jobs {
			known[jobID(number, cluster)] = w.queued(queues[cluster])
		}
	}
	return known, nil
}

// A waiter is a job that waits, or a whole array of them.
type waiter struct {
	job        int // its number, or its array's
	tasks      int
	priority   uint64
	partitions []string // it starts in whichever has room first
	start      string
	reason     string
}

// queued says why a job waits. Who comes first is known only of a job that is not held.
func (w waiter) queued(queues map[string]waitlist) runtime.Queued {
	q := runtime.Queued{Ahead: -1}
	q.Class, q.Text = why(w.reason)
	if !stuck(w.reason) {
		q.Start = epoch(w.start)
	}
	for _, partition := range w.partitions {
		if n := queues[partition].ahead(w); n >= 0 && (q.Ahead < 0 || n < q.Ahead) {
			q.Ahead = n
		}
	}
	return q
}

// parseOwn reads records of ownFormat, and returns the wanted jobs that wait.
func parseOwn(out string, wanted []string, skipped *skips) map[string]waiter {
	waiting := make(map[string]waiter)
	want := make(map[string]bool)
	for _, number := range wanted {
		want[number] = true
	}
	for record := range strings.SplitSeq(out, terminator) {
		f := fields(record)
		if len(f) < 7 {
			skipped.add(record)
			continue
		}
		number, ok := skipped.id(f[0])
		if state, _ := meaning(f[1]); !ok || !want[number] || state != runtime.Pending {
			continue
		}
		w, ok := parseWaiter(number, f[2], f[3])
		if !ok {
			skipped.add(record)
			continue
		}
		w.start, w.reason = f[4], clean(strings.Join(f[5:len(f)-1], separator))
		if isHold(f[1]) {
			w.reason = f[1]
		}
		waiting[number] = w
	}
	return waiting
}

// parseQueue reads records of queueFormat.
func parseQueue(out string, skipped *skips) map[string]waitlist {
	queues := make(map[string]waitlist)
	for record := range strings.SplitSeq(out, terminator) {
		f := fields(record)
		if len(f) != 4 {
			skipped.add(record)
			continue
		}
		w, ok := parseWaiter(lastLine(f[0]), f[1], f[2])
		if !ok {
			skipped.add(record)
		}
		if !ok || w.priority == 0 { // held
			continue
		}
		for _, partition := range w.partitions {
			queues[partition] = append(queues[partition], w)
		}
	}
	for _, q := range queues {
		q.sort()
	}
	return queues
}

func parseWaiter(id, priority, partitions string) (waiter, bool) {
	number, tasks, isArray := strings.Cut(id, "_")
	number, _, _ = strings.Cut(number, "+") // a part of a heterogeneous job
	w := waiter{tasks: 1, partitions: strings.Split(partitions, ",")}
	if isArray {
		w.tasks = countTasks(tasks)
	}
	var err, err2 error
	w.job, err = strconv.Atoi(number)
	w.priority, err2 = strconv.ParseUint(priority, 10, 64)
	return w, err == nil && err2 == nil && w.job > 0
}

// maxTasks bounds how many tasks an array is taken to have.
const maxTasks = 1 << 24

// countTasks counts the tasks of an array that wait: 7, or [3-5,9,11-15:2%50]. What it cannot read counts as one.
func countTasks(s string) int {
	s, _, _ = strings.Cut(strings.Trim(s, "[]"), "%")
	n := 0
	for part := range strings.SplitSeq(s, ",") {
		span, step, _ := strings.Cut(part, ":")
		from, to, isSpan := strings.Cut(span, "-")
		a, err := strconv.ParseUint(from, 10, 32)
		b, err2 := strconv.ParseUint(cmp.Or(to, from), 10, 32)
		by, err3 := strconv.ParseUint(cmp.Or(step, "1"), 10, 32)
		switch {
		case !isSpan || err != nil || err2 != nil || err3 != nil || b < a || by == 0:
			n++
		default:
			n += int((b-a)/by) + 1
		}
		if n > maxTasks {
			return maxTasks
		}
	}
	return n
}

// A waitlist is who waits for a partition, the first first.
type waitlist []waiter

// order is Slurm's: by priority, and then by number.
func order(a, b waiter) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.job, b.job))
}

// sort sorts the queue, and makes each one's tasks those of all up to it.
func (q waitlist) sort() {
	slices.SortFunc(q, order)
	for i := 1; i < len(q); i++ {
		q[i].tasks += q[i-1].tasks
	}
}

// ahead returns how many jobs come before w, not counting other tasks of its own array. It is -1 if nobody knows.
func (q waitlist) ahead(w waiter) int {
	i, _ := slices.BinarySearchFunc(q, w, order)
	switch {
	case w.priority == 0 || len(q) == 0:
		return -1
	case i == 0:
		return 0
	}
	return q[i-1].tasks
}

// queues asks who waits for the partitions. It makes an explanation better, and no error: without an answer, nothing is
// known. Neither is it where users may not see each other's jobs.
func (s *Scheduler) queues(ctx context.Context, waiting map[string]map[string]waiter) map[string]map[string]waitlist {
	program, c := queryHead+askShell+"export SLURM_BITSTR_LEN=0\n", make(calls) // arrays in full length
	clusters := slices.Sorted(maps.Keys(waiting))
	own := s.known.Load()
	for i, cluster := range clusters {
		var partitions []string
		for _, w := range waiting[cluster] {
			partitions = append(partitions, w.partitions...)
		}
		if len(partitions) == 0 || cluster == "" && own != nil && own.hidesJobs {
			continue
		}
		slices.Sort(partitions)
		if cluster != "" || own == nil {
			program += fmt.Sprintf("ask config.%d %s\n", i, c.command(cluster, "scontrol", "show", "config"))
		}
		program += fmt.Sprintf("ask queue.%d %s\n", i, c.command(cluster, "squeue", "-a", "-t", "PD", "-h",
			"-p", strings.Join(slices.Compact(partitions), ","), "-o", queueFormat))
	}
	if len(c) == 0 {
		return nil
	}
	replies, err := s.ask(ctx, queryLimit, program, c)
	if err != nil {
		return nil
	}
	queues := make(map[string]map[string]waitlist)
	for i, cluster := range clusters {
		a := answerOf(replies, fmt.Sprintf("queue.%d", i))
		if config := answerOf(replies, fmt.Sprintf("config.%d", i)); a.ok && a.code == 0 && !parseConfig(config.out).hidesJobs {
			var skipped skips
			queues[cluster] = parseQueue(a.out, &skipped)
			s.meter.skip("squeue", skipped)
		}
	}
	return queues
}
