package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
)

func compareCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "compare what two runs measured",
		ArgsUsage: "A B",
		Description: `A and B are ids of aifb runs, their beginnings or last parts, or last. A row is a metric with the same labels in both
runs: the medians of the values, how many there are, and by how much B is above A. The parameters that the runs do not
share are above the table. A star says that all values of one run are above all of the other, and that there are
enough of them, four each, for that not to be chance. Of fewer, nothing can be said.`,
		Flags: []cli.Flag{storeFlag(), configFlag(), jsonFlag()},
		Action: atMost(2, func(c *cli.Context) error {
			if c.NArg() < 2 {
				return runtime.Faultf(runtime.FaultUsage, helpHint(c), "which two runs are to be compared?")
			}
			return withStore(c, func(ctx context.Context, _ *config, store runtime.Store) error {
				var runs [2]*runtime.RunState
				for i := range runs {
					st, err := findRun(ctx, store, c.Args().Get(i))
					if err != nil {
						return err
					}
					runs[i] = st
				}
				all := runtime.Compare(runs[0].Measurements, runs[1].Measurements)
				if c.Bool("json") {
					return compareJSON(std.out, runs, all)
				}
				return printComparison(std.out, runs, all)
			})
		}),
	}
}

// A metricComparison is a row in the JSON form of `aifb compare`.
type metricComparison struct {
	Metric string            `json:"metric"`
	Unit   string            `json:"unit"`
	Labels map[string]string `json:"labels"`
	A      []float64         `json:"a"`
	B      []float64         `json:"b"`
	Change *float64          `json:"change"` // of the medians, as a part of A; null: there is none
	Apart  bool              `json:"apart"`
}

func compareJSON(w io.Writer, runs [2]*runtime.RunState, all []runtime.Comparison) error {
	rows := []metricComparison{}
	for _, c := range all {
		row := metricComparison{Metric: c.Metric, Unit: c.Unit, Labels: c.Labels, A: c.A, B: c.B, Apart: c.Apart()}
		if change, ok := c.Change(); ok {
			row.Change = &change
		}
		rows = append(rows, row)
	}
	return writeJSON(w, map[string]any{"version": 1, "a": runs[0].Run, "b": runs[1].Run, "metrics": rows})
}

func printComparison(w io.Writer, runs [2]*runtime.RunState, all []runtime.Comparison) error {
	for i, st := range runs {
		fmt.Fprintf(w, "%c  %s  %s on %s%s\n", 'A'+rune(i), st.Run, runtime.Printable(st.Start.Recipe), runtime.Printable(st.Start.Target),
			runtime.Printable(otherParams(st.Start.Params, runs[1-i].Start.Params)))
	}
	fmt.Fprintln(w)
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "neither run measured anything")
		return err
	}
	var rows [][]string
	for _, c := range all {
		metric := c.Metric
		if c.Unit != "" {
			metric += " (" + c.Unit + ")"
		}
		a, n := middle(c.A)
		b, m := middle(c.B)
		rows = append(rows, []string{metric, labelList(c.Labels), a, n, b, m, change(c)})
	}
	return runtime.WriteTable(w, []string{"metric", "labels", "A", "n", "B", "n", "change"}, rows)
}

// otherParams lists the parameters of a run that are others than those of the run that it is compared with.
func otherParams(params, others map[string]string) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if other, ok := others[name]; !ok || other != params[name] {
			text += fmt.Sprintf(", %s=%s", name, params[name])
		}
	}
	return text
}

// middle returns the median of values and their number, or nothing where there are none.
func middle(values []float64) (text, n string) {
	if len(values) == 0 {
		return "", ""
	}
	return runtime.FormatValue(runtime.Median(values)), fmt.Sprint(len(values))
}

func change(c runtime.Comparison) string {
	part, ok := c.Change()
	if !ok {
		return ""
	}
	text := fmt.Sprintf("%+.1f%%", 100*part)
	if c.Apart() {
		text += " *"
	}
	return text
}

func labelList(labels map[string]string) string {
	var words []string
	for _, name := range runtime.LabelNames([]runtime.Record{{Labels: labels}}) {
		words = append(words, name+"="+labels[name])
	}
	return strings.Join(words, " ")
}
