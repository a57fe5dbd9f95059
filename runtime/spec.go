package runtime

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A JobSpec is what a recipe says of any job. The zero value of a field leaves the choice to the default.
type JobSpec struct {
	Name    string
	Image   string // a SIF file on the target, or docker://, oras://, library://; empty: no container
	Command string // a line for /bin/sh; with Args, the program that gets them
	Args    []string
	Env     map[string]string
	Secrets map[string]string `json:",omitempty"` // more of Env, whose values are variables of the user's on this machine: by name, their names
	Labels  map[string]string // stored with every measurement of the job
	Metrics []Metric          // how to read measurements from what the job prints or writes
	Retries int               // how often to try again, on other nodes, when the infrastructure fails
	Lease   time.Duration     // it ends if the run is not heard of for that long; 0: at its time limit
	Deed    Deed              `json:"-"` // that starts it
	Resources
}

// A ServiceSpec is what a recipe says of a service.
type ServiceSpec struct {
	JobSpec
	Port  Port
	Ready Ready // the zero value is a TCP connection, if there is a port
}

// A ClientSpec is what a recipe says of a client.
type ClientSpec struct {
	JobSpec
	Services []*Handle // what it measures; it waits for them, and finds them in its environment
	Count    int       // that many jobs at once; 0 is 1
}

// A Ready says how to find out that a service answers.
type Ready struct {
	Kind     string // "tcp", "http", "log", "command"; empty: tcp if there is a port
	Path     string // http
	Status   int    // http; 0: any of 200 to 299
	Contains string // http: the body has it
	Pattern  string // log: a line of stdout or stderr matches the regular expression
	Command  string // command: this line for /bin/sh, run on the target with $SERVICE_HOSTNAME and $SERVICE_PORT, exits with 0
}

// String returns the probe as a recipe writes it.
func (r Ready) String() string {
	switch r.Kind {
	case "http":
		return "http " + r.Path
	case "log":
		return fmt.Sprintf("log %q", r.Pattern)
	case "command":
		return fmt.Sprintf("command %q", r.Command)
	}
	return r.Kind
}

// defaultLimit is the time limit of a job that says none, so that nothing survives its run for ever.
const defaultLimit = time.Hour

// minLease is the shortest lease: the run renews it every two seconds.
const minLease = 10 * time.Second

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	envForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// validate reports everything that is wrong with the spec, in the recipe's words.
func (s *JobSpec) validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{field, fmt.Errorf(format, args...)})
	}
	if s.Name != "" && !nameForm.MatchString(s.Name) {
		bad("name", "%.70q is not a name: letters, digits, dot, dash and underscore, at most 64", s.Name)
	}
	if s.Command == "" && len(s.Args) == 0 && s.Image == "" {
		bad("command", "there is nothing to run: no command, no args, no image")
	}
	for _, k := range slices.Concat(slices.Sorted(maps.Keys(s.Env)), slices.Sorted(maps.Keys(s.Secrets))) {
		if !envForm.MatchString(k) {
			bad("env", "%q is not the name of an environment variable", k)
		}
	}
	for field, n := range map[string]int{"nodes": s.Nodes, "tasks": s.Tasks, "cpus": s.CPUs, "gpus": s.GPUs, "retries": s.Retries} {
		if n < 0 {
			bad(field, "%d is negative", n)
		}
	}
	if s.Lease < 0 || s.Lease > 0 && s.Lease < minLease {
		bad("lease", "%v is less than %v, the least that a slow file system allows", s.Lease, minLease)
	}
	for field, texts := range s.texts() {
		for _, text := range texts {
			if strings.ContainsFunc(text, isControl) {
				bad(field, "%q has a control character", text)
			}
		}
	}
	for field, texts := range map[string][]string{"command": {s.Command}, "args": s.Args, "setup": s.Setup, "env": slices.Collect(maps.Values(s.Env))} {
		for _, text := range texts {
			if strings.Contains(text, "\x00") {
				bad(field, "%q has a zero byte, which no command can get", text)
			}
		}
	}
	for _, m := range s.Metrics {
		if err := m.validate(); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(errs) == 0 {
		return nil
	}
	return &Error{Fault: FaultRun, Err: errors.Join(errs...)}
}

// texts are the fields that are one line by nature, by the name that a recipe gives them.
func (s *JobSpec) texts() map[string][]string {
	return map[string][]string{
		"image": {s.Image}, "partition": {s.Partition}, "account": {s.Account}, "qos": {s.QOS},
		"constraint": {s.Constraint}, "exclude": {s.Exclude}, "nodelist": {s.NodeList},
		"reservation": {s.Reservation}, "workdir": {s.WorkDir}, "modules": s.Modules, "binds": s.Binds, "extra": s.Extra,
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func (r Ready) validate() error {
	if r.Kind == "log" {
		if _, err := regexp.Compile(r.Pattern); err != nil {
			return fieldErrorf("ready", "", "%w", err)
		}
	}
	return nil
}

// withDefaults fills what r leaves out from d, the defaults of the target. Setup and modules of the target come first.
func (r Resources) withDefaults(d Resources) Resources {
	fill := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	fillInt := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	fill(&r.Partition, d.Partition)
	fill(&r.Account, d.Account)
	fill(&r.QOS, d.QOS)
	fill(&r.Constraint, d.Constraint)
	fill(&r.Exclude, d.Exclude)
	fill(&r.NodeList, d.NodeList)
	fill(&r.Reservation, d.Reservation)
	fill(&r.WorkDir, d.WorkDir)
	fillInt(&r.Nodes, d.Nodes)
	fillInt(&r.Tasks, d.Tasks)
	fillInt(&r.CPUs, d.CPUs)
	fillInt(&r.GPUs, d.GPUs)
	if r.Mem == 0 {
		r.Mem = d.Mem
	}
	if r.Time == 0 {
		r.Time = d.Time
	}
	r.Exclusive = r.Exclusive || d.Exclusive
	r.Requeue = r.Requeue || d.Requeue
	r.Modules = slices.Concat(d.Modules, r.Modules)
	r.Setup = slices.Concat(d.Setup, r.Setup)
	r.Binds = slices.Concat(d.Binds, r.Binds)
	r.Extra = slices.Concat(d.Extra, r.Extra)
	return r
}

// limit is how long a job may run.
func (r Resources) limit() time.Duration {
	if r.Time > 0 {
		return r.Time
	}
	return defaultLimit
}

// jobDir is the directory of a job below the run's.
func jobDir(runDir, name string) string { return path.Join(runDir, name) }
