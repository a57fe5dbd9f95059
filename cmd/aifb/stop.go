package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
)

func stopCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:        "stop",
		Usage:       "cancel the jobs of a run that may still be running",
		ArgsUsage:   "RUN",
		Description: "It is for a run that was left behind; one that is under way ends better by Ctrl-C.",
		Flags:       []cli.Flag{storeFlag(), configFlag()},
		Action: atMost(1, func(c *cli.Context) error {
			if c.Args().First() == "" {
				return runtime.Faultf(runtime.FaultUsage, "aifb runs lists them", "which run is to be stopped?")
			}
			return withRun(c, func(ctx context.Context, cfg *config, st *runtime.RunState) error {
				stopped, err := stopRun(ctx, cfg, st)
				if err != nil {
					return err
				}
				if len(stopped) == 0 {
					_, err = fmt.Fprintf(std.err, "run %s: no job of it is running\n", st.Run)
				} else {
					_, err = fmt.Fprintf(std.err, "run %s: stopped %s\n", st.Run, strings.Join(stopped, ", "))
				}
				return err
			})
		}),
	}
}

// stopRun cancels the live jobs of a run and returns their names. What the scheduler says decides, not what was stored:
// the program that wrote the records may have been killed.
func stopRun(ctx context.Context, cfg *config, st *runtime.RunState) (stopped []string, err error) {
	names := make(map[runtime.JobID]string)
	var ids []runtime.JobID
	for _, j := range st.Jobs {
		if j.Live() {
			names[j.ID], ids = j.Job.Name, append(ids, j.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	target, err := openTarget(cfg, st.Start.Target)
	if err != nil {
		return nil, err
	}
	defer target.Conn.Close()
	known, err := target.Scheduler.Status(ctx, ids...)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if s, ok := known[id]; ok && s.State != runtime.Ended {
			stopped = append(stopped, names[id])
		}
	}
	return stopped, target.Scheduler.Cancel(ctx, ids...)
}
