// Figures measures what aifb costs on a cluster, and prints it as the tables of the README. It needs the test cluster:
//
//	testdata/cluster/run --delay 50 go run ./testdata/cluster/figures
//
// Beside each figure is the same by the commands that a person would give, measured in the same run: Slurm's own in
// one SSH session, or in a shell loop on the login node. Times are medians of five.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/ssh"
	"github.com/aifb/aifb/slurm"
)

const (
	clients = 64
	rounds  = 5
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run() error {
	config := os.Getenv("AIFB_TEST_SSH_CONFIG")
	text, err := os.ReadFile(config)
	if err != nil {
		return fmt.Errorf("no cluster: testdata/cluster/run starts one: %w", err)
	}
	if !strings.Contains(string(text), "Host cluster-slow") {
		return errors.New("no host that is far away: testdata/cluster/run --delay 50 makes one")
	}
	if err := remote(config); err != nil {
		return err
	}
	return login()
}

// times are the durations of one kind of deed.
type times []time.Duration

func (t *times) measure(f func() error) error {
	begin := time.Now()
	err := f()
	*t = append(*t, time.Since(begin))
	return err
}

func (t times) String() string {
	if len(t) == 0 {
		return "–"
	}
	sorted := slices.Sorted(slices.Values(t))
	return fmt.Sprintf("%.2f s", sorted[len(sorted)/2].Seconds())
}

// remote measures the deeds for many clients on a cluster that is far away.
func remote(config string) error {
	type figure struct{ ours, peer times }
	var submit, first, later, cancel, collect figure
	dir, err := os.MkdirTemp("", "aifb-figures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	for range rounds {
		r := newRound(config, dir)
		var hs []*runtime.Handle
		err := submit.ours.measure(func() (err error) {
			hs, err = r.start(ctx, "sleep 600")
			return err
		})
		if err == nil {
			err = r.session.WaitRunning(ctx, runtime.Wait{}, hs...)
		}
		if err != nil {
			return err
		}
		status := func() error {
			known, err := r.session.Target.Scheduler.Status(ctx, r.ids(hs)...)
			if err == nil && len(known) != clients {
				return fmt.Errorf("%d jobs are known", len(known))
			}
			return err
		}
		if err := errors.Join(first.ours.measure(status), later.ours.measure(status),
			cancel.ours.measure(func() error { return r.session.Target.Scheduler.Cancel(ctx, r.ids(hs)...) }),
			r.close(ctx)); err != nil {
			return err
		}
		took, err := newRound(config, dir).collect(ctx)
		if err != nil {
			return err
		}
		collect.ours = append(collect.ours, took)

		ssh := func(program string) func() error {
			return func() error { return command("ssh", "-F", config, "cluster-slow", program) }
		}
		if err := errors.Join(
			submit.peer.measure(ssh(fmt.Sprintf(`for i in $(seq %d); do printf '#!/bin/sh\nsleep 600\n' >p$i; sbatch --parsable -J peer -t 20 -o /dev/null p$i; done >ids`, clients))),
			first.peer.measure(ssh(`squeue --me -h -o "%i %T %N"`)),
			later.peer.measure(ssh(`squeue --me -h -o "%i %T %N"`)),
			cancel.peer.measure(ssh(`scancel $(cat ids)`))); err != nil {
			return err
		}
	}
	fmt.Printf("| %d clients, 50 ms away | must | aifb | one OpenSSH exec, login included |\n|---|---|---|---|\n", clients)
	for _, row := range []struct {
		name, must string
		figure
	}{
		{"submit, login included", "1.3 s", submit}, {"first poll with host names", "0.4 s", first}, {"each later poll", "0.25 s", later},
		{"cancel all", "0.6 s", cancel}, {"collect logs and metrics", "1.5 s", collect},
	} {
		fmt.Printf("| %s | ≤ %s | %v | %v |\n", row.name, row.must, row.ours, row.peer)
	}
	fmt.Println()
	return nil
}

// A round is one session on the cluster.
type round struct {
	session *runtime.Session
	conn    *ssh.Conn

	mu               sync.Mutex
	ended, collected time.Time // the last time that a job did, and was
}

func newRound(config, dir string) *round {
	conn := ssh.New("cluster-slow", config)
	r := &round{conn: conn, session: &runtime.Session{
		Run:   runtime.NewRunID(time.Now(), bytes.NewReader([]byte(fmt.Sprint(time.Now().UnixNano())[12:]))),
		Store: discard{}, Files: dir,
		Target: runtime.Target{Name: "cluster", Conn: conn, Scheduler: slurm.New(conn, "cluster"),
			PollMin: time.Second, PollMax: 15 * time.Second, Watch: true},
	}}
	r.session.Notify = func(rec runtime.Record, st *runtime.RunState) {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch j := st.Job(rec.Source); {
		case rec.Kind == runtime.KindJobCollected:
			r.collected = time.Now()
		case rec.Kind == runtime.KindJobStatus && j.Status.State == runtime.Ended:
			r.ended = time.Now()
		}
	}
	return r
}

// start starts the clients, and returns when all are submitted.
func (r *round) start(ctx context.Context, line string) (hs []*runtime.Handle, err error) {
	if err := r.session.Open(ctx); err != nil {
		return nil, err
	}
	for i := range clients {
		spec := runtime.ClientSpec{JobSpec: runtime.JobSpec{Command: fmt.Sprintf("%s # %d", line, i)}}
		h, err := r.session.Client(ctx, spec)
		if err != nil {
			return nil, err
		}
		hs = append(hs, h)
	}
	return hs, r.session.Flush(ctx)
}

func (r *round) ids(hs []*runtime.Handle) (ids []runtime.JobID) {
	for _, h := range hs {
		ids = append(ids, h.State().ID)
	}
	return ids
}

// collect returns the time from the end of the last client to when the logs and metrics of all are here.
func (r *round) collect(ctx context.Context) (time.Duration, error) {
	const line = `while [ ! -e ~/go ]; do sleep 0.1; done; seq 1000; echo '{"metric":"rps","value":1}' >$BENCHMARK_OUTPUT_DIR/measurements.jsonl`
	hs, err := r.start(ctx, line)
	if err == nil {
		err = r.session.WaitRunning(ctx, runtime.Wait{}, hs...)
	}
	if err == nil {
		err = r.conn.Run(ctx, runtime.Cmd{Args: []string{"sh", "-c", ": >~/go"}})
	}
	if err == nil {
		err = r.session.WaitDone(ctx, runtime.Wait{}, hs...)
	}
	if err == nil {
		err = r.conn.Run(ctx, runtime.Cmd{Args: []string{"sh", "-c", "rm ~/go"}})
	}
	if n := len(r.session.Measurements(runtime.Where{})); err == nil && n != clients {
		err = fmt.Errorf("%d measurements of %d clients", n, clients)
	}
	return r.collected.Sub(r.ended), errors.Join(err, r.close(ctx))
}

func (r *round) close(ctx context.Context) error {
	_, err := r.session.Close(ctx, nil, false)
	return errors.Join(err, r.conn.Close())
}

// discard is a store of what nobody reads.
type discard struct{}

func (discard) Append(context.Context, ...runtime.Record) error { return nil }
func (discard) Records(context.Context, runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(func(runtime.Record, error) bool) {}
}
func (discard) Close() error { return nil }

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// onLogin runs aifb, or a shell loop, as a user on the login node. It counts the Slurm commands by programs of their
// names that come first on the path.
const onLogin = `set -e
cd ~
mkdir -p bin figures
for c in sbatch squeue sacct scancel scontrol sinfo; do
	printf '#!/bin/sh\necho %s >>~/figures/calls\nexec /usr/bin/%s "$@"\n' $c $c >bin/$c
	chmod +x bin/$c
done
if [ "$2" = count ]; then PATH=$HOME/bin:$PATH; fi
cat >figures/many.star <<'END'
cs = []
for i in range(64):
    cs.append(client(command = "sleep 1 # %d" % i, time = "5m"))
wait_done(cs)
export_csv("many.csv")
END
cat >figures/config.yaml <<'END'
targets: {here: {scheduler: slurm}}
END
cd figures
: >calls
begin=$(date +%s.%N)
if [ "$1" = aifb ]; then
	~/aifb exec -t here --config config.yaml many.star >out 2>&1 & pid=$!
	while hwm=$(grep VmHWM /proc/$pid/status 2>/dev/null); do peak=$hwm; sleep 0.5; done
	wait $pid || { cat out >&2; exit 1; }
else
	for i in $(seq 64); do printf '#!/bin/sh\nsleep 1\n' >p$i; sbatch --parsable -J loop -t 5 -o /dev/null p$i; done >ids
	while squeue --me -h -n loop | grep -q .; do sleep 1; done
	peak=
fi
end=$(date +%s.%N)
times >cpu
tail -n 1 cpu | tr "\n" " "
echo "$begin $end ${peak:-x 0 x}" "$(grep -c sbatch calls)" "$(grep -vc sbatch calls)"
`

// login measures 64 jobs of a second, by aifb on the login node and by a shell loop there.
func login() error {
	self, err := os.MkdirTemp("", "aifb-figures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(self)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(self, "aifb"), "./cmd/aifb")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	config := os.Getenv("AIFB_TEST_SSH_CONFIG")
	if err := command("scp", "-q", "-F", config, filepath.Join(self, "aifb"), "cluster:aifb"); err != nil {
		return err
	}
	fmt.Println("| 64 jobs of `sleep 1`, on the login node | wall | sbatch, other Slurm calls | CPU | peak memory |\n|---|---|---|---|---|")
	for _, who := range []string{"aifb", "shell"} {
		var wall times
		var cpu []float64
		var peak, sbatch, other int
		for round := range rounds + 1 { // the first one counts the calls, which takes its time
			mode := "time"
			if round == 0 {
				mode = "count"
			}
			cmd := exec.Command("ssh", "-F", config, "cluster", "bash", "-s", who, mode)
			cmd.Stdin, cmd.Stderr = strings.NewReader(onLogin), os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", who, err, out)
			}
			var um, sm, submits, others int
			var us, ss, begin, end float64
			var x string
			if _, err := fmt.Sscanf(string(out), "%dm%fs %dm%fs %f %f %s %d %s %d %d",
				&um, &us, &sm, &ss, &begin, &end, &x, &peak, &x, &submits, &others); err != nil {
				return fmt.Errorf("%s: %w: %q", who, err, out)
			}
			if round == 0 {
				sbatch, other = submits, others
				continue
			}
			wall = append(wall, time.Duration((end-begin)*1e9))
			cpu = append(cpu, float64(60*(um+sm))+us+ss)
		}
		slices.Sort(cpu)
		memory := "–"
		if peak > 0 {
			memory = fmt.Sprintf("%d MB", peak>>10)
		}
		fmt.Printf("| %s | %v | %d, %d | %.2f s | %s |\n", who, wall, sbatch, other, cpu[len(cpu)/2], memory)
	}
	return nil
}
