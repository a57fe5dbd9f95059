package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	fault := func(f runtime.Fault) error { return fmt.Errorf("x: %w", runtime.Faultf(f, "", "y")) }
	for _, test := range []struct {
		err  error
		code int
		kind string
	}{
		{nil, 0, "ok"},
		{errors.New("x"), 1, "unexpected"},
		{fault(runtime.FaultUsage), 2, "usage"},
		{fault(runtime.FaultRecipe), 3, "invalid recipe"},
		{fault(runtime.FaultRun), 4, "recipe failed"},
		{fault(runtime.FaultThreshold), 5, "threshold"},
		{fault(runtime.FaultInfra), 6, "infrastructure"},
		{fault(runtime.FaultTimeout), 7, "timeout"},
		{&starlib.Exit{Code: 11}, 11, "exit"},
		{&starlib.SourceError{Err: &runtime.Internal{In: "x"}}, 70, "internal"},
		{&interrupted{syscall.SIGINT}, 130, "interrupted"},
		{&interrupted{syscall.SIGTERM}, 143, "interrupted"},
		{&commandError{err: fault(runtime.FaultInfra)}, 6, "infrastructure"},
		// What is added at the end does not change what the first one was.
		{errors.Join(&interrupted{syscall.SIGINT}, fault(runtime.FaultRun)), 130, "interrupted"},
		{errors.Join(&starlib.Exit{Code: 11}, fault(runtime.FaultRun)), 11, "exit"},
		{errors.Join(fault(runtime.FaultTimeout), fault(runtime.FaultRun)), 7, "timeout"},
	} {
		if code, kind := classify(test.err); code != test.code || kind != test.kind {
			t.Errorf("%v: %d %s, want %d %s", test.err, code, kind, test.code, test.kind)
		}
	}
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("boom") }

// A panic anywhere in a command ends the program with 70, and with what there is to report.
func TestPanic(t *testing.T) {
	t.Parallel()
	var shown bytes.Buffer
	code := run(context.Background(), []string{"aifb", "version"}, streams{strings.NewReader(""), &output{w: panicking{}}, &output{w: &shown}})
	text := shown.String()
	if code != 70 || !strings.HasPrefix(text, "error: internal error in aifb: boom\n") || !strings.Contains(text, "please report it") ||
		!strings.Contains(text, "panicking") || !strings.Contains(text, "  aifb "+version()+" on ") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

// All errors of a join are in the JSON, each with its kind.
func TestDescribeErrors(t *testing.T) {
	t.Parallel()
	err := errors.Join(&interrupted{syscall.SIGINT}, runtime.Faultf(runtime.FaultRun, "do this", "on_exit: %w", errors.New("x")))
	got, _ := json.Marshal(describeErrors(err))
	const want = `[{"kind":"interrupted","message":"interrupted","frames":[]},{"kind":"recipe failed","message":"on_exit: x","hint":"do this","frames":[]}]`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
	if got := describeErrors(nil); got == nil || len(got) != 0 {
		t.Errorf("no error: %v", got)
	}
}
