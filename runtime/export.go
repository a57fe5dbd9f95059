package runtime

import (
	"bufio"
	"crypto/rand"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// WriteCSV writes measurements in long form: run, time, source, metric, value, unit, and a column for each label.
func WriteCSV(w io.Writer, recs []Record) error {
	labels := LabelNames(recs)
	out := csv.NewWriter(w)
	header := []string{"run", "time", "source", "metric", "value", "unit"}
	for _, l := range labels {
		for slices.Contains(header, l) { // else a reader by names would have the one column for the other
			l = "label_" + l
		}
		header = append(header, l)
	}
	out.Write(header)
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
// was there before. A symbolic link stays one, a file keeps its mode, and what is no file, such as /dev/stdout, is
// written to as it is.
func WriteFile(name string, write func(io.Writer) error) error {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		err = syscall.EISDIR
	case err == nil && (!info.Mode().IsRegular() || isStream(name)):
		err = writeThrough(name, write)
	default:
		err = replaceFile(name, info, write)
	}
	if err != nil {
		return exportError(name, err)
	}
	return nil
}

// isStream reports whether a name means an open file, whatever that is.
func isStream(name string) bool {
	return name == "/dev/stdout" || name == "/dev/stderr" || filepath.Dir(name) == "/dev/fd"
}

func writeThrough(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	return errors.Join(writeTo(f, write), f.Close())
}

// replaceFile puts a new file where name is, or, if it is a link, where that leads. Old is what was there; it may be nil.
func replaceFile(name string, old fs.FileInfo, write func(io.Writer) error) (err error) {
	if place, err := filepath.EvalSymlinks(name); err == nil {
		name = place
	}
	temporary := filepath.Join(filepath.Dir(name), ".aifb-"+rand.Text())
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(temporary)
		}
	}()
	if old != nil {
		if err := f.Chmod(old.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := errors.Join(writeTo(f, write), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

func writeTo(w io.Writer, write func(io.Writer) error) error {
	b := bufio.NewWriter(w)
	return errors.Join(write(b), b.Flush())
}

// exportError names the file that the user knows, not the temporary one.
func exportError(name string, err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	} else if l := (*os.LinkError)(nil); errors.As(err, &l) {
		err = l.Err
	}
	return fmt.Errorf("write %s: %w", name, err)
}
