package runtime

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Measurement is one measured value.
type Measurement struct {
	Metric string            `json:"metric"`
	Value  float64           `json:"value"`
	Unit   string            `json:"unit,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// record makes a record of what a job said: text that a store would refuse must not cost the job's other measurements.
func (m Measurement) record(source string) Record {
	clean := func(s string) string { return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD") }
	labels := make(map[string]string, len(m.Labels))
	for k, v := range m.Labels {
		labels[clean(k)] = clean(v)
	}
	return Record{Kind: KindMeasurement, Source: source, Metric: clean(m.Metric), Value: m.Value, Unit: clean(m.Unit), Labels: labels}
}

// MeasurementsFile is the file in $BENCHMARK_OUTPUT_DIR by which any program hands measurements to its run: one JSON
// object per line, with metric, value and, if it likes, unit and labels.
const MeasurementsFile = "measurements.jsonl"

// A Metric says how to read measurements from what a job printed or wrote.
type Metric struct {
	Kind    string            `json:"kind"`              // "regex", "json" or "csv"
	Source  string            `json:"source"`            // "stdout", "stderr", or a file in $BENCHMARK_OUTPUT_DIR
	Pattern string            `json:"pattern,omitempty"` // regex: each named group is a metric, or the first group is the metric Name
	Name    string            `json:"name,omitempty"`    // regex: of the metric of the first group
	Unit    string            `json:"unit,omitempty"`    // of all the metrics
	Fields  map[string]string `json:"fields,omitempty"`  // json: metric → path such as "latency.p99"; csv: metric → column; none: every number
}

func (m Metric) validate() error {
	if !filepath.IsLocal(m.Source) {
		return fieldErrorf("metrics", "", "source %q is not stdout, stderr or a file in $BENCHMARK_OUTPUT_DIR", m.Source)
	}
	if m.Kind != "regex" {
		return nil
	}
	re, err := regexp.Compile(m.Pattern)
	if err != nil {
		return fieldErrorf("metrics", "", "%w", err)
	}
	if names := strings.Join(re.SubexpNames(), ""); names == "" && (m.Name == "" || re.NumSubexp() == 0) {
		return fieldErrorf("metrics", `write (?P<rps>[0-9.]+), or a group and name="rps"`, "pattern %q names no metric", m.Pattern)
	}
	return nil
}

// Parse reads the measurements from data. That there is none is an error: a metric that is not there would otherwise
// look like one that was never asked for.
func (m Metric) Parse(data []byte) (ms []Measurement, err error) {
	switch m.Kind {
	case "regex":
		ms, err = m.parseRegex(data)
	case "json":
		ms, err = m.parseJSON(data)
	default:
		ms, err = m.parseCSV(data)
	}
	if err == nil && len(ms) == 0 {
		err = errors.New("no measurement in it")
	}
	if err != nil {
		return nil, fmt.Errorf("metric.%s of %s: %w", m.Kind, m.Source, err)
	}
	for i := range ms {
		ms[i].Unit = m.Unit
	}
	return ms, nil
}

func (m Metric) parseRegex(data []byte) (ms []Measurement, err error) {
	re, err := regexp.Compile(m.Pattern)
	if err != nil {
		return nil, err
	}
	names := re.SubexpNames()
	if strings.Join(names, "") == "" && len(names) > 1 {
		names[1] = m.Name
	}
	for _, match := range re.FindAllSubmatch(data, -1) {
		for i, name := range names {
			if name == "" || match[i] == nil {
				continue
			}
			v, ok := number(string(match[i]))
			if !ok {
				return nil, fmt.Errorf("%s: %q is not a number", name, match[i])
			}
			ms = append(ms, Measurement{Metric: name, Value: v})
		}
	}
	return ms, nil
}

func (m Metric) parseJSON(data []byte) (ms []Measurement, err error) {
	var doc any
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if len(m.Fields) == 0 {
		flat := make(map[string]float64)
		flatten(flat, "", doc)
		for _, k := range slices.Sorted(maps.Keys(flat)) {
			ms = append(ms, Measurement{Metric: k, Value: flat[k]})
		}
		return ms, nil
	}
	for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
		v, ok := at(doc, m.Fields[name]).(float64)
		if !ok {
			return nil, fmt.Errorf("%s: there is no number at %q", name, m.Fields[name])
		}
		ms = append(ms, Measurement{Metric: name, Value: v})
	}
	return ms, nil
}

// flatten collects the numbers of a JSON document under dotted names.
func flatten(flat map[string]float64, prefix string, v any) {
	switch v := v.(type) {
	case float64:
		flat[prefix] = v
	case map[string]any:
		for k, e := range v {
			flatten(flat, strings.TrimPrefix(prefix+"."+k, "."), e)
		}
	case []any:
		for i, e := range v {
			flatten(flat, strings.TrimPrefix(prefix+"."+strconv.Itoa(i), "."), e)
		}
	}
}

// at returns what a dotted path leads to, or nil.
func at(v any, path string) any {
	for _, key := range strings.Split(path, ".") {
		switch c := v.(type) {
		case map[string]any:
			v = c[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(c) {
				return nil
			}
			v = c[i]
		default:
			return nil
		}
	}
	return v
}

// parseCSV reads a table with a header line. Each number is a measurement of the metric that its column names; what is
// no number is a label of its row.
func (m Metric) parseCSV(data []byte) (ms []Measurement, err error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.TrimLeadingSpace = true
	header, err := r.Read()
	if err == io.EOF {
		return nil, errors.New("it is empty")
	} else if err != nil {
		return nil, err
	}
	wanted := make(map[string]string) // column → metric
	for metric, column := range m.Fields {
		if !slices.Contains(header, column) {
			return nil, fmt.Errorf("there is no column %q, only %s", column, strings.Join(header, ", "))
		}
		wanted[column] = metric
	}
	for {
		row, err := r.Read()
		if err == io.EOF {
			return ms, nil
		} else if err != nil {
			return nil, err
		}
		var found []Measurement
		labels := make(map[string]string)
		for i, column := range header {
			metric := wanted[column]
			if len(wanted) == 0 {
				metric = column
			}
			if v, ok := number(row[i]); !ok {
				labels[column] = row[i]
			} else if metric != "" {
				found = append(found, Measurement{Metric: metric, Value: v})
			}
		}
		for _, f := range found {
			f.Labels = maps.Clone(labels)
			ms = append(ms, f)
		}
	}
}

// number reads a finite number; thousands may be set off by commas.
func number(s string) (float64, bool) {
	v, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(s), ",", ""), 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}

// readMeasurements reads all the measurements of a job from its files in dir. What could be read is returned with the
// error.
func readMeasurements(dir string, metrics []Metric) ([]Measurement, error) {
	all, err := readMeasurementsFile(filepath.Join(dir, DirMetrics, MeasurementsFile))
	errs := []error{err}
	for _, m := range metrics {
		name := m.Source
		if name != FileStdout && name != FileStderr {
			name = filepath.Join(DirMetrics, name)
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("metric.%s: the job wrote no file %s", m.Kind, m.Source)
		}
		if err == nil {
			var ms []Measurement
			ms, err = m.Parse(data)
			all = append(all, ms...)
		}
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

func readMeasurementsFile(name string) (ms []Measurement, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var m Measurement
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return ms, fmt.Errorf("%s:%d: %w", MeasurementsFile, n, err)
		}
		if m.Metric == "" {
			return ms, fmt.Errorf("%s:%d: a measurement without the name of its metric", MeasurementsFile, n)
		}
		ms = append(ms, m)
	}
	return ms, lines.Err()
}

// A Where selects measurements. An empty field selects all; of several values one must fit.
type Where struct {
	Metric []string
	Source []string
	Labels map[string][]string
}

// Filter returns the measurements that w selects: those of the first metric that it names before those of the second.
func (w Where) Filter(recs []Record) (out []Record) {
	fits := func(values []string, v string) bool { return len(values) == 0 || slices.Contains(values, v) }
	for _, r := range recs {
		ok := r.Kind == KindMeasurement && fits(w.Metric, r.Metric) && fits(w.Source, r.Source)
		for k, values := range w.Labels {
			v, has := r.Labels[k]
			ok = ok && has && fits(values, v)
		}
		if ok {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b Record) int {
		return slices.Index(w.Metric, a.Metric) - slices.Index(w.Metric, b.Metric)
	})
	return out
}
