package main

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
)

func exportCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write what a run measured",
		ArgsUsage: "[RUN]",
		Description: `RUN is an id of aifb runs, its beginning or its last part; without one it is the last run. CSV has a line for each value,
with the columns run, time, source (the job), metric, value and unit, and one for each label.`,
		Flags: []cli.Flag{storeFlag(), configFlag(),
			&cli.StringFlag{Name: "format", Value: "csv", Usage: "the `FORMAT`: csv or json"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "the `FILE` to write; without it, or with -, stdout"},
		},
		Action: atMost(1, func(c *cli.Context) error {
			writers := map[string]func(io.Writer, []runtime.Record) error{"csv": runtime.WriteCSV, "json": runtime.WriteJSON}
			write, ok := writers[c.String("format")]
			if !ok {
				return runtime.Faultf(runtime.FaultUsage, "there are csv and json", "unknown format %q", c.String("format"))
			}
			return withRun(c, func(_ context.Context, _ *config, st *runtime.RunState) error {
				if name := c.String("output"); name != "" && name != "-" {
					return writeFile(name, func(w io.Writer) error { return write(w, st.Measurements) })
				}
				return write(std.out, st.Measurements)
			})
		}),
	}
}
