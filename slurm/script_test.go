package slurm

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

var update = flag.Bool("update", false, "write the golden files of this package")

func smallJob() runtime.Job {
	return runtime.Job{Token: "aifb-20261123-141502-k3f9-redis", Name: "redis", Dir: "/home/alice/.aifb/runs/r/redis",
		Args: []string{"redis-server", "--save", ""}, Limit: 90 * time.Second}
}

func TestScript(t *testing.T) {
	t.Parallel()
	full := smallJob()
	full.Dir = "/scratch/alice's 100% runs/redis"
	full.Env = map[string]string{"A": "it's"}
	full.Port = runtime.AnyPort
	full.Image = runtime.Image{URI: "docker://redis:7", SIF: "/home/alice/.aifb/images/redis.sif"}
	full.Limit = 26 * time.Hour
	full.Needs = runtime.Resources{
		Nodes: 2, Tasks: 4, CPUs: 8, Mem: 4<<30 + 1, GPUs: 1, Partition: "gpu,gpu-long", Account: "p200981", QOS: "default",
		Constraint: "a100&(ib|opa)", Exclude: "n[07-12]", NodeList: "n1,n2", Reservation: "bench", Exclusive: true,
		Modules: []string{"Apptainer"}, Setup: []string{"ulimit -n 65536"},
		Extra: []string{"--mail-type=END", "--comment=two words", "--hold", "--mem-bind=local"},
	}
	group := smallJob()
	group.Token, group.Name, group.Dir = group.Token+".7", group.Name+".7", "/scratch/alice's 100% runs/redis.7"
	group.Group, group.Index, group.Count = "redis", 7, 64
	group.Needs.Requeue = true
	for name, job := range map[string]runtime.Job{"small": smallJob(), "full": full, "group": group} {
		got, err := Script(job)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (go test ./slurm -update writes it); got:\n%s", file, got)
		}
	}
}

// The batch script's shell is bash, whatever sh is.
func TestScriptReturns(t *testing.T) {
	t.Parallel()
	job := smallJob()
	job.Dir = t.TempDir()
	job.Args = []string{"printf", "<%s>", "PING\r\n", "it's \\r\\n $HOME\r\n\r\n"}
	script, err := Script(job)
	if err != nil || strings.Contains(script, "\r") {
		t.Fatalf("%v, %q", err, script)
	}
	if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(job.Dir, runtime.FileStdout))
	if want := "<" + strings.Join(job.Args[2:], "><") + ">"; string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestScriptInvalid(t *testing.T) {
	t.Parallel()
	tests := []struct {
		change func(*runtime.Job)
		want   string // the error
		hint   string // in the hint
	}{
		{func(j *runtime.Job) { j.Needs.Partition = "gpu\n#SBATCH --nodes=9" },
			`partition: "gpu\n#SBATCH --nodes=9" has a space or newline`, ""},
		{func(j *runtime.Job) { j.Needs.Partition = "g pu" }, `partition: "g pu" has a space or newline`, ""},
		{func(j *runtime.Job) { j.Needs.Account = "p\x00" }, `account: "p\x00" has a newline or another control character`, ""},
		{func(j *runtime.Job) { j.Needs.QOS = `"` }, `qos: "\"" has a double quote or backslash`, ""},
		{func(j *runtime.Job) { j.Needs.Constraint = `a\b` }, `constraint: "a\\b" has a double quote or backslash`, ""},
		{func(j *runtime.Job) { j.Needs.Exclude = "\u0085" }, `exclude: "\u0085" has a space or newline`, ""},
		{func(j *runtime.Job) { j.Needs.Nodes = -1 }, `nodes: -1 is negative`, ""},
		{func(j *runtime.Job) { j.Limit = 0 }, `time: a job must have a time limit`, ""},
		{func(j *runtime.Job) { j.Dir = "runs" }, `dir: "runs" is not an absolute path`, ""},
		{func(j *runtime.Job) { j.Dir = "/a\nb" }, `dir: "/a\nb/slurm.out" has a newline or another control character`, ""},
		{func(j *runtime.Job) { j.Token = "" }, `name: "" is no name for a job`, ""},
		{func(j *runtime.Job) { j.Token = "a,b" }, `name: "a,b" is no name for a job`, ""},
		{func(j *runtime.Job) { j.Args = []string{"a\x00b"} }, `a NUL character in the command or environment of redis`, ""},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"-p gpu"} }, `extra: "-p gpu" is not an option of sbatch`, "extra="},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--mail-type END"} },
			`extra: "--mail-type END" is not an option of sbatch`, "extra="},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--comment=a\nb"} },
			`extra: "a\nb" has a newline or another control character`, ""},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--partition=gpu"} }, `extra: --partition is set by aifb`, "partition="},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--part=gpu"} }, `extra: --part is set by aifb`, "partition="},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--array=1-9"} }, `extra: --array is set by aifb`, "count="},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--requeue"} }, `extra: --requeue is set by aifb`, "requeue="},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--quiet"} }, `extra: --quiet is set by aifb`, "id"},
		{func(j *runtime.Job) { j.Group, j.Index = "redis", 1 },
			`name: "aifb-20261123-141502-k3f9-redis" in /home/alice/.aifb/runs/r/redis is not number 1 of a group`, ""},
		{func(j *runtime.Job) { j.Needs.Extra = []string{"--wait"} }, `extra: --wait is set by aifb`, "wait_done"},
	}
	for _, test := range tests {
		job := smallJob()
		test.change(&job)
		script, err := Script(job)
		if err == nil || err.Error() != test.want || runtime.FaultOf(err) != runtime.FaultRun {
			t.Errorf("got %v, want %s; script:\n%s", err, test.want, script)
		}
		if hint := runtime.HintOf(err); !strings.Contains(hint, test.hint) {
			t.Errorf("%v: the hint is %q, want %q in it", err, hint, test.hint)
		}
	}
}

// No value makes another #SBATCH line, or a line of shell.
func FuzzScript(f *testing.F) {
	f.Add("gpu", "--comment=x")
	f.Add("a\nb", "--comment=\"\nx")
	f.Add("a\u2028b", "--x=\r#SBATCH --nodes=2")
	want := 4 + len(smallJob().Needs.Extra)
	f.Fuzz(func(t *testing.T, word, extra string) {
		job := smallJob()
		job.Needs.Partition, job.Needs.Extra = word, []string{extra}
		script, err := Script(job)
		if err != nil {
			return
		}
		head, _, _ := strings.Cut(script, "host=")
		n := want + 1
		if word != "" {
			n++
		}
		if got := strings.Count(head, "\n#SBATCH --"); got != n || strings.Count(head, "\n") != n+1 {
			t.Errorf("partition %q, extra %q make:\n%s", word, extra, head)
		}
	})
}
