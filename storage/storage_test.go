package storage

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
)

// appendURL makes the test program one that appends to the store it names; see TestProcesses.
const appendURL = "AIFB_TEST_APPEND_URL"

func TestMain(m *testing.M) {
	if url := os.Getenv(appendURL); url != "" {
		if err := appendForever(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// stores are the URLs of a store of each kind in a directory.
var stores = map[string]string{"sqlite": "sqlite:%s/deep/aifb.db", "csv": "csv:%s/deep"}

func open(t testing.TB, url string) runtime.Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	for name, url := range stores {
		t.Run(name, func(t *testing.T) {
			runtimetest.TestStore(t, func(t *testing.T, dir string) runtime.Store {
				return open(t, fmt.Sprintf(url, dir))
			})
		})
	}
}

const testRun = "20261123-141502-k3f9"

// sample returns n records: an event, and measurements.
func sample(run string, n int) []runtime.Record {
	at := time.Date(2026, 11, 23, 14, 15, 2, 123456000, time.UTC)
	recs := []runtime.Record{{Run: run, Time: at, Kind: "run_started", Data: json.RawMessage(`{"recipe":"redis.star"}`)}}
	for i := 1; i < n; i++ {
		recs = append(recs, runtime.Record{Run: run, Time: at, Kind: runtime.KindMeasurement, Source: "client",
			Metric: "rps", Value: float64(i), Unit: "1/s", Labels: map[string]string{"clients": "8"}})
	}
	return recs
}

func read(ctx context.Context, s runtime.Store, q runtime.Query) (recs []runtime.Record, err error) {
	for rec, err := range s.Records(ctx, q) {
		if err != nil {
			return recs, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// appendForever appends three records at a time and prints a line for each Append that has returned.
func appendForever(url string) error {
	s, err := Open(context.Background(), url)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		if err := s.Append(context.Background(), sample(testRun, 3)...); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestProcesses kills processes while they append to one store that they have made together, and looks for what
// they said was on disk.
func TestProcesses(t *testing.T) {
	t.Parallel()
	for name, url := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := fmt.Sprintf(url, t.TempDir())
			var mu sync.Mutex
			said := 0
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() {
					n, err := appendAndKill(url, 5+3*i)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					said += n
				})
			}
			wg.Wait()
			s := open(t, url)
			recs, err := read(t.Context(), s, runtime.Query{})
			if err != nil {
				t.Fatal(err)
			}
			// A process may have been killed between its Append and its line.
			if len(recs)%3 != 0 || len(recs) < 3*said || len(recs) > 3*(said+3*2) {
				t.Errorf("%d records; the processes said that they had appended %d times three", len(recs), said)
			}
			if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
				t.Errorf("Append after the processes were killed: %v", err)
			}
		})
	}
}

// appendAndKill kills a process once it has said that it has appended n times, and returns how often it said so.
func appendAndKill(url string, n int) (int, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), appendURL+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	said := 0
	for lines := bufio.NewScanner(out); lines.Scan(); said++ {
		if said == n {
			cmd.Process.Kill()
		}
	}
	if said < n {
		err = fmt.Errorf("it ended after %d appends", said)
	}
	cmd.Wait() // it was killed
	return said, err
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, want, hint string }{
		{"", "no kind of store", "sqlite:PATH"},
		{"results.csv", "no kind of store", "csv:DIR"},
		{"sqlit:x.db", `unknown kind "sqlit"`, "did you mean sqlite?"},
		{"mysql://host/db", `unknown kind "mysql"`, "a store is sqlite:PATH or csv:DIR"},
		{"sqlite:", "no path", "sqlite:PATH"},
		{"csv:a\x00b", "no path", ""},
		{"sqlite:///tmp/x.db", "does not begin with //", "write sqlite:/tmp/x.db"},
	} {
		_, err := Open(t.Context(), test.url)
		wantError(t, test.url, err, runtime.FaultUsage, test.want, test.hint)
		if got := Files(test.url); got != "" {
			t.Errorf("Files(%q) = %q", test.url, got)
		}
	}
}

func wantError(t *testing.T, what string, err error, fault runtime.Fault, text, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: error is %v, want one with %q", what, err, text)
	} else if runtime.FaultOf(err) != fault || !strings.Contains(runtime.HintOf(err), hint) {
		t.Errorf("%s: fault %q, hint %q; want %q, %q", what, runtime.FaultOf(err), runtime.HintOf(err), fault, hint)
	}
}

// TestUnusable has stores that are in the way of a file, or behind one.
func TestUnusable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, sub := filepath.Join(dir, "file"), filepath.Join(dir, "sub")
	if err := os.WriteFile(file, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"sqlite:" + file:        "not a database",
		"sqlite:" + sub:         "is a directory",
		"sqlite:/dev/null":      "is not a regular file",
		"sqlite:" + file + "/x": "not a directory",
		"csv:" + file:           "is not a directory",
		"csv:" + file + "/x":    "not a directory",
	} {
		_, err := Open(t.Context(), url)
		wantError(t, url, err, runtime.FaultInfra, url, "--store")
		wantError(t, url, err, runtime.FaultInfra, want, "--store")
	}
}

func TestUnwritable(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("a store in a directory without write permission: root may write to any")
	}
	for name, url := range stores {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "deep"), 0o500); err != nil {
			t.Fatal(err)
		}
		err := open(t, fmt.Sprintf(url, dir)).Append(t.Context(), sample(testRun, 1)...)
		wantError(t, name, err, runtime.FaultInfra, dir, "may you write")
	}
}

// TestUntouched reads stores that do not exist.
func TestUntouched(t *testing.T) {
	t.Parallel()
	for name, url := range stores {
		dir := t.TempDir()
		s := open(t, fmt.Sprintf(url, dir))
		if recs, err := read(t.Context(), s, runtime.Query{}); err != nil || len(recs) != 0 {
			t.Errorf("%s: %d records, %v", name, len(recs), err)
		}
		if err := s.Append(t.Context()); err != nil {
			t.Errorf("%s: Append of nothing: %v", name, err)
		}
		if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
			t.Errorf("%s: reading made %v, %v", name, made, err)
		}
		if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(filepath.Join(dir, "deep")); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the directory has mode %v, %v", name, info.Mode(), err)
		}
	}
}

// TestOddPaths has paths with characters that mean something in a URI.
func TestOddPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b", "100%", "%41", "a?mode=memory", "a#b", "a&b=c", "é", ":memory:", "a'b\"", "a\nb"} {
		for scheme, file := range map[string]string{"sqlite": "", "csv": "/" + testRun + ".csv"} {
			path := filepath.Join(t.TempDir(), name)
			if err := open(t, scheme+":"+path).Append(t.Context(), sample(testRun, 1)...); err != nil {
				t.Errorf("%s:%q: %v", scheme, name, err)
			}
			if _, err := os.Stat(path + file); err != nil {
				t.Errorf("%s:%q: %v", scheme, name, err)
			}
		}
	}
}

func TestDefault(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	for data, want := range map[string]string{
		"":             "/home/ann/.local/share/aifb/files",
		"relative":     "/home/ann/.local/share/aifb/files",
		"/scratch/ann": "/scratch/ann/aifb/files",
	} {
		url := Default(func(name string) string { return map[string]string{"XDG_DATA_HOME": data}[name] })
		if got := Files(url); got != want {
			t.Errorf("XDG_DATA_HOME=%q: Files(%q) = %q, want %q", data, url, got, want)
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"csv:~/r":       "/home/ann/r/files",
		"csv:~ann":      wd + "/~ann/files",
		"csv:/a/../b/":  "/b/files",
		"sqlite:x.db":   wd + "/files",
		"sqlite:/a/x.y": "/a/files",
	} {
		if got := Files(url); got != want {
			t.Errorf("Files(%q) = %q, want %q", url, got, want)
		}
	}
}

func BenchmarkOpenAppend(b *testing.B) {
	for name, url := range stores {
		for _, exists := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/exists=%v", name, exists), func(b *testing.B) {
				url := fmt.Sprintf(url, b.TempDir())
				for i := 0; b.Loop(); i++ {
					path := url
					if !exists {
						path = fmt.Sprintf(stores[name], b.TempDir())
					}
					s := open(b, path)
					if err := s.Append(b.Context(), sample(testRun, 1)...); err != nil {
						b.Fatal(err)
					}
					s.Close()
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, url := range stores {
		for _, n := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				s, recs := open(b, fmt.Sprintf(url, b.TempDir())), sample(testRun, n)
				for b.Loop() {
					if err := s.Append(b.Context(), recs...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRecords reads 10⁵ records.
func BenchmarkRecords(b *testing.B) {
	for name, url := range stores {
		b.Run(name, func(b *testing.B) {
			s := open(b, fmt.Sprintf(url, b.TempDir()))
			for i := range 100 {
				if err := s.Append(b.Context(), sample(fmt.Sprint("r", i/10), 1000)...); err != nil {
					b.Fatal(err)
				}
			}
			for _, q := range []runtime.Query{{}, {Run: "r5"}, {Kind: "run_started"}} {
				b.Run(fmt.Sprintf("run=%s,kind=%s", q.Run, q.Kind), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						for _, err := range s.Records(b.Context(), q) {
							if err != nil {
								b.Fatal(err)
							}
						}
					}
				})
			}
		})
	}
}
