package slurm

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// fileAnswer, and a dot and a number, is a file in a job's directory, or in that of a group of jobs. It is there before
// the sbatch runs whose answer it is for; who makes it, and nobody else, runs that sbatch. It has a line
//
//	MARK NAME TASKS
//
// that says under which name is submitted what, then what sbatch prints on stderr, and, once it has exited, what it
// printed on stdout and its exit code, as a reply with that mark.
const fileAnswer = "answer"

// An attempt is a call of sbatch, as its file tells of it.
type attempt struct {
	number   int
	mark     string // "": nothing was submitted yet, and it is not known what will be
	name     string
	tasks    taskSet // of an array; nil: a job of its own
	answered bool
	reply           // out is stdout
	stderr   string // of sbatch

	// What is known beside.
	seen    time.Time     // when it was first read, by this machine's clock
	age     time.Duration // of the file, by the target's clock; -1: not known
	found   runtime.JobID // by its name
	misses  int           // how often it was not found since it was over
	missed  time.Time     // the first time
	nothing bool          // there is no job of it, and there will be none
}

var claimForm = regexp.MustCompile(`^(\S+) (\S+) (\S+)$`)

// parseAttempt reads a file.
func parseAttempt(number int, text string) *attempt {
	a := &attempt{number: number, age: -1}
	claim, rest, _ := strings.Cut(text, "\n")
	m := claimForm.FindStringSubmatch(claim)
	if m == nil {
		return a
	}
	a.mark, a.name = m[1], m[2]
	if m[3] != "-" {
		a.tasks = parseTasks(m[3])
	}
	a.stderr, _, _ = strings.Cut("\n"+rest, "\n"+a.mark+" begin ")
	a.reply, a.answered = parseReplies("\n"+rest, a.mark)["out"]
	return a
}

// covers reports whether the job is one of those that the attempt submits.
func (a *attempt) covers(job runtime.Job) bool {
	switch {
	case a.mark == "":
		return true
	case a.tasks == nil:
		return a.name == job.Token
	}
	task, ok := a.taskOf(job)
	return ok && a.tasks.has(task)
}

// taskOf returns which task the job is in an array of the attempt's name.
func (a *attempt) taskOf(job runtime.Job) (task int, ok bool) {
	group, _ := groupOf(job)
	task = job.Index
	if at := offsetForm.FindStringIndex(a.name); at != nil {
		offset, _ := strconv.Atoi(a.name[at[0]+1:])
		task -= offset
	}
	return task, job.Group != "" && arrayName(group, job.Index-task) == a.name
}

// id returns the id of the job, if the attempt has submitted it.
func (a *attempt) id(job runtime.Job) runtime.JobID {
	id := a.found
	if id == "" && a.answered && a.code == 0 {
		id = parseID(a.out)
	}
	if task, ok := a.taskOf(job); ok && id != "" && a.tasks != nil {
		return taskID(id, task)
	}
	return id
}

// over reports whether the attempt's sbatch certainly does not run any more. If something was killed, it may have been
// what was to kill sbatch.
func (a *attempt) over() bool {
	return a.answered && !killed(a.code) || a.age >= overAfter || !a.seen.IsZero() && time.Since(a.seen) >= overAfter
}

// failure describes why the attempt has no job for certain, or, in class Ambiguous, may have one.
func (s *Scheduler) attemptFailure(a *attempt) *runtime.CommandError {
	if !a.answered {
		return &runtime.CommandError{Target: s.name, Command: "sbatch", Text: "no answer from " + s.name, Class: runtime.Ambiguous}
	}
	r := a.reply
	r.out = strings.TrimSpace(a.stderr + "\n" + a.out)
	e := s.failure("sbatch", r)
	if r.code == 0 || parseID(a.out) != "" {
		e.Class = runtime.Ambiguous
		e.Text = "an answer without a job id: " + strconv.Quote(cleaned("sbatch", a.out))
	}
	return e
}

// parseID finds the id in what sbatch --parsable printed on stdout: plugins of the cluster may print too. If more than
// one line may be it, none is.
func parseID(out string) (id runtime.JobID) {
	for line := range strings.Lines(out) {
		if line = strings.TrimSuffix(line, "\n"); sbatchForm.MatchString(line) {
			if id != "" {
				return ""
			}
			id = runtime.JobID(line)
		}
	}
	return id
}

// A place is a directory with attempts: a job's, or that of a group of jobs.
type place struct {
	dir      string
	attempts []*attempt // oldest first
	next     int        // the number of the next attempt
}

// read takes over what the shell function journal printed of the place's files, each after a line with the mark.
func (p *place) read(out, mark string) {
	known := make(map[int]*attempt)
	for _, a := range p.attempts {
		known[a.number] = a
	}
	p.attempts, p.next = nil, 0
	for _, part := range strings.Split("\n"+out, "\n"+mark+" file ")[1:] {
		number, text, _ := strings.Cut(part, "\n")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 {
			continue
		}
		a := parseAttempt(n, text)
		a.seen = time.Now()
		if old := known[n]; old != nil {
			a.seen, a.found, a.misses, a.missed, a.nothing = old.seen, old.found, old.misses, old.missed, old.nothing
		}
		p.attempts = append(p.attempts, a)
		p.next = max(p.next, n+1)
	}
	slices.SortFunc(p.attempts, func(a, b *attempt) int { return a.number - b.number })
}

// latest returns the last attempt to submit the job, or nil. Who makes it knows that those before came to nothing.
func (p *place) latest(job runtime.Job) *attempt {
	for i := len(p.attempts) - 1; i >= 0; i-- {
		if p.attempts[i].covers(job) {
			return p.attempts[i]
		}
	}
	return nil
}

func (p *place) file(a *attempt) string {
	return path.Join(p.dir, fileAnswer+"."+strconv.Itoa(a.number))
}
