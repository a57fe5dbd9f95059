package runtime

import (
	"encoding/json"
	"fmt"
	"io"
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
	KindJobRefused   Kind = "job_refused"   // Problem
	KindJobStarted   Kind = "job_started"   // Start; the job's own word
	KindJobStatus    Kind = "job_status"    // Status; each change of it
	KindJobReady     Kind = "job_ready"     // nothing; the service answers
	KindJobStopping  Kind = "job_stopping"  // nothing; before it is cancelled
	KindJobCollected Kind = "job_collected" // Collected; its files and measurements are here
	KindRunEnded     Kind = "run_ended"     // RunEnd
)

// A RunStart says what a run is.
type RunStart struct {
	Recipe  string            `json:"recipe"`           // as the user named it
	SHA256  string            `json:"sha256,omitempty"` // of the recipe's text
	Params  map[string]string `json:"params,omitempty"`
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
}

// Collected says what of a job was brought to this machine.
type Collected struct {
	Dir     string `json:"dir"`               // absolute, on this machine
	Problem string `json:"problem,omitempty"` // what could not be read as a measurement
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
	Jobs    []*JobState // in the order in which they were intended

	Measurements []Record
	byName       map[string]*JobState
}

// A JobState is what is known of a job.
type JobState struct {
	Intent
	ID        JobID // "": not submitted, or not known to be
	Refused   *Problem
	Submitted time.Time
	Started   *Start
	Status    Status
	Ready     bool
	Stopping  bool       // the run cancelled it
	Collected *Collected // nil: its files are only on the target
}

// Live reports whether the job may be using the target.
func (j *JobState) Live() bool { return j.ID != "" && j.Status.State != Ended }

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
	case KindJobIntended:
		j := new(JobState)
		if s.byName == nil {
			s.byName = make(map[string]*JobState)
		}
		s.Jobs, s.byName[rec.Source] = append(s.Jobs, j), j
		return s.decode(rec, &j.Intent)
	}
	if j := s.byName[rec.Source]; j != nil {
		return s.applyJob(j, rec)
	}
	return nil
}

func (s *RunState) applyJob(j *JobState, rec Record) error {
	switch rec.Kind {
	case KindJobSubmitted:
		var sub Submitted
		err := s.decode(rec, &sub)
		j.ID, j.Submitted = sub.ID, rec.Time
		return err
	case KindJobRefused:
		j.Refused = new(Problem)
		return s.decode(rec, j.Refused)
	case KindJobStarted:
		j.Started = new(Start)
		return s.decode(rec, j.Started)
	case KindJobStatus:
		j.Status = Status{}
		return s.decode(rec, &j.Status)
	case KindJobReady:
		j.Ready = true
	case KindJobStopping:
		j.Stopping = true
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
