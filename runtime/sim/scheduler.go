package sim

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

var errNoAnswer = errors.New("sim: the answer is lost")

// Submit implements runtime.Scheduler.
func (c *Cluster) Submit(ctx context.Context, jobs ...runtime.Job) ([]runtime.Submission, error) {
	if err := c.call(ctx); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	before, after, late := c.Sees(LostBefore), c.Sees(LostAfter), c.Sees(Late)
	if before {
		return nil, fmt.Errorf("submit: %w", errNoAnswer)
	}
	delay := time.Duration(0)
	if late {
		delay = Lateness
	}
	subs := make([]runtime.Submission, len(jobs))
	var last *job
	for i := range jobs {
		if err := c.pause(ctx, c.config.Submit); err != nil {
			return nil, fmt.Errorf("submit: %w", err)
		}
		subs[i].Token = jobs[i].Token
		if last, subs[i].Err = c.submit(&jobs[i], last, delay); last != nil {
			subs[i].ID = last.id
		}
	}
	if after || late {
		return nil, fmt.Errorf("submit: %w", errNoAnswer)
	}
	return subs, nil
}

// submit hands a job in, unless there is one of its token. If the one before it was of the same group, both are of one
// array.
func (c *Cluster) submit(j *runtime.Job, before *job, delay time.Duration) (*job, error) {
	c.lock()
	defer c.mu.Unlock()
	if old := c.tokens[j.Token]; old != nil {
		return old[0], nil
	}
	if err := c.refusal(j); err != nil {
		return nil, err
	}
	if c.memory.dir(path.Join(j.Dir, runtime.DirMetrics)) == nil {
		return nil, failure("submit", runtime.Permanent, "no directory "+j.Dir)
	}
	array := 0
	if j.Group != "" {
		array = c.number + 1
		if before != nil && before.Group == j.Group && path.Dir(before.Dir) == path.Dir(j.Dir) {
			array = before.array
		}
	}
	made := c.add(j, array, j.Index, delay)
	return made, c.memory.put(path.Join(j.Dir, runtime.FileScript), func() string {
		return fmt.Sprintf("#!/bin/sh\nhost=%s\nid=%s\nattempt=0\nindex=%d\n", c.nodes[0].name, made.id, made.Index) +
			runtime.Script(made.Job)
	})
}

// refusal is why a job is not taken.
func (c *Cluster) refusal(j *runtime.Job) error {
	if !path.IsAbs(j.Dir) || j.Limit <= 0 {
		return failure("submit", runtime.Permanent, "it has no absolute directory or no time limit")
	}
	if b := c.script.of(j); b.Refuse != nil {
		return b.Refuse
	}
	if nodes, cores := c.shape(&j.Needs); nodes > len(c.nodes) || cores > c.config.Cores {
		return failure("submit", runtime.Permanent, "Requested node configuration is not available")
	}
	if c.config.MaxJobs > 0 && c.live >= c.config.MaxJobs {
		return failure("submit", runtime.Quota, "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
	}
	return nil
}

// Add hands jobs in as the command of a scheduler does that knows nothing of tokens: one job, or an array of jobs that
// have these tasks' numbers, which is refused as a whole. They arrive after a delay. It returns the number of the job or
// array. It is for schedulers that are made of a cluster.
func (c *Cluster) Add(delay time.Duration, tasks []int, jobs ...runtime.Job) (number int, err error) {
	c.lock()
	defer c.mu.Unlock()
	for i := range jobs {
		if err := c.refusal(&jobs[i]); err != nil {
			return 0, err
		}
	}
	number = c.number + 1
	for i := range jobs {
		array, task := 0, 0
		if tasks != nil {
			array, task = number, tasks[i]
		}
		c.add(&jobs[i], array, task, delay)
	}
	return number, nil
}

// Made returns how many jobs there are, or were, that were handed in under a token. More than one is one too many.
func (c *Cluster) Made(token string) int {
	c.lock()
	defer c.mu.Unlock()
	return len(c.tokens[token])
}

// A Job is what is the case with a job: what no scheduler says all of.
type Job struct {
	runtime.Job
	ID        runtime.JobID
	Number    int           // of its own
	Array     int           // the number of its array; 0: it is of none
	Task      int           // its number there
	State     runtime.State // Unknown: it has not arrived
	Stopping  bool          // it runs, and was told to end
	Reason    string        // why it waits
	Parts     int           // as in its Behaviour
	Submitted time.Time     // its last attempt
	Attempts  []Attempt
	Outcome   runtime.Outcome
	Ended     time.Time
}

// Jobs returns all jobs, in the order in which they were handed in.
func (c *Cluster) Jobs() []Job {
	c.lock()
	defer c.mu.Unlock()
	jobs := make([]Job, len(c.order))
	for i, j := range c.order {
		jobs[i] = Job{Job: j.Job, ID: j.id, Number: j.number, Array: j.array, Task: j.task, State: j.state.public(), Stopping: j.state == stopping,
			Parts: j.behaviour.Parts, Submitted: j.submitted, Attempts: j.attempts, Outcome: j.outcome, Ended: j.ended}
		if jobs[i].State == runtime.Pending {
			jobs[i].Reason = c.waits(j)
		}
	}
	return jobs
}

func (s state) public() runtime.State {
	switch s {
	case travels:
		return runtime.Unknown
	case waiting, queued:
		return runtime.Pending
	case ended:
		return runtime.Ended
	}
	return runtime.Running
}

// Status implements runtime.Scheduler.
func (c *Cluster) Status(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	if err := c.query(ctx); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	c.lock()
	defer c.mu.Unlock()
	known := make(map[runtime.JobID]runtime.Status)
	for _, id := range ids {
		if j, ok := c.jobs[id]; ok {
			if st := c.status(j); st.State != runtime.Unknown {
				known[id] = st
			}
		}
	}
	return known, nil
}

// query is the beginning of a query.
func (c *Cluster) query(ctx context.Context) error {
	if err := c.call(ctx); err != nil {
		return err
	}
	if c.Sees(NoQueue) {
		return failure("queue", runtime.Transient, "Unable to contact the controller")
	}
	return nil
}

// status is what the queue or accounting knows of a job.
func (c *Cluster) status(j *job) runtime.Status {
	st := runtime.Status{State: j.state.public(), Attempt: max(len(j.attempts)-1, 0), By: "queue"}
	if a := j.attempt(); a != nil && st.State != runtime.Pending {
		st.Node, st.Start = a.Nodes[0], c.local(a.Start)
		st.Exited, st.Code, st.Signal = a.Exited, a.Code, a.Signal
	}
	switch st.State {
	case runtime.Pending:
		st.Reason, st.Attempt = c.waits(j), len(j.attempts)
		st.Class, st.Text = class(st.Reason), st.Reason
		if j.state == waiting && !j.eligible.IsZero() {
			st.Start = c.local(j.eligible)
		}
	case runtime.Ended:
		st.Outcome, st.End = j.outcome, c.local(j.ended)
		switch age := c.time.Sub(j.ended); {
		case j.outcome == runtime.Lost:
			return runtime.Status{}
		case age < c.config.MinJobAge:
		case age < c.config.Lag || c.config.NoAccounting || c.faults[NoAccounts] != 0:
			return runtime.Status{}
		default:
			st.By = "accounting"
		}
	}
	return st
}

// local is a time by the clocks of the cluster.
func (c *Cluster) local(t time.Time) time.Time { return t.Add(c.config.Skew).UTC().Round(0) }

// Cancel implements runtime.Scheduler.
func (c *Cluster) Cancel(ctx context.Context, ids ...runtime.JobID) error {
	if err := c.call(ctx); err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	c.lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if j, ok := c.jobs[id]; ok {
			c.cancel(j)
		}
	}
	return nil
}

// Explain implements runtime.Explainer.
func (c *Cluster) Explain(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Queued, error) {
	if err := c.query(ctx); err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	c.lock()
	defer c.mu.Unlock()
	why := make(map[runtime.JobID]runtime.Queued)
	ahead := c.ahead()
	for _, id := range ids {
		j, ok := c.jobs[id]
		if !ok || j.state.public() != runtime.Pending {
			continue
		}
		st := c.status(j)
		q := runtime.Queued{Class: st.Class, Text: st.Text, Start: st.Start, Ahead: -1}
		if n, ok := ahead[j]; ok {
			q.Ahead = n
		}
		why[id] = q
	}
	return why, nil
}

// class sorts the reasons that Slurm has for a job to wait.
func class(reason string) string {
	for _, k := range []struct{ class, beginning string }{
		{"resources", "Resources"}, {"resources", "Priority"}, {"resources", "ReqNodeNotAvail"}, {"dependency", "Dependency"},
		{"held", "JobHeld"}, {"quota", "QOS"}, {"quota", "Assoc"},
		{"unsatisfiable", "BadConstraints"}, {"unsatisfiable", "PartitionNodeLimit"}, {"unsatisfiable", "PartitionTimeLimit"},
	} {
		if strings.HasPrefix(reason, k.beginning) {
			return k.class
		}
	}
	return "other"
}

// Find implements runtime.Finder.
func (c *Cluster) Find(ctx context.Context, prefix string) ([]runtime.Found, error) {
	if err := c.query(ctx); err != nil {
		return nil, fmt.Errorf("find: %w", err)
	}
	c.lock()
	defer c.mu.Unlock()
	var found []runtime.Found
	for _, j := range c.order {
		if !strings.HasPrefix(j.Token, prefix) {
			continue
		}
		if st := c.status(j); st.State != runtime.Unknown {
			found = append(found, runtime.Found{Token: j.Token, ID: j.id, Status: st})
		}
	}
	return found, nil
}
