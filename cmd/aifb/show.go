package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func showCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "show a run: its jobs and what they measured",
		ArgsUsage:   "[RUN]",
		Description: "RUN is an id of `aifb runs`, its beginning or its last part; without one it is the last run.",
		Flags:       []cli.Flag{storeFlag(), configFlag(), jsonFlag()},
		Action: atMost(1, func(c *cli.Context) error {
			return withRun(c, func(_ context.Context, cfg *config, st *runtime.RunState) error {
				r := summarize(st, storage.Files(storeURL(c, cfg)))
				if c.Bool("json") {
					return showJSON(std.out, r, st)
				}
				return show(std.out, r, st)
			})
		}),
	}
}

// A jobSummary is a job in the JSON form of `aifb show`.
type jobSummary struct {
	Name   string         `json:"name"`
	Role   runtime.Role   `json:"role"`
	ID     runtime.JobID  `json:"id"`
	Host   string         `json:"host"`
	Status runtime.Status `json:"status"`
	Tries  int            `json:"tries,omitempty"` // if the infrastructure failed it before
	Why    string         `json:"why,omitempty"`   // the run cancelled it
	Files  string         `json:"files,omitempty"`
}

func summarizeJob(j *runtime.JobState) jobSummary {
	s := jobSummary{Name: j.Job.Name, Role: j.Role, ID: j.ID, Host: j.Host(), Status: j.Status, Why: j.Why}
	if len(j.Earlier) > 0 {
		s.Tries = len(j.Earlier) + 1
	}
	if j.Collected != nil {
		s.Files = j.Collected.Dir
	}
	return s
}

func showJSON(w io.Writer, r runSummary, st *runtime.RunState) error {
	jobs := []jobSummary{}
	for _, j := range st.Jobs {
		jobs = append(jobs, summarizeJob(j))
	}
	var measurements strings.Builder
	if err := runtime.WriteJSON(&measurements, st.Measurements); err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"version": 1, "run": r, "jobs": jobs, "unmet": describeUnmet(st.Unmet), "results": json.RawMessage(measurements.String())})
}

func show(w io.Writer, r runSummary, st *runtime.RunState) error {
	fmt.Fprintf(w, "run     %s: %s\nrecipe  %s\n", r.Run, r.State, r.Recipe)
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		from := ""
		if source := r.Sources[name]; source != "" {
			from = "  (from " + source + ")"
		}
		fmt.Fprintf(w, "        %s=%s\n", runtime.Printable(name), runtime.Printable(r.Params[name]+from))
	}
	fmt.Fprintf(w, "target  %s\nstarted %s\n", r.Target, r.Started.Local().Format(time.DateTime))
	if !r.Ended.IsZero() {
		fmt.Fprintf(w, "took    %v\n", r.Ended.Sub(r.Started).Round(100*time.Millisecond))
	}
	if r.Error != "" && st.End.Fault != runtime.FaultThreshold {
		fmt.Fprintf(w, "error   %s\n", strings.ReplaceAll(r.Error, "\n", "\n        "))
	}
	for _, u := range st.Unmet {
		fmt.Fprintf(w, "unmet   %s (%s)\n", runtime.Printable(u.Message), runtime.Printable(u.Deed.Pos))
	}
	if st.End != nil && st.End.Left != "" {
		fmt.Fprintf(w, "left    %s\n", st.End.Left)
	}
	if len(st.Jobs) > 0 {
		fmt.Fprintln(w)
		if err := runtime.WriteTable(w, []string{"job", "role", "id", "host", "state"}, jobRows(st)); err != nil {
			return err
		}
	}
	if len(st.Measurements) > 0 {
		fmt.Fprintln(w)
		header, rows := runtime.Pivot(st.Measurements)
		return runtime.WriteTable(w, header, rows)
	}
	return nil
}

func jobRows(st *runtime.RunState) (rows [][]string) {
	for _, j := range st.Jobs {
		rows = append(rows, []string{j.Job.Name, string(j.Role), string(j.ID), j.Host(), describeJob(j)})
	}
	return rows
}

// describeJob says where a job stands, why it was cancelled, and how often it was tried.
func describeJob(j *runtime.JobState) string {
	text := j.String()
	if j.Why != "" {
		text += ": " + j.Why
	}
	if n := len(j.Earlier); n > 0 {
		text += fmt.Sprintf(", at the %s try", ordinal(n+1))
	}
	return text
}

func ordinal(n int) string {
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}
