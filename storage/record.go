package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aifb/aifb/runtime"
)

// timeForm is ISO 8601 in UTC, to the microsecond: as text it sorts by time, and SQLite and pandas can read it.
const timeForm = "2006-01-02T15:04:05.000000Z"

// runForm is what a run may be called. Runs are names of files.
var runForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// check refuses what a store could not give back as it was, or not all stores could.
func check(recs []runtime.Record) error {
	for _, r := range recs {
		if err := checkRecord(r); err != nil {
			return runtime.Faultf(runtime.FaultRun, "", "%s of %q: %w", r.Kind, r.Run, err)
		}
	}
	return nil
}

func checkRecord(r runtime.Record) error {
	event := r.Kind != runtime.KindMeasurement
	switch {
	case !runForm.MatchString(r.Run):
		return fmt.Errorf("a run's id is of letters, digits, dot, dash and underscore")
	case r.Kind == "":
		return fmt.Errorf("no kind")
	case r.Time.UTC().Year() < 0 || r.Time.UTC().Year() > 9999:
		return fmt.Errorf("the year %d", r.Time.UTC().Year())
	case math.IsNaN(r.Value) || math.IsInf(r.Value, 0):
		return fmt.Errorf("the value of %q is %v", r.Metric, r.Value)
	case event && (r.Metric != "" || r.Value != 0 || r.Unit != "" || len(r.Labels) != 0):
		return fmt.Errorf("an event has no metric, value, unit or labels")
	case !event && r.Data != nil:
		return fmt.Errorf("a measurement has no data")
	case r.Data != nil && !isObject(r.Data):
		return fmt.Errorf("its data is not a JSON object")
	}
	return checkText(r)
}

// checkText refuses what PostgreSQL and JSON have no text for.
func checkText(r runtime.Record) error {
	texts := []string{string(r.Kind), r.Source, r.Metric, r.Unit}
	for k, v := range r.Labels {
		texts = append(texts, k, v)
	}
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q is not text", s)
		}
	}
	return nil
}

func isObject(data []byte) bool {
	return json.Valid(data) && utf8.Valid(data) && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
}

// compact returns data, which is valid, on one line. Of nil it is "".
func compact(data json.RawMessage) string {
	var b bytes.Buffer
	if data != nil {
		json.Compact(&b, data)
	}
	return b.String()
}

func formatTime(t time.Time) string { return t.UTC().Format(timeForm) }

func parseTime(s string) (time.Time, error) { return time.Parse(timeForm, s) }

// formatLabels returns labels as a JSON object, sorted by key.
func formatLabels(labels map[string]string) string {
	if len(labels) == 0 {
		return "{}"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read it
	e.Encode(labels)
	return strings.TrimSuffix(b.String(), "\n")
}

func parseLabels(s string) (map[string]string, error) {
	if s == "{}" {
		return nil, nil
	}
	var labels map[string]string
	if err := json.Unmarshal([]byte(s), &labels); err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	return labels, nil
}
