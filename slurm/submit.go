package slurm

import (
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

const (
	// sbatchLimit is how long one sbatch may take: when slurmctld is full, it tries again by itself for two minutes. Then
	// it is killed, so that it is over by overAfter, whatever froze it, also if nobody is connected any more.
	sbatchLimit = 150 * time.Second
	overAfter   = sbatchLimit + 10*time.Second

	// patience is how long Submit tries to find out whether jobs exist whose answer was lost.
	patience = 3 * time.Minute

	// grace is how long a job may take to show in the queue whose sbatch has ended: slurmctld may have been too busy to
	// answer it.
	grace = 10 * time.Second

	// maxProgram bounds the size of a program, for the sake of the login node's shell.
	maxProgram = 2 << 20
)

// submitShell submits a job, or an array of them, once: if nobody has made the attempt's file yet. (With set -C, of
// several that make a file one succeeds.) Whoever makes a file knows those with lower numbers: where one could not be
// made, no more are made in that place. It returns 1 where more jobs need not be tried, because of slurmctld; after a job
// that is over a limit, it leaves out others under the same limits.
const submitShell = `submit() { # KEY DIR ATTEMPT NAME TASKS LIMITS SCRIPT ARG...
	key=$1 dir=$2 file=$2/answer.$3 claim="$secret $4 $5" limits=$6 script=$7
	shift 7
	case $over in *"|$limits|"*)
		reply "over.$key" 0 ''
		return 0 ;;
	esac
	case $behind in *"|$dir|"*)
		journal "$key" "$dir"
		return 0 ;;
	esac
	if ! { printf '' >"$file"; } 2>/dev/null; then
		behind="$behind|$dir|"
		if [ -e "$file" ]; then
			journal "$key" "$dir"
		else
			reply "files.$key" 1 "$({ mkdir -p "$dir" && printf '' >|"$dir/.new"; } 2>&1)"
		fi
		return 0
	fi
	if ! { printf '%s\n' "$claim" >>"$file" && printf %s "$script" >|"$dir/script"; } 2>/dev/null; then
		behind="$behind|$dir|"
		rm -f "$file"
		reply "files.$key" 1 "$({ printf %s "$script" | cat >|"$dir/script"; } 2>&1)"
		return 0
	fi
	out=$(exec $bound sbatch --parsable "$@" 2>>"$file" </dev/null)
	code=$?
	printf '\n%s begin out\n%s\n%s end %s\n' "$secret" "$out" "$secret" "$code" >>"$file"
	case $code:$out in
	0:*[!0-9]* | 0: | [!0]*) ;;
	*)
		reply "id.$key" 0 "$out"
		return 0 ;;
	esac
	journal "$key" "$dir"
	if [ "$code" = 0 ]; then [ -n "$out" ]; return; fi
	if [ "$code" -gt 128 ] && [ "$code" -lt 255 ]; then return 1; fi
	text=$(sed 1d "$file" | tr '[:upper:]' '[:lower:]')
	case ${text##*batch job submission failed: } in PASSING) return 1 ;; esac
	case $text in
	*submitjob* | *maxjob* | *grpjob*) ;;
	*qosmax* | *qosmin* | *qosgrp* | *assocmax* | *assocmin* | *assocgrp*) return 0 ;;
	esac
	case $text in *'POLICY'*) over="$over|$limits|" ;; esac
}
`

// journalShell prints the files of a place.
const journalShell = `journal() { # KEY DIR
	printf '\n%s begin journal.%s\n' "$mark" "$1"
	for f in "$2"/answer.*; do
		[ ! -e "$f" ] || {
			printf '\n%s file %s\n' "$secret" "${f##*.}"
			cat "$f"
		}
	done
	printf '\n%s end 0\n' "$mark"
}
`

// submitHead is these with what this package knows of sbatch's answers.
func submitHead(secret string) string {
	bound := fmt.Sprintf("bound=\n! command -v timeout >/dev/null || bound='timeout -s KILL %d'\n", int(sbatchLimit.Seconds()))
	return "set -C\nover= behind= secret=" + secret + "\n" + bound + journalShell + strings.NewReplacer(
		"PASSING", patterns(slices.Concat(unreached, unanswered, crowded)), "POLICY", policy,
	).Replace(submitShell)
}

// patterns makes a pattern of the shell that any text matches which has one of these in it.
func patterns(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = "*" + runtime.Quote(text) + "*"
	}
	return strings.Join(quoted, " | ")
}

// A task is a job of a Submit.
type task struct {
	job    runtime.Job
	place  *place
	script string

	state taskState
	id    runtime.JobID
	err   error
}

type taskState int

const (
	open     taskState = iota // not submitted
	doubtful                  // perhaps submitted
	settled                   // id or err says how
)

func (t *task) settle(id runtime.JobID, err error) {
	t.state, t.id, t.err = settled, id, err
}

// A submission is a Submit under way.
type submission struct {
	*Scheduler
	tasks   []*task
	secrets map[string]bool  // marks of the attempts that it made
	names   func() []string  // of the partitions, for hints
	lost    error            // why an answer was lost
	over    map[string]error // that the user has too many jobs, by whose limit it is
}

// Submit implements runtime.Scheduler.
func (s *Scheduler) Submit(ctx context.Context, jobs ...runtime.Job) ([]runtime.Submission, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("submit: %w", context.Cause(ctx))
	}
	sub := &submission{Scheduler: s, secrets: make(map[string]bool), over: make(map[string]error)}
	sub.names = sync.OnceValue(func() []string { return s.Partitions(ctx) })
	byToken := sub.add(jobs)
	err := sub.settle(ctx)
	subs := make([]runtime.Submission, len(jobs))
	known := err == nil
	for i, job := range jobs {
		t := byToken[job.Token]
		subs[i] = runtime.Submission{Token: job.Token, ID: t.id, Err: t.err}
		if t.state != settled {
			subs[i].Err = sub.unknown(t, err)
		}
		known = known || t.state == settled
	}
	if !known {
		return nil, fmt.Errorf("submit: %w", err)
	}
	return subs, nil
}

// add makes the tasks of the jobs. Those that cannot be submitted are settled.
func (s *submission) add(jobs []runtime.Job) (byToken map[string]*task) {
	byToken = make(map[string]*task)
	places := make(map[string]*place)
	scripts := make(map[*place]*task) // of groups: who has the script
	for _, job := range jobs {
		if byToken[job.Token] != nil {
			continue
		}
		t := &task{job: job}
		byToken[job.Token] = t
		s.tasks = append(s.tasks, t)
		dir := job.Dir
		if job.Group != "" {
			_, dir = groupOf(job)
		}
		if places[dir] == nil {
			places[dir] = &place{dir: dir}
		}
		t.place = places[dir]
		if first := scripts[t.place]; first != nil && sameGroup(first.job, job) {
			t.script = first.script
			continue
		}
		script, err := Script(job)
		if err != nil {
			t.settle("", err)
		}
		t.script = script
		if job.Group != "" && err == nil {
			scripts[t.place] = t
		}
	}
	return byToken
}

// sameGroup reports whether two jobs in directories of one group are of that group, and named as they should be.
func sameGroup(a, b runtime.Job) bool {
	tokenA, _ := groupOf(a)
	tokenB, dirB := groupOf(b)
	return a.Group == b.Group && tokenA == tokenB && b.Index >= 0 && tokenB != b.Token && dirB != b.Dir
}

// settle submits the tasks, and finds out what became of those whose answer is lost. An error is the context's.
func (s *submission) settle(ctx context.Context) error {
	var since time.Time
	for delay := time.Second; ; delay = min(2*delay, 10*time.Second) {
		if err := s.handIn(ctx); err != nil {
			return err
		}
		if !s.any(open) && !s.any(doubtful) {
			return nil
		}
		if since.IsZero() { // at first, there is nothing to wait for
			since = time.Now()
		} else if time.Since(since)+delay > patience {
			return nil
		} else if err := runtime.Pause(ctx, delay); err != nil {
			return err
		}
		if s.any(doubtful) {
			s.lost = s.lookUp(ctx)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (s *submission) any(state taskState) bool {
	return slices.ContainsFunc(s.tasks, func(t *task) bool { return t.state == state })
}

// unknown is the error of a task of which Submit could not find out whether there is a job.
func (s *submission) unknown(t *task, err error) error {
	if err != nil { // the context has ended
		return fmt.Errorf("submit: %w", err)
	}
	e := &runtime.CommandError{Target: s.name, Command: "sbatch", Text: "no answer from " + s.name, Class: runtime.Ambiguous}
	if a := t.place.latest(t.job); a != nil {
		e = s.attemptFailure(a)
	}
	hint := fmt.Sprintf("whether there is a job is not known; on %s, `squeue --me` shows it under the name %s", s.name, t.job.Token)
	if s.lost != nil {
		return runtime.Faultf(runtime.FaultInfra, hint, "%w; then %w", e, s.lost)
	}
	return runtime.Faultf(runtime.FaultInfra, hint, "%w", e)
}

// A batch is what one sbatch submits: a job, or jobs of a group as an array.
type batch struct {
	tasks   []*task // in the order of their index
	place   *place
	attempt int
	offset  int // what is to be added to the number of the array's task
	array   bool
}

// handIn submits the open tasks, and settles those whose answer says how. Where slurmctld does not answer one, those
// after it are settled as not tried.
func (s *submission) handIn(ctx context.Context) error {
	batches := s.batches()
	if len(batches) == 0 {
		return nil
	}
	select { // one at a time, to be kind to slurmctld
	case s.submitting <- struct{}{}:
		defer func() { <-s.submitting }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for len(batches) > 0 && ctx.Err() == nil {
		n, lines := programOf(batches, s.arrayChunk())
		goOn := s.run(ctx, batches[:n], lines)
		batches = batches[n:]
		if !goOn {
			break
		}
	}
	if s.lost == nil {
		for _, b := range batches {
			b.settle(s.notTried())
		}
	}
	return nil
}

func (s *submission) notTried() error {
	return &runtime.Error{Fault: runtime.FaultInfra, Err: &runtime.CommandError{Target: s.name, Command: "sbatch",
		Text: "not tried, because it failed for another job", Class: runtime.Transient}}
}

// batches makes batches of the open tasks: of those of a group that follow each other, arrays.
func (s *submission) batches() (batches []*batch) {
	chunk := s.arrayChunk()
	next := make(map[*place]int)
	var last *batch
	for _, t := range s.tasks {
		if err := s.over[limitsOf(t.job)]; t.state == open && err != nil {
			t.settle("", err)
		}
		if t.state != open {
			last = nil
			continue
		}
		offset := 0
		if t.job.Group != "" {
			offset = t.job.Index - t.job.Index%chunk
		}
		if last == nil || !last.array || last.place != t.place || last.offset != offset {
			last = &batch{place: t.place, attempt: t.place.next + next[t.place], offset: offset,
				array: t.job.Group != "" && chunk > 1}
			next[t.place]++
			batches = append(batches, last)
		}
		last.tasks = append(last.tasks, t)
	}
	for _, b := range batches {
		slices.SortStableFunc(b.tasks, func(x, y *task) int { return x.job.Index - y.job.Index })
	}
	return batches
}

// arrayChunk returns how many jobs go into one array.
func (s *Scheduler) arrayChunk() int {
	if chunk := s.chunk.Load(); chunk > 0 {
		return int(chunk)
	}
	return arrayChunk
}

// programOf returns the shell lines that submit the first of the batches, as many as one program may have.
func programOf(batches []*batch, chunk int) (n int, lines string) {
	var b strings.Builder
	var scripts commonText
	var dirs []string
	for n < len(batches) && (n == 0 || scripts.vars.Len()+b.Len()+len(batches[n].tasks[0].script) < maxProgram) {
		b.WriteString(batches[n].call(n, chunk, &scripts))
		if batches[n].tasks[0].job.Group != "" {
			dirs = append(dirs, batches[n].place.dir)
		}
		for _, t := range batches[n].tasks {
			dirs = append(dirs, t.job.Dir)
		}
		n++
	}
	var mkdir strings.Builder
	for some := range slices.Chunk(dirs, 500) { // one process, and not too many arguments
		mkdir.WriteString("mkdir -p " + runtime.Quote(some...) + " 2>/dev/null\n")
	}
	return n, scripts.vars.String() + mkdir.String() + "all() {\n" + b.String() + "}\nall\nreply all 0 ''\n"
}

// call returns the shell line that submits the batch.
func (b *batch) call(key, chunk int, scripts *commonText) string {
	name, list, args := b.args(chunk)
	return fmt.Sprintf("submit %s %s %s || return 0\n",
		runtime.Quote(strconv.Itoa(key), b.place.dir, strconv.Itoa(b.attempt), name, list, limitsOf(b.tasks[0].job)),
		scripts.word(b.tasks[0].script), runtime.Quote(args...))
}

// args returns the arguments of sbatch but for --parsable, the name of what it submits, and its tasks if that is an array.
func (b *batch) args(chunk int) (name, list string, args []string) {
	t := b.tasks[0]
	name, list = t.job.Token, "-"
	if t.job.Group != "" {
		output := strings.ReplaceAll(path.Join(t.job.Dir, FileOutput), "%", "%%")
		if b.array {
			group, dir := groupOf(t.job)
			name, list = arrayName(group, b.offset), formatTasks(b.numbers())
			output = arrayOutput(dir, b.offset, chunk)
			args = append(args, "--array="+list)
		}
		args = append(args, "--job-name="+name, "--output="+output)
	}
	args = append(args, path.Join(b.place.dir, runtime.FileScript))
	if t.job.Group != "" {
		args = append(args, strconv.Itoa(b.offset))
	}
	return name, list, args
}

// numbers are the batch's tasks of the array, ascending.
func (b *batch) numbers() []int {
	numbers := make([]int, len(b.tasks))
	for i, t := range b.tasks {
		numbers[i] = t.job.Index - b.offset
	}
	return slices.Compact(numbers)
}

// limitsOf names what the limits on jobs are those of.
func limitsOf(job runtime.Job) string {
	return strings.Join([]string{job.Needs.Partition, job.Needs.Account, job.Needs.QOS}, "/")
}

// run runs a program, and takes over what it says of the batches. It reports whether there is sense in going on.
func (s *submission) run(ctx context.Context, batches []*batch, lines string) bool {
	secret := rand.Text()
	s.secrets[secret] = true
	limit := overAfter + time.Duration(len(batches))*time.Second
	replies, err := s.ask(ctx, limit, submitHead(secret)+lines, calls{"sbatch": len(batches)})
	_, whole := replies["all"]
	if err == nil && !whole {
		err = s.check("sbatch", reply{}, false)
	}
	s.lost = err
	goOn := err == nil
	for i, b := range batches {
		switch key := strconv.Itoa(i); {
		case s.take(ctx, b, key, secret, replies):
		case err != nil && runtime.ClassOf(err) == runtime.Permanent: // there was no shell to run it
			b.settle(err)
		case err != nil:
			for _, t := range b.tasks {
				t.state = doubtful
			}
		default:
			goOn = false
			b.settle(s.notTried())
		}
	}
	return goOn
}

// take takes over what a program replies of a batch. It reports whether there is a reply.
func (s *submission) take(ctx context.Context, b *batch, key, secret string, replies map[string]reply) bool {
	if r, ok := replies["id."+key]; ok {
		b.place.next = b.attempt + 1
		for _, t := range b.tasks {
			switch id := parseID(r.out); {
			case id == "":
				t.state = doubtful
			case b.array:
				t.settle(taskID(id, t.job.Index-b.offset), nil)
			default:
				t.settle(id, nil)
			}
		}
		return true
	}
	if r, ok := replies["journal."+key]; ok {
		b.place.read(r.out, secret)
		for _, t := range b.tasks {
			s.judge(t)
		}
		s.smallerArrays(ctx, b)
		return true
	}
	if r, ok := replies["files."+key]; ok {
		e := &runtime.CommandError{Target: s.name, Command: "write", Code: r.code, Output: r.out,
			Text: cleaned("mkdir", r.out), Class: runtime.Permanent}
		b.settle(runtime.Faultf(runtime.FaultInfra, filesHint(r.out), "directory %s: %w", b.place.dir, e))
		return true
	}
	_, ok := replies["over."+key] // and what it is over was judged before
	return ok
}

// filesHint says what the user can do where files cannot be made.
func filesHint(output string) string {
	for _, full := range []string{"No space left", "quota exceeded"} {
		if strings.Contains(output, full) {
			return "make room there, or set another workdir: for the target in the configuration file"
		}
	}
	return ""
}

// smallerArrays gives a batch that is refused as an array another try, as several, or as no array at all: there are
// clusters that take smaller ones than usual.
func (s *submission) smallerArrays(ctx context.Context, b *batch) {
	a := b.place.latest(b.tasks[0].job)
	if !b.array || a == nil || !s.secrets[a.mark] || !strings.Contains(a.stderr, "Invalid job array specification") {
		return
	}
	chunk := 1
	if c, err := s.capabilities(ctx); err == nil && chunkWithin(c.maxArraySize) < s.arrayChunk() {
		chunk = chunkWithin(c.maxArraySize)
	}
	s.chunk.Store(int32(chunk))
	a.nothing = true
	for _, t := range b.tasks {
		s.judge(t)
	}
}

func (b *batch) settle(err error) {
	for _, t := range b.tasks {
		t.settle("", err)
	}
}

// judge says what the attempts to submit a task make of it. Where an earlier Submit was refused, it is tried again.
func (s *submission) judge(t *task) {
	a := t.place.latest(t.job)
	if a == nil || a.nothing {
		t.state = open
		return
	}
	if id := a.id(t.job); id != "" {
		t.settle(id, nil)
		return
	}
	e := s.attemptFailure(a)
	switch {
	case e.Class == runtime.Ambiguous:
		t.state = doubtful
	case s.secrets[a.mark]:
		t.settle("", s.refused(e, t.job, s.names))
		if e.Class == runtime.Quota && strings.Contains(strings.ToLower(e.Output), policy) {
			s.over[limitsOf(t.job)] = t.err
		}
	default:
		t.state = open
	}
}
