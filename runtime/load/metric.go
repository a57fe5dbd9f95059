package load

import (
	"math"
	"time"

	"github.com/aifb/aifb/runtime"
)

// Measurements returns what was measured in the window. In what follows a request is completed if its whole answer was
// there, or it failed, between the window's start and its end; a success is a completed request with the expected
// status and a whole body. Requests of the warm-up, and those that the end of the window broke off, are in none of the
// figures but incomplete. Metrics without a value, such as the latency of no success, are left out.
//
//	duration          s    The window's: from its start to its end, or to the last answer if Requests were answered
//	                       before, or to the end of Run's context.
//	requests               Completed requests, failed ones included.
//	errors                 Completed requests that failed; errors_CLASS are those of a Class, if there are any.
//	incomplete             Requests that the end broke off. At most one for each worker. rps would be higher by less than
//	                       incomplete/duration, had they been let finish in no time.
//	rps               1/s  Successes / duration. wrk's Requests/sec and ab's "Requests per second" have failures in the
//	                       numerator (src/wrk.c: req_per_s = complete / runtime_s; ab(1)); without failures they agree.
//	bytes_received    B    Bytes of the bodies of the successes, as they came: without headers and chunk framing, still
//	                       compressed if the server did that. (wrk's "read" has headers and framing in it.)
//	throughput        B/s  bytes_received / duration.
//	connections            Connections that were opened in the window. 0 if each worker kept the one of its warm-up.
//	latency_*         ms   Of each success: from just before the request is handed to the connection to the last byte of
//	                       the body, on the monotonic clock. If there is no connection, making one is a part of it. It is
//	                       the service time, not the response time, of the literature on coordinated omission (README of
//	                       wrk2): a closed loop has no time at which a request should have been sent.
//	latency_mean      ms   Sum / number; latency_min and latency_max likewise are exact.
//	latency_p50 ...   ms   Percentiles by HdrHistogram, with three significant digits: the highest value that the
//	                       histogram does not distinguish from that of the nearest rank (getValueAtPercentile of the Java
//	                       original), but not above latency_max. The workers' histograms are added up first; percentiles
//	                       are never averaged.
//	latency_p999      ms   Only from 2,995 successes on; see enough.
//	latency_overflow       Latencies above 1 h; the percentiles have them as 1 h. Only if there are any.
//	error_latency_*   ms   As latency_mean and latency_max, of the failed requests, which are in no other latency.
//	incomplete_run         1 if Run's context ended before the window did: all figures are of a shorter window. Else left
//	                       out.
func (r *Result) Measurements() []runtime.Measurement {
	var ms []runtime.Measurement
	add := func(metric string, value float64, unit string) {
		ms = append(ms, runtime.Measurement{Metric: metric, Value: value, Unit: unit})
	}
	seconds := r.Duration.Seconds()
	add("duration", seconds, "s")
	add("requests", float64(r.OK.Count+r.Failed.Count), "")
	add("errors", float64(r.Failed.Count), "")
	for _, class := range r.classes() {
		add("errors_"+string(class), float64(r.Errors[class].Count), "")
	}
	add("incomplete", float64(r.Incomplete), "")
	add("connections", float64(r.Connections), "")
	if seconds > 0 {
		add("rps", float64(r.OK.Count)/seconds, "1/s")
		add("throughput", float64(r.Bytes)/seconds, "B/s")
	}
	add("bytes_received", float64(r.Bytes), "B")
	if r.OK.Count > 0 {
		add("latency_mean", ms64(r.OK.Mean()), "ms")
		add("latency_min", ms64(r.OK.Min), "ms")
		for _, p := range percentiles {
			if p.metric != "latency_p999" || r.OK.Count >= enough(p.percent) {
				add(p.metric, ms64(r.percentile(p.percent)), "ms")
			}
		}
		add("latency_max", ms64(r.OK.Max), "ms")
	}
	if r.Overflow > 0 {
		add("latency_overflow", float64(r.Overflow), "")
	}
	if r.Failed.Count > 0 {
		add("error_latency_mean", ms64(r.Failed.Mean()), "ms")
		add("error_latency_max", ms64(r.Failed.Max), "ms")
	}
	if r.Interrupted {
		add("incomplete_run", 1, "")
	}
	return ms
}

// Imagined returns the measurements of a second in which a thousand requests took a millisecond each: what a client is
// supposed to measure where none runs.
func Imagined() []runtime.Measurement {
	w := newWindow()
	w.Duration = time.Second
	for range 1000 {
		w.record(time.Millisecond, answer{})
	}
	return (&Result{Window: *w}).Measurements()
}

var percentiles = []struct {
	metric  string
	percent float64
}{
	{"latency_p50", 50}, {"latency_p90", 90}, {"latency_p95", 95}, {"latency_p99", 99}, {"latency_p999", 99.9},
}

// percentile returns the latency that so many percent of the successes did not exceed: that of the nearest rank, the
// percentage of their number rounded up. The histogram's own function rounds to the nearest whole number.
func (w *Window) percentile(percent float64) time.Duration {
	n := float64(w.OK.Count)
	rank := math.Ceil(percent*n/100 - 1e-9) // less what the multiplication may have added
	return min(time.Duration(w.Latency.ValueAtPercentile(100*rank/n)), w.OK.Max)
}

// enough returns how many values are needed at least for a percentile to say something: from so many on, the greatest
// of them is at or above the true percentile with 95 % confidence, 1 - p^n >= 0.95. With fewer, what is measured as
// the percentile is most likely too low. (S. S. Wilks, Determination of sample sizes for setting tolerance limits,
// Annals of Mathematical Statistics 12, 1941.) It is 59 for p95, 299 for p99 and 2,995 for p99.9.
func enough(percent float64) int64 {
	return int64(math.Ceil(math.Log(0.05) / math.Log(percent/100)))
}

func ms64(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
