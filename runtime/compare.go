package runtime

import (
	"fmt"
	"math"
	"slices"
)

// A Comparison is a metric, with one set of labels, in two runs. Which jobs measured it does not matter: the names of
// clients differ where a sweep does.
type Comparison struct {
	Metric string
	Unit   string
	Labels map[string]string
	A, B   []float64 // the values, in the order in which they were measured; empty: that run has none
}

// Compare pairs what two runs measured, in the order of the first, and then what only the second has.
func Compare(a, b []Record) []Comparison {
	names := LabelNames(slices.Concat(a, b))
	at := make(map[string]int)
	var all []Comparison
	find := func(r Record) *Comparison {
		r.Source = "" // of the copy
		key := fmt.Sprintf("%q %q %q", r.Metric, r.Unit, rowKey(r, names))
		i, ok := at[key]
		if !ok {
			i = len(all)
			at[key] = i
			all = append(all, Comparison{Metric: r.Metric, Unit: r.Unit, Labels: r.Labels})
		}
		return &all[i]
	}
	for _, r := range a {
		c := find(r)
		c.A = append(c.A, r.Value)
	}
	for _, r := range b {
		c := find(r)
		c.B = append(c.B, r.Value)
	}
	return all
}

// Change is by what part the median of B is above that of A: 0.1 is ten percent more. It is false where there is none: a
// run has no value, or the median of A is zero.
func (c Comparison) Change() (float64, bool) {
	if len(c.A) == 0 || len(c.B) == 0 {
		return 0, false
	}
	a, b := Median(c.A), Median(c.B)
	if a == 0 {
		return 0, b == 0
	}
	return (b - a) / math.Abs(a), true
}

// Apart reports whether all values of one run are above all of the other, and so many that chance makes that in less than
// one of twenty cases: four and four, or three and five. With n and m values of the same kind it does so in 2 of "n+m
// choose n" cases.
func (c Comparison) Apart() bool {
	n, m := len(c.A), len(c.B)
	if n == 0 || m == 0 || 2/binomial(n+m, n) >= 0.05 {
		return false
	}
	return slices.Min(c.A) > slices.Max(c.B) || slices.Min(c.B) > slices.Max(c.A)
}

// binomial is n over k.
func binomial(n, k int) float64 {
	b := 1.0
	for i := 1; i <= k; i++ {
		b *= float64(n-k+i) / float64(i)
	}
	return b
}

// Median is the value in the middle, or the mean of the two there. There must be a value.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
