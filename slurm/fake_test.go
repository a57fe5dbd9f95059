package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aifb/aifb/runtime"
)

// A shellConn runs commands by handing them to a program that takes a command line: sh -c, or ssh HOST.
type shellConn struct {
	shell []string
	env   []string // beside this process's
	runs  atomic.Int32
}

func (c *shellConn) Run(ctx context.Context, cmd runtime.Cmd) error {
	c.runs.Add(1)
	var stderr bytes.Buffer
	p := exec.CommandContext(ctx, c.shell[0], append(c.shell[1:len(c.shell):len(c.shell)], runtime.Quote(cmd.Args...))...)
	p.Env = append(os.Environ(), c.env...)
	p.Stdin, p.Stdout, p.Stderr = cmd.Stdin, cmd.Stdout, &stderr
	err := p.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &runtime.ExitError{Args: cmd.Args, Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return err
}

func (c *shellConn) Get(ctx context.Context, name string, from int64, w io.Writer) error {
	const program = `[ -e "$1" ] || exit 44; tail -c "+$2" "$1"`
	err := c.Run(ctx, runtime.Cmd{Args: []string{"sh", "-c", program, "sh", name, fmt.Sprint(from + 1)}, Stdout: w})
	if exit := (*runtime.ExitError)(nil); errors.As(err, &exit) && exit.Code == 44 {
		return fs.ErrNotExist
	}
	return err
}

func (c *shellConn) Put(context.Context, string, fs.FileMode, io.Reader) error {
	return errors.ErrUnsupported
}

func (c *shellConn) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (c *shellConn) Close() error { return nil }

// A fake is a login node whose Slurm is made of shell programs.
type fake struct {
	*Scheduler
	*shellConn
	t   *testing.T
	dir string // the programs run in it, and jobs have their directories below it
}

// newFake makes a login node of commands, shell programs by their names. Each call is written to the file calls. The
// environment is that of a user inside of an allocation, with defaults of all sorts.
func newFake(t *testing.T, commands map[string]string) *fake {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o777); err != nil {
		t.Fatal(err)
	}
	if commands["sbatch"] == "" { // it is what a login node is known by
		commands = maps.Clone(commands)
		commands["sbatch"] = "exit 9"
	}
	for name, program := range commands {
		program = "#!/bin/sh\ncd " + dir + "\necho " + name + ` "$@" >>calls` + "\n" + program + "\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(program), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	conn := &shellConn{shell: []string{"sh", "-c"}, env: []string{
		"PATH=" + bin + ":/usr/bin:/bin", "SBATCH_PARTITION=other", "SQUEUE_FORMAT=%i", "SLURM_CLUSTERS=other",
		"SLURM_JOB_ID=77", "SACCT_FORMAT=JobID", "SLURM_CONF=/etc/slurm.conf",
	}}
	return &fake{Scheduler: New(conn, "meluxina"), shellConn: conn, t: t, dir: dir}
}

// job makes a job below the fake's directory.
func (f *fake) job(name string) runtime.Job {
	return runtime.Job{Token: "aifb-" + name, Name: name, Dir: filepath.Join(f.dir, "run", name),
		Args: []string{"true"}, Limit: 60e9}
}

// read returns a file, or "".
func (f *fake) read(name string) string {
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Fatal(err)
	}
	return string(data)
}

// calls returns how often a command was called.
func (f *fake) calls(command string) int {
	return strings.Count("\n"+f.read("calls"), "\n"+command+" ")
}

// submit submits jobs of which none may fail.
func (f *fake) submit(jobs ...runtime.Job) (ids []runtime.JobID) {
	f.t.Helper()
	subs, err := f.Submit(f.t.Context(), jobs...)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, sub := range subs {
		if sub.Err != nil {
			f.t.Fatal(sub.Err)
		}
		ids = append(ids, sub.ID)
	}
	return ids
}
