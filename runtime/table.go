package runtime

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Pivot makes a wide table of measurements: a row for each source and set of labels, in order of appearance, with a
// column for each label and each metric. A unit is behind the name of its metric. A metric that a row has several times
// is there with its last value.
func Pivot(recs []Record) (header []string, rows [][]string) {
	labels := LabelNames(recs)
	var metrics []string
	cells := make(map[string]map[string]string) // row key → metric column → value
	var keys []string
	for _, r := range recs {
		column := r.Metric
		if r.Unit != "" {
			column += " (" + r.Unit + ")"
		}
		if !slices.Contains(metrics, column) {
			metrics = append(metrics, column)
		}
		key := rowKey(r, labels)
		if cells[key] == nil {
			cells[key] = make(map[string]string)
			keys = append(keys, key)
		}
		cells[key][column] = FormatValue(r.Value)
	}
	for _, key := range keys {
		row := strings.Split(key, "\x00")
		for _, m := range metrics {
			row = append(row, cells[key][m])
		}
		rows = append(rows, row)
	}
	return slices.Concat([]string{"source"}, labels, metrics), rows
}

func rowKey(r Record, labels []string) string {
	key := []string{r.Source}
	for _, l := range labels {
		key = append(key, strings.ReplaceAll(r.Labels[l], "\x00", ""))
	}
	return strings.Join(key, "\x00")
}

// LabelNames returns the names of all labels, sorted.
func LabelNames(recs []Record) []string {
	names := make(map[string]bool)
	for _, r := range recs {
		for l := range r.Labels {
			names[l] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// FormatValue writes a value for a person: four significant digits, and no fraction to a number above a thousand.
func FormatValue(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 0.001:
		digits := 3 - int(math.Floor(math.Log10(a)))
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// Plural says how many there are of what, such as "1 job" and "2 jobs".
func Plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// WriteTable writes rows in aligned columns, numbers to the right. Control characters are replaced: what a job printed
// shall not drive the user's terminal.
func WriteTable(w io.Writer, header []string, rows [][]string) error {
	width := make([]int, len(header))
	numeric := make([]bool, len(header))
	for i, h := range header {
		width[i], numeric[i] = utf8.RuneCountInString(h), len(rows) > 0
		for _, row := range rows {
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
			_, err := strconv.ParseFloat(row[i], 64)
			numeric[i] = numeric[i] && (err == nil || row[i] == "")
		}
	}
	for _, row := range slices.Concat([][]string{header}, rows) {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if numeric[i] {
				b.WriteString(pad + Printable(cell))
			} else {
				b.WriteString(Printable(cell) + pad)
			}
			b.WriteString("  ")
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// Printable replaces control characters by a middle dot.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) || r >= 0x80 && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}
