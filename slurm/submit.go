package slurm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

// submitLimit bounds a submission, beside a second for each job. When slurmctld is full, sbatch by itself tries again
// for up to two minutes.
const submitLimit = 150 * time.Second

// submitShell submits a job once. In the job's directory, jobid says that it was submitted, and as what. If there is no
// jobid but a script, a Submit came this far before and its answer was lost: then the job itself (start.json) or Slurm
// (a job of that name) may know of one. It returns 1 where more jobs need not be tried.
const submitShell = `submit() { # KEY DIR TOKEN SCRIPT
	if out=$(cat "$2/jobid" 2>/dev/null); then
		reply "sbatch.$1" 0 "$out"
		return 0
	fi
	out=
	if [ -e "$2/script" ]; then
		out=$(sed -n 's/.*"id":"\([0-9]*\)".*/\1/p' "$2/start.json" 2>/dev/null)
		[ -n "$out" ] || out=$(squeue --me -h -t all -o %i -n "$3" 2>&1 </dev/null) || {
			reply "squeue.$1" $? "$out"
			return 1
		}
	fi
	if [ -z "$out" ]; then
		out=$({ mkdir -p "$2" && printf %s "$4" >"$2/.script" && mv -f "$2/.script" "$2/script"; } 2>&1) || {
			reply "files.$1" $? "$out"
			return 0
		}
		out=$(sbatch --parsable "$2/script" 2>&1 </dev/null) || {
			reply "sbatch.$1" $? "$out"
			case $out in PASSING) return 1 ;; esac
			return 0
		}
	fi
	id=$(printf '%s\n' "$out" | grep -E IDFORM | tail -n 1)
	[ -z "$id" ] || { printf '%s\n' "$id" >"$2/.jobid" && mv -f "$2/.jobid" "$2/jobid"; }
	reply "sbatch.$1" 0 "$out"
}
`

// submitHead is submitShell with what this package knows of sbatch's answers.
func submitHead() string {
	patterns := make([]string, len(passing))
	for i, text := range passing {
		patterns[i] = "*" + runtime.Quote(text) + "*"
	}
	return strings.NewReplacer("PASSING", strings.Join(patterns, " | "), "IDFORM", runtime.Quote(idPattern)).
		Replace(submitShell)
}

// Submit implements runtime.Scheduler.
func (s *Scheduler) Submit(ctx context.Context, jobs ...runtime.Job) ([]runtime.Submission, error) {
	subs := make([]runtime.Submission, len(jobs))
	var program strings.Builder
	program.WriteString(submitHead())
	valid := 0
	for i, job := range jobs {
		subs[i].Token = job.Token
		script, err := Script(job)
		if err != nil {
			subs[i].Err = err
			continue
		}
		valid++
		program.WriteString("submit " + runtime.Quote(strconv.Itoa(i), job.Dir, job.Token, script) + " || return 0\n")
	}
	if valid == 0 {
		return subs, nil
	}
	replies, err := s.submit(ctx, submitLimit+time.Duration(valid)*time.Second, program.String())
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	partitions := sync.OnceValue(func() []string { return s.partitions(ctx) })
	for i, job := range jobs {
		if subs[i].Err != nil {
			continue
		}
		subs[i].ID, err = s.submitted(i, replies)
		switch refused := (*refusal)(nil); {
		case errors.As(err, &refused):
			subs[i].Err = s.explain(refused, job, partitions)
		case err != nil:
			return nil, err
		}
	}
	return subs, nil
}

// submit asks, one submission at a time: of two that submit the same token, the second must see what the first did.
func (s *Scheduler) submit(ctx context.Context, limit time.Duration, program string) (map[string]reply, error) {
	select {
	case s.submitting <- struct{}{}:
		defer func() { <-s.submitting }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.ask(ctx, limit, program)
}

// submitted returns the id of the i-th job of a Submit. The error is a *refusal if there is certainly no such job.
func (s *Scheduler) submitted(i int, replies map[string]reply) (runtime.JobID, error) {
	n := strconv.Itoa(i)
	if r, failed := replies["files."+n]; failed {
		return "", &refusal{program: "job directory", reply: r, fault: runtime.FaultInfra}
	}
	if r, failed := replies["squeue."+n]; failed {
		return "", s.check("squeue", r, failed)
	}
	r, ok := replies["sbatch."+n]
	if ok && r.code != 0 && r.code != 127 && !killed(r.code) && !isPassing(r.out) {
		return "", &refusal{program: "sbatch", reply: r}
	}
	if err := s.check("sbatch", r, ok); err != nil {
		return "", err
	}
	id := parseID(r.out)
	if id == "" {
		return "", runtime.Faultf(runtime.FaultInfra, "", "sbatch: an answer without a job id: %q", cleaned("sbatch", r.out))
	}
	return id, nil
}

// killed reports whether a signal ended a command. Of a submission nobody then knows how far it came. (255 is sbatch's
// exit code for an option that it does not know.)
func killed(code int) bool { return code > 128 && code < 255 }

// parseID finds the id in what sbatch --parsable printed: plugins of the cluster may print too.
func parseID(out string) runtime.JobID {
	id := ""
	for line := range strings.Lines(out) {
		if line = strings.TrimSuffix(line, "\n"); sbatchForm.MatchString(line) {
			id = line
		}
	}
	return runtime.JobID(id)
}
