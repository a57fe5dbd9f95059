package storage

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A csvStore is a Store in a directory, with a file RUN.csv for each run. csvreader.go describes the file.
type csvStore struct {
	dir    string
	closed atomic.Bool

	writing sync.Mutex       // held by the one Append of this process that is under way; guards ends
	ends    map[string]int64 // by run: where the last whole append ended when we last looked
}

func openCSV(dir string) (runtime.Store, error) {
	s := &csvStore{dir: dir, ends: map[string]int64{}}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, s.fault(err)
	case !info.IsDir():
		return nil, s.fault(errors.New("is not a directory"))
	}
	return s, nil
}

func (s *csvStore) Close() error {
	s.closed.Store(true)
	return nil
}

// file returns the file of a run, whose id was checked.
func (s *csvStore) file(run string) string { return filepath.Join(s.dir, run+".csv") }

func (s *csvStore) fault(err error) error { return infra("csv:"+s.dir, err) }

// Append takes records of one run only: what is in two files cannot be written all or none.
func (s *csvStore) Append(ctx context.Context, recs ...runtime.Record) error {
	if err := check(recs); err != nil || len(recs) == 0 {
		return err
	}
	run := recs[0].Run
	if slices.ContainsFunc(recs, func(r runtime.Record) bool { return r.Run != run }) {
		return s.fault(errors.New("one append is of one run"))
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed.Load() {
		return s.fault(errClosed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.fault(s.append(ctx, run, csvRows(recs)))
}

// append adds rows, which are one whole append, to the run's file.
func (s *csvStore) append(ctx context.Context, run string, rows []byte) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(s.file(run), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer f.Close() // this gives up the lock
	if err := lock(ctx, f); err != nil {
		return err
	}
	end, err := s.repair(f, run)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if end == 0 {
		rows = append([]byte(csvHeader), rows...)
	}
	_, err = f.Write(rows)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && end == 0 {
		err = syncDir(s.dir)
	}
	if err != nil {
		return errors.Join(err, f.Truncate(end))
	}
	s.ends[run] = end + int64(len(rows))
	return nil
}

// repair cuts off what an Append that did not get to its end has left, and returns the length of the rest. It reads
// what came since we last looked; the lock is held.
func (s *csvStore) repair(f *os.File, run string) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	from := s.ends[run]
	if from > info.Size() { // somebody has put another file there
		from = 0
	}
	r := newCSVReader(io.NewSectionReader(f, from, info.Size()-from), run, from)
	for err == nil {
		_, err = r.append()
	}
	if err != io.EOF {
		return 0, err
	}
	if r.end < info.Size() {
		return r.end, f.Truncate(r.end)
	}
	return r.end, nil
}

// lock waits until no other process appends to f.
func lock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, busyTimeout, errBusy)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// syncDir brings to disk that a file was made in dir.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// csvRows returns the rows of one append.
func csvRows(recs []runtime.Record) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for i, r := range recs {
		value, labels := "", ""
		if r.Kind == runtime.KindMeasurement {
			value, labels = strconv.FormatFloat(r.Value, 'g', -1, 64), formatLabels(r.Labels)
		}
		w.Write([]string{formatTime(r.Time), string(r.Kind), r.Source, r.Metric, value, r.Unit, labels,
			compact(r.Data), strconv.Itoa(len(recs) - 1 - i)})
	}
	w.Flush()
	return b.Bytes()
}

// Records reads what was there when it came to the run. It takes no lock, because what was appended never changes.
func (s *csvStore) Records(ctx context.Context, q runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(yield func(runtime.Record, error) bool) {
		runs, err := s.runs(q)
		if err != nil {
			yield(runtime.Record{}, s.fault(err))
			return
		}
		for _, run := range runs {
			for rec, err := range s.read(ctx, run) {
				if err != nil {
					if errors.Is(err, errForeign) && q.Run == "" {
						break // people put other files into directories
					}
					yield(runtime.Record{}, s.fault(err))
					return
				}
				if (q.Kind == "" || q.Kind == rec.Kind) && !yield(rec, nil) {
					return
				}
			}
		}
	}
}

// runs returns the runs of the directory that q selects, in order.
func (s *csvStore) runs(q runtime.Query) ([]string, error) {
	if s.closed.Load() {
		return nil, errClosed
	}
	if q.Run != "" {
		if !runForm.MatchString(q.Run) {
			return nil, nil
		}
		return []string{q.Run}, nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var runs []string
	for _, e := range entries {
		if run, ok := strings.CutSuffix(e.Name(), ".csv"); ok && e.Type().IsRegular() && runForm.MatchString(run) {
			runs = append(runs, run)
		}
	}
	slices.Sort(runs) // the directory's order is that of the names with the suffix
	return runs, nil
}

// read yields the records of the run's file, if there is one.
func (s *csvStore) read(ctx context.Context, run string) iter.Seq2[runtime.Record, error] {
	return func(yield func(runtime.Record, error) bool) {
		f, err := os.Open(s.file(run))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(runtime.Record{}, err)
			return
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			yield(runtime.Record{}, err)
			return
		}
		for r := newCSVReader(io.LimitReader(f, info.Size()), run, 0); ; {
			recs, err := r.append()
			if err == nil {
				err = ctx.Err()
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(runtime.Record{}, fmt.Errorf("%s: %w", f.Name(), err))
				return
			}
			for _, rec := range recs {
				if !yield(rec, nil) {
					return
				}
			}
		}
	}
}
