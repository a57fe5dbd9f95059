package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/aifb/aifb/runtime"
)

// A Result is what a [Run] measured.
type Result struct {
	Config      Config
	Warmup      *Window // nil: there was none
	Interrupted bool    // the context ended before the window did
	Window
}

// LatencyFile is the file with the histogram of the latencies of the successes: one interval of an HdrHistogram log, in
// nanoseconds, which the tools for such logs read and merge.
const LatencyFile = "latency.hlog"

// WriteFiles writes runtime.MeasurementsFile and LatencyFile to a directory, each whole or not at all.
func (r *Result) WriteFiles(dir string) error {
	err := errors.Join(
		runtime.WriteFile(filepath.Join(dir, runtime.MeasurementsFile), r.writeMeasurements),
		runtime.WriteFile(filepath.Join(dir, LatencyFile), r.writeLatency))
	if err != nil {
		return runtime.Faultf(runtime.FaultRun, "is the disk full, or a quota used up?", "load: %w", err)
	}
	return nil
}

func (r *Result) writeMeasurements(w io.Writer) error {
	e := json.NewEncoder(w)
	for _, m := range r.Measurements() {
		if err := e.Encode(m); err != nil {
			return err
		}
	}
	return nil
}

func (r *Result) writeLatency(w io.Writer) error {
	h := r.Latency.Clone()
	h.SetStartTimeMs(r.Start.UnixMilli())
	h.SetEndTimeMs(r.Start.Add(r.Duration).UnixMilli())
	log := hdrhistogram.NewHistogramLogWriter(w)
	for _, write := range []func() error{
		log.OutputLogFormatVersion,
		func() error { return log.OutputStartTime(r.Start.UnixMilli()) },
		log.OutputLegend,
		func() error { return log.OutputIntervalPackedHistogram(h) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// Version is that of the JSON form of a result. It changes when a field is removed or means something else.
const Version = 1

// WriteJSON writes the result as one JSON object.
func (r *Result) WriteJSON(w io.Writer) error {
	type failure struct {
		Class   Class  `json:"class"`
		Count   int64  `json:"count"`
		Example string `json:"example"`
	}
	type warmup struct {
		Duration float64 `json:"duration"`
		Requests int64   `json:"requests"`
		Errors   int64   `json:"errors"`
	}
	doc := struct {
		Version      int                   `json:"version"`
		Method       string                `json:"method"`
		URL          string                `json:"url"` // without the query
		Concurrency  int                   `json:"concurrency"`
		Start        time.Time             `json:"start"`
		Interrupted  bool                  `json:"interrupted"`
		Warmup       *warmup               `json:"warmup,omitempty"`
		Measurements []runtime.Measurement `json:"measurements"`
		Failures     []failure             `json:"failures"`
	}{
		Version:      Version,
		Method:       r.Config.Request.method(),
		URL:          r.Config.Request.where(),
		Concurrency:  r.Config.Concurrency,
		Start:        r.Start.UTC(),
		Interrupted:  r.Interrupted,
		Measurements: r.Measurements(),
		Failures:     []failure{},
	}
	if u := r.Warmup; u != nil {
		doc.Warmup = &warmup{u.Duration.Seconds(), u.OK.Count + u.Failed.Count, u.Failed.Count}
	}
	for _, class := range r.classes() {
		doc.Failures = append(doc.Failures, failure{class, r.Errors[class].Count, r.Errors[class].Example})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

// WriteText writes the result for people.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s"+format+"\n", append([]any{name}, args...)...)
	}
	line("request", "%s %s", r.Config.Request.method(), r.Config.Request.where())
	line("load", "%d at a time, for %v", r.Config.Concurrency, r.Duration.Round(time.Millisecond))
	if u := r.Warmup; u != nil {
		line("warm-up", "%d requests in %v, %d failed; not counted below",
			u.OK.Count+u.Failed.Count, u.Duration.Round(time.Millisecond), u.Failed.Count)
	}
	if r.Interrupted {
		line("incomplete", "it was interrupted; what follows is of a shorter time")
	}
	line("requests", "%d: %d succeeded, %d failed; %d more were broken off by the end",
		r.OK.Count+r.Failed.Count, r.OK.Count, r.Failed.Count, r.Incomplete)
	if s := r.Duration.Seconds(); s > 0 {
		line("rate", "%s successes/s", runtime.FormatValue(float64(r.OK.Count)/s))
		line("received", "%d bytes, %s/s", r.Bytes, runtime.FormatValue(float64(r.Bytes)/s))
	}
	line("connections", "%d opened", r.Connections)
	r.writeLatencies(line)
	r.writeFailures(line)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Result) writeLatencies(line func(name, format string, args ...any)) {
	if r.OK.Count == 0 {
		return
	}
	line("latency", "of the successes, in ms")
	figure := func(name string, d time.Duration, note string) {
		line("  "+name, "%s%s", runtime.FormatValue(ms64(d)), note)
	}
	figure("mean", r.OK.Mean(), "")
	figure("min", r.OK.Min, "")
	for _, p := range percentiles {
		note := ""
		if n := enough(p.percent); r.OK.Count < n {
			note = fmt.Sprintf("   (too few successes to rely on: it takes %d)", n)
		}
		figure(strings.TrimPrefix(p.metric, "latency_"), r.percentile(p.percent), note)
	}
	figure("max", r.OK.Max, "")
	if r.Overflow > 0 {
		line("  above 1h", "%d; the percentiles have them as 1h", r.Overflow)
	}
}

func (r *Result) writeFailures(line func(name, format string, args ...any)) {
	if r.Failed.Count == 0 {
		return
	}
	line("failures", "after %s ms in the mean, %s ms at most; not in the latencies above",
		runtime.FormatValue(ms64(r.Failed.Mean())), runtime.FormatValue(ms64(r.Failed.Max)))
	for _, class := range r.classes() {
		line("  "+string(class), "%d, such as: %s", r.Errors[class].Count, r.Errors[class].Example)
	}
}

// classes returns the classes of failures that there are.
func (w *Window) classes() []Class { return slices.Sorted(maps.Keys(w.Errors)) }

// noSuccess is the error of a window without a success.
func (r *Result) noSuccess() error {
	target := r.Config.Request.method() + " " + r.Config.Request.where()
	if r.Failed.Count == 0 {
		return runtime.Faultf(runtime.FaultRun, "give it a longer duration",
			"load: %s: no answer in %v; %d requests were under way at the end", target, r.Duration, r.Incomplete)
	}
	var failures []string
	for _, class := range r.classes() {
		failures = append(failures, fmt.Sprintf("%d %s (%s)", r.Errors[class].Count, class, r.Errors[class].Example))
	}
	return runtime.Faultf(runtime.FaultRun, "", "load: %s: none of %d requests succeeded: %s",
		target, r.Failed.Count, strings.Join(failures, ", "))
}
