package runtime

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// WriteCSV writes measurements in long form: run, time, source, metric, value, unit, and a column for each label.
func WriteCSV(w io.Writer, recs []Record) error {
	labels := LabelNames(recs)
	out := csv.NewWriter(w)
	out.Write(slices.Concat([]string{"run", "time", "source", "metric", "value", "unit"}, labels))
	for _, r := range recs {
		row := []string{r.Run, r.Time.Format(time.RFC3339Nano), r.Source, r.Metric,
			strconv.FormatFloat(r.Value, 'g', -1, 64), r.Unit}
		for _, l := range labels {
			row = append(row, r.Labels[l])
		}
		out.Write(row)
	}
	out.Flush()
	return out.Error()
}

// ExportVersion is the version of the JSON form of results. It changes when a field is removed or means something else.
const ExportVersion = 1

type exported struct {
	Version      int                   `json:"version"`
	Measurements []exportedMeasurement `json:"measurements"`
}

type exportedMeasurement struct {
	Run    string            `json:"run"`
	Time   time.Time         `json:"time"`
	Source string            `json:"source"`
	Metric string            `json:"metric"`
	Value  float64           `json:"value"`
	Unit   string            `json:"unit"`
	Labels map[string]string `json:"labels"`
}

// WriteJSON writes measurements as one JSON object.
func WriteJSON(w io.Writer, recs []Record) error {
	doc := exported{Version: ExportVersion, Measurements: []exportedMeasurement{}}
	for _, r := range recs {
		doc.Measurements = append(doc.Measurements,
			exportedMeasurement{r.Run, r.Time, r.Source, r.Metric, r.Value, r.Unit, r.Labels})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

// WriteFile makes the named file of this machine from what write writes: the whole file, or on an error the one that
// was there before.
func WriteFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return exportError(name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = exportError(name, err)
		}
	}()
	b := bufio.NewWriter(f)
	if err := errors.Join(write(b), b.Flush()); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// exportError names the file that the user knows, not the temporary one.
func exportError(name string, err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	} else if l := (*os.LinkError)(nil); errors.As(err, &l) {
		err = l.Err
	}
	return &Error{Fault: FaultRun, Hint: "the measurements are in the store: aifb export writes them elsewhere",
		Err: fmt.Errorf("write %s: %w", name, err)}
}
