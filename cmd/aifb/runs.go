package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func jsonFlag() cli.Flag { return boolFlag("json", "print JSON") }

func boolFlag(name, usage string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage, DisableDefaultText: true}
}

func runsCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:  "runs",
		Usage: "list the runs of the store, the newest last",
		Description: `Other commands take the id of a run, its beginning, its last part, or last. Its state is running, ok, failed, or left: its
aifb was killed, and nobody looks after its jobs; aifb resume goes on with it, aifb stop ends it.`,
		Flags: []cli.Flag{storeFlag(), configFlag(), jsonFlag()},
		Action: atMost(0, func(c *cli.Context) error {
			return withStore(c, func(ctx context.Context, cfg *config, store runtime.Store) error {
				runs, err := listRuns(ctx, store)
				if err != nil {
					return err
				}
				return printRuns(std.out, runs, storage.Files(storeURL(c, cfg)), c.Bool("json"))
			})
		}),
	}
}

// listRuns folds all runs, without their measurements.
func listRuns(ctx context.Context, store runtime.Store) (runs []*runtime.RunState, err error) {
	for rec, err := range store.Records(ctx, runtime.Query{}) {
		if err != nil {
			return nil, err
		}
		if len(runs) == 0 || runs[len(runs)-1].Run != rec.Run {
			runs = append(runs, new(runtime.RunState))
		}
		if rec.Kind == runtime.KindMeasurement {
			continue
		}
		if err := runs[len(runs)-1].Apply(rec); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(runs, func(a, b *runtime.RunState) int { return a.Started.Compare(b.Started) })
	return runs, nil
}

// A runSummary is a run in the JSON form of `aifb runs` and `aifb show`.
type runSummary struct {
	Run     string            `json:"run"`
	Recipe  string            `json:"recipe"`
	Params  map[string]string `json:"params"`
	Sources map[string]string `json:"sources,omitempty"` // of the params that are not the defaults
	Target  string            `json:"target"`
	Started time.Time         `json:"started"`
	Ended   time.Time         `json:"ended,omitzero"`
	State   string            `json:"state"` // running, left, ok or failed
	Error   string            `json:"error,omitempty"`
	Jobs    int               `json:"jobs"`
	Live    int               `json:"live"` // that may still be running
}

func summarize(st *runtime.RunState, files string) runSummary {
	r := runSummary{Run: st.Run, Recipe: st.Start.Recipe, Params: st.Start.Params, Sources: st.Start.Sources,
		Target: st.Start.Target, Started: st.Started, Ended: st.Ended, Jobs: len(st.Jobs)}
	r.State, _ = stateOf(st, files)
	for _, j := range st.Jobs {
		if j.Live() {
			r.Live++
		}
	}
	if st.End != nil {
		r.Error = st.End.Error
	}
	return r
}

// The states of a run.
const (
	runRunning = "running" // a process looks after it
	runLeft    = "left"    // it has not ended, and no process looks after it
	runOK      = "ok"
	runFailed  = "failed"
)

// stateOf returns the state of a run, whose files on this machine are below files, and the process that looks after it.
// Of one on another machine that is 0.
func stateOf(st *runtime.RunState, files string) (state string, pid int) {
	pid, alive := runOwner(files, st.Run)
	switch {
	case alive:
		return runRunning, pid
	case st.End == nil:
		return runLeft, 0
	case st.End.Error != "":
		return runFailed, 0
	}
	return runOK, 0
}

func printRuns(w io.Writer, runs []*runtime.RunState, files string, asJSON bool) error {
	summaries := []runSummary{}
	for _, st := range runs {
		summaries = append(summaries, summarize(st, files))
	}
	if asJSON {
		return writeJSON(w, map[string]any{"version": 1, "runs": summaries})
	}
	var rows [][]string
	for _, r := range summaries {
		took := ""
		if !r.Ended.IsZero() {
			took = r.Ended.Sub(r.Started).Round(100 * time.Millisecond).String()
		}
		rows = append(rows, []string{r.Run, r.Recipe, r.Target, r.Started.Local().Format(time.DateTime), took, r.State, fmt.Sprint(r.Jobs), fmt.Sprint(r.Live)})
	}
	return runtime.WriteTable(w, []string{"run", "recipe", "target", "started", "took", "state", "jobs", "live"}, rows)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// matchRun finds the one run that id means.
func matchRun(ids []string, id string) (string, error) {
	if len(ids) == 0 {
		return "", runtime.Faultf(runtime.FaultUsage, "is it in another store? see --store", "there are no runs")
	}
	if id == "last" {
		return ids[len(ids)-1], nil
	}
	var found []string
	for _, run := range ids {
		if run == id {
			return run, nil
		}
		if strings.HasPrefix(run, id) || strings.HasSuffix(run, "-"+id) {
			found = append(found, run)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", runtime.Faultf(runtime.FaultUsage, "", "%q may be %s", id, strings.Join(found[:min(len(found), 5)], ", "))
	}
	hint := runtime.DidYouMean(id, ids)
	if hint == "" {
		hint = "aifb runs lists them; the last one is " + ids[len(ids)-1]
	}
	return "", runtime.Faultf(runtime.FaultUsage, hint, "there is no run %q", id)
}
