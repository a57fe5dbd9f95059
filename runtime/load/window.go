package load

import (
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/aifb/aifb/runtime"
)

// Latencies are recorded in nanoseconds, as the tools that read HdrHistogram logs take for granted, with three
// significant digits from 1 µs to 1 h. Histograms of the same geometry can be merged without loss.
const (
	minLatency        = time.Microsecond
	maxLatency        = time.Hour
	significantDigits = 3
)

// maxReason is how many bytes are kept of what is known of a failure; it may have come from the server.
const maxReason = 300

// A Window is what was measured in a stretch of time.
type Window struct {
	Start    time.Time
	Duration time.Duration // on the monotonic clock

	OK     Times // of the requests that succeeded
	Failed Times // of those that failed; how long these took is in no other figure
	Errors map[Class]Failures
	Bytes  int64 // of the bodies of those that succeeded

	Incomplete  int64 // requests that the end broke off; they are in no other figure
	Connections int64 // that were opened
	Overflow    int64 // latencies above 1 h; Latency has them as 1 h

	Latency *hdrhistogram.PackedHistogram // of the requests that succeeded, in ns
}

// Failures are the failed requests of a class.
type Failures struct {
	Count   int64
	Example string // why one of them failed
}

// Times sums up durations, exactly.
type Times struct {
	Count         int64
	Sum, Min, Max time.Duration
}

// Mean returns the arithmetic mean, or 0 if there is nothing.
func (t *Times) Mean() time.Duration {
	if t.Count == 0 {
		return 0
	}
	return t.Sum / time.Duration(t.Count)
}

func (t *Times) add(u Times) {
	if t.Count == 0 || u.Count > 0 && u.Min < t.Min {
		t.Min = u.Min
	}
	t.Max = max(t.Max, u.Max)
	t.Count += u.Count
	t.Sum += u.Sum
}

// newWindow returns an empty window. Its histogram is a packed one: it has a few KiB for each worker, where an array of
// all counters has 188.
func newWindow() *Window {
	return &Window{
		Errors:  make(map[Class]Failures),
		Latency: hdrhistogram.NewPacked(int64(minLatency), int64(maxLatency), significantDigits),
	}
}

// record counts a request that took d to its end.
func (w *Window) record(d time.Duration, a answer) {
	one := Times{1, d, d, d}
	if a.class != "" {
		w.Failed.add(one)
		f := w.Errors[a.class]
		if f.Count == 0 {
			f.Example = runtime.Printable(strings.ToValidUTF8(a.reason[:min(len(a.reason), maxReason)], ""))
		}
		f.Count++
		w.Errors[a.class] = f
		return
	}
	w.OK.add(one)
	w.Bytes += a.bytes
	if d > maxLatency {
		w.Overflow++
	}
	w.Latency.RecordValue(int64(min(d, maxLatency))) // fails only above its range
}

// add adds what another worker measured in the same stretch of time.
func (w *Window) add(o *Window) {
	w.OK.add(o.OK)
	w.Failed.add(o.Failed)
	for class, f := range o.Errors {
		sum := w.Errors[class]
		if sum.Count == 0 {
			sum.Example = f.Example
		}
		sum.Count += f.Count
		w.Errors[class] = sum
	}
	w.Bytes += o.Bytes
	w.Incomplete += o.Incomplete
	w.Connections += o.Connections
	w.Overflow += o.Overflow
	w.Latency.Merge(o.Latency) // drops nothing: the geometry is the same
}
