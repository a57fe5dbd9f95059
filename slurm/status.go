package slurm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// sacctStart is how far back sacct looks for a job: numbers are used again. It counts by the cluster's own clock.
const sacctStart = "now-30days"

// followLimit bounds what is asked after squeue: a database that hangs must not keep back what squeue said for long. One
// that is slow has more time the next time, up to queryLimit.
const followLimit = 20 * time.Second

// askShell defines ask, which runs a command, keeps its errors apart from what it prints, and fails if it does.
const askShell = `ask() { # KEY COMMAND...
	key=$1
	shift
	printf '\n%s begin %s\n' "$mark" "$key"
	{ err=$("$@" 2>&1 >&3 3>&- </dev/null); } 3>&1
	code=$?
	printf '\n%s end %s\n' "$mark" "$code"
	[ -z "$err" ] || reply "$key.err" "$code" "$err"
	return "$code"
}
`

// Status implements runtime.Scheduler. It asks squeue for the user's jobs, all of them, because that is one cheap
// request however many there are. Of jobs that squeue does not know, as Slurm forgets a job minutes after its end, it
// asks accounting, and slurmctld once more; a memory decides when.
//
// A job of which accounting may yet tell, because it is down or behind, is Unknown, with the reason. A job that is not
// in the map is known to nobody.
func (s *Scheduler) Status(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	wanted := byCluster(ids)
	if len(wanted) == 0 {
		return map[runtime.JobID]runtime.Status{}, nil
	}
	known, err := s.squeue(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	var missing []runtime.JobID
	for cluster, numbers := range wanted {
		for _, number := range numbers {
			if _, ok := known[jobID(number, cluster)]; !ok {
				missing = append(missing, jobID(number, cluster))
			}
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	if caps := s.known.Load(); caps != nil && !caps.accounting {
		s.memory.accountless()
	}
	for goOn := true; goOn; {
		plan := s.memory.plan(time.Now(), known, missing)
		if plan.empty() {
			break
		}
		found := s.follow(ctx, plan)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("status: %w", context.Cause(ctx))
		}
		s.memory.learn(time.Now(), plan, found)
		goOn = found.accountless // then it is slurmctld that has to be asked
	}
	s.memory.recall(time.Now(), missing, known)
	for _, id := range missing { // by slurmctld, which is who runs them
		if st, ok := known[id]; ok && st.State == runtime.Unknown && st.By == "sacct" && !s.federated.Load() {
			st.Gone = true
			known[id] = st
		}
	}
	return known, nil
}

// squeue returns what squeue says of the wanted jobs. One that is revoked here runs, or ran, on another cluster of the
// federation: from the first of these on, the federation is asked. One that is revoked everywhere is not known.
func (s *Scheduler) squeue(ctx context.Context, wanted map[string][]string) (map[runtime.JobID]runtime.Status, error) {
	for {
		federated := s.federated.Load()
		known, err := s.squeueOnce(ctx, wanted)
		if err != nil {
			return nil, err
		}
		n := len(known)
		maps.DeleteFunc(known, func(_ runtime.JobID, st runtime.Status) bool { return isRevoked(st) })
		if federated || len(known) == n {
			return known, nil
		}
		s.federated.Store(true)
	}
}

func (s *Scheduler) squeueOnce(ctx context.Context, wanted map[string][]string) (map[runtime.JobID]runtime.Status, error) {
	clusters := slices.Sorted(maps.Keys(wanted))
	outs, err := s.ownJobs(ctx, clusters, []string{"-O", squeueFormat}, []string{"-o", plainFormat})
	if err != nil {
		return nil, err
	}
	known := make(map[runtime.JobID]runtime.Status)
	for i, cluster := range clusters {
		var skipped skips
		statuses := parseSqueue(outs[i], &skipped)
		s.meter.skip("squeue", skipped)
		for _, number := range wanted[cluster] {
			if st, ok := statusOf(number, statuses); ok {
				known[jobID(number, cluster)] = st
			}
		}
	}
	return known, nil
}

// statusOf returns what squeue says of a job. Tasks of an array that were cancelled before they started have no records:
// what is left of them is one that has the array's number.
func statusOf(number string, statuses map[string]runtime.Status) (runtime.Status, bool) {
	if st, ok := statuses[number]; ok {
		return st, true
	}
	array, _, isTask := strings.Cut(number, "_")
	st, ok := statuses[array]
	st.Reason = "" // why they waited
	return st, ok && isTask && st.State == runtime.Ended
}

// squeueArgs asks for all jobs of the user.
var squeueArgs = []string{"squeue", "--me", "-a", "-t", "all", "-h", "-r"}

// ownJobs asks squeue for all jobs of the user, one line for each task of an array, and also for those of hidden
// partitions. It returns what squeue printed, by cluster. A squeue that does not know what is asked for is asked for
// less, from then on.
func (s *Scheduler) ownJobs(ctx context.Context, clusters, format, lessFormat []string) ([]string, error) {
	for {
		less := s.oldSqueue.Load()
		args, user := append(slices.Clone(squeueArgs), format...), ""
		if less {
			args, user = append([]string{"squeue", "-a", "-t", "all", "-h", "-r"}, lessFormat...), ` -u "$(id -u)"`
		}
		if s.federated.Load() {
			args = append(args, "--federation")
		}
		program, c := queryHead+askShell, make(calls)
		for i, cluster := range clusters {
			program += fmt.Sprintf("ask %d %s%s\n", i, c.command(cluster, args...), user)
		}
		probes := s.known.Load() == nil && !s.probed.Swap(true) // if it can't say now, whoever needs it asks
		if probes {
			program += probeProgram
			maps.Copy(c, probeCalls())
		}
		replies, err := s.ask(ctx, queryLimit, program, c)
		if err != nil {
			return nil, err
		}
		if probes {
			s.learn(replies)
		}
		outs := make([]string, len(clusters))
		for i := range clusters {
			a := answerOf(replies, fmt.Sprint(i))
			if !less && a.lacks() {
				s.oldSqueue.Store(true)
				break
			}
			if err := s.failed("squeue", a); err != nil {
				return nil, err
			}
			outs[i] = a.out
		}
		if less == s.oldSqueue.Load() {
			return outs, nil
		}
	}
}

// An answer is what a command that ask ran had to say.
type answer struct {
	reply
	errs string
	ok   bool // it is whole
}

func answerOf(replies map[string]reply, key string) answer {
	r, ok := replies[key]
	return answer{reply: r, errs: replies[key+".err"].out, ok: ok}
}

// lacks reports whether the command is too old for what it was asked.
func (a answer) lacks() bool {
	if strings.Contains(a.errs, "Invalid job format specification") {
		return true // squeue says so, leaves the field out, and succeeds
	}
	return a.code != 0 && containsAny(a.errs, []string{"unrecognized option", "invalid option", "Invalid field requested"})
}

// failed returns the error of a query, or nil. Asking again may help unless the command is not what it should be. It
// never says anything of a job.
func (s *Scheduler) failed(program string, a answer) error {
	e := &runtime.CommandError{Target: s.name, Command: program, Code: a.code, Output: a.out + a.errs, Class: runtime.Transient}
	switch {
	case !a.ok:
		e.Text = "no answer from " + s.name
	case a.lacks():
		e.Text, e.Class = cleaned(program, a.errs), runtime.Permanent
		return &runtime.Error{Fault: runtime.FaultInfra, Hint: "this version of Slurm is too old", Err: e}
	case a.code == 127:
		e.Class = runtime.Permanent
		return s.missing(e)
	case a.code != 0:
		e.Text = cmp.Or(cleaned(program, a.errs), cleaned(program, a.out), fmt.Sprintf("exit status %d", a.code))
	default:
		return nil
	}
	return &runtime.Error{Fault: runtime.FaultInfra, Err: e}
}

// A plan says of which jobs to ask more.
type plan struct {
	sacct    []chunk
	scontrol []runtime.JobID
	limit    time.Duration // for all of it
}

// A chunk is the jobs that one sacct is asked for: numbers of one cluster.
type chunk struct {
	cluster string
	numbers []string
}

func (p plan) empty() bool { return len(p.sacct) == 0 && len(p.scontrol) == 0 }

// A found is what a plan led to. Jobs that were asked for and are in no map are not known where they were asked for.
type found struct {
	sacct       map[runtime.JobID]runtime.Status
	answered    int    // how many chunks sacct answered
	accountless bool   // sacct says that there is no accounting
	down        string // why sacct did not answer
	skipped     skips  // by sacct's parser

	scontrol map[runtime.JobID]runtime.Status
	gone     map[runtime.JobID]bool // slurmctld says that it does not know the job
}

// follow carries out a plan by one program. scontrol goes first, because it does not hang where sacct may; where one
// sacct fails, the next would too.
func (s *Scheduler) follow(ctx context.Context, p plan) found {
	program, fewer, calls := queryHead+askShell, s.oldSacct.Load(), make(calls)
	for i, id := range p.scontrol {
		number, cluster, _ := strings.Cut(string(id), ";")
		program += fmt.Sprintf("ask job.%d %s\n", i, calls.command(cluster, "scontrol", "show", "job", number))
	}
	for i, c := range p.sacct {
		program += fmt.Sprintf("ask sacct.%d %s || return 0\n", i, calls.command(c.cluster, sacctArgs(c.numbers, fewer, s.federated.Load())...))
	}
	replies, err := s.hear(ctx, p.limit, program, calls)

	f := found{sacct: make(map[runtime.JobID]runtime.Status), scontrol: make(map[runtime.JobID]runtime.Status),
		gone: make(map[runtime.JobID]bool)}
	for i, id := range p.scontrol {
		f.readScontrol(id, answerOf(replies, fmt.Sprintf("job.%d", i)))
	}
	for i, c := range p.sacct {
		if f.accountless {
			break
		}
		a := answerOf(replies, fmt.Sprintf("sacct.%d", i))
		if !fewer && a.lacks() {
			s.oldSacct.Store(true)
			return s.follow(ctx, p)
		}
		if !f.readSacct(c, a) {
			f.down = cmp.Or(cleaned("sacct", a.errs), cleaned("sacct", a.out), "no answer")
			if err != nil {
				f.down = err.Error()
			}
			break
		}
	}
	s.meter.skip("sacct", f.skipped)
	return f
}

// sacctArgs asks for allocations, not steps, with one line for each attempt.
func sacctArgs(numbers []string, fewer, federated bool) []string {
	format := restartsFormat
	if fewer {
		format = sacctFormat
	}
	args := []string{"sacct", "-X", "-D", "-P", "-n", "--delimiter=" + separator, "--starttime=" + sacctStart, "-o", format,
		"-j", strings.Join(numbers, ",")}
	if federated {
		args = append(args, "--federation")
	}
	return args
}

// readSacct reports whether a is the answer to a chunk. One that has nothing but errors is none, whatever its exit code.
func (f *found) readSacct(c chunk, a answer) bool {
	if a.ok && isAccountless(reply{a.code, a.out + a.errs}) {
		f.accountless = true
		return true
	}
	if !a.ok || a.code != 0 || a.out == "" && strings.Contains(a.errs, "error:") {
		return false
	}
	f.answered++
	statuses := parseSacct(a.out, &f.skipped)
	for _, number := range c.numbers {
		if st, ok := statuses[number]; ok {
			f.sacct[jobID(number, c.cluster)] = st
		}
	}
	return true
}

// readScontrol reads the answer about one job. That slurmctld does not know a job is an answer, too.
func (f *found) readScontrol(id runtime.JobID, a answer) {
	number, _, _ := strings.Cut(string(id), ";")
	switch {
	case !a.ok:
	case a.code == 0:
		if st, ok := parseScontrol(a.out, number); ok {
			f.scontrol[id] = st
		}
	case a.code == 127, strings.Contains(a.errs, "Invalid job id"), strings.Contains(a.errs, " not found"):
		f.gone[id] = true
	}
}
