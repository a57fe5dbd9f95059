package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	rec := func(source, metric, n string, value float64) Record {
		return Record{Kind: KindMeasurement, Source: source, Metric: metric, Value: value, Labels: map[string]string{"n": n}}
	}
	a := []Record{rec("c-1", "rps", "1", 10), rec("c-2", "rps", "2", 20), rec("c-3", "rps", "1", 12), rec("c-3", "old", "1", 1)}
	b := []Record{rec("c-9", "rps", "2", 30), rec("c-8", "rps", "1", 11), rec("c-8", "new", "1", 1)}
	n := func(v string) map[string]string { return map[string]string{"n": v} }
	want := []Comparison{
		{Metric: "rps", Labels: n("1"), A: []float64{10, 12}, B: []float64{11}},
		{Metric: "rps", Labels: n("2"), A: []float64{20}, B: []float64{30}},
		{Metric: "old", Labels: n("1"), A: []float64{1}},
		{Metric: "new", Labels: n("1"), B: []float64{1}},
	}
	if diff := cmp.Diff(want, Compare(a, b)); diff != "" {
		t.Error(diff)
	}
}

func TestComparison(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b   []float64
		change float64
		ok     bool
		apart  bool
	}{
		{a: []float64{10}, b: []float64{15}, change: 0.5, ok: true},
		{a: []float64{-10}, b: []float64{-5}, change: 0.5, ok: true},
		{a: []float64{0}, b: []float64{5}},
		{a: []float64{0}, b: []float64{0}, ok: true},
		{a: []float64{10}},
		{b: []float64{10}},
		{a: []float64{4, 2, 3, 1}, b: []float64{8, 6, 5, 7}, change: 1.6, ok: true, apart: true},
		{a: []float64{1, 2, 3, 5}, b: []float64{8, 6, 5, 7}, change: 1.6, ok: true},
		{a: []float64{1, 2, 3}, b: []float64{4, 5, 6}, change: 1.5, ok: true}, // by chance in one of ten cases
	} {
		c := Comparison{A: test.a, B: test.b}
		change, ok := c.Change()
		if change != test.change || ok != test.ok || c.Apart() != test.apart {
			t.Errorf("%v and %v: %v, %v, apart %v; want %v, %v, %v", test.a, test.b, change, ok, c.Apart(), test.change, test.ok, test.apart)
		}
	}
}
