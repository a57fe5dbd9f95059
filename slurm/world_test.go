package slurm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
	"github.com/aifb/aifb/runtime/sim"
)

// A world is a login node whose Slurm is a simulated cluster. Its sbatch, squeue, sacct, scontrol, scancel and sinfo are
// a program that asks the world over a socket; while they run, time stands still. The jobs of the cluster only pretend to
// run, and leave their files on disk.
type world struct {
	*sim.Cluster
	*shellConn // for Get
	t          *testing.T
	dir        string
	config     sim.Config
	flavor     flavor
	noise      func(id string) (stdout, stderr string) // what sbatch prints in place of an id; nil: the id

	mu      sync.Mutex // guards what follows
	sockets int
	calls   map[string]int // of each command
}

// A flavor is what clusters differ in.
type flavor struct {
	old bool // Slurm 22.05
	cut bool // what is lost is lost with the connection, and what ran at its other end; else sbatch says that it had no answer
}

// newWorld makes a world. The environment is that of a user who has set defaults of all sorts: a command that heeds them
// fails.
func newWorld(t *testing.T, config sim.Config, flavor flavor) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "slurm-") // the name of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, config: config, flavor: flavor, calls: make(map[string]int)}
	if w.config.MinJobAge == 0 {
		w.config.MinJobAge = 5 * time.Minute
	}
	w.config.Files = files{t}
	w.Cluster = sim.New(w.config)
	command, err := buildCommand()
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "bin"), 0o777)
	}
	for _, name := range []string{"sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo"} {
		err = errors.Join(err, os.Symlink(command, filepath.Join(dir, "bin", name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	w.shellConn = &shellConn{shell: []string{"sh", "-c"}, env: []string{
		"PATH=" + filepath.Join(dir, "bin") + ":/usr/bin:/bin", "SLURM_CONF=/etc/slurm.conf",
		"SBATCH_PARTITION=other", "SLURM_CLUSTERS=other", "SLURM_JOB_ID=77", "SLURM_TIME_FORMAT=relative",
		"SQUEUE_FORMAT=%i", "SQUEUE_STATES=PD", "SQUEUE_USERS=bob", "SQUEUE_PARTITION=other", "SACCT_FORMAT=JobID", "LC_ALL=xx",
	}}
	return w
}

// files is where the jobs of a world leave their files.
type files struct{ t *testing.T }

func (f files) Write(name, text string) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte(text), 0o666)); err != nil {
		f.t.Error(err)
	}
}

func (f files) Exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func (f files) Rename(from, to string) {
	if !f.Exists(from) {
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o777), os.Rename(from, to)); err != nil {
		f.t.Error(err)
	}
}

// A call is a call of one of Slurm's commands.
type call struct {
	Name  string
	Args  []string
	Env   []string
	Stdin string
	cut   bool // the connection is, before it can answer
}

// getenv returns a variable of the caller's.
func (c *call) getenv(name string) string {
	for _, v := range c.Env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// A result is what a command prints, and its exit code.
type result struct {
	Stdout, Stderr string
	Code           int
}

func fails(code int, format string, args ...any) result {
	return result{Code: code, Stderr: fmt.Sprintf(format, args...) + "\n"}
}

// commandDir is the variable of the environment that says where buildCommand builds.
const commandDir = "AIFB_TEST_COMMAND_DIR"

// buildCommand builds the program that is each of Slurm's commands.
var buildCommand = sync.OnceValues(func() (file string, err error) {
	file = filepath.Join(os.Getenv(commandDir), "command")
	if out, err := exec.Command("go", "build", "-o", file, "./testdata/command").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "slurm-command-")
	if err != nil {
		panic(err)
	}
	os.Setenv(commandDir, dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// Run implements runtime.Conn.
func (w *world) Run(ctx context.Context, cmd runtime.Cmd) error {
	if w.Sees(sim.Disconnected) {
		return errCut
	}
	w.mu.Lock()
	w.sockets++
	socket := filepath.Join(w.dir, fmt.Sprintf("%d.sock", w.sockets))
	w.mu.Unlock()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	var out, stderr bytes.Buffer
	shell := exec.CommandContext(ctx, "sh", "-c", runtime.Quote(cmd.Args...))
	shell.Env = append(w.env[:len(w.env):len(w.env)], "AIFB_TEST_SOCKET="+socket)
	shell.Stdin, shell.Stdout, shell.Stderr = cmd.Stdin, &out, &stderr
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = shell.Start()
	cut := false
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if w.answer(conn) {
				cut = true
				syscall.Kill(-shell.Process.Pid, syscall.SIGKILL)
			}
			conn.Close()
		}
	})
	if err == nil {
		err = shell.Wait()
	}
	listener.Close()
	wg.Wait()
	w.runs.Add(1)
	if cut {
		return errCut
	}
	if cmd.Stdout != nil {
		io.Copy(cmd.Stdout, &out)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return &runtime.ExitError{Args: cmd.Args, Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return err
}

// answer answers one command, unless the connection is lost with it.
func (w *world) answer(conn net.Conn) (cut bool) {
	var c call
	if err := json.NewDecoder(conn).Decode(&c); err != nil {
		w.t.Error(err)
		return false
	}
	w.mu.Lock()
	w.calls[c.Name]++
	w.mu.Unlock()
	r := w.command(&c)
	if c.cut {
		return true
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		w.t.Error(err)
	}
	return false
}

// Get implements runtime.Conn.
func (w *world) Get(ctx context.Context, name string, from int64, out io.Writer) error {
	w.Jobs() // brings the files up to date
	return w.shellConn.Get(ctx, name, from, out)
}

// TestWorld is the conformance suite on clusters of both kinds, with both ways to lose an answer.
func TestWorld(t *testing.T) {
	for name, flavor := range map[string]flavor{"22.05": {old: true}, "26.05": {cut: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && flavor.old {
				t.Skip("the older of two fakes: -short")
			}
			runtimetest.TestScripted(t, func(t *testing.T, config sim.Config) runtimetest.SchedulerTest {
				w := newWorld(t, config, flavor)
				return runtimetest.SchedulerTest{
					Dir: filepath.Join(w.dir, "home"), Conn: w, Cluster: w.Cluster, Shortest: time.Minute,
					Open: func(*testing.T) runtime.Scheduler { return New(w, "world") },
				}
			})
		})
	}
}

// inWorld runs a test in a bubble, with a scheduler.
func inWorld(t *testing.T, config sim.Config, f func(t *testing.T, w *world, s *Scheduler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config, flavor{})
		f(t, w, New(w, "world"))
	})
}

// job makes a job of a world.
func (w *world) job(name string) runtime.Job {
	return runtime.Job{Token: "aifb-r-" + name, Name: name, Dir: filepath.Join(w.dir, "home", "r", name), Args: []string{"x"},
		Limit: time.Hour}
}

// group makes the jobs of a group.
func (w *world) group(name string, indexes ...int) (jobs []runtime.Job) {
	for _, i := range indexes {
		job := w.job(fmt.Sprintf("%s.%d", name, i))
		job.Group, job.Index, job.Count = name, i, len(indexes)
		jobs = append(jobs, job)
	}
	return jobs
}

// once submits jobs until each has an id, and checks that each exists once and runs under that id.
func (w *world) once(t *testing.T, s *Scheduler, jobs ...runtime.Job) {
	t.Helper()
	var subs []runtime.Submission
	for range 10 {
		var err error
		subs, err = s.Submit(t.Context(), jobs...)
		if err == nil && !slices.ContainsFunc(subs, func(sub runtime.Submission) bool { return sub.Err != nil }) {
			break
		}
		time.Sleep(10 * time.Second)
	}
	tokens := make(map[runtime.JobID]string)
	for _, j := range w.Jobs() {
		tokens[j.ID] = j.Token
	}
	for _, sub := range subs {
		number, _, _ := strings.Cut(string(sub.ID), ";")
		if n := w.Made(sub.Token); n != 1 || sub.Err != nil || tokens[runtime.JobID(number)] != sub.Token {
			t.Fatalf("%s: there are %d jobs; the answer is %s, which is %s; %v", sub.Token, n, sub.ID, tokens[sub.ID], sub.Err)
		}
	}
}

// Whatever else there is in sbatch's answer, there is one job, and its id is found.
func TestWorldNoise(t *testing.T) {
	for name, noise := range map[string]func(id string) (stdout, stderr string){
		"message of the day": func(id string) (string, string) { return "Welcome!\n127 users\n" + id + "\n", "" },
		"lua plugin":         func(id string) (string, string) { return id + "\n", "sbatch: lua: 99\nsbatch: 42\n99\n" },
		"a table":            func(id string) (string, string) { return id + "\n| 2 | SUs |\n 127652 estimates 2 SUs\n", "" },
		"another number":     func(id string) (string, string) { return "99\n" + id + "\n", "" },
		"not parsable":       func(id string) (string, string) { return "Submitted batch job " + id + "\n", "" },
		"the id in a text":   func(id string) (string, string) { return "Submitted batch job " + id + " estimates 2 SUs\n", "" },
		"nothing":            func(id string) (string, string) { return "", "" },
		"an error":           func(id string) (string, string) { return "", "sbatch: error: plugin_load_from_file: dlopen failed\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, sim.Config{}, func(t *testing.T, w *world, s *Scheduler) {
				w.Behave("*", sim.Behaviour{Run: sim.Forever})
				w.noise = noise
				w.once(t, s, append(w.group("g", 0, 1, 2), w.job("a"), w.job("b"))...)
			})
		})
	}
}

// A group of more jobs than an array may have is as many arrays as that takes.
func TestWorldLargeGroup(t *testing.T) {
	t.Parallel()
	inWorld(t, sim.Config{Nodes: 100}, func(t *testing.T, w *world, s *Scheduler) {
		w.Behave("*", sim.Behaviour{Run: sim.Forever})
		indexes := make([]int, 2100)
		for i := range indexes {
			indexes[i] = i
		}
		w.once(t, s, w.group("g", indexes...)...)
		if n := w.calls["sbatch"]; n != 3 {
			t.Errorf("sbatch was called %d times", n)
		}
		for _, j := range w.Jobs() {
			if j.Name != fmt.Sprintf("g.%d", j.Index) || j.Count != len(indexes) || j.Task >= maxArraySize {
				t.Fatalf("job %s is %s, with index %d of %d", j.ID, j.Name, j.Index, j.Count)
			}
		}
	})
}

// Slurm shortens the lists of tasks that wait.
func TestWorldShortenedList(t *testing.T) {
	t.Parallel()
	inWorld(t, sim.Config{}, func(t *testing.T, w *world, s *Scheduler) {
		w.Behave("*", sim.Behaviour{Wait: sim.Forever, Reason: "Priority"})
		var odd []int
		for i := 1; i < 300; i += 2 {
			odd = append(odd, i)
		}
		w.Fault(sim.LostAfter, 1)
		w.once(t, s, w.group("g", odd...)...)
	})
}

// facts are what commands do, on a real cluster and in a world alike. They come from Slurm's source.
var facts = []struct {
	command string
	code    int
	out     string // regular expression
}{
	{"squeue -h -j 999999", 1, `^slurm_load_jobs error: Invalid job id specified\n$`},
	{"squeue -h -j 999999,999998", 0, `^$`},
	{"squeue -h --me -j 999999", 1, `^slurm_load_jobs error: Invalid job id specified\n$`},
	{"squeue -h --me -t all -j 999999_1", 1, `^slurm_load_jobs error: Invalid job id specified\n$`},
	{"squeue -h --me -t all -n no-such-name", 0, `^$`},
	{"squeue --me -h --no-such-option", 1, `squeue: unrecognized option '--no-such-option'\n`},
	{"squeue --me -h -O JobID,NoSuchField", 0, `squeue: error: Invalid job format specification: NoSuchField\n`},
	{"sacct -X -P -n -j 999999 -o JobID", 0, `^$`},
	{"sacct -X -P -n -j 999999 -o NoSuchField", 1, `Invalid field requested: "NoSuchField"\n`},
	{"scontrol show job 999999", 1, `^slurm_load_jobs error: Invalid job id specified\n$`},
	{"scontrol show job 999999_1", 1, `^(Job 999999_1 not found|slurm_load_jobs error: Invalid job id specified)\n$`},
	{"scancel 999999 999999_1 999999_[1-3]", 0, `^$`},
	{"scancel x", 1, `^scancel: error: Invalid job id x\n$`},
	{"sbatch --version", 0, `^slurm(-wlm)? \d+\.\d+\.\d+\n$`},
	{"sbatch --parsable --no-such-option --wrap true", 255, `^sbatch: unrecognized option '--no-such-option'\n`},
	{"sbatch --parsable -t 1 -p no-such -o /dev/null --wrap true", 1, `Batch job submission failed: Invalid partition name specified\n$`},
	{"sbatch --parsable -t 1 --array=99999999 -o /dev/null --wrap true", 1, `Invalid job array specification\n`},
	{"echo hello | sbatch --parsable", 1, `^sbatch: error: This does not look like a batch script`},
	{"SLURM_CLUSTERS=no-such squeue --me -h", 1, `squeue: error: .*no-such`},
	{"SQUEUE_STATES=no-such squeue --me -h", 1, `Invalid job state specified`},
}

func checkFacts(t *testing.T, conn runtime.Conn, accounting bool) {
	for _, fact := range facts {
		if strings.HasPrefix(fact.command, "sacct") && !accounting {
			fact.code, fact.out = 1, "^Slurm accounting storage is disabled\n$"
		}
		program := "for v in $(env | grep -oE '^(SBATCH|SQUEUE|SACCT|SCANCEL|SINFO|SLURM)_[A-Z_]*'); do unset $v; done\n" +
			"export SLURM_TIME_FORMAT=%s; { " + fact.command + "; } 2>&1; echo $?"
		out, err := runtime.Output(t.Context(), conn, "sh", "-c", program)
		if err != nil {
			t.Fatal(err)
		}
		out = strings.TrimSuffix(out, "\n")
		end := strings.LastIndexByte(out, '\n') + 1
		if code := out[end:]; code != fmt.Sprint(fact.code) || !regexp.MustCompile(fact.out).MatchString(out[:end]) {
			t.Errorf("%s\nexits with %s and prints %q; want %d and %s", fact.command, code, out[:end], fact.code, fact.out)
		}
	}
}

func TestWorldFacts(t *testing.T) {
	t.Parallel()
	for _, none := range []bool{true, false} {
		inWorld(t, sim.Config{NoAccounting: none}, func(t *testing.T, w *world, _ *Scheduler) { checkFacts(t, w, !none) })
	}
}

func TestClusterFacts(t *testing.T) {
	t.Parallel()
	conn, _ := realCluster(t)
	checkFacts(t, conn, os.Getenv("AIFB_TEST_DBD") != "no")
}
