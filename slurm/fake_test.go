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
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A shellConn runs commands by handing them to a program that takes a command line: sh -c, or ssh HOST. What it runs
// finds in NOW how many seconds ago the first command was, as this process's clock says, which may be a virtual one.
type shellConn struct {
	shell []string
	env   []string // beside this process's
	runs  atomic.Int32
	first atomic.Pointer[time.Time]
	fault func(run int32, cmd *runtime.Cmd, p *exec.Cmd) error // if not nil, may spoil a run; an error is Run's
}

func (c *shellConn) Run(ctx context.Context, cmd runtime.Cmd) error {
	run := c.runs.Add(1)
	now := time.Now()
	c.first.CompareAndSwap(nil, &now)
	var stderr bytes.Buffer
	p := exec.CommandContext(ctx, c.shell[0], append(c.shell[1:len(c.shell):len(c.shell)], runtime.Quote(cmd.Args...))...)
	p.Env = append(os.Environ(), c.env...)
	p.Env = append(p.Env, fmt.Sprintf("NOW=%d", now.Sub(*c.first.Load())/time.Second))
	p.Stdin, p.Stdout, p.Stderr = cmd.Stdin, cmd.Stdout, &stderr
	if c.fault != nil {
		if err := c.fault(run, &cmd, p); err != nil {
			return err
		}
	}
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
		commands = maps.Collect(maps.All(commands))
		commands["sbatch"] = "exit 9"
	}
	conn := &shellConn{shell: []string{"sh", "-c"}, env: []string{
		"PATH=" + bin + ":/usr/bin:/bin", "SBATCH_PARTITION=other", "SQUEUE_FORMAT=%i", "SLURM_CLUSTERS=other",
		"SLURM_JOB_ID=77", "SACCT_FORMAT=JobID", "SLURM_CONF=/etc/slurm.conf",
	}}
	f := &fake{Scheduler: New(conn, "meluxina"), shellConn: conn, t: t, dir: dir}
	for name, program := range commands {
		f.set(name, program)
	}
	return f
}

// job makes a job below the fake's directory.
func (f *fake) job(name string) runtime.Job {
	return runtime.Job{Token: "aifb-" + name, Name: name, Dir: filepath.Join(f.dir, "run", name),
		Args: []string{"true"}, Limit: 60e9}
}

// group makes a group of jobs below the fake's directory.
func (f *fake) group(name string, count int) (jobs []runtime.Job) {
	for i := range count {
		job := f.job(fmt.Sprintf("%s.%d", name, i))
		job.Group, job.Index, job.Count = name, i, count
		jobs = append(jobs, job)
	}
	return jobs
}

// write writes a file.
func (f *fake) write(name, content string) {
	f.t.Helper()
	name = filepath.Join(f.dir, name)
	err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte(content), 0o666))
	if err != nil {
		f.t.Fatal(err)
	}
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

// queue makes a fake's commands those of one cluster. In the file queue there is a line for each job: its number, its
// name, its tasks or a dash, and the NOW from which on squeue knows it.
var queue = map[string]string{
	"sbatch": `name= tasks=- script=
for a; do
	case $a in
	--job-name=*) name=${a#*=} ;;
	--array=*) tasks=${a#*=} ;;
	/*) script=$a ;;
	esac
done
[ -n "$name" ] || name=$(sed -n 's/^#SBATCH --job-name=//p' "$script")
submit() { # as sbatch does, but squeue knows the job only after some time
	until mkdir lock 2>/dev/null; do :; done
	id=$(($(cat last 2>/dev/null || echo 100) + 1))
	echo $id >last
	echo "$id $name $tasks $((NOW + ${delay:-0}))" >>queue
	rmdir lock
	echo $id
}
fail() {
	echo "sbatch: error: Batch job submission failed: $1" >&2
	exit 1
}
first() { # whether it is the first call
	[ ! -e called ] && : >called
}
`,
	"squeue": `[ ! -e queue ] || while read -r id name tasks at; do
	[ "$at" -le "$NOW" ] || continue
	case $tasks in
	-) printf '%s\037%s\n' $id "$name" ;;
	*) printf '%s_[%s]\037%s\n' $id $tasks "$name" ;;
	esac
done <queue`,
	"sacct":    "echo Slurm accounting storage is disabled >&2; exit 1",
	"scontrol": "exit 1",
}

// virtually runs a test with a cluster whose sbatch ends with the given lines, in virtual time: it stands still while a
// command runs.
func virtually(t *testing.T, sbatch string, test func(t *testing.T, f *fake)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		commands := maps.Clone(queue)
		commands["sbatch"] += sbatch
		test(t, newFake(t, commands))
	})
}

// set replaces a command of the fake.
func (f *fake) set(name, program string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, "bin", name), []byte(f.program(name, program)), 0o777); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) program(name, text string) string {
	return "#!/bin/sh\ncd " + f.dir + "\necho " + name + ` "$@" >>calls` + "\n" + text + "\n"
}

// jobs returns the names of the jobs that there are, one a line.
func (f *fake) jobs() string {
	var names strings.Builder
	for line := range strings.Lines(f.read("queue")) {
		names.WriteString(strings.Fields(line)[1] + "\n")
	}
	return names.String()
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
