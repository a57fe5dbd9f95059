package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/local"
	"github.com/aifb/aifb/storage"
)

func logsCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "print what the jobs of a run printed",
		ArgsUsage: "[RUN [JOB]]",
		Description: `RUN is an id of aifb runs, its beginning or its last part; without one it is the last run. JOB is one of aifb show.
Of a job whose files are not here yet, they are read from the target. With --follow it goes on until the job has ended, or,
without JOB, the run: then also jobs that start later are shown. Ctrl-C leaves.`,
		Flags: []cli.Flag{storeFlag(), configFlag(),
			boolFlag("follow", "go on as the jobs print more", "f"),
			boolFlag("stdout", "only what the commands printed to stdout"),
			boolFlag("stderr", "only what they printed to stderr"),
			&cli.IntFlag{Name: "tail", Aliases: []string{"n"}, Value: -1, Usage: "only the last `N` lines of each file", DefaultText: "all"}},
		Action: atMost(2, func(c *cli.Context) error {
			if c.IsSet("tail") && c.Int("tail") < 0 {
				return runtime.Faultf(runtime.FaultUsage, "", "--tail %d is no number of lines", c.Int("tail"))
			}
			ctx, done := untilLeft(c.Context)
			defer done()
			return withStore(c, func(_ context.Context, cfg *config, store runtime.Store) error {
				st, err := findRun(ctx, store, cmp.Or(c.Args().First(), "last"))
				if err != nil {
					return err
				}
				l := &logs{observer: observer{cfg: cfg, store: store, files: storage.Files(storeURL(c, cfg)), run: st.Run},
					names: logNames(c.Bool("stdout"), c.Bool("stderr")), tail: c.Int("tail"), out: std.out, err: std.err}
				defer l.close()
				jobs, err := selectJobs(st, c.Args().Get(1))
				if err != nil {
					return err
				}
				if c.Bool("follow") {
					return left(ctx, l.follow(ctx, c.Args().Get(1), len(jobs)))
				}
				return l.print(ctx, st, jobs)
			})
		}),
	}
}

// logNames are the files with what a job printed, in the order in which they are shown. slurm.out has what the login
// profile and Slurm itself printed.
func logNames(stdout, stderr bool) []string {
	switch {
	case stdout && !stderr:
		return []string{runtime.FileStdout}
	case stderr && !stdout:
		return []string{runtime.FileStderr}
	}
	return []string{"slurm.out", runtime.FileStderr, runtime.FileStdout}
}

// selectJobs returns the named job of a run, or the jobs of the client with count that is named, or all.
func selectJobs(st *runtime.RunState, name string) ([]*runtime.JobState, error) {
	if name == "" {
		return st.Jobs, nil
	}
	if j := st.Job(name); j != nil {
		return []*runtime.JobState{j}, nil
	}
	var names []string
	var group []*runtime.JobState
	for _, j := range st.Jobs {
		names = append(names, j.Job.Name)
		if j.Job.Group == name {
			group = append(group, j)
		}
	}
	if group != nil {
		return group, nil
	}
	hint := "it has no jobs"
	if len(names) > 0 {
		hint = "its jobs are " + strings.Join(names, ", ")
	}
	return nil, runtime.Faultf(runtime.FaultUsage, cmp.Or(runtime.DidYouMean(name, names), hint),
		"run %s has no job %q", st.Run, name)
}

// logs reads what the jobs of a run print.
type logs struct {
	observer
	names []string
	tail  int // lines of each file; negative: all

	out, err io.Writer
}

// source returns where a job's files are: on this machine once they are here, else on the target. They are nowhere if the
// job was never submitted.
func (l *logs) source(st *runtime.RunState, j *runtime.JobState) (conn runtime.Conn, dir string, err error) {
	switch {
	case j.Collected != nil:
		return local.Conn{}, j.Collected.Dir, nil
	case j.ID == "":
		return nil, "", nil
	}
	target, err := l.open(st)
	if err != nil {
		return nil, "", err
	}
	return target.Conn, j.Job.Dir, nil
}

// print prints the files of jobs as they are now, one after the other.
func (l *logs) print(ctx context.Context, st *runtime.RunState, jobs []*runtime.JobState) error {
	for _, j := range jobs {
		conn, dir, err := l.source(st, j)
		if err != nil {
			return err
		}
		for _, name := range l.names {
			if conn == nil {
				continue
			}
			w := &section{w: l.out, head: fmt.Sprintf("==> %s %s <==\n", j.Job.Name, name)}
			if _, err := copyLog(ctx, conn, path.Join(dir, name), l.tail, w); err != nil {
				return fmt.Errorf("logs of %s: %w", j.Job.Name, err)
			}
			if err := w.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

// A section has a head and ends with a newline, unless it is empty.
type section struct {
	w    io.Writer
	head string
	last byte
}

func (s *section) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.last == 0 {
		if _, err := io.WriteString(s.w, s.head); err != nil {
			return 0, err
		}
	}
	s.last = p[len(p)-1] | 1<<7 // never 0
	if p[len(p)-1] == '\n' {
		s.last = '\n'
	}
	return s.w.Write(p)
}

func (s *section) end() (err error) {
	if s.last != 0 && s.last != '\n' {
		_, err = s.w.Write([]byte("\n"))
	}
	return err
}

// tailProgram prints how long a file is, and its last lines up to there.
const tailProgram = `[ -f "$1" ] || exit 0
size=$(wc -c <"$1") && echo "aifb-size $((size))" && head -c "$size" "$1" | tail -n "$2"`

// copyLog copies a file, or its last lines if tail is not negative, and returns at which offset it ended. One that is not
// there is empty.
func copyLog(ctx context.Context, conn runtime.Conn, name string, tail int, w io.Writer) (end int64, err error) {
	if tail < 0 {
		c := &counter{w: w}
		err := conn.Get(ctx, name, 0, c)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return c.n, err
	}
	t := &afterSize{w: w}
	err = conn.Run(ctx, runtime.Cmd{Args: []string{"/bin/sh", "-c", tailProgram, "sh", name, strconv.Itoa(tail)}, Stdout: t})
	return t.size, err
}

// A counter counts what is written to it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// An afterSize passes on what comes after the size that tailProgram prints.
type afterSize struct {
	w    io.Writer
	size int64
	head []byte
	past bool
}

func (a *afterSize) Write(p []byte) (int, error) {
	if a.past {
		return a.w.Write(p)
	}
	const mark = "aifb-size "
	a.head = append(a.head, p...)
	_, rest, found := bytes.Cut(a.head, []byte(mark))
	number, rest, ended := bytes.Cut(rest, []byte("\n"))
	if !found || !ended {
		if over := len(a.head) - 4096; over > 0 && !found { // what a login shell prints
			a.head = a.head[over:]
		}
		return len(p), nil
	}
	a.past, a.head = true, nil
	var err error
	if a.size, err = strconv.ParseInt(string(number), 10, 64); err == nil {
		_, err = a.w.Write(rest)
	}
	return len(p), err
}
