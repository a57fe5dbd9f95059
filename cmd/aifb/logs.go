package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
)

func logsCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:        "logs",
		Usage:       "print what the jobs of a run printed",
		ArgsUsage:   "[RUN [JOB]]",
		Description: "Of a job whose files are not here yet, they are read from the target.",
		Flags:       []cli.Flag{storeFlag(), configFlag()},
		Action: atMost(2, func(c *cli.Context) error {
			return withRun(c, func(ctx context.Context, cfg *config, st *runtime.RunState) error {
				jobs, err := selectJobs(st, c.Args().Get(1))
				if err != nil {
					return err
				}
				return printLogs(ctx, std.out, cfg, st, jobs)
			})
		}),
	}
}

// selectJobs returns the named job of a run, or all.
func selectJobs(st *runtime.RunState, name string) ([]*runtime.JobState, error) {
	if name == "" {
		return st.Jobs, nil
	}
	if j := st.Job(name); j != nil {
		return []*runtime.JobState{j}, nil
	}
	var names []string
	for _, j := range st.Jobs {
		names = append(names, j.Job.Name)
	}
	return nil, runtime.Faultf(runtime.FaultUsage, cmp.Or(runtime.DidYouMean(name, names), fmt.Sprintf("its jobs are %v", names)),
		"run %s has no job %q", st.Run, name)
}

// logFiles are what a job printed, in the order in which it is shown. slurm.out has what the login profile and Slurm
// itself printed.
var logFiles = []string{"slurm.out", runtime.FileStderr, runtime.FileStdout}

func printLogs(ctx context.Context, w io.Writer, cfg *config, st *runtime.RunState, jobs []*runtime.JobState) error {
	read := readLocal
	if slices.ContainsFunc(jobs, func(j *runtime.JobState) bool { return j.Collected == nil && j.ID != "" }) {
		target, err := openTarget(cfg, st.Start.Target)
		if err != nil {
			return err
		}
		defer target.Conn.Close()
		read = func(ctx context.Context, j *runtime.JobState, name string) ([]byte, error) {
			if j.Collected != nil || j.ID == "" {
				return readLocal(ctx, j, name)
			}
			var b bytes.Buffer
			err := target.Conn.Get(ctx, path.Join(j.Job.Dir, name), 0, &b)
			return b.Bytes(), err
		}
	}
	for _, j := range jobs {
		for _, name := range logFiles {
			data, err := read(ctx, j, name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("logs of %s: %w", j.Job.Name, err)
			}
			if len(data) > 0 {
				fmt.Fprintf(w, "==> %s %s <==\n%s\n", j.Job.Name, name, bytes.TrimRight(data, "\n"))
			}
		}
	}
	return nil
}

func readLocal(_ context.Context, j *runtime.JobState, name string) ([]byte, error) {
	if j.Collected == nil {
		return nil, nil
	}
	return os.ReadFile(filepath.Join(j.Collected.Dir, name))
}
