package starlib

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	starjson "go.starlark.net/lib/json"
	starmath "go.starlark.net/lib/math"
	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"github.com/aifb/aifb/runtime"
)

// Builtins returns the table of builtins, by subject.
func Builtins() []*Builtin {
	var all []*Builtin
	for _, part := range []struct {
		subject string
		rows    []*Builtin
	}{
		{"jobs", jobBuiltins()},
		{"waiting", waitBuiltins()},
		{"results", resultBuiltins()},
		{"control", controlBuiltins()},
		{"files and commands", fileBuiltins()},
		{"the cluster", clusterBuiltins()},
		{"secrets", secretBuiltins()},
		{"readiness", readyBuiltins()},
		{"metrics", metricBuiltins()},
		{"text and the end", textBuiltins()},
		{"numbers", numberBuiltins()},
		{"regular expressions", regexpBuiltins()},
	} {
		for _, b := range part.rows {
			b.Subject = part.subject
			all = append(all, b)
		}
	}
	return all
}

// predeclared are the names that every file knows, beside Starlark's own. A builtin "a.b" is b of the module a.
func predeclared() starlark.StringDict { return predeclare(Builtins()) }

func predeclare(builtins []*Builtin) starlark.StringDict {
	names := starlark.StringDict{
		"struct": starlark.NewBuiltin("struct", makeStruct),
		"json":   module{starjson.Module},
		"math":   module{starmath.Module},
		"time":   module{startime.Module},
	}
	for _, b := range builtins {
		prefix, member, ok := strings.Cut(b.Name, ".")
		if !ok {
			names[b.Name] = b.value()
			continue
		}
		if names[prefix] == nil {
			names[prefix] = module{&starlarkstruct.Module{Name: prefix, Members: make(starlark.StringDict)}}
		}
		names[prefix].(module).Members[member] = b.value()
	}
	return names
}

// jobArgs are the parameters that service, client and job share. The resources mean the same everywhere.
func jobArgs[S any](job func(*S) *runtime.JobSpec) []argument[S] {
	at := func(f func(*runtime.JobSpec) any) func(*S) any { return func(s *S) any { return f(job(s)) } }
	named := func(name, doc string, f func(*runtime.JobSpec) any) argument[S] {
		return arg(name, doc, at(f)).keyword()
	}
	return []argument[S]{
		named("command", "a line for /bin/sh, on the first node; with args, a program", func(j *runtime.JobSpec) any { return &j.Command }),
		named("args", "arguments that no shell sees: of command, or of the image's own entry point", func(j *runtime.JobSpec) any { return &j.Args }),
		named("image", "a container: a SIF file on the target, docker://, oras:// or library://", func(j *runtime.JobSpec) any { return &j.Image }),
		named("env", "environment variables", func(j *runtime.JobSpec) any { return environment{&j.Env, &j.Secrets} }),
		named("labels", "stored with every measurement of the job", func(j *runtime.JobSpec) any { return &j.Labels }),
		named("metrics", "how to read measurements: metric.csv() and its like", func(j *runtime.JobSpec) any { return &j.Metrics }),
		named("nodes", "how many", func(j *runtime.JobSpec) any { return &j.Nodes }),
		named("tasks", "how many; srun in the command starts them", func(j *runtime.JobSpec) any { return &j.Tasks }),
		named("cpus", "cores per task", func(j *runtime.JobSpec) any { return &j.CPUs }),
		named("mem", "memory per node", func(j *runtime.JobSpec) any { return &j.Mem }),
		named("gpus", "for the whole job; the container sees them", func(j *runtime.JobSpec) any { return &j.GPUs }),
		named("time", "the limit of the run time; if not given, an hour", func(j *runtime.JobSpec) any { return &j.Time }),
		named("partition", "of the cluster; if not given, that of the target, or the cluster's default", func(j *runtime.JobSpec) any { return &j.Partition }),
		named("account", "to charge", func(j *runtime.JobSpec) any { return &j.Account }),
		named("qos", "quality of service", func(j *runtime.JobSpec) any { return &j.QOS }),
		named("constraint", "features that the nodes must have", func(j *runtime.JobSpec) any { return &j.Constraint }),
		named("exclude", "nodes not to use", func(j *runtime.JobSpec) any { return &j.Exclude }),
		named("nodelist", "nodes to use", func(j *runtime.JobSpec) any { return &j.NodeList }),
		named("reservation", "to use", func(j *runtime.JobSpec) any { return &j.Reservation }),
		named("retries", "how often to try again, elsewhere, when its node fails or it is preempted", func(j *runtime.JobSpec) any { return &j.Retries }),
		named("requeue", "True: Slurm itself may run it again; what it measured would then be a mixture", func(j *runtime.JobSpec) any { return &j.Requeue }),
		named("lease", "it ends if aifb is gone for that long; if not given, at its time limit", func(j *runtime.JobSpec) any { return &j.Lease }),
		named("exclusive", "share the nodes with no other job", func(j *runtime.JobSpec) any { return &j.Exclusive }),
		named("modules", "to load", func(j *runtime.JobSpec) any { return &j.Modules }),
		named("setup", "shell lines to run before the command, outside of the container", func(j *runtime.JobSpec) any { return &j.Setup }),
		named("binds", "directories for the container: host[:container[:ro]]", func(j *runtime.JobSpec) any { return &j.Binds }),
		named("workdir", "where the command runs; if not given, the job's own directory", func(j *runtime.JobSpec) any { return &j.WorkDir }),
		named("extra", `more options of the scheduler, such as "--mail-type=END"`, func(j *runtime.JobSpec) any { return &j.Extra }),
	}
}

// maxCount is how many jobs a client may be: more than any cluster takes, and fewer than memory holds.
const maxCount = 100_000

func jobBuiltins() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "service", Returns: "Service", acts: true, Doc: "Starts a service, which is measured, and returns at once."},
			runtime.ServiceSpec{},
			append([]argument[runtime.ServiceSpec]{
				arg("name", "of the service", func(s *runtime.ServiceSpec) any { return filled{&s.Name} }).required(),
				arg("port", "that it listens on, $SERVICE_PORT; 0: one that is free on its node", func(s *runtime.ServiceSpec) any { return &s.Port }).keyword(),
				arg("ready", "how to see that it answers; if not given, ready.tcp() where there is a port", func(s *runtime.ServiceSpec) any { return &s.Ready }).keyword(),
			}, jobArgs(func(s *runtime.ServiceSpec) *runtime.JobSpec { return &s.JobSpec })...),
			func(c *call, s *runtime.ServiceSpec) (starlark.Value, error) {
				s.Deed = c.deed()
				return c.started(c.session.Service(c.ctx, *s))
			}),
		define(Builtin{Name: "client", Returns: "Client", acts: true, Doc: "Waits until its services answer, and starts a client, which measures them."},
			runtime.ClientSpec{Count: 1},
			append([]argument[runtime.ClientSpec]{
				arg("service", "that it measures, or a list; it finds the first as $SERVICE_URL", func(s *runtime.ClientSpec) any { return services{&s.Services} }),
				arg("name", "of the client; if not given, client-1, client-2, ...", func(s *runtime.ClientSpec) any { return &s.Name }).keyword(),
				arg("count", "how many jobs of it to start together", func(s *runtime.ClientSpec) any { return &s.Count }).keyword(),
			}, jobArgs(func(s *runtime.ClientSpec) *runtime.JobSpec { return &s.JobSpec })...),
			func(c *call, s *runtime.ClientSpec) (starlark.Value, error) {
				if s.Count < 1 || s.Count > maxCount {
					return nil, &runtime.FieldError{Field: "count", Err: fmt.Errorf("%d is not from 1 to %d", s.Count, maxCount)}
				}
				s.Deed = c.deed()
				return c.started(c.session.Client(c.ctx, *s))
			}),
		define(Builtin{Name: "job", Returns: "Job", acts: true, Doc: "Starts any other job and returns at once."},
			runtime.JobSpec{},
			append([]argument[runtime.JobSpec]{
				arg("name", "of the job", func(s *runtime.JobSpec) any { return filled{&s.Name} }).required(),
			}, jobArgs(func(s *runtime.JobSpec) *runtime.JobSpec { return s })...),
			func(c *call, s *runtime.JobSpec) (starlark.Value, error) {
				s.Deed = c.deed()
				return c.started(c.session.Job(c.ctx, *s))
			}),
	}
}

func (c *call) started(h *runtime.Handle, err error) (starlark.Value, error) {
	if err != nil {
		return nil, err
	}
	return newHandle(c.ctx, h), nil
}

type waitArgs struct {
	jobs  []*runtime.Handle
	wait  runtime.Wait
	check bool
}

func waitBuiltins() []*Builtin {
	jobs := arg("jobs", "services, clients and jobs, or lists of them", func(a *waitArgs) any { return handles{&a.jobs} }).rest("*")
	queue := arg("queue_timeout", "how long a job may be pending; if not given, 24h", func(a *waitArgs) any { return &a.wait.Queue }).keyword()
	return []*Builtin{
		define(Builtin{Name: "wait_running", acts: true,
			Doc: "Waits until all jobs run, and the services among them answer. A job that ended is an error, with its last lines."},
			waitArgs{}, []argument[waitArgs]{jobs,
				arg("timeout", "how long a service may run without answering; if not given, 10m", func(a *waitArgs) any { return &a.wait.Timeout }).keyword(), queue},
			func(c *call, a *waitArgs) (starlark.Value, error) {
				a.wait.Deed = c.deed()
				return nil, c.session.WaitRunning(c.ctx, a.wait, a.jobs...)
			}),
		define(Builtin{Name: "wait_done", acts: true,
			Doc: "Waits until all jobs have ended and what they measured is here. A job that failed is an error, with its last lines."},
			waitArgs{check: true}, []argument[waitArgs]{jobs,
				arg("timeout", "of the whole wait; if not given, the jobs' own limits", func(a *waitArgs) any { return &a.wait.Timeout }).keyword(), queue,
				arg("check", "False: a job that failed is no error", func(a *waitArgs) any { return &a.check }).keyword()},
			func(c *call, a *waitArgs) (starlark.Value, error) {
				a.wait.NoCheck, a.wait.Deed = !a.check, c.deed()
				return nil, c.session.WaitDone(c.ctx, a.wait, a.jobs...)
			}),
		define(Builtin{Name: "stop", acts: true, Doc: "Cancels jobs and waits until they have ended."},
			waitArgs{}, []argument[waitArgs]{jobs},
			func(c *call, a *waitArgs) (starlark.Value, error) { return nil, c.session.Stop(c.ctx, a.jobs...) }),
	}
}

// handles is the slot of *jobs.
type handles struct{ to *[]*runtime.Handle }

func (h handles) slot() slot { return slotOf(h.to) }

type measurement struct {
	metric string
	value  float64
	unit   string
	labels map[string]string
}

type whereArgs struct {
	path  string
	where runtime.Where
}

func whereArguments() []argument[whereArgs] {
	return []argument[whereArgs]{
		arg("metric", "one, or a list", func(a *whereArgs) any { return &a.where.Metric }).keyword(),
		arg("source", "the name of a job, or a list", func(a *whereArgs) any { return &a.where.Source }).keyword(),
		arg("labels", "label = value, or a list of values", func(a *whereArgs) any { return &a.where.Labels }).rest("**"),
	}
}

func resultBuiltins() []*Builtin {
	path := arg("path", "of the file on this machine", func(a *whereArgs) any { return filled{&a.path} }).required()
	export := func(name, form string, write func(io.Writer, []runtime.Record) error) *Builtin {
		return define(Builtin{Name: name, acts: true, Doc: "Writes what was measured so far to a " + form + " file on this machine: the whole file, or none."},
			whereArgs{}, append([]argument[whereArgs]{path}, whereArguments()...),
			func(c *call, a *whereArgs) (starlark.Value, error) {
				recs := c.session.Measurements(a.where)
				if err := c.env.Create(a.path, func(w io.Writer) error { return write(w, recs) }); err != nil {
					return nil, runtime.Faultf(runtime.FaultRun, "the measurements are in the store: aifb export writes them elsewhere", "%w", err)
				}
				return nil, nil
			})
	}
	return []*Builtin{
		define(Builtin{Name: "record", acts: true, Doc: "Stores a measurement of the recipe's own."},
			measurement{}, []argument[measurement]{
				arg("metric", "what was measured", func(m *measurement) any { return filled{&m.metric} }).required(),
				arg("value", "a number", func(m *measurement) any { return &m.value }).required(),
				arg("unit", `such as "1/s" or "ms"`, func(m *measurement) any { return &m.unit }),
				arg("labels", "label = value", func(m *measurement) any { return &m.labels }).rest("**"),
			},
			func(c *call, m *measurement) (starlark.Value, error) {
				return nil, c.session.Record(c.ctx, c.deed(), runtime.Measurement{Metric: m.metric, Value: m.value, Unit: m.unit, Labels: m.labels})
			}),
		define(Builtin{Name: "measurements", Returns: "Table", Doc: "What was measured in this run so far."},
			whereArgs{}, whereArguments(),
			func(c *call, a *whereArgs) (starlark.Value, error) {
				return newTable(c.session.Measurements(a.where)), nil
			}),
		export("export_csv", "CSV", runtime.WriteCSV),
		export("export_json", "JSON", runtime.WriteJSON),
	}
}

func readyBuiltins() []*Builtin {
	ready := func(name, doc string, fresh runtime.Ready, args ...argument[runtime.Ready]) *Builtin {
		return define(Builtin{Name: "ready." + name, Returns: "Ready", Doc: doc}, fresh, args,
			func(_ *call, r *runtime.Ready) (starlark.Value, error) { return &readyValue{Ready: *r}, nil })
	}
	return []*Builtin{
		ready("tcp", "The service accepts a connection on its port.", runtime.Ready{Kind: "tcp"}),
		ready("http", "The service answers GET.", runtime.Ready{Kind: "http", Path: "/"},
			arg("path", "of the URL", func(r *runtime.Ready) any { return &r.Path }),
			arg("status", "the expected status; 0: any of 200 to 299", func(r *runtime.Ready) any { return &r.Status }).keyword(),
			arg("contains", "what the body must have", func(r *runtime.Ready) any { return &r.Contains }).keyword()),
		ready("log", "A line that the service printed matches.", runtime.Ready{Kind: "log"},
			arg("pattern", "a regular expression", func(r *runtime.Ready) any { return &r.Pattern }).required()),
		ready("command", "A line for /bin/sh succeeds on the login node. It has $SERVICE_HOSTNAME and $SERVICE_PORT.", runtime.Ready{Kind: "command"},
			arg("command", "what to run", func(r *runtime.Ready) any { return &r.Command }).required()),
	}
}

func metricBuiltins() []*Builtin {
	metric := func(name, doc string, fresh runtime.Metric, args ...argument[runtime.Metric]) *Builtin {
		args = append(args,
			arg("source", "stdout, stderr, or a file in $BENCHMARK_OUTPUT_DIR", func(m *runtime.Metric) any { return &m.Source }).keyword(),
			arg("unit", "of the metrics", func(m *runtime.Metric) any { return &m.Unit }).keyword())
		fresh.Kind, fresh.Source = name, runtime.FileStdout
		return define(Builtin{Name: "metric." + name, Returns: "Metric", Doc: doc}, fresh, args,
			func(_ *call, m *runtime.Metric) (starlark.Value, error) { return &metricValue{Metric: *m}, nil })
	}
	fields := func(doc string) argument[runtime.Metric] {
		return arg("fields", doc, func(m *runtime.Metric) any { return &m.Fields }).rest("**")
	}
	return []*Builtin{
		metric("regex", "Every match is a measurement: of the metrics that its named groups name, or of the metric name.", runtime.Metric{},
			arg("pattern", "such as (?P<rps>[0-9.]+) requests/s", func(m *runtime.Metric) any { return &m.Pattern }).required(),
			arg("name", "of the metric that the first group is", func(m *runtime.Metric) any { return &m.Name })),
		metric("json", "The numbers of a JSON document.", runtime.Metric{},
			fields(`metric = path, such as p99 = "latency.p99"; if not given, every number`)),
		metric("csv", "The numbers of a table with a header line. What is no number in a row is a label of it.", runtime.Metric{},
			fields(`metric = column; if not given, every column`)),
	}
}

type printArgs struct {
	values starlark.Tuple
	sep    string
}

type textArgs struct{ text string }

type exitArgs struct{ code int }

type fmtArgs struct {
	x    starlark.Value
	spec string
}

type helpArgs struct{ x starlark.Value }

func printArguments() []argument[printArgs] {
	return []argument[printArgs]{
		arg("values", "a str as it is, anything else as str() writes it", func(a *printArgs) any { return &a.values }).rest("*"),
		arg("sep", "between them", func(a *printArgs) any { return &a.sep }).keyword(),
	}
}

// join writes values as print does.
func (a *printArgs) join() string {
	var words []string
	for _, v := range a.values {
		if s, ok := starlark.AsString(v); ok {
			words = append(words, s)
		} else {
			words = append(words, v.String())
		}
	}
	return strings.Join(words, a.sep)
}

func textBuiltins() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "print", Doc: "Writes values to stdout."}, printArgs{sep: " "}, printArguments(),
			func(c *call, a *printArgs) (starlark.Value, error) {
				_, err := fmt.Fprintln(c.env.Stdout, c.session.Redact(a.join()))
				return nil, err
			}),
		define(Builtin{Name: "fail", plain: true, Doc: "Ends the recipe as failed."}, printArgs{sep: " "}, printArguments(),
			func(c *call, a *printArgs) (starlark.Value, error) {
				return nil, &runtime.Error{Fault: runtime.FaultRun, Err: failure(c.session.Redact(cmp.Or(a.join(), "the recipe called fail()")))}
			}),
		define(Builtin{Name: "warn", Doc: "Says something on stderr."}, textArgs{},
			[]argument[textArgs]{arg("message", "what to say", func(a *textArgs) any { return &a.text }).required()},
			func(c *call, a *textArgs) (starlark.Value, error) { c.warn(c.session.Redact(a.text)); return nil, nil }),
		define(Builtin{Name: "exit", plain: true, Doc: "Ends the recipe with an exit code of its own."}, exitArgs{},
			[]argument[exitArgs]{arg("code", "0, or 10 to 63", func(a *exitArgs) any { return &a.code })},
			func(_ *call, a *exitArgs) (starlark.Value, error) {
				if a.code != 0 && (a.code < 10 || a.code > 63) {
					return nil, runtime.Faultf(runtime.FaultRun, "the others have a meaning: aifb help exit-codes", "exit: %w",
						&runtime.FieldError{Field: "code", Err: fmt.Errorf("%d is not 0 or from 10 to 63", a.code)})
				}
				return nil, &Exit{a.code}
			}),
		define(Builtin{Name: "fmt", Returns: "str", Doc: "Writes a number, as Python's format does."}, fmtArgs{},
			[]argument[fmtArgs]{
				arg("x", "a number or a str", func(a *fmtArgs) any { return &a.x }).required(),
				arg("spec", `such as ".2f", ",.0f", "8d" or ".1%"`, func(a *fmtArgs) any { return &a.spec }).required(),
			},
			func(_ *call, a *fmtArgs) (starlark.Value, error) {
				s, err := format(a.x, a.spec)
				return starlark.String(s), err
			}),
		define(Builtin{Name: "help", Doc: "Says what a builtin or a function is for; without an argument, which builtins there are."}, helpArgs{},
			[]argument[helpArgs]{arg("x", "a builtin, a function, or any other value", func(a *helpArgs) any { return &a.x })},
			func(c *call, a *helpArgs) (starlark.Value, error) { return nil, help(c.env.Stdout, a.x) }),
	}
}

type sumArgs struct {
	values starlark.Iterable
	start  starlark.Value
}

type roundArgs struct {
	x      float64
	digits int
}

func numberBuiltins() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "sum", Returns: "number", Doc: "Adds up numbers."}, sumArgs{start: starlark.MakeInt(0)},
			[]argument[sumArgs]{
				arg("values", "what to add up", func(a *sumArgs) any { return &a.values }).required(),
				arg("start", "what to begin with", func(a *sumArgs) any { return &a.start }),
			},
			func(c *call, a *sumArgs) (total starlark.Value, err error) {
				total = a.start
				for v := range starlark.Elements(a.values) {
					if err := context.Cause(c.ctx); err != nil {
						return nil, err
					}
					if total, err = starlark.Binary(plus, total, v); err != nil {
						return nil, err
					}
				}
				return total, nil
			}),
		define(Builtin{Name: "round", Returns: "number", Doc: "Rounds a number, halves to even; without digits to an int."}, roundArgs{},
			[]argument[roundArgs]{
				arg("x", "a number", func(a *roundArgs) any { return &a.x }).required(),
				arg("digits", "behind the decimal point", func(a *roundArgs) any { return &a.digits }),
			},
			func(_ *call, a *roundArgs) (starlark.Value, error) { return round(a.x, a.digits) }),
	}
}

type regexpArgs struct {
	pattern, text, by string
}

func regexpBuiltins() []*Builtin {
	re := func(name, doc, returns string, args []argument[regexpArgs], f func(*regexp.Regexp, *regexpArgs) starlark.Value) *Builtin {
		all := append([]argument[regexpArgs]{
			arg("pattern", "a regular expression (RE2)", func(a *regexpArgs) any { return &a.pattern }).required(),
		}, args...)
		all = append(all, arg("text", "where to look", func(a *regexpArgs) any { return &a.text }).required())
		return define(Builtin{Name: "re." + name, Returns: returns, Doc: doc}, regexpArgs{}, all,
			func(_ *call, a *regexpArgs) (starlark.Value, error) {
				compiled, err := regexp.Compile(a.pattern)
				if err != nil {
					return nil, &runtime.FieldError{Field: "pattern", Err: err}
				}
				return f(compiled, a), nil
			})
	}
	return []*Builtin{
		re("search", "The first match and its groups, or None.", "list of str", nil, func(r *regexp.Regexp, a *regexpArgs) starlark.Value {
			m := r.FindStringSubmatch(a.text)
			if m == nil {
				return starlark.None
			}
			return stringList(m)
		}),
		re("findall", "All matches; with one group, what it matched; with several, a list each.", "list", nil, func(r *regexp.Regexp, a *regexpArgs) starlark.Value {
			var all []starlark.Value
			for _, m := range r.FindAllStringSubmatch(a.text, -1) {
				if len(m) > 2 {
					all = append(all, stringList(m[1:]))
				} else {
					all = append(all, starlark.String(m[len(m)-1]))
				}
			}
			return starlark.NewList(all)
		}),
		re("sub", "The text with every match replaced; $1 is a group.", "str",
			[]argument[regexpArgs]{arg("by", "what to put there", func(a *regexpArgs) any { return &a.by }).required()},
			func(r *regexp.Regexp, a *regexpArgs) starlark.Value {
				return starlark.String(r.ReplaceAllString(a.text, a.by))
			}),
	}
}

func stringList(texts []string) *starlark.List {
	var elems []starlark.Value
	for _, t := range texts {
		elems = append(elems, starlark.String(t))
	}
	return starlark.NewList(elems)
}
