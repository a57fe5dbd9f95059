package runtime

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// NewRunID makes the id of a run that starts now: its UTC time, so that ids sort, and four random characters.
func NewRunID(now time.Time, random io.Reader) string {
	const letters = "abcdefghijkmnpqrstuvwxyz23456789" // 32, without those that look alike
	b := make([]byte, 4)
	if _, err := io.ReadFull(random, b); err != nil {
		panic("runtime: no randomness: " + err.Error()) // crypto/rand does not fail
	}
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return now.UTC().Format("20060102-150405-") + string(b)
}

// The kinds of events, in the order in which they happen. Each says what its Data is.
const (
	KindRunStarted   Kind = "run_started"   // RunStart
	KindJobIntended  Kind = "job_intended"  // Intent; before it is submitted
	KindJobSubmitted Kind = "job_submitted" // Submitted
	KindJobHeld      Kind = "job_held"      // Problem; it is submitted later, because a limit is reached
	KindJobRefused   Kind = "job_refused"   // Problem
	KindJobStarted   Kind = "job_started"   // Start; the job's own word
	KindJobExited    Kind = "job_exited"    // Exit; the job's own word
	KindJobStatus    Kind = "job_status"    // Status; each change of it
	KindJobQueued    Kind = "job_queued"    // Queued; why it waits, in more detail, if that was asked and has changed
	KindJobReady     Kind = "job_ready"     // nothing; the service answers
	KindJobStopping  Kind = "job_stopping"  // Problem, or nothing; before it is cancelled
	KindJobCollected Kind = "job_collected" // Collected; its files and measurements are here
	KindTargetLost   Kind = "target_lost"   // Problem; what is known of the jobs is from before
	KindTargetFound  Kind = "target_found"  // nothing; it is known again
	KindDeedBegun    Kind = "deed_begun"    // Deed; before one that may leave something on the target, and is no job
	KindCalls        Kind = "calls"         // map[string]Tally; what was asked of the cluster since the last of these
	KindDeed         Kind = "deed"          // Deed; one that starts no job
	KindUnmet        Kind = "unmet"         // Unmet; a threshold
	KindRunResumed   Kind = "run_resumed"   // nothing; another process goes on
	KindRunEnded     Kind = "run_ended"     // RunEnd
)

// A RunStart says what a run is.
type RunStart struct {
	Recipe  string            `json:"recipe"`           // as the user named it
	Dir     string            `json:"dir,omitempty"`    // where aifb was started: names of files are relative to it
	Args    []string          `json:"args,omitempty"`   // the recipe's parameters that are not the defaults, name=value
	SHA256  string            `json:"sha256,omitempty"` // of the recipe's text
	Params  map[string]string `json:"params,omitempty"`
	Sources map[string]string `json:"sources,omitempty"` // where those of Args are from, by name: "params.yaml:3"
	Target  string            `json:"target"`
	Version string            `json:"version"` // of aifb
}

// An Intent says which job is about to be submitted.
type Intent struct {
	Role     Role              `json:"role"`
	Job      Job               `json:"job"`
	Services []string          `json:"services,omitempty"` // what a client measures
	Labels   map[string]string `json:"labels,omitempty"`
	Ready    Ready             `json:"ready,omitzero"`
	Metrics  []Metric          `json:"metrics,omitempty"`
	Retries  int               `json:"retries,omitempty"` // how often to try again when the infrastructure fails
	Retry    int               `json:"retry,omitempty"`   // which of the tries it is: 0, 1, ...
	Deed     Deed              `json:"deed,omitzero"`
}

// A Role is what a job is in its run.
type Role string

const (
	RoleService Role = "service"
	RoleClient  Role = "client"
	RoleJob     Role = "job"
)

// Submitted is the scheduler's answer to a submission.
type Submitted struct {
	ID JobID `json:"id"`
}

// A Problem is an error's text and hint.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Fault Fault  `json:"fault,omitempty"`
	Field string `json:"field,omitempty"` // of the job, that it is of, by the name that a recipe gives it
}

func problem(err error) Problem {
	return Problem{Error: err.Error(), Hint: HintOf(err), Fault: FaultOf(err), Field: FieldOf(err)}
}

// Collected says what of a job was brought to this machine.
type Collected struct {
	Dir     string `json:"dir"`               // absolute, on this machine
	Problem string `json:"problem,omitempty"` // what could not be read as a measurement
	Left    bool   `json:"left,omitempty"`    // the files could not be brought here, which is the Problem
}

// A RunEnd says how a run ended.
type RunEnd struct {
	Fault Fault  `json:"fault,omitempty"` // "" and no error: it succeeded
	Error string `json:"error,omitempty"`
	Left  string `json:"left,omitempty"` // what could not be stopped or brought here
}

// A RunState is what is known of a run: the fold over its records.
type RunState struct {
	Run     string
	Start   RunStart
	Started time.Time
	End     *RunEnd // nil: it has not ended, or nobody was left to say so
	Ended   time.Time
	Jobs    []*JobState      // in the order in which they were intended
	Calls   map[string]Tally // what was asked of the cluster, by command, as far as it is stored

	// Since when the target has not answered, and what is known of the jobs is as it was then. Zero: it does.
	LostSince time.Time

	Measurements []Record // those of a job in the order of their records
	Unmet        []Unmet  // the thresholds that the recipe expected
	byName       map[string]*JobState
	deeds        map[string]Deed // by key
	begun        map[string]bool // the deeds, by key, that were about to be done, and of which no more is known
	touched      bool            // there may be files of the run on the target, also without jobs
}

// A JobState is what is known of a job.
type JobState struct {
	Intent
	Intended  time.Time
	ID        JobID    // "": not submitted, or not known to be
	Held      *Problem // why it is not submitted yet
	Refused   *Problem
	Submitted time.Time
	Started   *Start
	Exit      *Exit
	Status    Status
	Requeued  time.Time // when it was found to wait again, after it ran
	Queued    *Queued   // why it waits; nil: it does not, or that is not known
	Ready     bool
	Stopping  bool       // the run cancelled it
	Why       string     // it did; "": because the recipe or the user wanted it
	Collected *Collected // nil: its files are only on the target
	Earlier   []Attempt  // the tries before this one
}

// An Attempt is an earlier try of a job, which the infrastructure failed.
type Attempt struct {
	Job       Job
	ID        JobID
	Status    Status
	Collected *Collected
}

// Live reports whether the job may be using the target.
func (j *JobState) Live() bool { return j.ID != "" && j.Status.State != Ended }

// Waiting reports whether the job is still to be submitted, or may be: it has neither an id nor a refusal.
func (j *JobState) Waiting() bool { return j.ID == "" && j.Refused == nil }

// Retried reports whether the job's end is not the last word: the infrastructure failed, and there is a try left. A
// service that has answered is not tried again: whoever used it has failed with it.
func (j *JobState) Retried() bool {
	if j.Status.State != Ended || j.Stopping || j.Ready || j.Retry >= j.Retries {
		return false
	}
	return infrastructure(j.Status.Outcome)
}

// Over reports whether the job has ended for good, or never will begin.
func (j *JobState) Over() bool {
	return j.Refused != nil || j.Status.State == Ended && !j.Retried()
}

// begun reports whether the job's command has begun.
func (j *JobState) begun() bool {
	return j.Started != nil && (j.Started.Begun > 0 || !j.Job.Prepares())
}

// full reports whether the job, when it ended, could write no more.
func (j *JobState) full() bool { return j.Exit != nil && j.Exit.Full }

// Host is the name under which other jobs reach it, or "".
func (j *JobState) Host() string {
	if j.Started != nil {
		return j.Started.Host
	}
	return j.Status.Node
}

// URL is http://host:port of a service that has started, or "".
func (j *JobState) URL() string {
	if j.Started == nil || j.Started.Port == 0 {
		return ""
	}
	return fmt.Sprintf("http://%s:%d", j.Started.Host, j.Started.Port)
}

// Ordered returns the measurements: those of the run itself, and then those of each job.
func (s *RunState) Ordered() []Record {
	place := map[string]int{"": -1}
	for i, j := range s.Jobs {
		place[j.Job.Name] = i
	}
	recs := slices.Clone(s.Measurements)
	slices.SortStableFunc(recs, func(a, b Record) int { return place[a.Source] - place[b.Source] })
	return recs
}

// Job returns the named job, or nil.
func (s *RunState) Job(name string) *JobState { return s.byName[name] }

// Apply adds a record to the state. Kinds that it does not know change nothing.
func (s *RunState) Apply(rec Record) error {
	s.Run = rec.Run
	switch rec.Kind {
	case KindMeasurement:
		s.Measurements = append(s.Measurements, rec)
		return nil
	case KindRunStarted:
		s.Started = rec.Time
		return s.decode(rec, &s.Start)
	case KindRunEnded:
		s.Ended, s.End = rec.Time, new(RunEnd)
		return s.decode(rec, s.End)
	case KindRunResumed:
		s.Ended, s.End = time.Time{}, nil
		return nil
	case KindTargetLost:
		s.LostSince = rec.Time
		return nil
	case KindTargetFound:
		s.LostSince = time.Time{}
		return nil
	case KindUnmet:
		return s.applyUnmet(rec)
	case KindDeedBegun:
		var d Deed
		err := s.decode(rec, &d)
		if s.begun == nil {
			s.begun = make(map[string]bool)
		}
		s.begun[d.Key], s.touched = true, true
		return err
	case KindCalls:
		return s.applyCalls(rec)
	case KindDeed:
		var d Deed
		err := s.decode(rec, &d)
		s.remember(d)
		return err
	case KindJobIntended:
		return s.applyIntent(rec)
	}
	if j := s.byName[rec.Source]; j != nil {
		return s.applyJob(j, rec)
	}
	return nil
}

func (s *RunState) applyCalls(rec Record) error {
	var later map[string]Tally
	err := s.decode(rec, &later)
	if s.Calls == nil {
		s.Calls = make(map[string]Tally)
	}
	for name, t := range later {
		s.Calls[name] = s.Calls[name].add(t)
	}
	return err
}

// applyIntent adds a job, or a new try of one.
func (s *RunState) applyIntent(rec Record) error {
	next := JobState{Intended: rec.Time}
	if err := s.decode(rec, &next.Intent); err != nil {
		return err
	}
	s.remember(next.Deed)
	if j := s.byName[rec.Source]; j != nil {
		next.Earlier = append(j.Earlier, Attempt{j.Job, j.ID, j.Status, j.Collected})
		*j = next
		return nil
	}
	if s.byName == nil {
		s.byName = make(map[string]*JobState)
	}
	s.Jobs, s.byName[rec.Source] = append(s.Jobs, &next), &next
	return nil
}

func (s *RunState) applyJob(j *JobState, rec Record) error {
	switch rec.Kind {
	case KindJobSubmitted:
		var sub Submitted
		err := s.decode(rec, &sub)
		j.ID, j.Submitted, j.Held, j.Refused = sub.ID, rec.Time, nil, nil
		return err
	case KindJobHeld:
		j.Held = new(Problem)
		return s.decode(rec, j.Held)
	case KindJobRefused:
		j.Refused = new(Problem)
		return s.decode(rec, j.Refused)
	case KindJobStarted:
		start := new(Start)
		err := s.decode(rec, start)
		if j.Exit != nil && j.Exit.Time < start.Time { // that was an attempt before
			j.Exit = nil
		}
		j.Started = start
		return err
	case KindJobExited:
		j.Exit = new(Exit)
		return s.decode(rec, j.Exit)
	case KindJobStatus:
		ran := j.Status.State == Running
		j.Status = Status{}
		err := s.decode(rec, &j.Status)
		if j.Status.State == Pending {
			j.Started, j.Exit = nil, nil // it is to run again
			if ran {
				j.Requeued = rec.Time
			}
		}
		j.waits()
		return err
	case KindJobQueued:
		if j.Status.State == Pending { // and does not run by now
			j.Queued = new(Queued)
			return s.decode(rec, j.Queued)
		}
	case KindJobReady:
		j.Ready = true
	case KindJobStopping:
		j.Stopping = true
		if rec.Data != nil {
			var p Problem
			err := s.decode(rec, &p)
			j.Why = p.Error
			return err
		}
	case KindJobCollected:
		j.Collected = new(Collected)
		return s.decode(rec, j.Collected)
	}
	return nil
}

func (s *RunState) decode(rec Record, v any) error {
	if err := json.Unmarshal(rec.Data, v); err != nil {
		return Faultf(FaultInfra, "", "run %s: %s: %w", rec.Run, rec.Kind, err)
	}
	return nil
}
