package slurm

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

// calls are how often a program calls each of Slurm's commands, at most: after one that fails it may leave out others.
type calls map[string]int

// command returns a command line for a cluster, and counts it. Only a cluster that has a name is named: to look a name
// up, the command asks the accounting database, which not every cluster has.
func (c calls) command(cluster string, args ...string) string {
	c[args[0]]++
	if cluster == "" {
		return runtime.Quote(args...)
	}
	return runtime.Quote(append([]string{args[0], "--clusters=" + cluster}, args[1:]...)...)
}

// A target's Slurm is called as if by somebody at a shell: what one program calls goes one after the other, each when
// slurmctld has answered the last. So it is not the calls that have to be bounded, of which a program may have a
// thousand sbatch, but how soon programs follow each other. Each takes a token for each command that it calls, be it
// once or many times. There are paceBurst, and one more comes each paceEvery: a run that polls each second, and
// submits, explains and cancels between, needs no more than half of them. (Slurm's own limit on the requests of a user
// has by default 30, and two more each second.)
const (
	paceBurst = 100
	paceEvery = 250 * time.Millisecond
)

// A bucket has tokens, which come again as time passes. It is full at first. What is taken beyond that is a debt.
type bucket struct {
	tokens float64
	filled time.Time
}

// fill adds the tokens that have come since it was last filled: one each every, up to size.
func (b *bucket) fill(now time.Time, size float64, every time.Duration) {
	b.tokens += now.Sub(b.filled).Seconds() / every.Seconds()
	if b.filled.IsZero() || b.tokens > size {
		b.tokens = size
	}
	b.filled = now
}

// A meter bounds and counts what a target's Slurm is asked. The zero value has counted nothing.
type meter struct {
	mu      sync.Mutex
	pace    bucket
	tallies map[string]runtime.Tally
}

// admit counts the calls of a program, and waits until it may run.
func (m *meter) admit(ctx context.Context, c calls) error {
	if wait := m.count(time.Now(), c); wait > 0 {
		return runtime.Pause(ctx, wait)
	}
	return nil
}

// count counts the calls, and returns for how long they have to wait.
func (m *meter) count(now time.Time, c calls) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tallies == nil {
		m.tallies = make(map[string]runtime.Tally)
	}
	for name, n := range c {
		t := m.tallies[name]
		t.Calls += n
		m.tallies[name] = t
	}
	m.pace.fill(now, paceBurst, paceEvery)
	m.pace.tokens -= float64(len(c))
	return time.Duration(-m.pace.tokens * float64(paceEvery))
}

// skip counts what of a command's output was not understood.
func (m *meter) skip(command string, s skips) {
	if s.lines == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tallies[command]
	if t.Skipped == 0 {
		t.First = s.first
	}
	t.Skipped += s.lines
	m.tallies[command] = t
}

// Tallies implements runtime.Counter.
func (s *Scheduler) Tallies() map[string]runtime.Tally {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	return maps.Clone(s.meter.tallies)
}

// skips are the lines of an output that a parser did not understand, and skipped. The parser is not held up by them,
// and who reads them is told.
type skips struct {
	lines int
	first string
}

// maxSkipped is how much of a line that was skipped is told.
const maxSkipped = 200

// add counts the lines of a text that say something. The one in which squeue names the cluster is as it should be.
func (s *skips) add(text string) {
	for line := range strings.Lines(text) {
		line = clean(strings.ReplaceAll(line, separator, "|"))
		if line == "" || strings.HasPrefix(line, "CLUSTER: ") {
			continue
		}
		if s.lines++; s.lines == 1 {
			s.first = shorten(line, maxSkipped)
		}
	}
}

// id returns the number of the job that a record is about, and true if it is one of a job that we may know. What else
// was printed before the record, or is no number of a job, is skipped.
func (s *skips) id(field string) (number string, ok bool) {
	id := lastLine(field)
	s.add(strings.TrimSuffix(field, id))
	number, understood := numberOf(id)
	if !understood {
		s.add(id)
	}
	return number, number != ""
}
