package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/aifb/aifb/runtime"
)

// readCSV returns the records of the whole appends of a file, and how long these are.
func readCSV(file []byte) (recs []runtime.Record, end int64, err error) {
	r := newCSVReader(bytes.NewReader(file), testRun, 0)
	for {
		got, err := r.append()
		if err == io.EOF {
			return recs, r.end, nil
		}
		if err != nil {
			return recs, r.end, err
		}
		recs = append(recs, got...)
	}
}

// odd are records with what CSV has to quote.
func odd() []runtime.Record {
	recs := sample(testRun, 4)
	recs[1].Metric, recs[1].Unit = "two\r\nlines\n", "a \"quoted\", unit"
	recs[2].Labels = map[string]string{"\n": `\"`, "": ","}
	return recs
}

// TestCSVCut cuts a file at every byte, and appends to what is left.
func TestCSVCut(t *testing.T) {
	t.Parallel()
	first, second, third := sample(testRun, 2), odd(), sample(testRun, 1)
	one := len(csvHeader) + len(csvRows(first))
	file := append([]byte(csvHeader), csvRows(first)...)
	file = append(file, csvRows(second)...)
	dir := t.TempDir()
	for cut := range len(file) + 1 {
		want := []runtime.Record(nil)
		if cut >= one {
			want = append(want, first...)
		}
		if cut == len(file) {
			want = append(want, second...)
		}
		dir := filepath.Join(dir, fmt.Sprint(cut))
		name := filepath.Join(dir, testRun+".csv")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(name, file[:cut], 0o600)); err != nil {
			t.Fatal(err)
		}
		s := open(t, "csv:"+dir).(*csvStore)
		if got, err := read(t.Context(), s, runtime.Query{}); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("cut at %d: %v, want %v; %v", cut, got, want, err)
		}
		// Opening and syncing 1000 files would be slow: what Append does to a file is repair it, and write at its end.
		f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		end, err := s.repair(f, testRun)
		if err != nil {
			t.Fatalf("cut at %d: repair: %v", cut, err)
		}
		rows := csvRows(third)
		if end == 0 {
			rows = append([]byte(csvHeader), rows...)
		}
		if _, err := f.Write(rows); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if got, err := read(t.Context(), s, runtime.Query{}); err != nil || !reflect.DeepEqual(got, append(want, third...)) {
			t.Fatalf("cut at %d, after an append: %v, want %v and %v; %v", cut, got, want, third, err)
		}
	}
}

// TestCSVRepair appends through a handle that knows the file to one that another handle was killed at.
func TestCSVRepair(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, testRun+".csv")
	s := open(t, "csv:"+dir)
	for range 2 {
		if err := s.Append(t.Context(), odd()...); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		rows := csvRows(odd())
		if _, err := f.Write(append(rows, rows[:len(rows)-1]...)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
		t.Fatal(err)
	}
	if recs, err := read(t.Context(), s, runtime.Query{}); err != nil || len(recs) != 4*len(odd())+1 {
		t.Errorf("%d records, want 4 times %d and 1; %v", len(recs), len(odd()), err)
	}
}

// TestCSVFile is what users see.
func TestCSVFile(t *testing.T) {
	t.Parallel()
	const want = `time,kind,source,metric,value,unit,labels,data,rest
2026-11-23T14:15:02.123456Z,run_started,,,,,,"{""recipe"":""redis.star""}",1
2026-11-23T14:15:02.123456Z,measurement,client,rps,1,1/s,"{""clients"":""8""}",,0
`
	dir := t.TempDir()
	if err := open(t, "csv:"+dir).Append(t.Context(), sample(testRun, 2)...); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, testRun+".csv"))
	if err != nil || string(got) != want {
		t.Errorf("the file is\n%s\nwant\n%s\n%v", got, want, err)
	}
}

// TestCSVForeign has files in the directory that are not the store's.
func TestCSVForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, "csv:"+dir)
	if err := s.Append(t.Context(), sample("m", 1)...); err != nil {
		t.Fatal(err)
	}
	const text = "run,value\na,1"
	for _, name := range []string{"a.csv", "z.csv", "notes.txt", ".hidden.csv", "what is this?.csv"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fifo := filepath.Join(dir, "fifo.csv") // to open it would be to wait for a writer
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d.csv"), 0o700), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	if recs, err := read(t.Context(), s, runtime.Query{}); err != nil || len(recs) != 1 {
		t.Errorf("%d records, want 1; %v", len(recs), err)
	}
	_, err := read(t.Context(), s, runtime.Query{Run: "a"})
	wantError(t, "read", err, runtime.FaultInfra, "a.csv: is not a file of this store", "--store")
	err = s.Append(t.Context(), sample("a", 1)...)
	wantError(t, "append", err, runtime.FaultInfra, "a.csv: is not a file of this store", "--store")
	if got, err := os.ReadFile(filepath.Join(dir, "a.csv")); err != nil || string(got) != text {
		t.Errorf("a.csv is now %q, %v", got, err)
	}
}

func TestCSVDamage(t *testing.T) {
	t.Parallel()
	row := string(csvRows(sample(testRun, 2)[1:]))
	for _, test := range []struct{ rows, want string }{
		{strings.Replace(row, ",0\n", ",x\n", 1), `rest is "x"`},
		{strings.Replace(row, ",0\n", ",-1\n", 1), `rest is "-1"`},
		{strings.Replace(row, ",0\n", ",5\n", 1) + row, "rest is 0, not 4"},
		{strings.Replace(row, ",0\n", ",0,0\n", 1), "more than 9 columns"},
		{"a,b\n", "2 columns, not 9"},
		{"\n", "1 columns, not 9"},
		{strings.Replace(row, "2026", "year", 1), "cannot parse"},
		{strings.Replace(row, ",1,", ",one,", 1), "value: "},
		{strings.Replace(row, ",1,", ",NaN,", 1), "NaN"},
		{strings.Replace(row, `{""`, `[""`, 1), "labels: "},
		{strings.Replace(row, "rps", `r"ps`, 1), "a quote within"},
		{strings.Replace(row, "rps", `"rps"x`, 1), "'x' after a quoted value"},
		{strings.Replace(row, "measurement", "", 1), "no kind"},
		{strings.Replace(row, "rps", "r\x00s", 1), "is not text"},
	} {
		recs, _, err := readCSV([]byte(csvHeader + row + test.rows + row))
		if len(recs) != 1 || err == nil || !strings.Contains(err.Error(), test.want) ||
			!strings.Contains(err.Error(), "row at byte ") {
			t.Errorf("%q: %d records, want 1; error is %v, want %q", test.rows, len(recs), err, test.want)
		}
	}
}

// TestCSVLocked appends while another process holds the file, until the context ends.
func TestCSVLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, "csv:"+dir)
	if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, testRun+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	wantBlocked(t, s)
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
		t.Error(err)
	}
}

// TestCSVDiskFull appends with a limit of the size of files, which is as good as a full disk.
func TestCSVDiskFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "csv:"+dir)
	if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
		t.Fatal(err)
	}
	limitFiles(t, 4096)
	if err := s.Append(t.Context(), sample(testRun, 1000)...); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Append beyond the limit: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, testRun+".csv")); err != nil || info.Size() >= 4096 {
		t.Errorf("the file has %d bytes; it was not cut back; %v", info.Size(), err)
	}
	if err := s.Append(t.Context(), sample(testRun, 2)...); err != nil {
		t.Error(err)
	}
	if recs, err := read(t.Context(), s, runtime.Query{}); err != nil || len(recs) != 3 {
		t.Errorf("%d records, want 3; %v", len(recs), err)
	}
}

// limitFiles sets the size that a file of this process may have, for the rest of the test. Such tests are not parallel.
func limitFiles(t *testing.T, size uint64) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old) })
}

// FuzzCSV reads anything: it never panics, and what it read is whole appends, which it reads again from what it would
// have written.
func FuzzCSV(f *testing.F) {
	f.Add([]byte(csvHeader))
	f.Add([]byte(csvHeader + string(csvRows(odd())) + string(csvRows(sample(testRun, 2)))))
	f.Add([]byte(csvHeader + "2026-11-23T14:15:02.123456Z,e,,,,,,{},0\n\"\r\n\"\"\","))
	f.Fuzz(func(t *testing.T, file []byte) {
		recs, end, err := readCSV(file)
		if end < 0 || end > int64(len(file)) {
			t.Fatalf("the whole appends end at %d of %d", end, len(file))
		}
		if again, _, err := readCSV(file[:end]); err != nil || !reflect.DeepEqual(again, recs) {
			t.Fatalf("cut at %d: %v, want %v; %v", end, again, recs, err)
		}
		if err == nil && end == int64(len(file)) && end > 0 {
			if cut, _, err := readCSV(file[:end-1]); err != nil || len(recs) > 0 && len(cut) >= len(recs) {
				t.Fatalf("without its last byte: %d of %d records; %v", len(cut), len(recs), err)
			}
		}
		if len(recs) > 0 {
			again, _, err := readCSV(append([]byte(csvHeader), csvRows(recs)...))
			if err != nil || len(again) != len(recs) {
				t.Fatalf("written again: %d of %d records; %v", len(again), len(recs), err)
			}
		}
	})
}
