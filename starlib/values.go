package starlib

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// An opaque value is one that recipes only pass on.
type opaque struct{}

func (opaque) Freeze()              {}
func (opaque) Truth() starlark.Bool { return true }

// A readyValue is what ready.http() and its like return.
type readyValue struct {
	opaque
	runtime.Ready
}

func (r *readyValue) Type() string          { return "Ready" }
func (r *readyValue) String() string        { return "ready." + r.Ready.String() }
func (r *readyValue) Hash() (uint32, error) { return starlark.String(r.String()).Hash() }

// A metricValue is what metric.csv() and its like return.
type metricValue struct {
	opaque
	runtime.Metric
}

func (m *metricValue) Type() string          { return "Metric" }
func (m *metricValue) String() string        { return "metric." + m.Kind + " of " + m.Source }
func (m *metricValue) Hash() (uint32, error) { return starlark.String(m.String()).Hash() }

// A handle is a service, client or job as recipes see it.
type handle struct {
	opaque
	*runtime.Handle
	ctx     context.Context // of the thread that made it, for attributes that take their time
	methods starlark.StringDict
}

func newHandle(ctx context.Context, h *runtime.Handle) starlark.Value {
	v := &handle{Handle: h, ctx: ctx, methods: make(starlark.StringDict)}
	for _, b := range handleMethods() {
		v.methods[b.Name] = b.value().BindReceiver(v)
	}
	return v
}

func (h *handle) Type() string          { return strings.ToUpper(string(h.Role[:1])) + string(h.Role[1:]) }
func (h *handle) Hash() (uint32, error) { return starlark.String(h.Name).Hash() }

// A handleAttr is an attribute of a handle that is not a method.
type handleAttr struct {
	Attr
	get func(*handle, runtime.JobState) (starlark.Value, error) // None while it is not known
}

var handleAttrs = []handleAttr{
	{Attr{"name", "str", "under which it was started"}, func(h *handle, _ runtime.JobState) (starlark.Value, error) {
		return starlark.String(h.Name), nil
	}},
	{Attr{"state", "str", `"submitted", "pending", "running"; at the end its outcome, such as "completed" or "failed"`}, handleState},
	{Attr{"job_id", "str", "what the scheduler calls it; waits until it is submitted"}, func(h *handle, _ runtime.JobState) (starlark.Value, error) {
		ctx, done := h.waiting()
		defer done()
		id, err := h.JobID(ctx)
		return textOrNone(string(id)), err
	}},
	{Attr{"host", "str", "the first node, once it runs"}, func(_ *handle, j runtime.JobState) (starlark.Value, error) {
		return textOrNone(j.Host()), nil
	}},
	{Attr{"port", "int", "that a service listens on, once it runs"}, func(_ *handle, j runtime.JobState) (starlark.Value, error) {
		if j.Started == nil || j.Started.Port == 0 {
			return starlark.None, nil
		}
		return starlark.MakeInt(j.Started.Port), nil
	}},
	{Attr{"url", "str", "http://host:port of a service, once it runs"}, func(_ *handle, j runtime.JobState) (starlark.Value, error) {
		return textOrNone(j.URL()), nil
	}},
	{Attr{"image", "str", "the SIF file on the target"}, func(_ *handle, j runtime.JobState) (starlark.Value, error) {
		return textOrNone(j.Job.Image.SIF), nil
	}},
	{Attr{"labels", "dict", "as given"}, func(_ *handle, j runtime.JobState) (starlark.Value, error) { return texts(j.Labels), nil }},
	{Attr{"reason", "str", "why it is pending, or has ended"}, func(_ *handle, j runtime.JobState) (starlark.Value, error) {
		return textOrNone(cmp.Or(j.Why, j.Reason())), nil
	}},
	{Attr{"exit_code", "int", "of the command, once it has ended"}, func(_ *handle, j runtime.JobState) (starlark.Value, error) {
		if !j.Status.Exited {
			return starlark.None, nil
		}
		return starlark.MakeInt(j.Status.Code), nil
	}},
	{Attr{"elapsed", "float", "seconds that it has run"}, func(h *handle, _ runtime.JobState) (starlark.Value, error) {
		return starlark.Float(h.Elapsed().Seconds()), nil
	}},
	{Attr{"measurements", "Table", "what it measured so far"}, func(h *handle, _ runtime.JobState) (starlark.Value, error) {
		return newTable(h.Measurements(runtime.Where{})), nil
	}},
}

func handleState(_ *handle, j runtime.JobState) (starlark.Value, error) {
	switch j.Status.State {
	case runtime.Ended:
		return starlark.String(j.Status.Outcome), nil
	case runtime.Unknown:
		if j.Refused != nil {
			return starlark.String("refused"), nil
		}
		return starlark.String("submitted"), nil
	}
	return starlark.String(j.Status.State), nil
}

func textOrNone(s string) starlark.Value {
	if s == "" {
		return starlark.None
	}
	return starlark.String(s)
}

func (h *handle) Attr(name string) (starlark.Value, error) {
	for _, a := range handleAttrs {
		if a.Name == name {
			return a.get(h, h.State())
		}
	}
	if m, ok := h.methods[name]; ok {
		return m, nil
	}
	return nil, noAttribute(h.Type(), ".", name, h.AttrNames())
}

// waiting returns the context for an attribute that takes its time. At a prompt, the statement that made the handle is over
// and so is its context; what takes long then is given up.
func (h *handle) waiting() (ctx context.Context, done func()) {
	if h.ctx.Err() == nil {
		return h.ctx, func() {}
	}
	return context.WithTimeoutCause(context.Background(), 10*time.Second,
		runtime.Faultf(runtime.FaultTimeout, "ask again", "%s is still being submitted", h.Name))
}

func (h *handle) AttrNames() []string {
	names := h.methods.Keys()
	for _, a := range handleAttrs {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}

type logsArgs struct{ tail int }

type metricArgs struct {
	name   string
	labels map[string][]string
}

// handleMethods are the methods of services, clients and jobs.
func handleMethods() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "logs", Returns: "str", Doc: "The last lines that the job printed: stdout, then stderr."},
			logsArgs{tail: 100},
			[]argument[logsArgs]{arg("tail", "how many lines of each", func(a *logsArgs) any { return &a.tail })},
			func(c *call, a *logsArgs) (starlark.Value, error) {
				if a.tail < 0 {
					return nil, &runtime.FieldError{Field: "tail", Err: fmt.Errorf("%d is negative", a.tail)}
				}
				text, err := c.recv.(*handle).Logs(c.ctx, a.tail)
				return starlark.String(text), err
			}),
		define(Builtin{Name: "metric", Returns: "float", Doc: "The one value of a metric that the job measured. Labels tell several apart."},
			metricArgs{},
			[]argument[metricArgs]{
				arg("name", "of the metric", func(a *metricArgs) any { return &a.name }).required(),
				arg("labels", "that the measurement must have", func(a *metricArgs) any { return &a.labels }).rest("**"),
			},
			func(c *call, a *metricArgs) (starlark.Value, error) { return oneMetric(c.recv.(*handle), a) }),
		define(Builtin{Name: "metrics", Returns: "dict", Doc: "The last value of each metric that the job measured so far, by its name."},
			struct{}{}, nil, func(c *call, _ *struct{}) (starlark.Value, error) { return lastValues(c.recv.(*handle)), nil }),
	}
}

// oneMetric returns the value of the only measurement that fits.
func oneMetric(h *handle, a *metricArgs) (starlark.Value, error) {
	recs := h.Measurements(runtime.Where{Metric: []string{a.name}, Labels: a.labels})
	switch len(recs) {
	case 1:
		return starlark.Float(recs[0].Value), nil
	case 0:
		names := metricNames(h.Measurements(runtime.Where{}))
		hint := runtime.DidYouMean(a.name, names)
		if hint == "" && len(names) > 0 {
			hint = "it measured " + strings.Join(names, ", ")
		}
		return nil, runtime.Faultf(runtime.FaultRun, hint, "%s measured no %s%s", h.Name, a.name, labelText(a.labels))
	}
	var differ []string
	for _, name := range runtime.LabelNames(recs) {
		if slices.ContainsFunc(recs, func(r runtime.Record) bool { return r.Labels[name] != recs[0].Labels[name] }) {
			differ = append(differ, fmt.Sprintf("%s=%q", name, recs[0].Labels[name]))
		}
	}
	hint := "measurements(metric = ...) has them all"
	if len(differ) > 0 {
		hint = fmt.Sprintf("say which: metric(%q, %s)", a.name, strings.Join(differ, ", "))
	}
	return nil, runtime.Faultf(runtime.FaultRun, hint, "%s measured %s %d times", h.Name, a.name, len(recs))
}

func lastValues(h *handle) *starlark.Dict {
	values := new(starlark.Dict)
	for _, r := range h.Measurements(runtime.Where{}) {
		values.SetKey(starlark.String(r.Metric), starlark.Float(r.Value)) // strings can be hashed
	}
	return values
}

func labelText(labels map[string][]string) string {
	if len(labels) == 0 {
		return ""
	}
	return " with such labels"
}

func metricNames(recs []runtime.Record) (names []string) {
	for _, r := range recs {
		if !slices.Contains(names, r.Metric) {
			names = append(names, r.Metric)
		}
	}
	return names
}

// A table is measurements. Its rows stay in Go until a recipe asks for them.
type table struct {
	opaque
	recs    []runtime.Record
	methods starlark.StringDict
}

func newTable(recs []runtime.Record) *table {
	t := &table{recs: recs, methods: make(starlark.StringDict)}
	for _, b := range tableMethods() {
		t.methods[b.Name] = b.value().BindReceiver(t)
	}
	return t
}

func (t *table) Type() string               { return "Table" }
func (t *table) Truth() starlark.Bool       { return len(t.recs) > 0 }
func (t *table) Hash() (uint32, error)      { return 0, errors.New("unhashable: Table") }
func (t *table) Len() int                   { return len(t.recs) }
func (t *table) AttrNames() []string        { return t.methods.Keys() }
func (t *table) Index(i int) starlark.Value { return row(t.recs[i]) }
func (t *table) Iterate() starlark.Iterator { return &tableIterator{recs: t.recs} }

func (t *table) Attr(name string) (starlark.Value, error) {
	if m, ok := t.methods[name]; ok {
		return m, nil
	}
	return nil, noAttribute("Table", ".", name, t.AttrNames())
}

// String is the wide table: a row for each job and set of labels, a column for each metric.
func (t *table) String() string {
	var b strings.Builder
	header, rows := runtime.Pivot(t.recs)
	runtime.WriteTable(&b, header, rows)
	return strings.TrimSuffix(b.String(), "\n")
}

type tableIterator struct{ recs []runtime.Record }

func (it *tableIterator) Next(p *starlark.Value) bool {
	if len(it.recs) == 0 {
		return false
	}
	*p, it.recs = row(it.recs[0]), it.recs[1:]
	return true
}

func (it *tableIterator) Done() {}

// A rowAttr is an attribute of a measurement.
type rowAttr struct {
	Attr
	get func(runtime.Record) starlark.Value
}

var rowAttrs = []rowAttr{
	{Attr{"source", "str", "the job that it is of"}, func(r runtime.Record) starlark.Value { return starlark.String(r.Source) }},
	{Attr{"metric", "str", "what was measured"}, func(r runtime.Record) starlark.Value { return starlark.String(r.Metric) }},
	{Attr{"value", "float", "how much"}, func(r runtime.Record) starlark.Value { return starlark.Float(r.Value) }},
	{Attr{"unit", "str", "of the value"}, func(r runtime.Record) starlark.Value { return starlark.String(r.Unit) }},
	{Attr{"labels", "dict", "of the job, and of the row"}, func(r runtime.Record) starlark.Value { return texts(r.Labels) }},
}

// row is a measurement as recipes see it.
func row(r runtime.Record) starlark.Value {
	fields := make(starlark.StringDict, len(rowAttrs))
	for _, a := range rowAttrs {
		fields[a.Name] = a.get(r)
	}
	return rowValue("Measurement", fields)
}

func (t *table) values() []float64 {
	values := make([]float64, len(t.recs))
	for i, r := range t.recs {
		values[i] = r.Value
	}
	return values
}

type percentileArgs struct{ p float64 }

// tableMethods are the methods of tables.
func tableMethods() []*Builtin {
	methods := []*Builtin{
		define(Builtin{Name: "percentile", Returns: "float",
			Doc: "The p-th percentile of the values, with linear interpolation between the closest ranks (type 7 of Hyndman and Fan, 1996)."},
			percentileArgs{},
			[]argument[percentileArgs]{arg("p", "0 to 100", func(a *percentileArgs) any { return &a.p }).required()},
			func(c *call, a *percentileArgs) (starlark.Value, error) {
				if a.p < 0 || a.p > 100 {
					return nil, &runtime.FieldError{Field: "p", Err: fmt.Errorf("%v is not from 0 to 100", a.p)}
				}
				return statistic(c, func(v []float64) float64 { return percentile(v, a.p) })
			}),
		nullary("rows", "list of Measurement", "All rows, each with source, metric, value, unit and labels.", func(t *table) (starlark.Value, error) {
			return starlark.NewList(slices.Collect(starlark.Elements(t))), nil
		}),
		nullary("values", "list of float", "All values.", func(t *table) (starlark.Value, error) {
			var values []starlark.Value
			for _, v := range t.values() {
				values = append(values, starlark.Float(v))
			}
			return starlark.NewList(values), nil
		}),
		nullary("count", "int", "How many rows there are.", func(t *table) (starlark.Value, error) {
			return starlark.MakeInt(t.Len()), nil
		}),
	}
	for _, m := range []struct {
		name, doc string
		f         func([]float64) float64
	}{
		{"sum", "The sum of the values.", sum},
		{"mean", "The arithmetic mean of the values.", func(v []float64) float64 { return sum(v) / float64(len(v)) }},
		{"median", "The median of the values.", func(v []float64) float64 { return percentile(v, 50) }},
		{"min", "The least of the values.", slices.Min[[]float64]},
		{"max", "The greatest of the values.", slices.Max[[]float64]},
	} {
		methods = append(methods, define(Builtin{Name: m.name, Returns: "float", Doc: m.doc}, struct{}{}, nil,
			func(c *call, _ *struct{}) (starlark.Value, error) { return statistic(c, m.f) }))
	}
	return methods
}

// nullary is a method of tables without parameters.
func nullary(name, returns, doc string, f func(*table) (starlark.Value, error)) *Builtin {
	return define(Builtin{Name: name, Returns: returns, Doc: doc}, struct{}{}, nil,
		func(c *call, _ *struct{}) (starlark.Value, error) { return f(c.recv.(*table)) })
}

// statistic applies f to the values of a table, of which there must be one.
func statistic(c *call, f func([]float64) float64) (starlark.Value, error) {
	t := c.recv.(*table)
	if len(t.recs) == 0 {
		return nil, errors.New("the table has no rows")
	}
	return starlark.Float(f(t.values())), nil
}

func sum(values []float64) (s float64) {
	for _, v := range values {
		s += v
	}
	return s
}

func percentile(values []float64, p float64) float64 {
	slices.Sort(values)
	rank := p / 100 * float64(len(values)-1)
	low := int(math.Floor(rank))
	high := min(low+1, len(values)-1)
	return values[low] + (rank-float64(low))*(values[high]-values[low])
}
