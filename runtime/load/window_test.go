package load

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestMerge checks that what several workers measured, added up, is what one would have measured.
func TestMerge(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		workers := make([]*Window, 1+r.IntN(8))
		for i := range workers {
			workers[i] = newWindow()
		}
		one, sum := newWindow(), newWindow()
		var all []time.Duration
		for range 1 + r.IntN(3000) {
			d := time.Duration(r.ExpFloat64() * float64(10*time.Millisecond))
			if r.IntN(500) == 0 {
				d = maxLatency + time.Duration(r.IntN(1e9))
			}
			a := answer{bytes: r.Int64N(100)}
			if r.IntN(10) == 0 {
				a = answer{class: []Class{Timeout, HTTP5xx}[r.IntN(2)], reason: "x"}
			} else {
				all = append(all, min(d, maxLatency))
			}
			one.record(d, a)
			workers[r.IntN(len(workers))].record(d, a)
		}
		for _, w := range workers {
			sum.add(w)
		}
		if !reflect.DeepEqual(summary(one), summary(sum)) {
			t.Errorf("seed %d: merged %v\nall in one %v", seed, summary(sum), summary(one))
		}
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		for _, p := range percentiles {
			below := int(math.Round(p.percent*10)) * len(all) // a thousand times the rank
			want, got := all[(below+999)/1000-1], sum.percentile(p.percent)
			if got < want-minLatency || got > want+max(want/1000, minLatency) {
				t.Errorf("seed %d: %s of %d is %v, want %v within 0.1 %%", seed, p.metric, len(all), got, want)
			}
		}
	}
}

// summary is all that is known of a window.
func summary(w *Window) []any {
	var buckets [][2]int64
	w.Latency.ForEachBucket(func(value, count int64) bool {
		buckets = append(buckets, [2]int64{value, count})
		return true
	})
	return []any{w.OK, w.Failed, w.Errors, w.Bytes, w.Overflow, buckets}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	var sum Times
	sum.add(Times{})
	sum.add(Times{2, 30, 10, 20})
	sum.add(Times{})
	sum.add(Times{1, 3, 3, 3})
	if want := (Times{3, 33, 3, 20}); sum != want || sum.Mean() != 11 || new(Times).Mean() != 0 {
		t.Errorf("got %v, want %v", sum, want)
	}
}

func TestEnough(t *testing.T) {
	t.Parallel()
	for percent, want := range map[float64]int64{50: 5, 90: 29, 95: 59, 99: 299, 99.9: 2995} {
		if n := enough(percent); n != want {
			t.Errorf("p%v takes %d, want %d", percent, n, want)
		}
	}
}

func TestP999OnlyOfEnough(t *testing.T) {
	t.Parallel()
	r := &Result{Window: *newWindow()}
	r.Duration = time.Second
	has := func() bool {
		for _, m := range r.Measurements() {
			if m.Metric == "latency_p999" {
				return true
			}
		}
		return false
	}
	for range 2994 {
		r.record(time.Millisecond, answer{})
	}
	if has() {
		t.Error("p999 of 2994")
	}
	r.record(time.Millisecond, answer{})
	if !has() {
		t.Error("no p999 of 2995")
	}
}

func example() *Result {
	r := &Result{Window: *newWindow(), Warmup: newWindow(), Interrupted: true}
	r.Config = Config{Request: Request{URL: "http://node1:8080/v1?key=secret"}, Concurrency: 8}
	r.Warmup.Duration = 2 * time.Second
	r.Warmup.record(time.Second, answer{})
	r.Start, r.Duration = time.Unix(1700000000, 0), 10*time.Second
	for i := range 100 {
		r.record(time.Duration(i+1)*time.Millisecond, answer{bytes: 1000})
	}
	r.record(2*time.Hour, answer{bytes: 1})
	r.record(time.Second, answer{class: HTTP5xx, reason: "503 Service Unavailable"})
	r.record(3*time.Second, answer{class: Timeout, reason: "no whole answer within 3s"})
	r.record(2*time.Second, answer{class: Timeout, reason: "no whole answer within 3s"})
	r.record(2*time.Second, answer{class: BadStatus, reason: "302 Found"})
	r.Incomplete, r.Connections = 8, 2
	return r
}

const exampleText = `request       GET http://node1:8080/v1
load          8 at a time, for 10s
warm-up       1 requests in 2s, 0 failed; not counted below
incomplete    it was interrupted; what follows is of a shorter time
requests      105: 101 succeeded, 4 failed; 8 more were broken off by the end
rate          10.10 successes/s
received      100001 bytes, 10000/s
connections   2 opened
latency       of the successes, in ms
  mean        71337
  min         1
  p50         51.02
  p90         91.03
  p95         96.01
  p99         100.0   (too few successes to rely on: it takes 299)
  p999        3601330   (too few successes to rely on: it takes 2995)
  max         7200000
  above 1h    1; the percentiles have them as 1h
failures      after 2000 ms in the mean, 3000 ms at most; not in the latencies above
  bad_status  1, such as: 302 Found
  http_5xx    1, such as: 503 Service Unavailable
  timeout     2, such as: no whole answer within 3s
`

func TestText(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := example().WriteText(&b); err != nil || b.String() != exampleText {
		t.Errorf("%v, got:\n%s\nwant:\n%s", err, b.String(), exampleText)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	r := example()
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Version      int
		URL          string
		Interrupted  bool
		Warmup       struct{ Requests int }
		Measurements []any
		Failures     []struct {
			Class Class
			Count int
		}
	}
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Version != Version || doc.URL != "http://node1:8080/v1" || !doc.Interrupted || doc.Warmup.Requests != 1 ||
		len(doc.Measurements) != len(r.Measurements()) || len(doc.Failures) != 3 {
		t.Error(b.String())
	}
}

func TestFilesRoundTrip(t *testing.T) {
	t.Parallel()
	r, dir := example(), t.TempDir()
	if err := r.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	got := readMeasurements(t, dir)
	for _, m := range r.Measurements() {
		if !reflect.DeepEqual(got[m.Metric], m) {
			t.Errorf("read %v, wrote %v", got[m.Metric], m)
		}
	}
	if len(got) != len(r.Measurements()) {
		t.Errorf("read %d, wrote %d", len(got), len(r.Measurements()))
	}
	h := readLatency(t, dir)
	if h.TotalCount() != r.OK.Count || h.StartTimeMs() != 1700000000000 || h.EndTimeMs() != 1700000010000 {
		t.Errorf("%d latencies from %d to %d", h.TotalCount(), h.StartTimeMs(), h.EndTimeMs())
	}
	for _, p := range percentiles {
		if a, b := h.ValueAtPercentile(p.percent), r.Latency.ValueAtPercentile(p.percent); a != b {
			t.Errorf("%s: read %d, wrote %d", p.metric, a, b)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	durations := make([]time.Duration, 1<<12)
	for i := range durations {
		durations[i] = time.Duration((1 + r.ExpFloat64()) * float64(100*time.Microsecond))
	}
	w := newWindow()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.record(durations[i&(1<<12-1)], answer{bytes: 10})
	}
}
