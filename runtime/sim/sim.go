// Package sim simulates a cluster: a runtime.Conn and a runtime.Scheduler in memory, whose jobs do as a script says.
//
// Nothing runs. A job is a few dates: when it was handed in, when it starts, when its command begins and ends, and at
// each the files are there that runtime.Script promises. The dates are worked out when somebody looks, in their order,
// so that what is seen does not depend on when or how often it is looked at, and no goroutine is at work in between.
//
// Time is the real one, which in a bubble of testing/synctest is virtual, or that of a [Clock].
package sim

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A Config says what a cluster is. The zero value of a field is its default.
type Config struct {
	Nodes    int           // named n1, n2, ...; 0: 4
	Host     string        // the name of every node instead: then jobs reach each other by it
	Cores    int           // of each node; 0: 64
	Interval time.Duration // between two looks of the scheduler at its queue; 0: a second
	MaxJobs  int           // of which more are refused until some have ended; 0: there is no limit

	KillWait     time.Duration // that a job has between SIGTERM and SIGKILL; 0: 30 s
	RequeueDelay time.Duration // until a job that lost its node is eligible again; 0: two minutes

	// The queue knows a job for MinJobAge after its end (0: five minutes), and accounting from Lag after its end on.
	MinJobAge    time.Duration
	Lag          time.Duration
	NoAccounting bool

	RTT    time.Duration // that each call takes
	Submit time.Duration // that the submission of a job takes besides
	Skew   time.Duration // by which the clocks of the cluster are ahead

	// Exec runs the commands that are neither the scheduler's nor a session's own, such as a probe of a service. If it
	// is nil, or its error is errors.ErrUnsupported, a probe succeeds if the service answers, and all else does.
	Exec func(ctx context.Context, cmd runtime.Cmd) error

	// Home is the home directory of the only user; empty: /home/user.
	Home string

	// Clock is what the cluster goes by; nil is the real one.
	Clock runtime.Clock

	// Files is where the jobs leave their files; nil: in memory, where the cluster's Conn finds them.
	Files Files
}

// Files is a file system. Its methods make the directories that they need, and can't fail.
type Files interface {
	Write(name, text string)
	Exists(name string) bool
	Rename(from, to string) // if from exists
}

// A Cluster is a simulated cluster. It is a runtime.Scheduler, an Explainer and a Finder. All methods may be called
// concurrently.
type Cluster struct {
	config Config

	mu      sync.Mutex // guards what follows, and is taken by lock
	born    time.Time
	time    time.Time // up to which all has happened
	events  events
	planned int           // events so far
	changed chan struct{} // closed and replaced when a watch has something to look at
	faults  map[Fault]int // how many calls will see it
	script  script
	memory  *memory

	nodes  []*node
	queue  queue
	aside  []*job // that no node may take at the moment
	pass   bool   // a look at the queue is due
	jobs   map[runtime.JobID]*job
	tokens map[string][]*job // more than one only if a job was handed in twice
	order  []*job            // as they were handed in
	live   int               // how many have not ended
	number int               // of the last job
	port   int               // that was given away last
	groups map[string]*group // by their directory
	leases map[string]*lease // by the directory of the run
	serves map[string]*job   // by the address that it listens on
}

// New returns a cluster on which nothing runs yet.
func New(config Config) *Cluster {
	setDefault(&config.Nodes, 4)
	setDefault(&config.Cores, 64)
	setDefault(&config.Interval, time.Second)
	setDefault(&config.KillWait, 30*time.Second)
	setDefault(&config.RequeueDelay, 2*time.Minute)
	setDefault(&config.MinJobAge, 5*time.Minute)
	setDefault(&config.Home, "/home/user")
	c := &Cluster{
		config:  config,
		changed: make(chan struct{}),
		faults:  make(map[Fault]int),
		memory:  newMemory(),
		jobs:    make(map[runtime.JobID]*job),
		tokens:  make(map[string][]*job),
		groups:  make(map[string]*group),
		leases:  make(map[string]*lease),
		serves:  make(map[string]*job),
		number:  firstJob - 1,
		port:    firstPort - 1,
	}
	if c.config.Files == nil {
		c.config.Files = c.memory
	}
	for i := range config.Nodes {
		c.nodes = append(c.nodes, &node{name: cmp.Or(config.Host, fmt.Sprintf("n%d", i+1)), free: config.Cores})
	}
	c.born = runtime.Now(config.Clock)
	c.time = c.born
	return c
}

const (
	firstJob  = 100
	firstPort = 20000
	portCount = 12000
)

func setDefault[T int | string | time.Duration](value *T, def T) {
	if *value == *new(T) {
		*value = def
	}
}

// Target returns the cluster as a target of a session.
func (c *Cluster) Target() runtime.Target {
	return runtime.Target{
		Name: "sim", Conn: c.Conn(), Scheduler: c, Binary: "/opt/aifb/bin/aifb",
		PollMin: time.Second, PollMax: 15 * time.Second, Watch: true,
	}
}

// lock takes the lock, and lets happen what has happened by now.
func (c *Cluster) lock() {
	c.mu.Lock()
	now := runtime.Now(c.config.Clock)
	for len(c.events) > 0 && !c.events[0].at.After(now) {
		e := heap.Pop(&c.events).(event)
		c.time = e.at
		e.do()
	}
	c.time = now
}

// at lets something happen at a time, which may be now.
func (c *Cluster) at(t time.Time, do func()) {
	c.planned++
	heap.Push(&c.events, event{at: t, seq: c.planned, do: do})
	if c.events[0].seq == c.planned {
		c.kick()
	}
}

// kick makes every watch look again.
func (c *Cluster) kick() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// call is the beginning of each call of the outside: it takes a round trip, and fails if ctx has ended or the
// connection is lost.
func (c *Cluster) call(ctx context.Context) error {
	if err := c.pause(ctx, c.config.RTT); err != nil {
		return err
	}
	c.lock()
	defer c.mu.Unlock()
	if c.fault(Disconnected) {
		return errDisconnected
	}
	return nil
}

// pause waits, unless ctx ends.
func (c *Cluster) pause(ctx context.Context, d time.Duration) error {
	if d > 0 && ctx.Err() == nil {
		return runtime.PauseOn(ctx, c.config.Clock, d)
	}
	return context.Cause(ctx)
}

// An event is something that happens at a time.
type event struct {
	at  time.Time
	seq int // of two at one time, the one that was planned first happens first
	do  func()
}

// events is a heap, the next one first.
type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}
func (e events) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].seq < e[j].seq
	}
	return e[i].at.Before(e[j].at)
}
