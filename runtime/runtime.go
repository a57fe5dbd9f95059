// Package runtime says what a benchmark is.
//
// This file is the contract of the program: every interface and every value that crosses a package boundary. A
// recipe (package starlib) describes services, clients and jobs; a [Session] starts them through the [Conn] and the
// [Scheduler] of a [Target], waits, collects, and appends what happened to a [Store] as [Record]s. Nothing else keeps
// state: what a run is, is a fold over its records ([RunState]).
//
// The package imports the standard library only. Packages slurm, storage and those below runtime implement the
// interfaces, package runtimetest has one conformance suite for each, and cmd/aifb puts them together.
package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"strings"
	"time"
)

// A Conn runs short, repeatable commands on one machine and moves files to and from it. What runs long is a job.
//
// All methods may be called concurrently, and end soon after their context does. File names are absolute paths of
// the machine.
type Conn interface {
	// Run runs cmd and waits for it to exit. A non-zero exit is an *ExitError. After any other error the command
	// may or may not have run.
	Run(ctx context.Context, cmd Cmd) error

	// Put writes what r has to the named file with the given permissions, and makes the directories above it. It is
	// atomic: under name there is the old file or the whole new one, never a part, and an error leaves no debris.
	Put(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error

	// Get copies the named file to w, from the offset from on, to the end that it has now. An offset at or beyond
	// the end copies nothing and is no error. A file that does not exist is fs.ErrNotExist.
	Get(ctx context.Context, name string, from int64, w io.Writer) error

	// Dial connects to addr as seen from the machine. Network is "tcp".
	Dial(ctx context.Context, network, addr string) (net.Conn, error)

	// Close releases the connection. It may be called twice. It stops no job.
	Close() error
}

// A Cmd is a command for a [Conn] to run.
type Cmd struct {
	Args   []string  // the program and its arguments; no shell interprets them
	Stdin  io.Reader // nil is empty
	Stdout io.Writer // nil discards
	Stderr io.Writer // nil discards; the last kilobytes are in the ExitError either way
	Yields bool      // it may be ended, with an error, if another command needs its place where there is only one
}

// An ExitError reports a command that ran and failed.
type ExitError struct {
	Args   []string
	Code   int    // 128+n if signal n ended it
	Stderr string // its last 4 KiB
}

// Error says which program failed and why, in the program's own words where it had any.
func (e *ExitError) Error() string {
	if msg := strings.TrimSpace(e.Stderr); msg != "" {
		return fmt.Sprintf("%s: %s", e.Args[0], msg)
	}
	return fmt.Sprintf("%s: exit status %d", e.Args[0], e.Code)
}

// A Scheduler runs jobs. Its methods take many at once, so that what a round trip costs does not grow with the jobs,
// and may be called concurrently.
type Scheduler interface {
	// Submit makes each job's directory, hands the jobs in, and does not wait for them to run. It returns one
	// Submission per job, in order. It is idempotent: submitting a token that was submitted before makes no second
	// job, and returns the first one's id; where an answer was lost, it finds out by the token whether there is a job.
	// Jobs of one Group that follow each other may be handed in as one, and are jobs of their own all the same. An
	// error means that it is unknown which of the jobs exist; its ClassOf says whether to ask again.
	Submit(ctx context.Context, jobs ...Job) ([]Submission, error)

	// Status returns what is known of the jobs, by one query however many they are. A job that the scheduler does
	// not know, not yet or not any more, is not in the map. One of which it may tell later, because a part of it is
	// down or behind, is there as Unknown, with the reason, and Gone if it certainly does not run. An error says nothing
	// about any job.
	Status(ctx context.Context, ids ...JobID) (map[JobID]Status, error)

	// Cancel ends the jobs and all their processes. Cancelling an ended or unknown job is no error.
	Cancel(ctx context.Context, ids ...JobID) error
}

// A JobID is a scheduler's name for a job. Only that scheduler can interpret it.
type JobID string

// A Submission is the answer to one job of a Submit: its id, or why there is none. ClassOf the error says what that
// means: of a Permanent one the job does not exist and never will; of a Quota or a Transient one it does not exist, and
// may be submitted again; of an Ambiguous one it may exist, and submitting it again finds out.
type Submission struct {
	Token string
	ID    JobID
	Err   error
}

// An Explainer is a Scheduler that can say why jobs wait. It is asked rarely.
type Explainer interface {
	// Explain returns what is known of the pending ones among the jobs.
	Explain(ctx context.Context, ids ...JobID) (map[JobID]Queued, error)
}

// A Queued is why a job waits.
type Queued struct {
	Class string    `json:"class,omitempty"` // "resources", "quota", "dependency", "held", "unsatisfiable" or "other"
	Text  string    `json:"text"`            // for a person, such as "waits for nodes, behind jobs of higher priority"
	Start time.Time `json:"start,omitzero"`  // when the scheduler expects it to start; zero: it does not say
	Ahead int       `json:"ahead"`           // pending jobs of the same partition that come first; -1: not known
}

// A Forgetful is a Scheduler that forgets a job some time after its end. Then only the job itself can tell how it ended,
// and one that was killed hard does not.
type Forgetful interface {
	// Remembers returns for how long it knows of an ended job; 0 is for as long as it matters, or not known yet.
	Remembers() time.Duration
}

// A Lister is a Scheduler that shows its cluster as tables.
type Lister interface {
	// List returns the rows of a table, whose cells are those of its Columns; what is not known or does not apply is "".
	// It may return rows that Where does not select.
	List(ctx context.Context, l Listing) ([][]string, error)
}

// A Listing says what to list.
type Listing struct {
	Table TableName
	Where map[string][]string // by column, the values that are wanted; user "me" is the user
	Since time.Duration       // of TableAccounts: how far back
}

// A TableName names a table of a cluster, as Slurm does.
type TableName string

const (
	TableQueue    TableName = "squeue" // the jobs that wait or run
	TableNodes    TableName = "sinfo"  // the nodes, those of a partition that are alike and in one state in a row
	TableAccounts TableName = "sacct"  // the user's jobs of late, also those that have ended
)

// A Finder is a Scheduler that finds jobs by their tokens, for when their ids were lost.
type Finder interface {
	// Find returns the user's jobs that have not ended, or ended of late, and whose tokens begin with prefix.
	Find(ctx context.Context, prefix string) ([]Found, error)
}

// A Found is a job that a Finder found.
type Found struct {
	Token  string
	ID     JobID
	Status Status
}

// A Counter is a Scheduler that counts what it asks its cluster, for the sake of those who share the cluster.
type Counter interface {
	// Tallies returns what was counted so far, by command. Nobody else has the map.
	Tallies() map[string]Tally
}

// A Tally is what was counted of a command, such as squeue.
type Tally struct {
	Calls   int    `json:"calls"`
	Skipped int    `json:"skipped,omitempty"` // lines of what it printed that were not understood
	First   string `json:"first,omitempty"`   // the first of them
}

// A Checker is a Scheduler or Conn that can say what its side is able to do, for `aifb doctor`.
type Checker interface {
	Check(ctx context.Context) []Finding
}

// A Finding is one line of `aifb doctor`.
type Finding struct {
	Name string // what was looked at, such as "slurmdbd"
	OK   bool
	Text string // what was found
	Hint string // what to do about it; "" if there is nothing to do
}

// A Job is what a scheduler runs: a command, where its files are, and what it needs.
//
// In Dir, on the target, are the job's files: script, stdout, stderr, start.json, exit.json and the directory metrics;
// [Script] says how they come about.
type Job struct {
	Token string            `json:"token"` // its unique name; the scheduler submits the job under it
	Name  string            `json:"name"`  // its name within the run
	Dir   string            `json:"dir"`   // absolute, on the target
	Args  []string          `json:"args"`  // the command; no shell interprets it
	Env   map[string]string `json:"env,omitempty"`
	// Secrets are variables of its environment whose values are nowhere but in a file that the job removes: by name, the
	// name of the user's variable on this machine.
	Secrets map[string]string `json:"secrets,omitempty"`

	Port  Port          `json:"port,omitempty"`  // what the job listens on
	Image Image         `json:"image,omitzero"`  // what to pull before the command runs
	Limit time.Duration `json:"limit"`           // how long it may run; never zero
	Lease time.Duration `json:"lease,omitempty"` // it ends if nobody renews the run's lease for that long; 0: never
	Needs Resources     `json:"needs,omitempty"` // all but Time, which Limit is made from

	// Jobs of one group start together: each waits, when it runs, until all Count of them do. They differ in Index, and
	// in Token, Name and Dir, which are those of the group with a dot and the Index behind.
	Group string `json:"group,omitempty"` // "": a job of its own
	Index int    `json:"index,omitempty"` // 0, 1, ... Count-1
	Count int    `json:"count,omitempty"`
}

// A Port is a TCP port number, NoPort, or AnyPort.
type Port int

const (
	NoPort  Port = 0  // listens on nothing
	AnyPort Port = -1 // a port that is free on the node when the job starts there
)

// An Image is a container image and the file on the target that it is pulled to.
type Image struct {
	URI string `json:"uri"`  // docker://redis:7
	SIF string `json:"path"` // absolute; if the file is there, nothing is pulled
}

// Resources are what a job asks the scheduler for. What is not set is left to the cluster. A scheduler without the
// notion ignores a field.
type Resources struct {
	Nodes       int           `json:"nodes,omitempty"`
	Tasks       int           `json:"tasks,omitempty"`
	CPUs        int           `json:"cpus,omitempty"` // per task
	Mem         Bytes         `json:"mem,omitempty"`  // per node
	GPUs        int           `json:"gpus,omitempty"` // for the whole job
	Time        time.Duration `json:"time,omitempty"` // limit of the run time
	Partition   string        `json:"partition,omitempty"`
	Account     string        `json:"account,omitempty"`
	QOS         string        `json:"qos,omitempty"`
	Constraint  string        `json:"constraint,omitempty"`
	Exclude     string        `json:"exclude,omitempty"`  // nodes not to use
	NodeList    string        `json:"nodelist,omitempty"` // nodes to use
	Reservation string        `json:"reservation,omitempty"`
	Exclusive   bool          `json:"exclusive,omitempty"`
	Requeue     bool          `json:"requeue,omitempty"` // the scheduler may run it again after its node failed or it was preempted
	Modules     []string      `json:"modules,omitempty"` // module load
	Setup       []string      `json:"setup,omitempty"`   // shell lines that run before the command
	Binds       []string      `json:"binds,omitempty"`   // host:container, for an image
	WorkDir     string        `json:"workdir,omitempty"` // where the command runs; default: the job's directory
	Extra       []string      `json:"extra,omitempty"`   // more options of the scheduler, such as --mail-type=END
}

// A Status is what is known of a job.
type Status struct {
	State   State     `json:"state"`
	Outcome Outcome   `json:"outcome,omitempty"` // of an ended job
	Code    int       `json:"code,omitempty"`    // exit code of an ended job's command, if Exited
	Exited  bool      `json:"exited,omitempty"`  // the exit code is known
	Signal  int       `json:"signal,omitempty"`  // that ended the command
	Reason  string    `json:"reason,omitempty"`  // why it waits or why it ended, in the scheduler's words
	Class   string    `json:"class,omitempty"`   // of one that waits, for a reason that the scheduler gave: as in Queued
	Text    string    `json:"text,omitempty"`    // and so is this
	Node    string    `json:"node,omitempty"`    // the first node that it runs or ran on
	Attempt int       `json:"attempt,omitempty"` // how often the scheduler ran it before, if it says
	Start   time.Time `json:"start,omitzero"`    // of one that waits: when the scheduler expects it to start
	End     time.Time `json:"end,omitzero"`
	By      string    `json:"by,omitempty"`   // who says so: "squeue", "sacct", "scontrol", or the job's own "exit.json"
	Gone    bool      `json:"gone,omitempty"` // of one that is Unknown: it has ended, only how is not known yet
}

// A State is a stage of a job's life.
type State string

const (
	Unknown State = "" // nobody can tell, not yet or not at the moment
	Pending State = "pending"
	Running State = "running" // until its outcome is known, also while it is ending
	Ended   State = "ended"
)

// An Outcome is what is known of how a job ended. Not knowing is a value of its own and is never success.
type Outcome string

const (
	Completed   Outcome = "completed" // exit code 0, and somebody saw it
	Failed      Outcome = "failed"
	TimedOut    Outcome = "timeout"
	OutOfMemory Outcome = "out of memory"
	Cancelled   Outcome = "cancelled"
	Preempted   Outcome = "preempted"
	NodeFailure Outcome = "node failure"
	Lost        Outcome = "lost" // gone, and nobody knows how
)

// A Store keeps what happened. It is append-only. Its methods may be called concurrently, also by several processes
// that have the same store open.
type Store interface {
	// Append stores the records, all or none. When it returns nil they are on disk.
	Append(ctx context.Context, recs ...Record) error

	// Records yields the records that q selects, those of one run in the order in which they were appended, and
	// runs ordered by their id. After it yields an error it stops.
	Records(ctx context.Context, q Query) iter.Seq2[Record, error]

	// Close releases the store. It may be called twice.
	Close() error
}

// A Query selects records. An empty field selects all.
type Query struct {
	Run  string
	Kind Kind
}

// A Record is something that happened in a run: an event, or a measurement in long form.
type Record struct {
	Run    string    // never empty; ids sort by the time of their start
	Time   time.Time // with microseconds; UTC
	Kind   Kind      // never empty
	Source string    // the job it is about; empty: the run itself

	// Of a measurement:
	Metric string
	Value  float64 // finite
	Unit   string  // "1/s", "ms"; empty: a plain number
	Labels map[string]string

	// Of an event: one JSON object, its type given by Kind, or nil.
	Data json.RawMessage
}

// A Kind says what a record is about. Stores keep kinds that they have never heard of.
type Kind string

// KindMeasurement is the kind of every measurement. The kinds of events are in state.go.
const KindMeasurement Kind = "measurement"

// A Clock is the time that a run goes by: the real one, or one on which an hour takes no time. Its methods may be called
// concurrently.
type Clock interface {
	Now() time.Time

	// AfterFunc calls f, which must not block, once d has passed. Stop reports whether it has prevented that.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// A Target is where jobs go.
type Target struct {
	Name      string
	Conn      Conn
	Scheduler Scheduler
	Dir       string // absolute or ~/...; all that aifb writes there is below; empty: ~/.aifb
	Binary    string // the path of aifb there; empty: it is brought there when a job needs it
	Defaults  Resources
	PollMin   time.Duration // between two Status queries, just after something happened
	PollMax   time.Duration // and when nothing has for long
	Watch     bool          // jobs are on other machines: what they write is watched through one long-lived command
}
