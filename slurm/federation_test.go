package slurm

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A job that is revoked here is followed to the cluster of the federation that has it. Where none does, it is lost.
func TestRevoked(t *testing.T) {
	gone := record("7", "REVOKED", "0:0", "0", "100", "N/A", "", "Priority")
	runs := record("7", "RUNNING", "0:0", "0", "100", "N/A", "b1", "None")
	done := record("7", "FAILED", "3:0", "0", "100", "200", "b1", "NonZeroExitCode")
	accounts := row("7", "REVOKED", "0:0", "Unknown", "150", "None assigned", "100", "0")
	counted := row("7", "COMPLETED", "0:0", "100", "200", "b1", "50", "0")
	for name, test := range map[string]struct {
		here, federation, accounts string
		want, later                string // soon, and after a time in which accounting could have told
	}{
		"runs there":             {gone, gone + runs, "", "running", "running"},
		"runs there, said first": {gone, runs + gone, "", "running", "running"},
		"only said there":        {gone, runs, "", "running", "running"},
		"ended there":            {gone, gone + done, "", "ended", "ended"},
		"accounting knows":       {gone, gone, accounts + counted, "ended", "ended"},
		"accounting, reversed":   {gone, gone, counted + accounts, "ended", "ended"},
		"nobody has it":          {gone, gone, accounts, "", "gone"},
		"nobody knows it":        {gone, gone, "", "", "gone"},
		"not revoked":            {runs, done, "", "running", "running"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				federated := func(yes, no string) string {
					return `case " $* " in *" --federation "*) ` + yes + ` ;; *) ` + no + ` ;; esac`
				}
				f := newFake(t, map[string]string{
					"squeue":   federated(prints(test.federation), prints(test.here)),
					"sacct":    federated(prints(test.accounts), prints("")),
					"scontrol": "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1",
				})
				f.known.Store(&capabilities{accounting: true})
				state := func() string {
					known, err := f.Status(t.Context(), "7")
					if err != nil {
						t.Fatal(err)
					}
					st, ok := known["7"]
					if !ok {
						return "gone"
					}
					if st.State == runtime.Unknown && st.Reason == "" {
						t.Errorf("unknown, and nobody says why: %+v", st)
					}
					return string(st.State)
				}
				if got := state(); got != test.want && !(test.want == "" && got == "gone") {
					t.Errorf("its state is %q, want %q", got, test.want)
				}
				asked := f.calls("squeue")
				if want := map[bool]int{true: 2, false: 1}[test.here == gone]; asked != want {
					t.Errorf("squeue was called %d times, want %d", asked, want)
				}
				for range 30 {
					time.Sleep(30 * time.Second)
					state()
				}
				if got := state(); got != test.later {
					t.Errorf("in the end its state is %q, want %q", got, test.later)
				}
				if n := f.calls("squeue") - asked; n != 31 {
					t.Errorf("squeue was called %d times for 31 questions", n)
				}
			})
		})
	}
}
