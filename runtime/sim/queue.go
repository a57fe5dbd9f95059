package sim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A node is a machine that jobs run on.
type node struct {
	name string
	free int // cores
	down bool
	jobs map[*job]bool
}

// shape returns how many nodes a job needs, and how many cores of each.
func (c *Cluster) shape(r *runtime.Resources) (nodes, cores int) {
	nodes = max(r.Nodes, 1)
	if r.Exclusive {
		return nodes, c.config.Cores
	}
	tasks := max(r.Tasks, nodes)
	return nodes, (tasks + nodes - 1) / nodes * max(r.CPUs, 1)
}

// place returns the nodes that a job can have now, or nil. Of an empty cluster it can have more.
func (c *Cluster) place(j *job, empty bool) []*node {
	count, cores := c.shape(&j.Needs)
	list, exclude := hosts(j.Needs.NodeList), hosts(j.Needs.Exclude)
	var chosen []*node
	for _, n := range c.nodes {
		free := n.free
		if empty {
			free = c.config.Cores
		}
		if n.down || free < cores || slices.Contains(exclude, n.name) || list != nil && !slices.Contains(list, n.name) {
			continue
		}
		if chosen = append(chosen, n); len(chosen) == count {
			return chosen
		}
	}
	return nil
}

// hosts returns the names of a list of nodes such as "n[1-3,7],login".
func hosts(list string) (names []string) {
	for list != "" {
		end := strings.IndexAny(list, ",[")
		if end < 0 {
			return append(names, list)
		}
		prefix := list[:end]
		if list[end] == ',' {
			names, list = append(names, prefix), list[end+1:]
			continue
		}
		numbers, rest, _ := strings.Cut(list[end+1:], "]")
		for span := range strings.SplitSeq(numbers, ",") {
			from, to, pair := strings.Cut(span, "-")
			if !pair {
				to = from
			}
			first, _ := strconv.Atoi(from)
			last, _ := strconv.Atoi(to)
			for n := first; n <= min(last, first+1e4); n++ {
				names = append(names, prefix+strconv.Itoa(n))
			}
		}
		list = strings.TrimPrefix(rest, ",")
	}
	return names
}

// A queue has the jobs that are eligible, in the order in which they became so. Those that were cancelled meanwhile are
// still in it.
type queue struct {
	jobs []*job
	done int // how many of them are out
}

func (q *queue) push(j *job) { q.jobs = append(q.jobs, j) }

// head returns the first job, or nil.
func (q *queue) head() *job {
	for q.done < len(q.jobs) {
		if j := q.jobs[q.done]; j.state == queued {
			return j
		}
		q.pop()
	}
	q.jobs, q.done = nil, 0
	return nil
}

func (q *queue) pop() {
	q.jobs[q.done] = nil
	q.done++
}

// enqueue makes a job eligible.
func (c *Cluster) enqueue(j *job) {
	j.become(queued)
	j.eligible = c.time
	c.queue.push(j)
	c.look()
}

// look plans the scheduler's next look at its queue.
func (c *Cluster) look() {
	if c.pass {
		return
	}
	c.pass = true
	next := c.time.Sub(c.born)/c.config.Interval + 1
	c.at(c.born.Add(next*c.config.Interval), func() {
		c.pass = false
		c.schedule()
	})
}

// schedule starts jobs, the first come first, until one has to wait.
func (c *Cluster) schedule() {
	for j := c.queue.head(); j != nil; j = c.queue.head() {
		nodes := c.place(j, false)
		if nodes == nil && c.place(j, true) != nil {
			return
		}
		c.queue.pop()
		if nodes == nil {
			c.aside = append(c.aside, j)
			j.become(waiting)
			j.reason = c.unavailable()
			continue
		}
		c.start(j, nodes)
	}
}

// unavailable is why a job waits for nodes that are down.
func (c *Cluster) unavailable() string {
	var down []string
	for _, n := range c.nodes {
		if n.down {
			down = append(down, n.name)
		}
	}
	if down == nil {
		return "ReqNodeNotAvail"
	}
	return "ReqNodeNotAvail, UnavailableNodes:" + strings.Join(down, ",")
}

// SetNode powers a node off, with all that runs on it, or on again.
func (c *Cluster) SetNode(name string, on bool) {
	c.lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.name != name {
			continue
		}
		n.down = !on
		for _, j := range c.order {
			if !on && n.jobs[j] {
				c.end(j, ending{outcome: runtime.NodeFailure, silent: true})
			}
		}
	}
	if on {
		for _, j := range c.aside {
			if j.state == waiting {
				c.enqueue(j)
			}
		}
		c.aside = nil
	}
}

// ahead returns how many jobs come before each of those that are in the queue.
func (c *Cluster) ahead() map[*job]int {
	ranks := make(map[*job]int)
	for _, j := range c.queue.jobs[c.queue.done:] {
		if j.state == queued {
			ranks[j] = len(ranks)
		}
	}
	return ranks
}

// waits is why a job that does not run waits.
func (c *Cluster) waits(j *job) string {
	switch {
	case j.state == waiting:
		return j.reason
	case j == c.queue.head():
		return "Resources"
	}
	return "Priority"
}

// eligibleAt makes a job eligible at a time.
func (c *Cluster) eligibleAt(j *job, t time.Time, reason string) {
	j.become(waiting)
	j.reason, j.eligible = reason, t
	c.when(j, t, func() { c.enqueue(j) })
}
