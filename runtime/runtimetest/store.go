package runtimetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

// TestStore checks that what open returns keeps the contract of runtime.Store. Open opens the store that belongs to
// dir, a new directory: the same one each time that it is given the same dir. Each Append of the suite is of one run; a
// store may refuse others.
func TestStore(t *testing.T, open func(t *testing.T, dir string) runtime.Store) {
	for _, clause := range storeClauses {
		t.Run(clause.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", clause.rule)
				}
			})
			s := &storeTest{T: t, dir: t.TempDir(), open: open}
			s.Store = s.again()
			clause.check(s)
		})
	}
}

// A storeTest is what a clause works with: a store that is its own.
type storeTest struct {
	*testing.T
	runtime.Store
	dir  string
	open func(t *testing.T, dir string) runtime.Store
}

var storeClauses = []struct {
	name, rule string
	check      func(t *storeTest)
}{
	{"fields", "every field comes back as it was appended; data, as the same JSON value", checkStoreFields},
	{"text", "every text comes back as it was appended, in every field that is text", checkStoreText},
	{"numbers", "every finite value comes back exactly", checkStoreNumbers},
	{"time", "times come back in UTC, to the microsecond", checkStoreTime},
	{"order", "the records of a run come back in the order in which they were appended", checkStoreOrder},
	{"runs", "runs are ordered by their id, whatever the order in which they were begun", checkStoreRuns},
	{"query", "a query selects by run, by kind, or by both; kinds nobody knows are kept", checkStoreQuery},
	{"missing", "a run, a kind or a whole store that is not there has no records, and is no error", checkStoreMissing},
	{"refuse", "a record that cannot be kept as it is is refused, and with it all of its Append", checkStoreRefuse},
	{"empty", "an Append of nothing does nothing", checkStoreEmpty},
	{"durable", "what Append returned nil for is there when the store is opened again", checkStoreDurable},
	{"handles", "what one handle has appended, another one of the same store sees", checkStoreHandles},
	{"concurrent", "appends from many goroutines and handles are all kept, each one in one piece", checkStoreConcurrent},
	{"create", "many may make the same store at the same time", checkStoreCreate},
	{"stop", "an iteration may be stopped early, and be repeated", checkStoreStop},
	{"iterate", "an iteration ends, and is complete, while its consumer appends", checkStoreIterate},
	{"large", "an Append may be large, and there may be many", checkStoreLarge},
	{"cancel", "a context that has ended appends nothing, and ends an iteration with an error", checkStoreCancel},
	{"close", "Close may be called twice; a closed store gives errors", checkStoreClose},
}

// texts are strings that one file format or database or another would change.
var texts = []string{
	"", " ", "plain", " lead and trail ", `"`, `""`, `a"b`, `"quoted"`, "'",
	"''; DROP TABLE events; --", ",", "a,b", ";", "\t", "|",
	"\n", "a\nb", "\r", "\r\n", "a\r\nb", "\n\n", "\n\r", "end\r", `\`, `\.`, `\n`, `\N`, "NULL", "null",
	"NaN", "0", "-1", "1e5", "007",
	"=1+1", "+1", "-1+1", "@SUM(A1)", "é ü 漢字 🚀", "\u2028\u2029", "\ufeff", "\x01\x1b[0m\x7f", "{}", "[]",
	"<a href='x'>&amp;</a>",
	"%s %d", "${HOME}", "?", "$1", ":a", "2026-11-23", strings.Repeat("long ", 2000),
}

const storeRun = "20261123-141502-k3f9"

// storeTime has more digits than are kept.
var storeTime = time.Date(2026, 11, 23, 14, 15, 2, 123456789, time.UTC)

func storeEvent(run string, kind runtime.Kind, i int) runtime.Record {
	return runtime.Record{Run: run, Time: storeTime, Kind: kind, Source: "redis",
		Data: json.RawMessage(fmt.Sprintf(`{"i":%d}`, i))}
}

func storeMeasurement(run string, i int) runtime.Record {
	return runtime.Record{Run: run, Time: storeTime, Kind: runtime.KindMeasurement, Source: "client", Metric: "rps",
		Value: float64(i), Unit: "1/s", Labels: map[string]string{"clients": "8"}}
}

// again returns another handle of the store.
func (t *storeTest) again() runtime.Store {
	s := t.open(t.T, t.dir)
	t.Cleanup(func() { s.Close() })
	return s
}

func (t *storeTest) append(recs ...runtime.Record) {
	t.Helper()
	if err := t.Append(t.Context(), recs...); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

func (t *storeTest) records(q runtime.Query) []runtime.Record {
	t.Helper()
	return t.recordsOf(t.Store, q)
}

func (t *storeTest) recordsOf(s runtime.Store, q runtime.Query) []runtime.Record {
	t.Helper()
	recs, err := collect(s.Records(t.Context(), q))
	if err != nil {
		t.Fatalf("Records(%+v): %v", q, err)
	}
	return recs
}

// collect returns what seq yields up to an error, and that.
func collect(seq iter.Seq2[runtime.Record, error]) (recs []runtime.Record, err error) {
	for rec, e := range seq {
		if e != nil {
			err = errors.Join(err, e)
			continue // whether it stops is the store's to show
		}
		if err != nil {
			return recs, fmt.Errorf("it went on after %w", err)
		}
		recs = append(recs, rec)
	}
	return recs, err
}

// want checks that the store has these records, in this order.
func (t *storeTest) want(q runtime.Query, want ...runtime.Record) {
	t.Helper()
	t.equal(t.records(q), want)
}

func (t *storeTest) equal(got, want []runtime.Record) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if diff := differ(got[i], want[i]); diff != "" {
			t.Fatalf("record %d of %d: %s", i, len(want), diff)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
}

// differ says in what a record that came back is not the one that was appended, or "".
func differ(got, want runtime.Record) string {
	at := want.Time.UTC().Truncate(time.Microsecond)
	switch {
	case got.Run != want.Run:
		return fmt.Sprintf("Run is %q, want %q", got.Run, want.Run)
	case !got.Time.Equal(at) || got.Time.Location() != time.UTC:
		return fmt.Sprintf("Time is %v, want %v", got.Time, at)
	case got.Kind != want.Kind:
		return fmt.Sprintf("Kind is %q, want %q", got.Kind, want.Kind)
	case got.Source != want.Source:
		return fmt.Sprintf("Source is %q, want %q", got.Source, want.Source)
	case got.Metric != want.Metric:
		return fmt.Sprintf("Metric is %q, want %q", got.Metric, want.Metric)
	case got.Value != want.Value:
		return fmt.Sprintf("Value is %v, want %v", got.Value, want.Value)
	case got.Unit != want.Unit:
		return fmt.Sprintf("Unit is %q, want %q", got.Unit, want.Unit)
	case !maps.Equal(got.Labels, want.Labels):
		return fmt.Sprintf("Labels is %q, want %q", got.Labels, want.Labels)
	case (got.Data == nil) != (want.Data == nil) || !reflect.DeepEqual(decode(got.Data), decode(want.Data)):
		return fmt.Sprintf("Data is %s, want %s", got.Data, want.Data)
	}
	return ""
}

// decode returns the value of data, with its numbers as they are written.
func decode(data json.RawMessage) any {
	if data == nil {
		return nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err
	}
	return v
}

func checkStoreFields(t *storeTest) {
	event, bare := storeEvent(storeRun, "job_status", 1), storeMeasurement(storeRun, 2)
	event.Data = json.RawMessage(` {"s": "<&>,\n\u0000\"", "n": [1, 1.50, 12345678901234567890, null, true],` +
		"\n" + ` "o": {"": {}}} `)
	noData := storeEvent(storeRun, "job_ready", 3)
	bare.Source, bare.Unit, bare.Labels = "", "", nil
	noData.Data, noData.Source = nil, ""
	empty := storeEvent(storeRun, "run_ended", 4)
	empty.Data = json.RawMessage(`{}`)
	want := []runtime.Record{event, bare, noData, empty, storeMeasurement(storeRun, 5)}
	t.append(want...)
	t.want(runtime.Query{}, want...)
}

func checkStoreText(t *storeTest) {
	var want []runtime.Record
	all := map[string]string{}
	for i, s := range texts {
		rec := storeMeasurement(storeRun, i)
		rec.Source, rec.Metric, rec.Unit, rec.Labels = s, s, s, map[string]string{s: s, "k": s}
		event := storeEvent(storeRun, runtime.Kind("kind "+s), i)
		event.Source = s
		event.Data, _ = json.Marshal(map[string]string{s: s})
		want = append(want, rec, event)
		all[s] = s + s
	}
	many := storeMeasurement(storeRun, 0)
	many.Labels = all
	want = append(want, many)
	t.append(want...)
	t.want(runtime.Query{}, want...)
	for _, rec := range want[:20] {
		for got, err := range t.Records(t.Context(), runtime.Query{Run: storeRun, Kind: rec.Kind}) {
			if err != nil || got.Kind != rec.Kind {
				t.Errorf("the query for kind %q yields kind %q, %v", rec.Kind, got.Kind, err)
			}
		}
	}
}

func checkStoreNumbers(t *storeTest) {
	var want []runtime.Record
	for _, v := range []float64{0, 1, -1, 0.1, 1.0 / 3, 1e6, 1e21, -1e-9, 123456789.123456789, 1 << 53, 1<<53 + 2, 1 << 62,
		math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.Nextafter(1, 2), math.Pi} {
		rec := storeMeasurement(storeRun, 0)
		rec.Value = v
		want = append(want, rec)
	}
	t.append(want...)
	t.want(runtime.Query{}, want...)
}

func checkStoreTime(t *storeTest) {
	var want []runtime.Record
	for _, at := range []time.Time{
		storeTime,
		storeTime.In(time.FixedZone("", -5*3600)),
		time.Now(),
		time.Unix(0, 0),
		time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Date(2026, 1, 1, 0, 0, 0, 1000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		{},
	} {
		rec := storeEvent(storeRun, "e", 0)
		rec.Time = at
		want = append(want, rec)
	}
	t.append(want...)
	t.want(runtime.Query{}, want...)
}

func checkStoreOrder(t *storeTest) {
	var want []runtime.Record
	for i := range 30 { // events and measurements in turn, and a clock that goes backwards
		rec := storeEvent(storeRun, runtime.Kind(fmt.Sprint("e", i%3)), i)
		if i%2 == 1 {
			rec = storeMeasurement(storeRun, i)
		}
		rec.Time = storeTime.Add(-time.Duration(i) * time.Hour)
		want = append(want, rec)
	}
	t.append(want[:7]...)
	for _, rec := range want[7:20] {
		t.append(rec)
	}
	t.append(want[20:]...)
	t.want(runtime.Query{}, want...)
	t.want(runtime.Query{Run: storeRun}, want...)
}

func checkStoreRuns(t *storeTest) {
	ids := []string{"b", "a", "a-b", "a.b", "a_b", "ab", "B", "20261123-141502-k3f9", "20251123-141502-zzzz", "a0"}
	for round := range 2 {
		for _, id := range ids {
			t.append(storeEvent(id, "e", round), storeMeasurement(id, round))
		}
	}
	var want []runtime.Record
	for _, id := range slices.Sorted(slices.Values(ids)) {
		for round := range 2 {
			want = append(want, storeEvent(id, "e", round), storeMeasurement(id, round))
		}
	}
	t.want(runtime.Query{}, want...)
}

func checkStoreQuery(t *storeTest) {
	var all []runtime.Record
	for _, run := range []string{"r1", "r2", "r3"} {
		recs := []runtime.Record{
			storeEvent(run, "run_started", 1), storeEvent(run, "of a later version", 2), storeMeasurement(run, 3),
			storeEvent(run, "run_started", 4), storeMeasurement(run, 5),
		}
		t.append(recs...)
		all = append(all, recs...)
	}
	for _, run := range []string{"", "r1", "r2", "r3", "r", "R1", "%", "r_"} {
		for _, kind := range []runtime.Kind{"", "run_started", "of a later version", runtime.KindMeasurement, "run", "%"} {
			var want []runtime.Record
			for _, rec := range all {
				if (run == "" || run == rec.Run) && (kind == "" || kind == rec.Kind) {
					want = append(want, rec)
				}
			}
			t.want(runtime.Query{Run: run, Kind: kind}, want...)
		}
	}
}

func checkStoreMissing(t *storeTest) {
	hostile := []string{"nobody", "../nobody", "/etc/passwd", "..", ".", "a/b", "a\x00b", strings.Repeat("x", 1000), "\xff"}
	for range 2 {
		t.want(runtime.Query{Kind: "e"})
		for _, run := range hostile {
			t.want(runtime.Query{Run: run})
			t.want(runtime.Query{Run: run, Kind: runtime.KindMeasurement})
		}
		if err := t.Append(t.Context(), storeEvent(storeRun, "other", 0)); err != nil {
			t.Fatal(err)
		}
	}
}

func checkStoreRefuse(t *storeTest) {
	bad := map[string]func(*runtime.Record){
		"NaN":               func(r *runtime.Record) { r.Value = math.NaN() },
		"infinity":          func(r *runtime.Record) { r.Value = math.Inf(-1) },
		"no run":            func(r *runtime.Record) { r.Run = "" },
		"no kind":           func(r *runtime.Record) { r.Kind = "" },
		"run of the parent": func(r *runtime.Record) { r.Run = "../" + storeRun },
		"run with NUL":      func(r *runtime.Record) { r.Run = "a\x00b" },
		"hidden run":        func(r *runtime.Record) { r.Run = ".a" },
		"long run":          func(r *runtime.Record) { r.Run = strings.Repeat("x", 1000) },
		"data":              func(r *runtime.Record) { r.Data = json.RawMessage(`{}`) },
		"NUL":               func(r *runtime.Record) { r.Metric = "a\x00b" },
		"not UTF-8":         func(r *runtime.Record) { r.Labels = map[string]string{"k": "\xff"} },
		"key not UTF-8":     func(r *runtime.Record) { r.Labels = map[string]string{"\xff": ""} },
		"year":              func(r *runtime.Record) { r.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"event with value":  func(r *runtime.Record) { r.Kind = "e" },
	}
	for _, data := range []string{"", " ", "null", "1", "[]", `"x"`, "{", "{}{}", "{} x", "{'a':1}", "{\"a\":\"\xff\"}"} {
		bad["data "+data] = func(r *runtime.Record) { *r = storeEvent(storeRun, "e", 0); r.Data = json.RawMessage(data) }
	}
	good := storeMeasurement(storeRun, 1)
	for name, spoil := range bad {
		rec := storeMeasurement(storeRun, 2)
		spoil(&rec)
		for _, recs := range [][]runtime.Record{{rec}, {good, rec}, {rec, good}, {good, rec, good}} {
			if err := t.Append(t.Context(), recs...); err == nil {
				t.Errorf("%s: record %d of %d was not refused", name, slices.IndexFunc(recs, func(r runtime.Record) bool {
					return differ(r, good) != ""
				}), len(recs))
			}
		}
	}
	t.want(runtime.Query{})
	t.append(good)
	t.want(runtime.Query{}, good)
}

func checkStoreEmpty(t *storeTest) {
	t.append()
	t.want(runtime.Query{})
	t.append(storeEvent(storeRun, "e", 0))
	t.append()
	t.want(runtime.Query{}, storeEvent(storeRun, "e", 0))
}

func checkStoreDurable(t *storeTest) {
	var want []runtime.Record
	for i := range 5 {
		recs := []runtime.Record{storeEvent(storeRun, "e", i), storeMeasurement(storeRun, i)}
		t.append(recs...)
		want = append(want, recs...)
		if err := t.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		t.Store = t.again()
		t.want(runtime.Query{}, want...)
	}
}

func checkStoreHandles(t *storeTest) {
	other := t.again()
	var want []runtime.Record
	for i := range 5 {
		rec := storeEvent(storeRun, "e", i)
		t.append(rec)
		want = append(want, rec)
		t.equal(t.recordsOf(other, runtime.Query{}), want)
		t.Store, other = other, t.Store
	}
}

// appendAll appends n times three records, from a source of its own.
func (t *storeTest) appendAll(s runtime.Store, run, source string, n int) {
	for i := range n {
		recs := []runtime.Record{storeEvent(run, "e", 3*i), storeMeasurement(run, 3*i+1), storeEvent(run, "e", 3*i+2)}
		for j := range recs {
			recs[j].Source = source
		}
		if err := s.Append(t.Context(), recs...); err != nil {
			t.Errorf("Append by %s: %v", source, err)
			return
		}
	}
}

// number returns the number that appendAll gave to a record.
func number(t *storeTest, rec runtime.Record) int {
	if rec.Kind == runtime.KindMeasurement {
		return int(rec.Value)
	}
	var v struct{ I int }
	if err := json.Unmarshal(rec.Data, &v); err != nil {
		t.Fatal(err)
	}
	return v.I
}

// wantAll checks that each of the sources appended all of its records to the run, in order and three at a time.
func (t *storeTest) wantAll(run string, sources, n int) {
	t.Helper()
	recs := t.records(runtime.Query{Run: run})
	next := map[string]int{}
	for i, rec := range recs {
		if got := number(t, rec); got != next[rec.Source] {
			t.Fatalf("record %d of %s is number %d of %s, want %d", i, run, got, rec.Source, next[rec.Source])
		}
		next[rec.Source]++
		if i%3 != 0 && rec.Source != recs[i-1].Source {
			t.Fatalf("record %d of %s, by %s, is within an Append by %s", i, run, rec.Source, recs[i-1].Source)
		}
	}
	if len(recs) != 3*sources*n {
		t.Errorf("run %s has %d records, want %d", run, len(recs), 3*sources*n)
	}
}

func checkStoreConcurrent(t *storeTest) {
	const goroutines, appends = 3, 5
	t.append(storeEvent("first", "e", 0))
	var wg sync.WaitGroup
	for h, handle := range []runtime.Store{t.Store, t.again()} {
		for g := range goroutines {
			source := fmt.Sprintf("%d.%d", h, g)
			wg.Go(func() { t.appendAll(handle, "shared", source, appends) })
			wg.Go(func() { t.appendAll(handle, "own-"+source, source, appends) })
			wg.Go(func() { // whoever reads sees whole appends
				for range appends {
					if recs, err := collect(handle.Records(t.Context(), runtime.Query{Run: "shared"})); err != nil || len(recs)%3 != 0 {
						t.Errorf("meanwhile, Records yields %d records, %v", len(recs), err)
					}
				}
			})
		}
	}
	wg.Wait()
	t.wantAll("shared", 2*goroutines, appends)
	t.wantAll("own-1.0", 1, appends)
}

func checkStoreCreate(t *storeTest) {
	const handles = 4
	start := make(chan struct{})
	var wg sync.WaitGroup
	for h := range handles {
		handle := t.again()
		wg.Go(func() {
			<-start
			t.appendAll(handle, storeRun, fmt.Sprint(h), 1)
		})
	}
	close(start)
	wg.Wait()
	t.wantAll(storeRun, handles, 1)
}

func checkStoreStop(t *storeTest) {
	for i := range 5 {
		t.append(storeEvent("r1", "e", i))
		t.append(storeMeasurement("r2", i))
	}
	seq := t.Records(t.Context(), runtime.Query{})
	for stop := 1; stop <= 10; stop++ {
		n := 0
		for _, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("there were %d records, want %d", n, stop)
		}
	}
	t.append(storeEvent("r1", "e", 5))
}

func checkStoreIterate(t *storeTest) {
	const n = 10
	for i := range n {
		t.append(storeEvent(storeRun, "e", i))
	}
	var got []runtime.Record
	for rec, err := range t.Records(t.Context(), runtime.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, rec); len(got) > 100*n {
			t.Fatal("it does not end")
		}
		t.append(storeEvent(storeRun, "later", 0))
		t.append(storeMeasurement("later", 0))
	}
	for i := range n {
		if i >= len(got) || differ(got[i], storeEvent(storeRun, "e", i)) != "" {
			t.Fatalf("record %d is not there", i)
		}
	}
	if recs := t.records(runtime.Query{Run: storeRun, Kind: "later"}); len(recs) < n {
		t.Errorf("%d records were appended meanwhile, want %d", len(recs), n)
	}
}

func checkStoreLarge(t *storeTest) {
	const n = 1100
	var want []runtime.Record
	for _, run := range []string{"a", "b", "c"} {
		var recs []runtime.Record
		for i := range n {
			if i%2 == 0 {
				recs = append(recs, storeEvent(run, runtime.Kind(fmt.Sprint("e", i/2%2)), i))
			} else {
				recs = append(recs, storeMeasurement(run, i))
			}
		}
		recs[n/2].Data = json.RawMessage(`{"log":"` + strings.Repeat("x", 1<<20) + `"}`)
		t.append(recs...)
		want = append(want, recs...)
	}
	for i := range 5 {
		rec := storeEvent(fmt.Sprint("d", i), "e0", i)
		t.append(rec)
		want = append(want, rec)
	}
	for _, q := range []runtime.Query{{}, {Run: "b"}, {Kind: "e0"}, {Kind: runtime.KindMeasurement}, {Run: "c", Kind: "e1"}} {
		t.want(q, slices.DeleteFunc(slices.Clone(want), func(r runtime.Record) bool {
			return q.Run != "" && r.Run != q.Run || q.Kind != "" && r.Kind != q.Kind
		})...)
	}
}

func checkStoreCancel(t *storeTest) {
	t.append(storeEvent(storeRun, "e", 0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := t.Append(ctx, storeEvent(storeRun, "e", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Append with an ended context: %v", err)
	}
	if _, err := collect(t.Records(ctx, runtime.Query{})); !errors.Is(err, context.Canceled) {
		t.Errorf("Records with an ended context: %v", err)
	}
	t.want(runtime.Query{}, storeEvent(storeRun, "e", 0))
	t.append(storeEvent(storeRun, "e", 2))
}

func checkStoreClose(t *storeTest) {
	unused := t.again()
	t.append(storeEvent(storeRun, "e", 0))
	for _, s := range []runtime.Store{t.Store, unused} {
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if err := s.Append(t.Context(), storeEvent(storeRun, "e", 1)); err == nil {
			t.Error("Append to a closed store succeeds")
		}
		if recs, err := collect(s.Records(t.Context(), runtime.Query{})); err == nil || len(recs) != 0 {
			t.Errorf("a closed store has %d records and no error", len(recs))
		}
	}
	t.equal(t.recordsOf(t.again(), runtime.Query{}), []runtime.Record{storeEvent(storeRun, "e", 0)})
}
