package slurm

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// namesPerQuery is for how many names sacct is asked at once.
const namesPerQuery = 200

// lookHead finds out how old the files are by the clock that stamps them, which need not be the login node's, and how
// many days sacct has to look back. It asks Slurm not to shorten lists of tasks.
const lookHead = `export SLURM_BITSTR_LEN=0
ages() { # DIR...
	n=$# now=
	for d; do
		set -- "$@" "$d"/answer.*
		[ -n "$now" ] || { [ -d "$d" ] && now=$d/.now; }
	done
	shift "$n"
	[ -z "$now" ] || printf '' >"$now"
	list=$(stat -c '%Y %n' "$now" "$@" 2>/dev/null)
	[ -z "$now" ] || rm -f "$now"
	days=$(printf '%s\n' "$list" | awk '
		NR == 1 { now = $1 }
		!old || $1 < old { old = $1 }
		END { print old ? int((now - old) / 86400) + 1 : 30 }')
	reply ages 0 "$list"
}
`

// A sighting is a job, or tasks of an array, of which Slurm tells.
type sighting struct {
	id    runtime.JobID // of the array, if there are tasks
	tasks taskSet       // nil: a job of its own
}

// A look is the question what became of the doubtful tasks of a Submit, and the answer.
type look struct {
	*submission
	tasks  []*task
	places []*place
	secret string

	names  map[string][]string // under which jobs may be, by the value of --clusters
	asked  map[string]bool     // the names
	calls  calls
	seen   map[string][]sighting
	failed map[string]error // squeue and sacct, by the value of --clusters
}

// lookUp reads what the doubtful tasks' files say now, asks squeue, sacct and the jobs themselves for jobs of their
// names, and judges the tasks by that. It is one program however many they are. An error says why it learned too little.
func (s *submission) lookUp(ctx context.Context) error {
	l := &look{submission: s, secret: rand.Text(), names: make(map[string][]string), asked: make(map[string]bool), calls: make(calls),
		seen: make(map[string][]sighting), failed: make(map[string]error)}
	places := make(map[*place]bool)
	for _, t := range s.tasks {
		if t.state != doubtful {
			continue
		}
		l.tasks = append(l.tasks, t)
		if !places[t.place] {
			places[t.place] = true
			l.places = append(l.places, t.place)
		}
		if name := l.nameOf(t); !l.asked[name] {
			l.asked[name] = true
			l.names[clustersOf(t.job)] = append(l.names[clustersOf(t.job)], name)
		}
	}
	replies, err := s.ask(ctx, queryLimit, l.program(), l.calls)
	if err != nil {
		return err
	}
	s.learn(replies)
	l.read(replies)
	if notes := l.judgeAll(); notes != "" {
		s.ask(ctx, queryLimit, notes, nil) // if that fails, the next Submit looks again
	}
	for _, cluster := range slices.Sorted(maps.Keys(l.failed)) {
		err = cmp.Or(err, l.failed[cluster])
	}
	return err
}

// program makes the program. What it asks Slurm comes after what it reads of the files: an sbatch that has ended by then
// has its job in the queue.
func (l *look) program() string {
	var b strings.Builder
	b.WriteString(queryHead + "secret=" + l.secret + "\n" + lookHead + journalShell + "ages")
	for _, p := range l.places {
		b.WriteString(" " + runtime.Quote(p.dir))
	}
	for i, p := range l.places {
		fmt.Fprintf(&b, "\njournal %d %s", i, runtime.Quote(p.dir))
	}
	b.WriteString("\n")
	l.ask(&b)
	b.WriteString("try started grep -H '\"id\"'")
	for _, t := range l.tasks {
		b.WriteString(" " + runtime.Quote(t.job.Dir+"/"+runtime.FileStart))
	}
	b.WriteString(" /dev/null\n")
	if l.known.Load() == nil {
		b.WriteString(probeProgram)
		maps.Copy(l.calls, probeCalls())
	}
	return b.String()
}

// ask writes the questions to Slurm.
func (l *look) ask(b *strings.Builder) {
	for i, cluster := range slices.Sorted(maps.Keys(l.names)) {
		fmt.Fprintf(b, "try squeue.%d %s\n", i, l.calls.command(cluster, "squeue", "--me", "-a", "-h", "-r", "-t", "all",
			"-o", "%i"+separator+"%j"))
		if l.memory.isAccountless() {
			continue
		}
		n := 0
		for names := range slices.Chunk(l.names[cluster], namesPerQuery) {
			fmt.Fprintf(b, "try sacct.%d.%d %s --starttime=now-${days}days\n", i, n, l.calls.command(cluster, "sacct", "-X", "-P", "-n",
				"--delimiter="+separator, "-o", "JobID,Cluster,JobName", "--name="+strings.Join(names, ",")))
			n++
		}
	}
}

// nameOf returns the name under which the task was submitted, or would be.
func (l *look) nameOf(t *task) string {
	if a := t.place.latest(t.job); a != nil && a.mark != "" {
		return a.name
	}
	if chunk := l.arrayChunk(); t.job.Group != "" && chunk > 1 {
		group, _ := groupOf(t.job)
		return arrayName(group, t.job.Index-t.job.Index%chunk)
	}
	return t.job.Token
}

// clustersOf returns the value of the job's option --clusters, or "".
func clustersOf(job runtime.Job) (clusters string) {
	for _, option := range job.Needs.Extra {
		name, value, _ := strings.Cut(option, "=")
		if len(name) > len("--c") && strings.HasPrefix("--clusters", name) {
			clusters = value
		}
	}
	return clusters
}

// read takes over the replies.
func (l *look) read(replies map[string]reply) {
	for i, p := range l.places {
		if r, ok := replies[fmt.Sprintf("journal.%d", i)]; ok {
			p.read(r.out, l.secret)
		}
	}
	l.readAges(replies["ages"].out)
	for i, cluster := range slices.Sorted(maps.Keys(l.names)) {
		r, ok := replies[fmt.Sprintf("squeue.%d", i)]
		if err := l.check("squeue", r, ok); err != nil {
			l.failed[cluster] = err
		}
		l.readQueue(r, cluster)
		for n := 0; n*namesPerQuery < len(l.names[cluster]) && !l.memory.isAccountless(); n++ {
			r, ok := replies[fmt.Sprintf("sacct.%d.%d", i, n)]
			if ok && isAccountless(r) {
				l.memory.accountless()
			} else if err := l.check("sacct", r, ok); err != nil && !l.isYoung(cluster) {
				l.failed[cluster] = cmp.Or(l.failed[cluster], err)
			}
			l.readAccounts(r, cluster)
		}
	}
	l.readStarted(replies["started"].out)
}

// readAges reads lines of seconds since 1970 and a file's name, the first of which is of a file just made.
func (l *look) readAges(out string) {
	now, rest, _ := strings.Cut(out, "\n")
	now, name, _ := strings.Cut(now, " ")
	made, err := strconv.ParseInt(now, 10, 64)
	if err != nil || !strings.HasSuffix(name, "/.now") {
		return
	}
	changed := make(map[string]int64)
	for line := range strings.Lines(rest) {
		seconds, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
			changed[name] = n
		}
	}
	for _, p := range l.places {
		for _, a := range p.attempts {
			if n, ok := changed[p.file(a)]; ok {
				a.age = max(0, time.Duration(made-n)*time.Second)
			}
		}
	}
}

// readQueue reads lines of a number and a name. Before those of a named cluster there is its name.
func (l *look) readQueue(r reply, cluster string) {
	if strings.Contains(cluster, ",") {
		cluster = ""
	}
	var skipped skips
	for line := range strings.Lines(r.out) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "CLUSTER: "); ok {
			cluster = strings.TrimSpace(name)
		}
		number, name, _ := strings.Cut(line, separator)
		if !l.see(number, cluster, name) {
			skipped.add(line)
		}
	}
	if r.code == 0 {
		l.meter.skip("squeue", skipped)
	}
}

// readAccounts reads lines of a number, a cluster and a name.
func (l *look) readAccounts(r reply, clusters string) {
	var skipped skips
	for line := range strings.Lines(r.out) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), separator, 3)
		if len(f) < 3 {
			skipped.add(line)
			continue
		}
		if clusters == "" {
			f[1] = ""
		}
		if !l.see(f[0], f[1], f[2]) {
			skipped.add(line)
		}
	}
	if r.code == 0 {
		l.meter.skip("sacct", skipped)
	}
}

// see notes a job: 41, 200+0, 100_7, or several tasks that wait, 100_[8-9]. It reports whether it understands the number.
func (l *look) see(number, cluster, name string) bool {
	if one, ok := numberOf(number); ok && one != "" {
		number = one
	}
	array, list, isArray := strings.Cut(number, "_")
	id := jobID(array, cluster)
	tasks := parseTasks(list)
	if !idForm.MatchString(string(id)) || isArray != (tasks != nil) {
		_, ok := numberOf(number)
		return ok
	}
	l.seen[name] = append(l.seen[name], sighting{id, tasks})
	return true
}

// readStarted reads what grep found in start.json files: their names, a colon, and what they say.
func (l *look) readStarted(out string) {
	byDir := make(map[string]*task)
	for _, t := range l.tasks {
		byDir[t.job.Dir] = t
	}
	for line := range strings.Lines(out) {
		dir, text, _ := strings.Cut(line, "/"+runtime.FileStart+":")
		var start runtime.Start
		if t := byDir[dir]; t != nil && json.Unmarshal([]byte(text), &start) == nil {
			l.see(start.ID, clustersOf(t.job), l.nameOf(t))
		}
	}
}

// isYoung reports whether the jobs of a cluster are so young that squeue has not forgotten one, even if it has ended.
func (l *look) isYoung(cluster string) bool {
	c := l.known.Load()
	for _, t := range l.tasks {
		a := t.place.latest(t.job)
		if clustersOf(t.job) == cluster && a != nil && (c == nil || a.age < 0 || a.age+overAfter >= c.minJobAge) {
			return false
		}
	}
	return true
}

// judgeAll judges the tasks. An attempt that is over and was not found, twice and the second time some time after the
// first, came to nothing. It returns a program that notes in the files what was found.
func (l *look) judgeAll() (notes string) {
	missed := make(map[*attempt]bool)
	for _, t := range l.tasks {
		l.judge(t)
		a := t.place.latest(t.job)
		if t.state != doubtful || a == nil {
			continue
		}
		if a.found = l.find(a); a.found != "" {
			r := fmt.Sprintf("\n%s begin out\n%s\n%s end 0\n", a.mark, a.found, a.mark)
			notes += "printf %s " + runtime.Quote(r) + " >>" + runtime.Quote(t.place.file(a)) + "\n"
		} else if !missed[a] && a.over() && (l.asked[a.name] || a.mark == "") && l.failed[clustersOf(t.job)] == nil {
			missed[a] = true
			a.miss()
		}
		l.judge(t)
	}
	return notes
}

// find returns the id of the attempt's job or array, if it was seen.
func (l *look) find(a *attempt) runtime.JobID {
	for _, s := range l.seen[a.name] {
		if a.mark != "" && (a.tasks == nil) == (s.tasks == nil) && (a.tasks == nil || a.tasks.overlaps(s.tasks)) {
			return s.id
		}
	}
	return ""
}

// miss notes that there is no job of the attempt.
func (a *attempt) miss() {
	if a.misses++; a.misses == 1 {
		a.missed = time.Now()
	}
	a.nothing = a.misses > 1 && time.Since(a.missed) >= grace
}
