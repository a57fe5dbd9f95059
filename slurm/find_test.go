package slurm

import (
	"testing"

	"github.com/aifb/aifb/runtime"
)

// Find is TestStatus's job as far as states go.
func TestFind(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"squeue": `case "$*" in
*" -o "*) printf '7\037aifb-r1-db\n8_0\037aifb-r1-c\n8_1\037aifb-r1-c\n9_5\037aifb-r1-c+1000\n10\037aifb-r10-x\n11\037other\n12\037aifb-r1-c\nnoise\n' ;;
*) ` + prints(record("7", "RUNNING", "0:0", "0", "1795494739", "1795495339", "n[1-2]", "None")) + ` ;;
esac`,
		"sacct": `case "$*" in *JobName*) printf '7\037aifb-r1-db\n6\037aifb-r1-old\n8_[2-5]\037aifb-r1-c\n' ;; esac`,
	})
	found, err := f.Find(t.Context(), "aifb-r1-")
	if err != nil {
		t.Fatal(err)
	}
	want := []runtime.Found{{Token: "aifb-r1-c", ID: "12"}, {Token: "aifb-r1-c.0", ID: "8_0"}, {Token: "aifb-r1-c.1", ID: "8_1"},
		{Token: "aifb-r1-c.1005", ID: "9_5"}, {Token: "aifb-r1-db", ID: "7"}, {Token: "aifb-r1-old", ID: "6"}}
	if len(found) != len(want) {
		t.Fatalf("got %+v", found)
	}
	for i := range want {
		if found[i].Token != want[i].Token || found[i].ID != want[i].ID {
			t.Errorf("got %+v, want %+v", found[i], want[i])
		}
	}
	if found[4].Status.State != runtime.Running || found[4].Status.Node != "n1" {
		t.Errorf("the status is %+v", found[4].Status)
	}
}

// What has not ended is in squeue, whatever sacct says; without squeue, nothing is known.
func TestFindErrors(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"squeue": "printf '7\\037aifb-r1-db\\n'"})
	if found, err := f.Find(t.Context(), "aifb-"); err != nil || len(found) != 1 {
		t.Errorf("without sacct: %+v, %v", found, err)
	}
	f = newFake(t, map[string]string{"squeue": "echo Socket timed out >&2; exit 1", "sacct": "printf '7\\037aifb-r1-db\\n'"})
	if found, err := f.Find(t.Context(), "aifb-"); err == nil || err.Error() != "find jobs: squeue: Socket timed out" || found != nil {
		t.Errorf("without squeue: %+v, %v", found, err)
	}
}

func FuzzParseTokens(f *testing.F) {
	f.Add("7\x1faifb-a\n8_1\x1faifb-b+1000\n")
	f.Add("8_[1-2]\x1fx\n\x1f\n9")
	f.Fuzz(func(t *testing.T, out string) {
		tokens := make(map[runtime.JobID]string)
		parseTokens(out, tokens, new(skips))
		for id, token := range tokens {
			if !idForm.MatchString(string(id)) {
				t.Errorf("%q: %q, %q", out, id, token)
			}
		}
	})
}
