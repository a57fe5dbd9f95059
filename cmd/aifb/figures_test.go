package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The figures of the README's table: go test -run '^$' -bench . -benchtime 1x ./cmd/aifb
//
// Each is the median of several runs of the static binary as a whole process.

// command is the program with a home directory of its own.
func command(b *testing.B, home string, args ...string) *exec.Cmd {
	cmd := exec.Command(staticBinary(b), args...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "NO_COLOR=1", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=")
	return cmd
}

// process runs the program once and returns what it took.
func process(b *testing.B, home string, args ...string) (wall time.Duration, peakMB float64, stderr string) {
	b.Helper()
	cmd := command(b, home, args...)
	var out bytes.Buffer
	cmd.Stderr = &out
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("aifb %q: %v\n%s", args, err, &out)
	}
	wall = time.Since(begin)
	kb := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	return wall, float64(kb) / 1024, out.String()
}

func median[T float64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// report measures a command several times and reports its medians.
func report(b *testing.B, home string, args ...string) {
	var walls []time.Duration
	var peaks []float64
	for b.Loop() {
		for range 11 {
			wall, peak, _ := process(b, home, args...)
			walls, peaks = append(walls, wall), append(peaks, peak)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(walls))/1e6, "ms")
	b.ReportMetric(median(peaks), "MB-peak")
}

func BenchmarkFigureVersion(b *testing.B) { report(b, b.TempDir(), "version") }

func BenchmarkFigureEmptyRecipe(b *testing.B) {
	home := b.TempDir()
	recipe := filepath.Join(home, "empty.star")
	if err := os.WriteFile(recipe, []byte("def main():\n    pass\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	report(b, home, "exec", recipe)
}

// BenchmarkFigureFirstBuiltin is the time from the start of the process to the effect of the first builtin.
func BenchmarkFigureFirstBuiltin(b *testing.B) {
	home := b.TempDir()
	recipe := filepath.Join(home, "first.star")
	if err := os.WriteFile(recipe, []byte("print(1)\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	var walls []time.Duration
	for b.Loop() {
		for range 11 {
			walls = append(walls, firstOutput(b, home, "exec", recipe))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(walls))/1e6, "ms")
}

// firstOutput runs the program and returns after how long something was on its stdout.
func firstOutput(b *testing.B, home string, args ...string) time.Duration {
	b.Helper()
	cmd := command(b, home, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_, err = out.Read(make([]byte, 1))
	first := time.Since(begin)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		b.Fatal(err)
	}
	return first
}

// checkBlock is ten lines of a recipe.
const checkBlock = `    db = redis(image = image, partition = "cpu", time = "30m")
    wait_running(db)
    c = client(
        db,
        command = "redis-benchmark -h $SERVICE_HOSTNAME -p $SERVICE_PORT -n %d --csv" % requests,
        metrics = metric.csv(),
        labels = {"requests": requests},
    )
    wait_done(c)
    print(c.metric("rps"))
`

// checkRecipe writes a recipe of so many times ten lines and some.
func checkRecipe(b *testing.B, name string, blocks int) string {
	text := "load(\"@aifb//redis.star\", \"redis\")\n\ndef main(image = \"docker://redis:7\", requests = 1000):\n" + strings.Repeat(checkBlock, blocks)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	return name
}

func BenchmarkFigureCheck1000Lines(b *testing.B) {
	home := b.TempDir()
	report(b, home, "check", checkRecipe(b, filepath.Join(home, "r.star"), 100))
}

func BenchmarkFigureCheck200Recipes(b *testing.B) {
	home := b.TempDir()
	dir := filepath.Join(home, "recipes")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range 200 {
		checkRecipe(b, filepath.Join(dir, fmt.Sprintf("r%d.star", i)), 5)
	}
	report(b, home, "check", dir)
}

func BenchmarkFigureBinarySize(b *testing.B) {
	info, err := os.Stat(staticBinary(b))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(info.Size())/(1<<20), "MB")
}

func BenchmarkFigureQuickstartLocal(b *testing.B) { quickstart(b, b.TempDir(), "local") }

// BenchmarkFigureQuickstart50ms needs a cluster that is 50 ms away: testdata/cluster/run --delay 50.
func BenchmarkFigureQuickstart50ms(b *testing.B) {
	config := os.Getenv("AIFB_TEST_SSH_CONFIG")
	data, err := os.ReadFile(config)
	if err != nil || !bytes.Contains(data, []byte("Host cluster-slow")) {
		b.Skip("a cluster that is 50 ms away: AIFB_TEST_SSH_CONFIG has no host cluster-slow; testdata/cluster/run --delay 50 sets it")
	}
	home := b.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), data, 0o600); err != nil {
		b.Fatal(err)
	}
	process(b, home, "exec", "-t", "cluster-slow", "@aifb//quickstart.star", "concurrency=1", "duration=100ms") // brings the binary
	quickstart(b, home, "cluster-slow")
}

// quickstart reports how long the quickstart takes beyond the durations of its clients.
func quickstart(b *testing.B, home, target string) {
	const clients, duration = 3, time.Second
	var over []time.Duration
	execs := 0.0
	for b.Loop() {
		for range 5 {
			wall, _, stderr := process(b, home, "exec", "-v", "-t", target, "@aifb//quickstart.star", "duration="+duration.String())
			over = append(over, wall-clients*duration)
			if m := regexp.MustCompile(`(\d+) commands over SSH`).FindStringSubmatch(stderr); m != nil {
				execs, _ = strconv.ParseFloat(m[1], 64)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(over).Seconds(), "s-overhead")
	if target != "local" {
		b.ReportMetric(execs, "execs")
	}
}
