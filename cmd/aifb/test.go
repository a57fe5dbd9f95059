package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
	"github.com/aifb/aifb/starlib"
)

func testCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "test",
		Usage:     "run the tests of recipes, on a simulated cluster",
		ArgsUsage: "[FILE or DIRECTORY ...]",
		Description: `Runs the functions test_* of files *_test.star, by default those of this directory, each on a simulated cluster of its
own and in simulated time: an hour takes no time. A test loads a recipe and calls it; fake says how jobs go, and assert
what is expected:

    load("redis.star", "main")

    def test_refused():
        fake.job("redis", state = "refused")
        assert.fails(lambda: main(clients = [1]), "refused")

help(fake.job) in a test says more. Nothing is contacted, and no file is written. If a test fails the exit code is 4.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "run", Usage: "only tests whose names match `REGEXP`"},
			boolFlag("verbose", "list all tests, with what they print", "v"),
			boolFlag("json", "print the results as JSON"),
		},
		Action: func(c *cli.Context) error { return testRecipes(c, std) },
	}
}

// testStart is when the simulated time of a test begins.
var testStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testRecipes(c *cli.Context, std streams) error {
	only, err := regexp.Compile(c.String("run"))
	if err != nil {
		return runtime.Faultf(runtime.FaultUsage, "", "--run: %w", err)
	}
	names, err := testFiles(c.Args().Slice())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "aifb-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	caught, stop := catchSignals(std.err, "")
	defer stop()
	ctx, done := caught.scope(c.Context)
	defer done()
	t := &tester{std: std, only: only, verbose: c.Bool("verbose"), json: c.Bool("json"), dir: dir, results: []testResult{}}
	for _, name := range names {
		if err := t.file(ctx, name); err != nil {
			return err
		}
	}
	if t.json {
		if err := writeJSON(std.out, map[string]any{"version": 1, "tests": t.results}); err != nil {
			return err
		}
	}
	return t.err()
}

// testFiles returns the files of tests that arguments name.
func testFiles(args []string) (names []string, err error) {
	if len(args) == 0 {
		args = []string{"."}
	}
	for _, arg := range args {
		if strings.HasPrefix(arg, "@") { // of the library
			names = append(names, arg)
			continue
		}
		info, err := os.Stat(arg)
		if err != nil {
			return nil, runtime.Faultf(runtime.FaultUsage, "", "%w", err)
		}
		if !info.IsDir() {
			names = append(names, arg)
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, runtime.Faultf(runtime.FaultUsage, "", "%w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), "_test.star") {
				names = append(names, filepath.Join(arg, e.Name()))
			}
		}
	}
	if len(names) == 0 {
		return nil, runtime.Faultf(runtime.FaultUsage, "tests are functions test_* in files *_test.star", "there are no tests in %s", strings.Join(args, ", "))
	}
	return names, nil
}

// A tester runs tests and tells how they went.
type tester struct {
	std           streams
	only          *regexp.Regexp
	verbose, json bool
	dir           string // for what jobs leave
	results       []testResult
	invalid       int // files
}

// A testResult is how a test went.
type testResult struct {
	File      string  `json:"file"`
	Name      string  `json:"name"`
	OK        bool    `json:"ok"`
	Seconds   float64 `json:"seconds"`
	Simulated float64 `json:"simulated_seconds"`
	Printed   string  `json:"printed,omitempty"`
	Error     string  `json:"error,omitempty"`
	Hint      string  `json:"hint,omitempty"`
	err       error
}

// file runs the tests of a file. The error is that of the context.
func (t *tester) file(ctx context.Context, name string) error {
	began := time.Now()
	tests, err := starlib.ReadTests(name, recipes.FS)
	if err != nil {
		t.invalid++
		starlib.FormatError(t.std.err, err, starlib.Style{Colour: wantsColour(t.std.err)})
		t.say("FAIL  %s\n", name)
		return nil
	}
	count, failures := 0, 0
	for _, test := range tests.Names {
		if !t.only.MatchString(test) {
			continue
		}
		count++
		r := t.test(ctx, tests, name, test)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if !r.OK {
			failures++
		}
		t.results = append(t.results, r)
		t.tell(r)
	}
	took := time.Since(began).Seconds()
	switch {
	case failures > 0:
		t.say("FAIL  %s  %d of %d tests failed  %.2fs\n", name, failures, count, took)
	case count == 0:
		t.say("ok    %s  no tests to run\n", name)
	default:
		t.say("ok    %s  %s  %.2fs\n", name, runtime.Plural(count, "test"), took)
	}
	return nil
}

// test runs one test.
func (t *tester) test(ctx context.Context, tests *starlib.Tests, file, name string) testResult {
	began := time.Now()
	var printed bytes.Buffer
	files := filepath.Join(t.dir, strconv.Itoa(len(t.results)))
	f := newFakeCluster(files)
	f.session.Start = runtime.RunStart{Recipe: file, Target: "sim", Version: version()}
	env := starlib.Env{Stdout: &printed, Create: f.create, Warn: func(text string) { fmt.Fprintf(&printed, "warning: %s\n", text) }}
	f.session.Warn = env.Warn
	err := f.run(ctx, func(ctx context.Context) error { return tests.Run(ctx, f.session, env, f, name) })
	os.RemoveAll(files)
	r := testResult{File: file, Name: name, OK: err == nil, Seconds: time.Since(began).Seconds(),
		Simulated: f.clock.Now().Sub(testStart).Seconds(), Printed: printed.String(), err: err}
	if err != nil {
		r.Error, r.Hint = err.Error(), runtime.HintOf(err)
	}
	return r
}

// tell shows a test that failed, or all if that is wanted.
func (t *tester) tell(r testResult) {
	if r.OK && !t.verbose {
		return
	}
	word := "ok"
	if !r.OK {
		word = "FAIL"
	}
	t.say("--- %s: %s (%.2fs, %v simulated)\n", word, r.Name, r.Seconds, seconds(r.Simulated))
	for line := range strings.Lines(r.Printed) {
		t.say("    %s\n", runtime.Printable(strings.TrimSuffix(line, "\n")))
	}
	if !r.OK && !t.json {
		starlib.FormatError(t.std.out, r.err, starlib.Style{Colour: wantsColour(t.std.out)})
	}
}

// say prints a line of the results, unless they are to be JSON.
func (t *tester) say(format string, args ...any) {
	if !t.json {
		fmt.Fprintf(t.std.out, format, args...)
	}
}

func (t *tester) err() error {
	failed := 0
	for _, r := range t.results {
		if !r.OK {
			failed++
		}
	}
	switch {
	case t.invalid > 0:
		return runtime.Faultf(runtime.FaultRecipe, "", "%s of tests cannot be read", runtime.Plural(t.invalid, "file"))
	case failed > 0:
		return runtime.Faultf(runtime.FaultRun, "", "%d of %s failed", failed, runtime.Plural(len(t.results), "test"))
	}
	return nil
}

// A fakeCluster is the simulated target of a test. It is a starlib.Fake.
type fakeCluster struct {
	*stage
	commands []fakeCommand
	exported map[string]string
}

type fakeCommand struct {
	pattern *regexp.Regexp
	result  starlib.FakeCommand
}

func newFakeCluster(files string) *fakeCluster {
	f := &fakeCluster{exported: make(map[string]string)}
	f.stage = newStage(testStart, sim.Config{Nodes: 16, Exec: f.exec}, files)
	return f
}

// Job implements starlib.Fake.
func (f *fakeCluster) Job(pattern string, job starlib.FakeJob) error {
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("pattern %q: %w", pattern, err)
	}
	if job.State != "" {
		if err := setState(new(sim.Behaviour), job.State, job.After); err != nil {
			return err
		}
	}
	f.rule(pattern, func(b *sim.Behaviour) { script(b, job) })
	return nil
}

// script changes what a job does.
func script(b *sim.Behaviour, job starlib.FakeJob) {
	if job.State != "" {
		setState(b, job.State, job.After) // which was tried
	}
	set(&b.Run, job.After)
	set(&b.Wait, job.Pending)
	set(&b.Reason, job.Reason)
	set(&b.Stdout, job.Stdout)
	set(&b.Stderr, job.Stderr)
	set(&b.Code, job.Exit)
	set(&b.Answer, job.Answers)
	for name, text := range job.Files {
		addFile(b, name, text)
	}
	var ms []runtime.Measurement
	for _, name := range slices.Sorted(maps.Keys(job.Measurements)) {
		ms = append(ms, runtime.Measurement{Metric: name, Value: job.Measurements[name]})
	}
	if ms != nil {
		delete(b.Files, measurementsFile)
		writeMeasurements(b, ms)
	}
}

// set sets what a test has said.
func set[T comparable](to *T, v T) {
	if v != *new(T) {
		*to = v
	}
}

// Jobs implements starlib.Fake.
func (f *fakeCluster) Jobs() (jobs []runtime.JobState) {
	st, _ := foldRun(context.Background(), f.session.Store, f.session.Run) // from memory
	for _, j := range st.Jobs {
		jobs = append(jobs, *j)
	}
	return jobs
}

// Command implements starlib.Fake.
func (f *fakeCluster) Command(pattern string, result starlib.FakeCommand) error {
	re, err := regexp.Compile(pattern)
	f.commands = append(f.commands, fakeCommand{re, result})
	return err
}

// exec runs a command of the recipe's on the login node.
func (f *fakeCluster) exec(_ context.Context, cmd runtime.Cmd) error {
	line := strings.Join(cmd.Args, " ")
	for _, c := range slices.Backward(f.commands) {
		if !c.pattern.MatchString(line) {
			continue
		}
		for _, out := range []struct {
			w    io.Writer
			text string
		}{{cmd.Stdout, c.result.Stdout}, {cmd.Stderr, c.result.Stderr}} {
			if out.w != nil {
				io.WriteString(out.w, out.text)
			}
		}
		if c.result.Exit != 0 {
			return &runtime.ExitError{Args: cmd.Args, Code: c.result.Exit, Stderr: c.result.Stderr}
		}
		return nil
	}
	return errors.ErrUnsupported // the cluster knows
}

// Exported implements starlib.Fake.
func (f *fakeCluster) Exported(name string) (text string, ok bool) {
	text, ok = f.exported[name]
	return text, ok
}

// create takes what the recipe writes to a file of this machine.
func (f *fakeCluster) create(name string, write func(io.Writer) error) error {
	var text strings.Builder
	if err := write(&text); err != nil {
		return err
	}
	f.exported[name] = text.String()
	return nil
}
