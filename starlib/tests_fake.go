package starlib

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// A Fake is the simulated target of a test.
type Fake interface {
	// Job says how jobs go that start from then on and whose names match a pattern of path.Match. Of several that fit,
	// each changes what those before it say.
	Job(pattern string, job FakeJob) error

	// Jobs returns the jobs that were submitted, in their order.
	Jobs() []runtime.JobState

	// Command says what a command does on the login node whose line matches a regular expression. The last that fits counts.
	Command(pattern string, result FakeCommand) error

	// Exported returns what the recipe has written to a file of this machine.
	Exported(name string) (text string, ok bool)
}

// A FakeJob is how a job goes. What is not set stays as it is.
type FakeJob struct {
	State        string        // "failed", "timeout", ...; "" is what follows from the rest
	After        time.Duration // that its command runs
	Pending      time.Duration // that it waits in the queue
	Reason       string        // for that
	Stdout       string
	Stderr       string
	Exit         int
	Files        map[string]string // that it writes, by the names below its directory
	Measurements map[string]float64
	Answers      time.Duration // until it answers, if it is a service
}

// A FakeCommand is what a command on the login node does.
type FakeCommand struct {
	Stdout, Stderr string
	Exit           int
}

type fakeJobArgs struct {
	pattern string
	job     FakeJob
}

type fakeRunArgs struct {
	pattern string
	result  FakeCommand
}

func fakeBuiltins() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "fake.job", Doc: "Says how jobs go that start from now on. By default they succeed after a second, and services answer at once."},
			fakeJobArgs{pattern: "*"}, []argument[fakeJobArgs]{
				arg("pattern", "of their names, such as client-*", func(a *fakeJobArgs) any { return &a.pattern }),
				arg("state", "completed, running, failed, timeout, out of memory, cancelled, node failure, preempted, lost, pending, refused or unanswering", func(a *fakeJobArgs) any { return &a.job.State }).keyword(),
				arg("after", "how long they run until they end so", func(a *fakeJobArgs) any { return span{&a.job.After} }).keyword(),
				arg("pending", "how long they wait in the queue", func(a *fakeJobArgs) any { return span{&a.job.Pending} }).keyword(),
				arg("reason", "why they wait, in the scheduler's words", func(a *fakeJobArgs) any { return &a.job.Reason }).keyword(),
				arg("stdout", "what they print", func(a *fakeJobArgs) any { return &a.job.Stdout }).keyword(),
				arg("stderr", "what they print there", func(a *fakeJobArgs) any { return &a.job.Stderr }).keyword(),
				arg("exit_code", "of their command", func(a *fakeJobArgs) any { return &a.job.Exit }).keyword(),
				arg("measurements", "metric: value", func(a *fakeJobArgs) any { return numbers{&a.job.Measurements} }).keyword(),
				arg("files", "name below the job's directory: text", func(a *fakeJobArgs) any { return &a.job.Files }).keyword(),
				arg("answers_after", "how long a service runs until it answers", func(a *fakeJobArgs) any { return span{&a.job.Answers} }).keyword(),
			},
			func(c *call, a *fakeJobArgs) (starlark.Value, error) { return nil, c.fake.Job(a.pattern, a.job) }),
		define(Builtin{Name: "fake.jobs", Returns: "list of struct", Doc: "What was submitted so far: name, command, env, state, and what was asked for."},
			struct{}{}, nil,
			func(c *call, _ *struct{}) (starlark.Value, error) {
				if err := c.session.Flush(c.ctx); err != nil && c.ctx.Err() != nil {
					return nil, err
				}
				var jobs []starlark.Value
				for _, j := range c.fake.Jobs() {
					jobs = append(jobs, fakeJobValue(j))
				}
				return starlark.NewList(jobs), nil
			}),
		define(Builtin{Name: "fake.run", Doc: "Says what run() finds; by default every command succeeds, and prints nothing."},
			fakeRunArgs{}, []argument[fakeRunArgs]{
				arg("pattern", "a regular expression for the command line", func(a *fakeRunArgs) any { return &a.pattern }).required(),
				arg("stdout", "what it prints", func(a *fakeRunArgs) any { return &a.result.Stdout }).keyword(),
				arg("stderr", "what it prints there", func(a *fakeRunArgs) any { return &a.result.Stderr }).keyword(),
				arg("exit_code", "of the command", func(a *fakeRunArgs) any { return &a.result.Exit }).keyword(),
			},
			func(c *call, a *fakeRunArgs) (starlark.Value, error) { return nil, c.fake.Command(a.pattern, a.result) }),
		define(Builtin{Name: "fake.exported", Returns: "str", Doc: "The text of a file that export_csv() or its like has written: in a test none is."},
			textArgs{}, []argument[textArgs]{arg("path", "as the recipe has it", func(a *textArgs) any { return &a.text }).required()},
			func(c *call, a *textArgs) (starlark.Value, error) {
				text, ok := c.fake.Exported(a.text)
				if !ok {
					return nil, fmt.Errorf("nothing was written to %s", a.text)
				}
				return starlark.String(text), nil
			}),
		define(Builtin{Name: "fake.now", Returns: "time.Time", Doc: "The simulated time. It passes while something waits."},
			struct{}{}, nil,
			func(c *call, _ *struct{}) (starlark.Value, error) {
				return startime.Time(runtime.Now(c.session.Clock)), nil
			}),
	}
}

// fakeJobValue is a job as tests see it.
func fakeJobValue(j runtime.JobState) starlark.Value {
	job, n := j.Job, j.Job.Needs
	state := string(j.Status.State)
	switch {
	case j.Refused != nil:
		state = "refused"
	case j.Status.State == runtime.Ended:
		state = string(j.Status.Outcome)
	case j.Status.State == runtime.Unknown:
		state = "submitted"
	}
	command := ""
	if len(job.Args) > 0 {
		command = job.Args[len(job.Args)-1]
	}
	return newStruct(starlark.StringDict{
		"name": starlark.String(job.Name), "role": starlark.String(j.Role), "state": starlark.String(state),
		"command": starlark.String(command), "args": stringList(job.Args), "env": texts(job.Env), "labels": texts(j.Labels),
		"image": starlark.String(job.Image.URI), "time": starlark.Float(job.Limit.Seconds()), "mem": starlark.MakeInt64(int64(n.Mem)),
		"nodes": starlark.MakeInt(n.Nodes), "tasks": starlark.MakeInt(n.Tasks), "cpus": starlark.MakeInt(n.CPUs), "gpus": starlark.MakeInt(n.GPUs),
		"partition": starlark.String(n.Partition), "account": starlark.String(n.Account), "qos": starlark.String(n.QOS),
	})
}

// numbers is the slot of a dict of numbers.
type numbers struct{ to *map[string]float64 }

func (n numbers) slot() slot {
	return newSlot("dict", n.to, toNumbers, func(map[string]float64) string { return "{}" })
}

func toNumbers(path string, v starlark.Value) (map[string]float64, error) {
	d, ok := v.(starlark.IterableMapping)
	if !ok {
		return nil, wrongType(path, v, "dict")
	}
	numbers := make(map[string]float64)
	var errs []error
	for _, item := range d.Items() {
		key, err := toString(path, item[0])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if numbers[key], err = toFloat(path+"["+strconv.Quote(key)+"]", item[1]); err != nil {
			errs = append(errs, err)
		}
	}
	return numbers, errors.Join(slices.Clip(errs)...)
}
