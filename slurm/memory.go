package slurm

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

const (
	// sacctChunk is how many jobs one sacct is asked for: the database takes its time for more.
	sacctChunk = 200

	// scontrolMax is how many jobs scontrol is asked for at a time, because it takes one by one.
	scontrolMax = 50

	// firstGap and lastGap are how soon accounting is asked again about a job: ever more rarely.
	firstGap, lastGap = 5 * time.Second, 5 * time.Minute

	// lag is how far accounting may be behind. For as long it may yet tell how a job ended, from the first answer on
	// that did not. A job whose node failed or that was preempted may be requeued, without accounting knowing it yet.
	lag, requeueLag = 6 * time.Minute, 30 * time.Second

	// At most sacctBurst sacct calls may follow each other, and one each sacctEvery on average: 57 in an hour. For each
	// thousand jobs that are asked for, there may be as many again.
	sacctBurst, sacctEvery = 15, 85 * time.Second

	// forgetAfter is how long a job is remembered that nobody asks about.
	forgetAfter = time.Hour
)

// A memory is what Status remembers of jobs that squeue does not know, so that it does not ask about all of them at each
// call. It holds what was found out, and when to ask again; to lose it costs questions, and never changes an answer for
// good. The zero value has no memories.
type memory struct {
	mu         sync.Mutex
	jobs       map[runtime.JobID]*trace
	noAccounts bool // sacct says that there is no accounting

	down    string // why sacct did not answer the last time; "": it did
	downs   int    // how often in a row
	retryAt time.Time

	sacct bucket // of calls that may be made
}

// A trace is what is remembered of a job.
type trace struct {
	wanted time.Time      // when Status was last asked for it
	alive  bool           // slurmctld knew it, and that it had not ended
	before int            // the attempts before the one that was alive
	tries  int            // how often accounting was asked since slurmctld does not know it
	next   time.Time      // when to ask
	behind time.Time      // when accounting first answered, but not how it ended
	gone   bool           // slurmctld said that it does not know it
	found  runtime.Status // what accounting or slurmctld said last
}

// accountless tells the memory that there is no accounting.
func (m *memory) accountless() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noAccounts = true
}

// isAccountless reports whether there is known to be no accounting.
func (m *memory) isAccountless() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.noAccounts
}

// plan takes note of what squeue knows, and decides about which of the missing jobs to ask now. What it hands out is
// not due again for a while: of two concurrent calls, one asks.
func (m *memory) plan(now time.Time, known map[runtime.JobID]runtime.Status, missing []runtime.JobID) plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(now, known, missing)
	var due []runtime.JobID
	for _, id := range missing {
		if t := m.jobs[id]; t.found.State != runtime.Ended && !now.Before(t.next) && !(m.noAccounts && t.gone) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b runtime.JobID) int { // who waits for longest comes first
		return cmp.Or(m.jobs[a].next.Compare(m.jobs[b].next), cmp.Compare(a, b))
	})
	p := plan{limit: min(followLimit<<min(m.downs, 4), queryLimit)}
	if !m.noAccounts && !now.Before(m.retryAt) {
		scale := max(1, float64(len(known)+len(missing))/1000)
		m.sacct.fill(now, sacctBurst*scale, time.Duration(float64(sacctEvery)/scale))
		for _, c := range chunks(due) {
			if m.sacct.tokens < 1 {
				break
			}
			m.sacct.tokens--
			p.sacct = append(p.sacct, c)
		}
	}
	for _, c := range p.sacct {
		for _, number := range c.numbers {
			m.jobs[jobID(number, c.cluster)].ask(now)
		}
	}
	for _, id := range due {
		t := m.jobs[id]
		second := m.noAccounts || m.down != "" || t.tries > 1 // slurmctld is asked where accounting does not help
		if second && !t.gone && len(p.scontrol) < scontrolMax {
			p.scontrol = append(p.scontrol, id)
			if m.noAccounts {
				t.ask(now)
			}
		}
	}
	return p
}

// ask notes that it is asked now.
func (t *trace) ask(now time.Time) {
	t.tries++
	t.next = now.Add(gap(t.tries))
}

// gap is how long to wait after having asked n times.
func gap(n int) time.Duration {
	return min(firstGap<<min(n-1, 10), lastGap)
}

// note takes note of what squeue knows and does not know, and forgets what nobody asks for.
func (m *memory) note(now time.Time, known map[runtime.JobID]runtime.Status, missing []runtime.JobID) {
	if m.jobs == nil {
		m.jobs = make(map[runtime.JobID]*trace)
	}
	for id, st := range known {
		if st.State == runtime.Ended {
			delete(m.jobs, id)
			continue
		}
		*m.trace(id) = trace{wanted: now, alive: true, before: st.Attempt}
	}
	for _, id := range missing {
		t := m.trace(id)
		if t.wanted = now; t.next.IsZero() {
			t.next = now
		}
	}
	for id, t := range m.jobs {
		if now.Sub(t.wanted) > forgetAfter {
			delete(m.jobs, id)
		}
	}
}

// trace returns what is remembered of a job.
func (m *memory) trace(id runtime.JobID) *trace {
	t := m.jobs[id]
	if t == nil {
		t = new(trace)
		m.jobs[id] = t
	}
	return t
}

// chunks sorts jobs by cluster, and cuts them into what one sacct is asked for.
func chunks(ids []runtime.JobID) (all []chunk) {
	open := make(map[string]int) // the chunk of a cluster that has room
	for _, id := range ids {
		number, cluster, _ := strings.Cut(string(id), ";")
		i, ok := open[cluster]
		if !ok || len(all[i].numbers) == sacctChunk {
			i = len(all)
			all, open[cluster] = append(all, chunk{cluster: cluster}), i
		}
		all[i].numbers = append(all[i].numbers, number)
	}
	return all
}

// learn remembers what a plan led to.
func (m *memory) learn(now time.Time, p plan, f found) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noAccounts = m.noAccounts || f.accountless
	if len(p.sacct) > 0 {
		m.answered(now, f.down)
	}
	for i, c := range p.sacct {
		for _, number := range c.numbers {
			id := jobID(number, c.cluster)
			if t := m.trace(id); i < f.answered {
				t.accounted(now, f.sacct[id])
			} else { // it was not asked for after all
				t.tries, t.next = t.tries-1, now
			}
		}
	}
	for _, id := range p.scontrol {
		t := m.trace(id)
		t.gone = f.gone[id]
		st, ok := f.scontrol[id]
		if ok && t.found.State != runtime.Ended || t.gone && t.found.By == "scontrol" {
			t.found = st
		}
	}
}

// answered takes note of whether accounting answered, or why not.
func (m *memory) answered(now time.Time, down string) {
	if m.down = down; down == "" {
		m.downs = 0
		return
	}
	m.downs++
	m.retryAt = now.Add(gap(m.downs))
}

// accounted takes note of what accounting says of a job, which may be nothing. Slurm's own daemon does not know the job:
// what accounting does not know of its end yet it may still tell.
func (t *trace) accounted(now time.Time, st runtime.Status) {
	first := t.behind.IsZero()
	if first {
		t.behind = now
	}
	switch {
	case st.State == runtime.Ended && st.Attempt < t.before:
		t.found = unknown("sacct", "accounting does not have its last attempt yet")
	case st.State == runtime.Ended && first && (st.Outcome == runtime.NodeFailure || st.Outcome == runtime.Preempted):
		t.found = unknown("sacct", "accounting may not know yet whether it was requeued after: "+string(st.Outcome))
		t.next = now.Add(requeueLag)
	case st.State == runtime.Ended:
		t.found = st
	case t.found.By == "scontrol":
	case st.By != "":
		t.found = unknown("sacct", "accounting still has it as "+cmp.Or(string(st.State), st.Reason))
	case t.alive:
		t.found = unknown("sacct", "accounting does not have it yet")
	}
}

func unknown(by, reason string) runtime.Status {
	return runtime.Status{State: runtime.Unknown, By: by, Reason: reason}
}

// recall adds to known what is remembered of the missing jobs.
func (m *memory) recall(now time.Time, missing []runtime.JobID, known map[runtime.JobID]runtime.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range missing {
		t := m.trace(id)
		switch {
		case t.found.State != runtime.Unknown || t.found.By == "scontrol":
			known[id] = t.found
		case m.noAccounts && t.gone:
		case m.noAccounts:
			known[id] = unknown("scontrol", "slurmctld has not answered yet")
		case m.down != "":
			known[id] = unknown("sacct", "accounting does not answer: "+m.down)
		case t.behind.IsZero():
			known[id] = unknown("sacct", "accounting has not answered yet")
		case t.found.Reason != "" && now.Sub(t.behind) < lag:
			known[id] = t.found
		}
	}
}
