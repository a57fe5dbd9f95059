package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/starlib"
)

// sbatch keeps what it is given, and runs it on this machine, an array as several jobs.
const fakeSbatch = `#!/bin/sh
n=$(($(cat "$FAKE/last" 2>/dev/null || echo 99) + 1))
echo $n >"$FAKE/last"
printf '%s\n' "$@" >"$FAKE/args.$n"
tasks=- script= offset=
for arg; do
	case $arg in
	--array=0-*) tasks=$(seq 0 "${arg#--array=0-}") ;;
	--*) ;;
	*) if [ -z "$script" ]; then script=$arg; else offset=$arg; fi ;;
	esac
done
cp "$script" "$FAKE/script.$n"
for task in $tasks; do
	(
		export SLURMD_NODENAME=n1 SLURM_JOB_ID=$n
		[ "$task" = - ] || export SLURM_ARRAY_JOB_ID=$n SLURM_ARRAY_TASK_ID=$task
		bash "$script" $offset </dev/null >/dev/null 2>&1 & echo $! >>"$FAKE/pids.$n"
	)
done
echo $n
`

const fakeScancel = `#!/bin/sh
for arg; do [ ! -e "$FAKE/pids.$arg" ] || kill -TERM $(cat "$FAKE/pids.$arg"); done 2>/dev/null
exit 0
`

const plannedRecipe = `
def main(n = 3, text = "it's \"$quoted\""):
    db = service("db", command = "while :; do sleep 0.1; done", port = 7000, ready = ready.command("true"), partition = "gpu", mem = "1G")
    c = client(db, count = n, command = "echo 'rps 7'", metrics = metric.regex("rps (?P<rps>[0-9]+)"), labels = {"n": n})
    wait_done(c)
    one = client(db, command = "true", args = [text, "a b"], env = {"TEXT": text}, time = "5m", cpus = 2)
    wait_done(one)
    j = job("other", command = "true", extra = ["--comment=two words"], modules = [], workdir = "/tmp")
    wait_done(j)
`

// What plan shows is, to the byte, what exec hands to sbatch, but for the id of the run.
func TestPlanIsWhatExecSubmits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/sbatch", fakeSbatch)
	write("bin/scancel", fakeScancel)
	for _, name := range []string{"squeue", "sacct", "scontrol", "sinfo"} {
		write("bin/"+name, "#!/bin/sh\nexit 0\n")
	}
	write("r.star", plannedRecipe)
	write("fake/empty", "")
	write("config.yaml", "targets:\n  fake:\n    scheduler: slurm\n    workdir: "+dir+"/scratch\n"+
		"    setup: [\"true 'it is set up'\"]\n    defaults: {account: p200981, partition: cpu, time: 20m}\n")
	aifb := func(path string, args ...string) []byte {
		cmd := exec.Command("aifb", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir+"/home", "FAKE="+dir+"/fake", "PATH="+path+os.Getenv("PATH"))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("aifb %v: %v\n%s", args, err, stderr.String())
		}
		return out
	}
	var doc planDocument
	if err := json.Unmarshal(aifb("", "plan", "--config", "config.yaml", "-t", "fake", "--json", "r.star"), &doc); err != nil {
		t.Fatal(err)
	}
	aifb(dir+"/bin:", "exec", "--config", "config.yaml", "-t", "fake", "r.star")
	type submitted struct{ Args, Script string }
	var planned, real []submitted
	for _, s := range doc.Steps {
		for _, sub := range s.Submissions {
			planned = append(planned, submitted{strings.Join(sub.Command[1:], "\n") + "\n", sub.Script})
		}
	}
	run := regexp.MustCompile(`\d{8}-\d{6}-[a-z2-9]{4}`)
	for _, name := range []string{"100", "101", "102", "103"} {
		var s submitted
		for kind, to := range map[string]*string{"args": &s.Args, "script": &s.Script} {
			data, err := os.ReadFile(filepath.Join(dir, "fake", kind+"."+name))
			if err != nil {
				t.Fatal(err)
			}
			*to = run.ReplaceAllString(string(data), "RUN")
		}
		real = append(real, s)
	}
	if diff := cmp.Diff(real, planned); diff != "" {
		t.Errorf("exec (-) and plan (+) differ:\n%s", diff)
	}
}

// The tests of the recipes that come with aifb pass, and each recipe has some.
func TestRecipes(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("../../recipes/*.star")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recipes: %v", err)
	}
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, ".star"); ok && !strings.HasSuffix(base, "_test") {
			if _, err := os.Stat(base + "_test.star"); err != nil {
				t.Errorf("%s has no tests: %v", name, err)
			}
		}
	}
	if out, err := exec.Command("aifb", "test", "../../recipes").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// BenchmarkTest is what a test of a recipe costs, of a service and a client.
func BenchmarkTest(b *testing.B) {
	dir := b.TempDir()
	name := filepath.Join(dir, "x_test.star")
	text := "def test_x():\n    s = service(\"s\", command = \"s\", port = 0)\n    wait_done(client(s, command = \"c\"))\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	tests, err := starlib.ReadTests(name, nil)
	if err != nil {
		b.Fatal(err)
	}
	t := &tester{dir: dir}
	for b.Loop() {
		if r := t.test(b.Context(), tests, name, "test_x"); !r.OK {
			b.Fatal(r.err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tests/s")
}

const busyRecipe = `
START = time.now()

def main():
    services = [service("db%d" % i, command = "x", port = 0, ready = ready.http("/h")) for i in range(4)]
    services.append(service("log", command = "y", port = 7000, ready = ready.log("Ready [a-z]+ ([0-9]+)")))
    jobs = [job("job%d" % i, command = "z") for i in range(6)]
    wait_running(services)
    clients = [client(services, name = "c%d" % i, count = 3, command = "bench", metrics = metric.regex("(?P<rps>[0-9.]+) r/s")) for i in range(5)]
    for j in clients + jobs:
        wait_done(j, check = False)
        print(j.name, j.state, j.elapsed, j.host, j.job_id, j.exit_code, time.now() - START)
    print(measurements())
    stop(services[0])
    wait_done(job("late", command = "q"), timeout = "5s")
`

// However many jobs end at nearly the same time, and however busy the machine is, a plan is the same each time.
func TestPlanIsTheSame(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "busy.star")
	if err := os.WriteFile(name, []byte(busyRecipe), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"plan", "--scripts=false", name}
	for _, a := range []string{"job1=timeout@10s", "job2=failed@11s", "job3=exit:3@12s", "job4=lost@3s", "late=pending", "c2.1=failed@1s", "c3.*=timeout@2s"} {
		args = append(args, "--assume", a)
	}
	var want []byte
	for i := range 10 {
		out, err := exec.Command("aifb", args...).Output()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Fatalf("%v\n%s", err, out)
		}
		if i == 0 {
			want = out
		}
		if diff := cmp.Diff(string(want), string(out)); diff != "" {
			t.Fatalf("run %d:\n%s", i, diff)
		}
	}
}
