package slurm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"scancel": "echo scancel: error: Kill job error on job id 5: Invalid job id specified >&2; exit 1",
	})
	var ids []runtime.JobID
	for i := range 250 {
		ids = append(ids, runtime.JobID(fmt.Sprint(i+1)))
	}
	if err := f.Cancel(t.Context(), ids...); err != nil {
		t.Error(err)
	}
	if n := f.calls("scancel"); n != 3 || f.runs.Load() != 1 {
		t.Errorf("scancel was called %d times in %d round trips", n, f.runs.Load())
	}
}

// The jobs of a group are one request.
func TestCancelArrays(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"scancel": "true"})
	ids := []runtime.JobID{"7", "100_999;beta", "200_3", "8", "200_1", "200_3"}
	for i := range 1000 {
		ids = append(ids, runtime.JobID(fmt.Sprintf("100_%d;beta", i)))
	}
	if err := f.Cancel(t.Context(), ids...); err != nil {
		t.Error(err)
	}
	if got, want := f.read("calls"), "scancel 7 200_[1,3] 8\nscancel --clusters=beta 100_[0-999]\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A scancel that is not answered is tried again, and only that one.
func TestCancelAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]string{"scancel": `[ $1 != 1 ] || [ "$NOW" -ge 5 ] || {
	echo scancel: error: Kill job error on job id 1: Socket timed out on send/recv operation >&2; exit 1; }`})
		var ids []runtime.JobID
		for i := range 150 {
			ids = append(ids, runtime.JobID(fmt.Sprint(i+1)))
		}
		start := time.Now()
		if err := f.Cancel(t.Context(), ids...); err != nil {
			t.Error(err)
		}
		if n := f.calls("scancel"); n != 5 || time.Since(start) != 7*time.Second {
			t.Errorf("scancel was called %d times in %v", n, time.Since(start))
		}
	})
}

func TestCancelErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		program, want string
		class         runtime.Class
		calls         int
	}{
		{"echo scancel: error: Unable to contact slurm controller '(connect failure)' >&2; exit 1",
			"cancel: scancel: Unable to contact slurm controller (connect failure)", runtime.Transient, 5},
		{"echo scancel: error: Access/permission denied >&2; exit 1", "cancel: scancel: Access/permission denied", runtime.Permanent, 1},
		{"kill -9 $$", "cancel: scancel: exit status 137", runtime.Ambiguous, 5},
		{"exit 127", "cancel: scancel: there is no scancel on meluxina", runtime.Permanent, 1},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, map[string]string{"scancel": test.program})
			err := f.Cancel(t.Context(), "1")
			if err == nil || err.Error() != test.want || runtime.FaultOf(err) != runtime.FaultInfra || runtime.ClassOf(err) != test.class {
				t.Errorf("got %v, class %s; want %s", err, runtime.ClassOf(err), test.want)
			}
			if n := f.calls("scancel"); n != test.calls {
				t.Errorf("%s: called %d times, want %d", test.program, n, test.calls)
			}
		})
	}
}

func TestCancelContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]string{"scancel": "echo scancel: error: Socket timed out >&2; exit 1"})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		if err := f.Cancel(ctx, "1"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func TestCompress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                            "",
		"1 2 3":                       "1 2 3",
		"1_5":                         "1_[5]",
		"1_2 2 1_1 3_0 1_0 1_9 3_0":   "1_[0-2,9] 2 3_[0]",
		"1_0 1_2 1_4 1_5 1_6 1_8 1_9": "1_[0,2,4-6,8-9]",
	} {
		if got := compress(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
