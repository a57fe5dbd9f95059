package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestFault breaks the cluster under a run, and looks whether the run's table is right, no job is left, and none ran
// twice. It needs a cluster of its own: what else runs there would break, too.
//
//	testdata/cluster/run env AIFB_TEST_FAULTS=all go test -run TestFault -v ./cmd/aifb
//
// AIFB_TEST_FAULTS may name some of the tests instead, for clusters with other options.
func TestFault(t *testing.T) {
	which := os.Getenv("AIFB_TEST_FAULTS")
	if which == "" {
		t.Skip("what breaks under a run: AIFB_TEST_FAULTS is not set; it needs a cluster of its own, see above")
	}
	for _, fault := range []struct {
		name string
		test func(*faulty)
	}{
		{"none", (*faulty).none},
		{"ssh-submission", (*faulty).sshInSubmission},
		{"ssh-polls", (*faulty).sshInPolls},
		{"sshd", (*faulty).sshd},
		{"network", (*faulty).network},
		{"slurmctld", (*faulty).slurmctld},
		{"slurmctld-hangs", (*faulty).slurmctldHangs},
		{"slurmdbd", (*faulty).slurmdbd},
		{"node-service", (*faulty).nodeUnderService},
		{"node-client", (*faulty).nodeUnderClient},
		{"disk", (*faulty).disk},
		{"logs", (*faulty).logs},
		{"quota", (*faulty).quota},
		{"kill", (*faulty).kill},
	} {
		if which != "all" && !strings.Contains(","+which+",", ","+fault.name+",") {
			continue
		}
		t.Run(fault.name, func(t *testing.T) {
			f := newFaulty(t)
			fault.test(f)
			f.nothingLeft()
		})
	}
}

// A faulty is a user of a cluster where something breaks.
type faulty struct {
	*testing.T
	home   string
	config string // of SSH
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{T: t, home: t.TempDir(), config: os.Getenv("AIFB_TEST_SSH_CONFIG")}
	data, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	f.write(".ssh/config", string(data))
	f.write("sweep.star", sweepRecipe)
	f.write(".config/aifb/config.yaml", "targets:\n  small: {ssh: cluster, workdir: /small/aifb}\n")
	f.ssh("rm -rf ran; mkdir ran")
	t.Cleanup(func() {
		if t.Failed() { // the next test starts with nothing all the same
			f.ssh("scancel --me; rm -rf .aifb/runs /small/aifb/runs")
		}
	})
	return f
}

// sweepRecipe starts clients one by one, each of which says that it ran, and what the table is to be.
const sweepRecipe = `
def main(n = 20, seconds = 1, retries = 0, mem = "100M", nodelist = "", qos = "", out = "out.csv"):
    db = service("db", command = "sleep 600", time = "20m", mem = mem)
    wait_running(db)
    cs = []
    for i in range(n):
        cs.append(client(db, command = "echo $CLIENT_NAME >>$HOME/ran/$CLIENT_NAME; sleep %d; echo rps: %d" % (seconds, i),
            metrics = metric.regex("rps: ([0-9]+)", name = "rps"), time = "10m", mem = mem,
            retries = retries, nodelist = nodelist, qos = qos, labels = {"i": i}))
    wait_done(cs)
    export_csv(out)
`

func (f *faulty) write(name, text string) {
	f.Helper()
	name = filepath.Join(f.home, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

// ssh runs a line on the login node, and returns what it printed.
func (f *faulty) ssh(line string) string {
	f.Helper()
	out, err := exec.Command("ssh", "-F", f.config, "cluster", line).Output()
	if err != nil {
		f.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// hosts acts on the hosts of the cluster.
func (f *faulty) hosts(args ...string) {
	f.Helper()
	if out, err := exec.Command(os.Getenv("AIFB_TEST_CLUSTER"), args...).CombinedOutput(); err != nil {
		f.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// A program is aifb, running.
type program struct {
	*exec.Cmd
	done chan error

	mu  sync.Mutex
	out bytes.Buffer
}

func (p *program) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(text)
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start starts aifb.
func (f *faulty) start(args ...string) *program {
	f.Helper()
	p := &program{Cmd: exec.Command(staticBinary(f), args...), done: make(chan error, 1)}
	p.Dir, p.Stdout, p.Stderr = f.home, p, p
	p.Env = append(os.Environ(), "HOME="+f.home, "NO_COLOR=1", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=")
	if err := p.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		p.Process.Kill()
		if f.Failed() {
			f.Logf("aifb %s:\n%s", strings.Join(args, " "), p.output())
		}
	})
	go func() { p.done <- p.Wait() }()
	return p
}

// until waits until something is so. Nothing but the clock tells when a cluster has come so far.
func (f *faulty) until(what string, limit time.Duration, isSo func() bool) {
	f.Helper()
	for end := time.Now().Add(limit); !isSo(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// says waits until the program has printed a text so many times.
func (f *faulty) says(p *program, text string, times int) {
	f.Helper()
	f.until(fmt.Sprintf("%q, %d times", text, times), 3*time.Minute, func() bool { return strings.Count(p.output(), text) >= times })
}

// ends waits for the end of the program, and checks how it was.
func (f *faulty) ends(p *program, want int) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Process.Signal(syscall.SIGQUIT) // prints what each goroutine waits for
		<-p.done
		f.Fatal("it does not end")
	}
	if got := p.ProcessState.ExitCode(); got != want {
		f.Fatalf("exit code %d, want %d", got, want)
	}
}

// table checks what a sweep of n clients exported.
func (f *faulty) table(n int) {
	f.Helper()
	file, err := os.Open(filepath.Join(f.home, "out.csv"))
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		f.Fatal(err)
	}
	if len(rows) != n+1 {
		f.Errorf("%d rows, want %d", len(rows)-1, n)
	}
	for i, row := range rows[1:] {
		if want := []string{fmt.Sprintf("client-%d", i+1), "rps", fmt.Sprint(i)}; fmt.Sprint(row[2:5]) != fmt.Sprint(want) {
			f.Errorf("row %d is %v, want %v", i, row, want)
		}
	}
}

// once checks that so many clients ran, and each once.
func (f *faulty) once(n int) {
	f.Helper()
	lines := strings.Fields(f.ssh("cat ran/*"))
	seen := make(map[string]int)
	for _, name := range lines {
		seen[name]++
	}
	for name, times := range seen {
		if times != 1 {
			f.Errorf("%s ran %d times", name, times)
		}
	}
	if len(seen) != n {
		f.Errorf("%d clients ran, want %d", len(seen), n)
	}
}

// nothingLeft checks that the user has no job on the cluster, and no run.
func (f *faulty) nothingLeft() {
	f.Helper()
	queue := ""
	f.until("an empty queue", time.Minute, func() bool {
		queue = f.ssh(`squeue --me -h -o "%j %T"`)
		return queue == ""
	})
	if left := f.ssh("ls .aifb/runs /small/aifb/runs 2>/dev/null; true"); strings.TrimSpace(strings.ReplaceAll(left, ".aifb/runs:", "")) != "" {
		f.Errorf("left on the target: %s", left)
	}
}

// sweep runs the recipe while breaks does its worst, once the program has printed a text so many times.
func (f *faulty) sweep(n int, text string, times int, breaks func(), args ...string) *program {
	f.Helper()
	p := f.start(append([]string{"exec", "-v", "-t", "cluster", "sweep.star", fmt.Sprintf("n=%d", n)}, args...)...)
	f.says(p, text, times)
	breaks()
	f.ends(p, 0)
	f.table(n)
	f.once(n)
	return p
}

func (f *faulty) none() { f.sweep(20, "submitted", 1, func() {}) }

func (f *faulty) sshInSubmission() {
	f.sweep(60, "db: running", 1, func() {
		f.until("job directories", time.Minute, func() bool {
			return strings.Count(f.ssh("ls .aifb/runs/*"), "client") > 0
		})
		f.hosts("daemon", "login", "kill", "ssh-sessions")
	})
}

func (f *faulty) sshInPolls() {
	f.sweep(10, "client-10: submitted", 1, func() {
		for range 4 {
			f.hosts("daemon", "login", "kill", "ssh-sessions")
			time.Sleep(2 * time.Second)
		}
	}, "seconds=10")
}

func (f *faulty) sshd() {
	f.sweep(10, "client-10: submitted", 1, func() {
		f.hosts("daemon", "login", "kill", "sshd")
		time.Sleep(15 * time.Second)
		f.hosts("daemon", "login", "start", "sshd")
	}, "seconds=5")
}

func (f *faulty) network() {
	f.sweep(10, "client-10: submitted", 1, func() {
		f.hosts("net", "login", "down")
		time.Sleep(12 * time.Second) // after 20, Slurm gives the nodes up
		f.hosts("net", "login", "up")
	}, "seconds=5")
}

func (f *faulty) slurmctld() {
	f.sweep(10, "client-5: submitted", 1, func() {
		f.hosts("daemon", "login", "stop", "slurmctld")
		time.Sleep(60 * time.Second)
		f.hosts("daemon", "login", "start", "slurmctld")
	}, "seconds=3")
}

// A controller that hangs takes what it is sent, and does it when it goes on: the answers are lost.
func (f *faulty) slurmctldHangs() {
	f.sweep(20, "db: running", 1, func() {
		f.hosts("daemon", "login", "pause", "slurmctld")
		time.Sleep(45 * time.Second)
		f.hosts("daemon", "login", "resume", "slurmctld")
	})
}

func (f *faulty) slurmdbd() {
	if os.Getenv("AIFB_TEST_DBD") == "no" {
		f.Skip("slurmdbd is down: this cluster has none")
	}
	f.hosts("daemon", "login", "stop", "slurmdbd")
	defer f.hosts("daemon", "login", "start", "slurmdbd")
	f.sweep(10, "submitted", 1, func() {})
}

// off powers n2 off until the test ends.
func (f *faulty) off() {
	f.hosts("kill", "n2")
	f.Cleanup(func() {
		f.hosts("boot", "n2")
		f.until("n2 to be idle", 2*time.Minute, func() bool { return strings.Contains(f.ssh("sinfo -h -n n2 -o %T"), "idle") })
	})
}

func (f *faulty) nodeUnderService() {
	f.write("dies.star", `
db = service("db", command = "sleep 600", time = "20m", nodelist = "n2")
wait_running(db)
wait_done(client(db, command = "sleep 600", time = "20m", nodelist = "n1"))
`)
	p := f.start("exec", "-v", "-t", "cluster", "dies.star")
	f.says(p, "client-1: running", 1)
	f.off()
	f.ends(p, 4)
	if want := "client-1 cannot go on: db (job "; !strings.Contains(p.output(), want) || !strings.Contains(p.output(), "ended with its node on n2") {
		f.Errorf("it does not say %q", want)
	}
}

func (f *faulty) nodeUnderClient() {
	f.write("again.star", `
c = client(command = "hostname; [ $(hostname) = n1 ] || sleep 600; echo rps: 5", time = "20m", exclude = "n1", retries = 1,
    metrics = metric.regex("rps: ([0-9]+)", name = "rps"))
wait_running(c)
print("runs")
wait_done(c)
print("rps", c.metric("rps"), c.host)
`)
	// exclude keeps it on n2 at first; then both are excluded, and Slurm says that it can never run.
	p := f.start("exec", "-v", "-t", "cluster", "again.star")
	f.says(p, "runs", 1)
	f.off()
	f.ends(p, 4)
	if want := "node configuration"; !strings.Contains(strings.ToLower(p.output()), want) {
		f.Errorf("it does not say %q", want)
	}
}

func (f *faulty) disk() {
	f.write("full.star", `
wait_done(job("j", command = "head -c 20000000 /dev/zero >$BENCHMARK_OUTPUT_DIR/big"))
`)
	f.write("cut.star", `
wait_done(job("j", command = "head -c 20000000 /dev/zero >$BENCHMARK_OUTPUT_DIR/big; true"))
`)
	// What a job says of its end may have room or not; that it ended well does not make its output whole.
	for _, recipe := range []string{"full.star", "cut.star"} {
		p := f.start("exec", "-v", "-t", "small", recipe)
		f.ends(p, 4)
		if want := "is the disk of its workdir full"; !strings.Contains(p.output(), want) {
			f.Errorf("it does not say %q", want)
		}
	}
	f.ssh("head -c 20000000 /dev/zero >/small/big; true")
	defer f.ssh("rm /small/big")
	p := f.start("exec", "-v", "-t", "small", "full.star")
	f.ends(p, 6)
	for _, want := range []string{"No space left on device", "hint: make room there"} {
		if !strings.Contains(p.output(), want) {
			f.Errorf("it does not say %q", want)
		}
	}
}

func (f *faulty) logs() {
	f.write("logs.star", `
j = job("j", command = "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo rps: 7", metrics = metric.regex("rps: ([0-9]+)", name = "rps"))
wait_done(j)
print("rps", j.metric("rps"))
`)
	p := f.start("exec", "-v", "-t", "cluster", "logs.star")
	f.ends(p, 0)
	if !strings.Contains(p.output(), "rps 7") {
		f.Error("the metric behind 10 MB of log was not found")
	}
}

func (f *faulty) quota() {
	if os.Getenv("AIFB_TEST_DBD") == "no" {
		f.Skip("a limit on submissions: this cluster has no accounting, which keeps it")
	}
	p := f.sweep(12, "held back", 1, func() {}, "qos=small")
	if strings.Contains(p.output(), "refused") {
		f.Error("a job was refused")
	}
}

// kill kills aifb at random moments of a run, and resumes it until it ends.
func (f *faulty) kill() {
	for i := range 50 {
		f.ssh("rm -rf ran; mkdir ran")
		os.Remove(filepath.Join(f.home, "out.csv"))
		p := f.start("exec", "-v", "-t", "cluster", "sweep.star", "n=20", "seconds=0")
		time.Sleep(time.Duration(i) * 90 * time.Millisecond) // from before the first contact to the end
		p.Process.Kill()
		<-p.done
		if p.ProcessState.ExitCode() != 0 && strings.Contains(p.output(), " on cluster") {
			again := f.start("resume", "-v", "last")
			<-again.done
			if code := again.ProcessState.ExitCode(); code != 0 && !strings.Contains(again.output(), "has ended") {
				f.Errorf("resumed, it ends with exit code %d", code)
			}
		} else if p.ProcessState.ExitCode() != 0 {
			f.ends(f.start("exec", "-v", "-t", "cluster", "sweep.star", "n=20", "seconds=0"), 0)
		}
		f.table(20)
		f.once(20)
		if f.Failed() {
			f.Fatalf("killed after %v", time.Duration(i)*90*time.Millisecond)
		}
	}
}
