package storage

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// csvHeader is the first line of a file. Each further row is a record; in the last column is how many rows of the
// same append follow. Whoever appends may be killed in the middle: an append is there once its row with a 0 and the
// line feed after it are.
const csvHeader = "time,kind,source,metric,value,unit,labels,data,rest\n"

const csvColumns = 9

var errForeign = errors.New("is not a file of this store: its first line is not " + strings.TrimSpace(csvHeader))

// A csvReader reads a file of a csvStore, one append after the other. encoding/csv would make \r\n within a value \n,
// and cannot tell a row that was cut off from one that is whole.
type csvReader struct {
	in  *bufio.Reader
	run string
	off int64 // how much was read
	end int64 // how much of it is whole appends
	row []byte
}

// newCSVReader returns a reader of a file from off on: 0, or where an append ended.
func newCSVReader(in io.Reader, run string, off int64) *csvReader {
	return &csvReader{in: bufio.NewReaderSize(in, 64<<10), run: run, off: off, end: off}
}

// append returns the records of the next append. At the end of the whole appends it is io.EOF.
func (r *csvReader) append() ([]runtime.Record, error) {
	if r.off == 0 {
		if err := r.header(); err != nil {
			return nil, err
		}
	}
	var recs []runtime.Record
	for left := 0; ; left-- {
		start := r.off
		fields, err := r.fields()
		if err == io.EOF {
			return nil, err
		}
		var rec runtime.Record
		var rest int
		if err == nil {
			rec, rest, err = r.record(fields)
		}
		if err == nil && recs != nil && rest != left {
			err = fmt.Errorf("rest is %d, not %d", rest, left)
		}
		if err != nil {
			return nil, runtime.Faultf("", "mend or remove the row; each row of an append needs the others",
				"row at byte %d: %w", start, err)
		}
		recs, left = append(recs, rec), rest
		if rest == 0 {
			r.end = r.off
			return recs, nil
		}
	}
}

// header reads the header. A part of one is a file that somebody was about to begin.
func (r *csvReader) header() error {
	got, err := r.in.Peek(len(csvHeader))
	if err != nil && err != io.EOF {
		return err
	}
	if !strings.HasPrefix(csvHeader, string(got)) {
		return errForeign
	}
	if err == io.EOF {
		return err
	}
	r.in.Discard(len(csvHeader))
	r.off, r.end = int64(len(csvHeader)), int64(len(csvHeader))
	return nil
}

// fields reads a row as RFC 4180 has it, but with \n at its end. A row that is cut off is io.EOF.
func (r *csvReader) fields() ([]string, error) {
	var ends [csvColumns]int
	r.row = r.row[:0]
	n := 0
	for last := false; !last; n++ {
		if n == csvColumns {
			return nil, fmt.Errorf("more than %d columns", csvColumns)
		}
		var err error
		if last, err = r.field(); err != nil {
			return nil, err
		}
		ends[n] = len(r.row)
	}
	if n < csvColumns {
		return nil, fmt.Errorf("%d columns, not %d", n, csvColumns)
	}
	row, start := string(r.row), 0
	fields := make([]string, csvColumns)
	for i, end := range ends {
		fields[i], start = row[start:end], end
	}
	return fields, nil
}

// field adds a field to r.row and reports whether it is the last one of its row.
func (r *csvReader) field() (last bool, err error) {
	c, err := r.byte()
	if err == nil && c == '"' {
		if err := r.quoted(); err != nil {
			return false, err
		}
		if c, err = r.byte(); err == nil && c != ',' && c != '\n' {
			return false, fmt.Errorf("%q after a quoted value", c)
		}
	}
	for ; err == nil; c, err = r.byte() {
		switch c {
		case ',', '\n':
			return c == '\n', nil
		case '"':
			return false, errors.New("a quote within a value that is not quoted")
		}
		r.row = append(r.row, c)
	}
	return false, err
}

// quoted adds what follows up to the closing quote to r.row.
func (r *csvReader) quoted() error {
	for {
		c, err := r.byte()
		if err != nil {
			return err
		}
		if c == '"' {
			next, err := r.in.Peek(1)
			if err != nil {
				return err
			}
			if next[0] != '"' {
				return nil
			}
			r.byte()
		}
		r.row = append(r.row, c)
	}
}

func (r *csvReader) byte() (byte, error) {
	c, err := r.in.ReadByte()
	if err == nil {
		r.off++
	}
	return c, err
}

// record returns the record that fields are, and its rest.
func (r *csvReader) record(fields []string) (rec runtime.Record, rest int, err error) {
	value, labels, data := fields[4], fields[6], fields[7]
	rec = runtime.Record{Run: r.run, Kind: runtime.Kind(fields[1]), Source: fields[2], Metric: fields[3], Unit: fields[5]}
	if rec.Time, err = parseTime(fields[0]); err != nil {
		return rec, 0, err
	}
	if rest, err = strconv.Atoi(fields[8]); err != nil || rest < 0 {
		return rec, 0, fmt.Errorf("rest is %q", fields[8])
	}
	if data != "" {
		rec.Data = json.RawMessage(data)
	}
	if rec.Kind == runtime.KindMeasurement {
		if rec.Value, err = strconv.ParseFloat(value, 64); err != nil {
			return rec, 0, fmt.Errorf("value: %w", err)
		}
		rec.Labels, err = parseLabels(labels)
	}
	if err == nil {
		err = checkRecord(rec)
	}
	return rec, rest, err
}
