package starlib

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
)

// completeREPL returns a REPL in which something is defined, and which finds files to load in a directory.
func completeREPL(t testing.TB) *REPL {
	dir := t.TempDir()
	l, _ := newLoader(filepath.Join(dir, "repl"), library)
	r := newREPL(newRun(new(runtime.Session), Env{}, l))
	t.Cleanup(r.Close)
	r.cluster.ask = func(context.Context) []string { return []string{"cpu", "gpu", "gpu-long"} }
	var out bytes.Buffer
	evalAll(t.Context(), r, &out, `
redis = struct(host = "h", job = struct(id = 1))
rate = 1
def measure(db, clients = 1, **labels): fail("completion calls nothing")

tab = measurements()
d = {"alpha": 1, "all": 2, 3: 4, "it's": 5, "new\\nline": 6}
job = struct(labels = d)
`)
	if out.Len() > 0 {
		t.Fatal(out.String())
	}
	return r
}

func TestComplete(t *testing.T) {
	t.Parallel()
	r := completeREPL(t)
	files := write(t, map[string]string{"one.star": "x, y, _z = 1, 2, 3\n", "two.txt": "", "sub/three.star": "", ".hidden.star": ""})
	r.run.loader.dir, r.run.loader.root = files, files
	for _, test := range []struct{ line, want string }{ // ^ is the cursor; of what is in place of the word, blank between
		// names
		{"mea^", "measure( measurements("},
		{"red^", "redis"},
		{"met^", "metric."},
		{"whi^", "while"},
		{"sorte^", "sorted("},
		{"x = rat^ + 1", "rate"},
		{"^", ""},
		{"nosuch^", ""},
		{"(sorte^", "sorted("},

		// parameters
		{"service(\"x\", part^", "partition="},
		{"service(\"x\", partition = \"cpu\", part^", ""},
		{"service(\"x\",^", "all but name="},
		{"measure(^", "db= clients="},
		{"measure(redis, clien^", "clients= client("},
		{"measure(\n  redis,\n  clien^", "clients= client("},
		{"measure(redis, clients = ra^", "range( rate"},
		{"measure(sum([1, 2]), clien^)", "clients= client("},
		{"measure(\"(\", 'a,b', clien^", "clients= client("},
		{"measure([clien^", "client("},
		{"metric.csv(sour^", "source="},
		{"redis.nosuch(clien^", "client("},
		{"tab.percentile(^", "p="},
		{"measure(1 == clien^", "client("},

		// attributes
		{"redis.^", "host job"},
		{"redis.job.^", "id"},
		{"ready.h^", "http("},
		{"tab.m^", "max( mean( median( min("},
		{"redis.host.sta^", "startswith("},
		{"measure(redis).^", ""},
		{"nosuch.^", ""},
		{"print(redis.h^)", "host"},

		// files
		{"load(\"^", `@aifb//lib.star" one.star" sub/`},
		{"load('o^", "one.star'"},
		{"load(\"o^\", \"x\")", "one.star"},
		{"load(\"//s^", "//sub/"},
		{"load(\"sub/^", `sub/three.star"`},
		{"load(\"@^", `@aifb//lib.star"`},
		{"load(\"one.star\", \"^", `x" y"`},
		{"load(\"one.star\", \"x\", b = \"y^", `y"`},
		{"load(\"@aifb//lib.star\", \"b^", `boom"`},
		{"load(\"nosuch.star\", \"^", ""},
		{"load(\"../^", ""},

		// partitions
		{"service(\"x\", partition = \"^", `cpu" gpu" gpu-long"`},
		{"service(\"x\", partition=\"g^\")", "gpu gpu-long"},
		{"service(\"x\", account = \"^", ""},
		{"print(\"re^", ""},
		{"# re^", ""},
		{"'''\nre^", ""},

		// keys
		{"d[\"al^", `alpha"] all"]`},
		{"d['^", "alpha'] all']"},
		{"print(d[\"a^\"])", "alpha all"},
		{"d[\"it^", `it's"]`},
		{"job.labels[\"alp^", `alpha"]`},
		{"d[\"x\" + \"al^", ""},
		{"rate[\"al^", ""},
		{"[\"al^", ""},

		// commands
		{":^", "help vars load  save  time  reset quit"},
		{":q^", "quit"},
		{":vars ^", ""},
	} {
		text, after, _ := strings.Cut(test.line, "^")
		before := text[:strings.LastIndexByte(text, '\n')+1]
		line := text[len(before):]
		r.input = &file{text: []byte(before)}
		start, got := r.Complete(line+after, len(line))
		want := test.want
		if want == "all but name=" {
			if len(got) < 20 || strings.Join(got, " ") != strings.Join(r.params("service")[0:], "= ")+"=" {
				t.Errorf("%s: got %q", test.line, got)
			}
			continue
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.line, diff)
		}
		for _, c := range got {
			if start < 0 || start > len(line) || !strings.HasPrefix(c, line[start:]) {
				t.Errorf("%s: %q does not begin with what is at %d", test.line, c, start)
			}
		}
	}
}

// FuzzPlace has any text in front of the cursor.
func FuzzPlace(f *testing.F) {
	for _, text := range []string{"f(\"a", "x.y", "'''\n", "f(a=[1,{2:3}], b", ")))", "\\", "\"\\"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if c := cursorAt(text); !strings.HasSuffix(text, c.word) || !c.comment && c.call == nil {
			t.Errorf("%q: %+v", text, c)
		}
	})
}

// A target that does not answer is waited for a moment, once; what it answers later is there for the next Tab.
func TestPartitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		p := partitions{ask: func(ctx context.Context) []string {
			asked++
			select {
			case <-time.After(3 * time.Second):
				return []string{"cpu"}
			case <-ctx.Done():
				return nil
			}
		}}
		begin := time.Now()
		if got := p.get(); got != nil || time.Since(begin) != partitionsWait {
			t.Errorf("got %q after %v", got, time.Since(begin))
		}
		p.get()
		time.Sleep(5 * time.Second)
		if got := p.get(); len(got) != 1 || asked != 1 {
			t.Errorf("got %q, asked %d times", got, asked)
		}
		p.close()

		p = partitions{ask: func(ctx context.Context) []string { <-ctx.Done(); return nil }}
		p.get()
		p.close() // which a question under way does not keep back
	})
}

// BenchmarkComplete prints how long Tab takes, with 1000 lines before it.
func BenchmarkComplete(b *testing.B) {
	r := completeREPL(b)
	long := strings.Repeat("    measure(redis, clients = 1, x = \"text\")\n", 1000)
	for _, line := range []string{"mea", "service(\"x\", par", "tab.m", "load(\"@aifb//lib.star\", \"b"} {
		b.Run(line, func(b *testing.B) {
			r.input = &file{text: []byte("def f():\n" + long)}
			for b.Loop() {
				if _, got := r.Complete(line, len(line)); len(got) == 0 {
					b.Fatal("nothing")
				}
			}
		})
	}
}
