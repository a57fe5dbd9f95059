package starlib

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// The figures of the language, each the median of several rounds that take turns with a peer:
//
//	go test -run '^$' -bench Figure -benchtime 1x ./starlib

// loop takes about a million steps of the interpreter.
const loop = `
def main():
    total = 0
    for i in range(100000):
        total += i & 3
main()
`

// BenchmarkFigureSteps: what a million steps take more here than with plain Starlark, for being cancellable at each.
func BenchmarkFigureSteps(b *testing.B) {
	r := newRun(new(runtime.Session), Env{Stdout: io.Discard}, nil)
	var steps uint64
	ours := func() {
		thread, done := r.thread(context.Background(), "", false)
		defer done()
		runLoop(b, thread, r.predeclared)
		steps = thread.ExecutionSteps()
	}
	compare(b, 1, ours, func() { runLoop(b, new(starlark.Thread), nil) }, func(over time.Duration) {
		b.ReportMetric(float64(over)/float64(steps), "ms-over/1e6-steps") // ns a step are ms a million
	})
}

func runLoop(b *testing.B, thread *starlark.Thread, predeclared starlark.StringDict) {
	if _, err := starlark.ExecFileOptions(dialect(), thread, "loop.star", loop, predeclared); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFigureCall: what a call of a builtin with two arguments, one by its name, takes more than one that is bound by
// starlark.UnpackArgs.
func BenchmarkFigureCall(b *testing.B) {
	r := newRun(new(runtime.Session), Env{Stdout: io.Discard}, nil)
	thread, done := r.thread(context.Background(), "", false)
	defer done()
	http := r.predeclared["ready"].(starlark.HasAttrs)
	ours, err := http.Attr("http")
	if err != nil {
		b.Fatal(err)
	}
	plain := starlark.NewBuiltin("http", func(_ *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		ready := runtime.Ready{Kind: "http", Path: "/"}
		err := starlark.UnpackArgs(fn.Name(), args, kwargs, "path?", &ready.Path, "status?", &ready.Status, "contains?", &ready.Contains)
		return &readyValue{Ready: ready}, err
	})
	args := starlark.Tuple{starlark.String("/health")}
	kwargs := []starlark.Tuple{{starlark.String("status"), starlark.MakeInt(200)}}
	const calls = 100_000
	call := func(fn starlark.Value) func() {
		return func() {
			for range calls {
				if _, err := starlark.Call(thread, fn, args, kwargs); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	compare(b, calls, call(ours), call(plain), func(over time.Duration) { b.ReportMetric(float64(over), "ns-over/call") })
}

// BenchmarkFigureCancel: how long a recipe goes on after Ctrl-C, in a loop that calls nothing, and in a builtin that waits.
func BenchmarkFigureCancel(b *testing.B) {
	for _, test := range []struct{ name, body string }{{"loop", "while True:\n        pass"}, {"builtin", "block()"}} {
		b.Run(test.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				for range 11 {
					took = append(took, cancelled(b, "def main():\n    begun()\n    "+test.body+"\n"))
				}
			}
			slices.Sort(took)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took[len(took)/2])/1e6, "ms")
		})
	}
}

// cancelled runs a recipe, cancels it soon after it has begun, and returns how long it went on then.
func cancelled(b *testing.B, text string) time.Duration {
	ctx, cancel := context.WithCancel(b.Context())
	tr := newTrial(b, text)
	var since time.Time
	tr.begun = func() { time.AfterFunc(5*time.Millisecond, func() { since = time.Now(); cancel() }) }
	if _, _, err := tr.exec(ctx); err == nil {
		b.Fatal("it ended by itself")
	}
	return time.Since(since)
}

// compare reports by how much the median of f is above that of its peer, for each of n parts.
func compare(b *testing.B, n int, f, peer func(), report func(over time.Duration)) {
	var ours, theirs []time.Duration
	for b.Loop() {
		for range 11 {
			ours, theirs = append(ours, timed(f)), append(theirs, timed(peer))
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	b.ReportMetric(0, "ns/op")
	report((ours[len(ours)/2] - theirs[len(theirs)/2]) / time.Duration(n))
}

func timed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}
