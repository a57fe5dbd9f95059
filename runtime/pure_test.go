package runtime

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	args := []string{"", "a", "a b", "it's", `"$HOME"`, "*", "a\nb", "$(id)", "-n", `\`, "é", "A=1", "!x", "~"}
	out, err := exec.Command("sh", "-c", "printf '%s\\0' "+Quote(args...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !cmp.Equal(got, args) {
		t.Error(cmp.Diff(args, got))
	}
	if got, want := Quote("sbatch", "--parsable", "/a/b.c", "x y"), "sbatch --parsable /a/b.c 'x y'"; got != want {
		t.Errorf("Quote = %s, want %s", got, want)
	}
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"4G": "4G", "512M": "512M", "1536m": "1536M", "64": "64M", "2GiB": "2G", "1T": "1T", "100K": "100K", "3gb": "3G"} {
		if got, err := ParseBytes(in); err != nil || got.String() != want {
			t.Errorf("ParseBytes(%q) = %v, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "G", "-1G", "1.5G", "4 G x", "9999999999999G", "999999999999T", "4P"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("ParseBytes(%q) = %v, want an error", in, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "01:30:00": 90 * time.Minute, "10:00": 10 * time.Minute,
		"1-00:00": 24 * time.Hour, "1-12": 36 * time.Hour, "1-02:03:04": 26*time.Hour + 3*time.Minute + 4*time.Second, "0": 0,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "30", "-5s", "5 min", "1:2:3:4", "x"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", in, got)
		}
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	words := []string{"partition", "name", "gpu", "image", "gpus", "cpu", "largemem"}
	for in, want := range map[string]string{
		"partitio": "partition", "nmae": "name", "gpuu": "gpu", "imgae": "image", "IMAGE": "image", "xyz": "", "": "", "largmem": "largemem",
		"pgu": "gpu", "gp": "gpu", "g": "", "G": "", "x": "", "agemi": "", "imag": "image", "apritition": "partition",
	} {
		if got := Suggest(in, words); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	inner := Faultf(FaultRun, "inner hint", "sbatch: no")
	err := fmt.Errorf("start: %w", &Error{Err: fmt.Errorf("again: %w", inner)})
	if FaultOf(err) != FaultRun || HintOf(err) != "inner hint" || err.Error() != "start: again: sbatch: no" {
		t.Errorf("%v: fault %q, hint %q", err, FaultOf(err), HintOf(err))
	}
	if FaultOf(errors.New("x")) != "" || HintOf(nil) != "" {
		t.Error("an error without a fault has one")
	}
}

func TestNewImage(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Image{
		"":                       {},
		"/x/redis.sif":           {SIF: "/x/redis.sif"},
		"~/redis.sif":            {SIF: "/home/u/redis.sif"},
		"docker://redis:7":       {URI: "docker://redis:7", SIF: "/w/images/redis_7-e07d6b63ac25.sif"},
		"oras://ghcr.io/a/b:c@x": {URI: "oras://ghcr.io/a/b:c@x", SIF: "/w/images/ghcr.io_a_b_c_x-1ddcc5f6a9ac.sif"},
	} {
		got, err := newImage(in, "/home/u", "/w")
		if err != nil || got.URI != want.URI || filepath.Dir(got.SIF) != filepath.Dir(want.SIF) {
			t.Errorf("newImage(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"redis:7", "http://x/y.sif", "docker://"} {
		if got, err := newImage(in, "/home/u", "/w"); err == nil || HintOf(err) == "" {
			t.Errorf("newImage(%q) = %v, %v; want an error with a hint", in, got, err)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	sif := Image{SIF: "/i.sif"}
	for _, test := range []struct {
		name  string
		spec  JobSpec
		image Image
		want  []string
	}{
		{"a line is for the shell", JobSpec{Command: "echo $A"}, Image{}, []string{"/bin/sh", "-c", "echo $A"}},
		{"a program and its arguments", JobSpec{Command: "bench", Args: []string{"a b"}}, Image{}, []string{"bench", "a b"}},
		{"arguments alone", JobSpec{Args: []string{"bench", "$A"}}, Image{}, []string{"bench", "$A"}},
		{"in an image", JobSpec{Command: "x"}, sif, []string{"apptainer", "--silent", "exec", "--bind", "/w", "/i.sif", "/bin/sh", "-c", "x"}},
		{"its own entry point", JobSpec{}, sif, []string{"apptainer", "--silent", "run", "--bind", "/w", "/i.sif"}},
		{"binds and GPUs", JobSpec{Args: []string{"a"}, Resources: Resources{GPUs: 2, Binds: []string{"/d:/data:ro"}}}, sif,
			[]string{"apptainer", "--silent", "run", "--bind", "/w", "--bind", "/d:/data:ro", "--nv", "/i.sif", "a"}},
	} {
		if got := command(&test.spec, test.image, "/w"); !cmp.Equal(got, test.want) {
			t.Errorf("%s: %s", test.name, cmp.Diff(test.want, got))
		}
	}
}

func TestWithDefaults(t *testing.T) {
	t.Parallel()
	r := Resources{Partition: "gpu", Setup: []string{"mine"}}.withDefaults(Resources{
		Partition: "cpu", Account: "p1", Time: time.Hour, Setup: []string{"theirs"}, Mem: 1 << 30, Nodes: 2})
	want := Resources{Partition: "gpu", Account: "p1", Time: time.Hour, Setup: []string{"theirs", "mine"}, Mem: 1 << 30, Nodes: 2}
	if d := cmp.Diff(want, r, cmp.Transformer("nil", func(s []string) string { return strings.Join(s, "|") })); d != "" {
		t.Error(d)
	}
}

func TestMetricParse(t *testing.T) {
	t.Parallel()
	redis := "\"test\",\"rps\",\"p99_latency_ms\"\n\"SET\",\"1000.50\",\"0.3\"\n\"GET\",\"2,000\",\"0.2\"\n"
	for _, test := range []struct {
		name string
		m    Metric
		data string
		want string // metric{labels}=value, or the error
	}{
		{"first group", Metric{Kind: "regex", Pattern: `tps = ([\d.]+)`, Name: "tps"}, "tps = 1.5\ntps = 2\n", "tps=1.5 tps=2"},
		{"named groups", Metric{Kind: "regex", Pattern: `(?P<a>\d+)/(?P<b>\d+)`}, "1/2", "a=1 b=2"},
		{"no match", Metric{Kind: "regex", Pattern: `x(\d)`, Name: "x"}, "y", "no measurement in it"},
		{"not a number", Metric{Kind: "regex", Pattern: `x=(\w+)`, Name: "x"}, "x=abc", `x: "abc" is not a number`},
		{"all numbers", Metric{Kind: "json"}, `{"b":{"c":[1,{"d":2.5}]},"a":3,"s":"x"}`, "a=3 b.c.0=1 b.c.1.d=2.5"},
		{"a path", Metric{Kind: "json", Fields: map[string]string{"x": "b.c.1.d"}}, `{"b":{"c":[1,{"d":2.5}]}}`, "x=2.5"},
		{"a wrong path", Metric{Kind: "json", Fields: map[string]string{"x": "b.d"}}, `{"b":{"c":1}}`, `x: there is no number at "b.d"`},
		{"a table", Metric{Kind: "csv"}, redis, "rps{test=SET}=1000.5 p99_latency_ms{test=SET}=0.3 rps{test=GET}=2000 p99_latency_ms{test=GET}=0.2"},
		{"a column", Metric{Kind: "csv", Fields: map[string]string{"r": "rps"}}, redis, "r{test=SET}=1000.5 r{test=GET}=2000"},
		{"no such column", Metric{Kind: "csv", Fields: map[string]string{"r": "tps"}}, redis, `there is no column "tps", only test, rps, p99_latency_ms`},
		{"an empty table", Metric{Kind: "csv"}, "", "it is empty"},
		{"infinite", Metric{Kind: "csv"}, "a\nInf\n", "no measurement in it"},
	} {
		test.m.Source = "stdout"
		ms, err := test.m.Parse([]byte(test.data))
		var got []string
		for _, m := range ms {
			labels := ""
			for k, v := range m.Labels {
				labels = "{" + k + "=" + v + "}"
			}
			got = append(got, fmt.Sprintf("%s%s=%v", m.Metric, labels, m.Value))
		}
		if text := strings.Join(got, " "); err == nil && text != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %s, %v; want %s", test.name, text, err, test.want)
		}
	}
}

func FuzzMetricParse(f *testing.F) {
	f.Add("csv", "a,b\n1,x\n")
	f.Add("json", `{"a":[1,2]}`)
	f.Add("regex", "x=1")
	f.Fuzz(func(t *testing.T, kind, data string) {
		m := Metric{Kind: kind, Source: "stdout", Pattern: `x=(\S+)`, Name: "x"}
		ms, err := m.Parse([]byte(data))
		if err == nil && len(ms) == 0 {
			t.Error("neither a measurement nor an error")
		}
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	m := func(source, metric string, v float64, unit, n string) Record {
		return Record{Kind: KindMeasurement, Source: source, Metric: metric, Value: v, Unit: unit, Labels: map[string]string{"n": n}}
	}
	recs := []Record{m("client-1", "rps", 12345.678, "1/s", "1"), m("client-1", "p99", 0.123456, "ms", "1"), m("client-2", "rps", 99, "1/s", "16")}
	header, rows := Pivot(recs)
	var b bytes.Buffer
	WriteTable(&b, header, rows)
	want := `source     n  rps (1/s)  p99 (ms)
client-1   1      12346    0.1235
client-2  16         99
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// What a job leaves must not get out of the directory that is meant for it.
func TestUntarHostile(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../evil", "/tmp/aifb-evil", "a/../../evil"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644})
		w.Write([]byte("x"))
		w.Close()
		if err := untar(&b, t.TempDir(), new(secrets)); err == nil {
			t.Errorf("untar of %s: no error", name)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "job/", Typeflag: tar.TypeDir, Mode: 0o755})
	w.WriteHeader(&tar.Header{Name: "job/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
	w.WriteHeader(&tar.Header{Name: "job/a", Typeflag: tar.TypeReg, Size: 2, Mode: 0o644})
	w.Write([]byte("hi"))
	w.Close()
	dir := t.TempDir()
	if err := untar(&b, dir, new(secrets)); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "job", "a")); string(data) != "hi" {
		t.Errorf("job/a = %q, %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "job", "link")); err == nil {
		t.Error("a link was unpacked")
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "out.csv")
	os.WriteFile(name, []byte("old"), 0o600)
	err := WriteFile(name, func(w io.Writer) error { io.WriteString(w, "half"); return errors.New("disk full") })
	if data, _ := os.ReadFile(name); err == nil || string(data) != "old" {
		t.Errorf("after a failure: %q, %v", data, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(name), ".*")); len(left) > 0 {
		t.Errorf("debris: %v", left)
	}
	if err := WriteFile(name, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(name); string(data) != "new" {
		t.Errorf("after success: %q", data)
	}
}

func TestWriteFileWhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }
	os.WriteFile(in("secret"), []byte("old"), 0o600)
	os.Symlink("secret", in("link"))
	if err := WriteFile(in("link"), write); err != nil {
		t.Error(err)
	}
	if to, _ := os.Readlink(in("link")); to != "secret" {
		t.Errorf("the link leads to %q", to)
	}
	info, err := os.Stat(in("secret"))
	if data, _ := os.ReadFile(in("secret")); err != nil || info.Mode() != 0o600 || string(data) != "new" {
		t.Errorf("%q with mode %v, %v", data, info.Mode(), err)
	}
	if err := WriteFile(dir, write); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
	os.Symlink("/dev/null", in("null"))
	if err := WriteFile(in("null"), write); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(in("null")); err != nil || info.Mode().IsRegular() {
		t.Errorf("/dev/null was replaced: %v, %v", info.Mode(), err)
	}
	if err := syscall.Mkfifo(in("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	go func() { data, _ := os.ReadFile(in("pipe")); got <- data }()
	if err := WriteFile(in("pipe"), write); err != nil {
		t.Fatal(err)
	}
	if data := <-got; string(data) != "new" {
		t.Errorf("from the pipe: %q", data)
	}
}

func TestParseProbe(t *testing.T) {
	t.Parallel()
	h, err := parseProbe("Welcome!\naifb-probe\n/home/u\nLinux\nx86_64\n")
	if err != nil || h.user != "/home/u" || h.os != "linux" || h.arch != "amd64" {
		t.Errorf("probe = %+v, %v", h, err)
	}
	for _, out := range []string{"", "/home/u\nLinux\nx86_64\n", "\naifb-probe\n\nLinux\nx86_64\n"} {
		if h, err := parseProbe(out); err == nil {
			t.Errorf("parseProbe(%q) = %+v", out, h)
		}
	}
}

func TestNewRunID(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 15, 15, 2, 0, time.FixedZone("CET", 3600))
	if got, want := NewRunID(at, strings.NewReader("\x00\x01\x02\x03")), "20261123-141502-abcd"; got != want {
		t.Errorf("NewRunID = %s, want %s", got, want)
	}
}
