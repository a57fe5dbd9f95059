package slurm

import (
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
)

func TestParseAttempt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text     string
		answered bool
		id       runtime.JobID
		class    runtime.Class
		stderr   string
	}{
		{"", false, "", runtime.Ambiguous, ""},
		{"M aifb-a -\n", false, "", runtime.Ambiguous, ""},
		{"M aifb-a -\n\nM begin out\n7\nM end 0\n", true, "7", runtime.Ambiguous, ""},
		{"M aifb-a -\nsbatch: lua: hello\n\nM begin out\n7;beta\nM end 0\n", true, "7;beta", runtime.Ambiguous, "sbatch: lua: hello"},
		{"M aifb-a -\nno newline\nM begin out\n7\nM end 0\n", true, "7", runtime.Ambiguous, "no newline"},
		{"M aifb-a -\nsbatch: error: Invalid qos specification\n\nM begin out\n\nM end 1\n", true, "", runtime.Permanent,
			"sbatch: error: Invalid qos specification"},
		{"M aifb-a -\n\nM begin out\n\nM end 0\n", true, "", runtime.Ambiguous, ""},
		{"M aifb-a -\n\nM begin out\n7\nM end 1\n", true, "", runtime.Ambiguous, ""},
		{"M aifb-a -\n\nM begin out\n7\nM end", false, "", runtime.Ambiguous, ""},
		{"M aifb-a -\n\nX begin out\n7\nX end 0\n", false, "", runtime.Ambiguous, "X begin out\n7\nX end 0"},
		// Found later.
		{"M aifb-a -\n\nM begin out\n\nM end 0\n\nM begin out\n7\nM end 0\n", true, "7", runtime.Ambiguous, ""},
	}
	job := runtime.Job{Token: "aifb-a"}
	for _, test := range tests {
		a := parseAttempt(3, test.text)
		if a.answered != test.answered || a.id(job) != test.id || a.number != 3 || strings.TrimSpace(a.stderr) != test.stderr {
			t.Errorf("%q: got %+v, id %q", test.text, a, a.id(job))
		}
		if e := New(nil, "x").attemptFailure(a); e.Class != test.class {
			t.Errorf("%q: class %s, want %s", test.text, e.Class, test.class)
		}
	}
}

func TestPlaceRead(t *testing.T) {
	t.Parallel()
	job := runtime.Job{Token: "aifb-a"}
	p := &place{dir: "/d"}
	p.read("noise\nM file 0\nA aifb-a -\n\nM file 10\nB aifb-b -\n\nM file 2\nC aifb-a -\nsbatch: x\nM file *\nD aifb-a -\n", "M")
	if len(p.attempts) != 3 || p.next != 11 || p.latest(job).mark != "C" || p.file(p.attempts[2]) != "/d/answer.10" {
		t.Errorf("got %+v, next %d", p.attempts, p.next)
	}
	p.latest(job).misses = 1
	p.read("\nM file 2\nC aifb-a -\n\nC begin out\n7\nC end 0\n", "M")
	if a := p.latest(job); len(p.attempts) != 1 || p.next != 3 || a.misses != 1 || a.id(job) != "7" {
		t.Errorf("got %+v", p.attempts)
	}
}

// A job's id comes out of nothing but an answer that is whole, and that is the answer of that job's sbatch.
func FuzzPlaceRead(f *testing.F) {
	f.Add("\nM file 0\nA aifb-a -\n\nA begin out\n7\nA end 0\n")
	f.Add("\nM file 0\nA aifb-g 0-9,11\n\nA begin out\n7;beta\nA end 0\n")
	f.Add("\nM file 1\nA aifb-g+1000 0-9\n\nA begin out\n7\nA end 137\nM file 2\n")
	f.Fuzz(func(t *testing.T, out string) {
		p := &place{dir: "/d"}
		p.read(out, "M")
		for _, job := range []runtime.Job{{Token: "aifb-a"}, {Token: "aifb-g.3", Dir: "/d.3", Group: "g", Index: 3}} {
			a := p.latest(job)
			if a == nil {
				continue
			}
			id := a.id(job)
			if id == "" {
				continue
			}
			if !idForm.MatchString(string(id)) || !a.answered || a.code != 0 || a.mark == "" || !a.covers(job) {
				t.Errorf("%q: job %s has id %q by %+v", out, job.Token, id, a)
			}
		}
	})
}
