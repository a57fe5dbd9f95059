package slurm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aifb/aifb/runtime"
)

// arraySbatch takes arrays whose highest index is less than the file size has.
const arraySbatch = `case $tasks in
-) ;;
*) [ "${tasks##*[-,]}" -lt "$(cat size 2>/dev/null || echo 1001)" ] || fail "Invalid job array specification" ;;
esac
`

func TestSubmitGroup(t *testing.T) {
	virtually(t, arraySbatch+"submit", func(t *testing.T, f *fake) {
		jobs := slices.Concat([]runtime.Job{f.job("before")}, f.group("g", 2500), []runtime.Job{f.job("after")}, f.group("h", 2))
		ids := f.submit(jobs...)
		if n := f.runs.Load(); n != 1 {
			t.Errorf("%d round trips", n)
		}
		for i, want := range map[int]runtime.JobID{0: "101", 1: "102_0", 1000: "102_999", 1001: "103_0", 2000: "103_999",
			2001: "104_0", 2500: "104_499", 2501: "105", 2502: "106_0", 2503: "106_1"} {
			if ids[i] != want {
				t.Errorf("job %d is %s, want %s", i, ids[i], want)
			}
		}
		run := filepath.Join(f.dir, "run") + "/"
		want := "sbatch --parsable " + run + "before/script\n" +
			"sbatch --parsable --array=0-999 --job-name=aifb-g --output=" + run + "g.%a/slurm.out " + run + "g/script 0\n" +
			"sbatch --parsable --array=0-999 --job-name=aifb-g+1000 --output=" + run + "g.1%3a/slurm.out " + run + "g/script 1000\n" +
			"sbatch --parsable --array=0-499 --job-name=aifb-g+2000 --output=" + run + "g.2%3a/slurm.out " + run + "g/script 2000\n" +
			"sbatch --parsable " + run + "after/script\n" +
			"sbatch --parsable --array=0-1 --job-name=aifb-h --output=" + run + "h.%a/slurm.out " + run + "h/script 0\n"
		if got := f.read("calls"); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		for _, i := range []int{0, 2499} {
			if info, err := os.Stat(fmt.Sprintf("%sg.%d", run, i)); err != nil || !info.IsDir() {
				t.Errorf("the directory of %d: %v", i, err)
			}
		}
		slices.Reverse(jobs)
		again := f.submit(jobs...)
		slices.Reverse(again)
		if !slices.Equal(again, ids) || f.calls("sbatch") != 6 {
			t.Errorf("again, in another order, got other ids, by %d calls", f.calls("sbatch"))
		}
	})
}

// The jobs of a group need not be submitted together, nor one after the other.
func TestSubmitParts(t *testing.T) {
	virtually(t, "submit", func(t *testing.T, f *fake) {
		g := f.group("g", 10)
		tests := []struct {
			jobs []runtime.Job
			want string // ids
			call string // the last one's tasks
		}{
			{[]runtime.Job{g[7], g[3], g[4], g[7]}, "[101_7 101_3 101_4 101_7]", "3-4,7"},
			{[]runtime.Job{g[4]}, "[101_4]", "3-4,7"},
			{g[2:6], "[102_2 101_3 101_4 103_5]", "5"},
			{g, "[104_0 104_1 102_2 101_3 101_4 103_5 105_6 101_7 106_8 106_9]", "8-9"},
		}
		for _, test := range tests {
			f.Scheduler = New(f.shellConn, "meluxina")
			if ids := f.submit(test.jobs...); fmt.Sprint(ids) != test.want {
				t.Errorf("got %v, want %v", ids, test.want)
			}
			calls := strings.TrimSpace(f.read("calls"))
			if last := calls[strings.LastIndex(calls, "\n")+1:]; !strings.Contains(last, "--array="+test.call+" ") {
				t.Errorf("the last call was %s, want %s", last, test.call)
			}
		}
	})
}

// A cluster may take only small arrays, or none.
func TestSubmitSmallArrays(t *testing.T) {
	tests := []struct {
		size, count int
		calls       int
		last        runtime.JobID
		name        string // of the last
	}{
		{101, 250, 4, "103_49", "aifb-g+200"},
		{11, 95, 11, "110_4", "aifb-g+90"},
		{1, 30, 31, "130", "aifb-g.29"},
		{0, 30, 31, "130", "aifb-g.29"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.size), func(t *testing.T) {
			virtually(t, arraySbatch+"submit", func(t *testing.T, f *fake) {
				f.write("size", fmt.Sprintln(test.size))
				f.set("scontrol", fmt.Sprintf("echo MaxArraySize = %d", test.size))
				ids := f.submit(f.group("g", test.count)...)
				if ids[test.count-1] != test.last || f.calls("sbatch") != test.calls || f.calls("scontrol") != 1 {
					t.Errorf("got %s by %d calls of sbatch and %d of scontrol", ids[test.count-1], f.calls("sbatch"), f.calls("scontrol"))
				}
				if !strings.HasSuffix(f.jobs(), "\n"+test.name+"\n") {
					t.Errorf("the jobs are\n%s", f.jobs())
				}
				before := f.calls("sbatch")
				f.submit(f.group("h", 5)...)
				if n := f.calls("sbatch") - before; n != 1 && (n != 5 || test.size > 1) {
					t.Errorf("the next group took %d calls", n)
				}
				f.Scheduler = New(f.shellConn, "meluxina")
				if again := f.submit(f.group("g", test.count)...); !slices.Equal(again, ids) {
					t.Errorf("again, the ids are %v", again)
				}
			})
		})
	}
}

// The answer to an array is lost: it is found, as a whole.
func TestSubmitGroupLost(t *testing.T) {
	const timedOut = `submit >/dev/null; fail "Socket timed out on send/recv operation"`
	tests := []struct {
		name, squeue, sacct string
		want                string // the ids of 1 and 1100
	}{
		{"all wait", "", "", "101_1 102_100"},
		{"one is left", `printf '101_7\037aifb-g\n102_[3,...]\037aifb-g+1000\n'`, "", "101_1 102_100"},
		{"accounting", `true`, `printf '101_[0-999%%50]\037c\037aifb-g\n102_0\037c\037aifb-g+1000\n'`, "101_1 102_100"},
		{"others' names", `printf '7_7\037aifb-gg\n8\037aifb-g\n101_7\037aifb-g\n102_7\037aifb-g+1000\n'`, "", "101_1 102_100"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			virtually(t, timedOut, func(t *testing.T, f *fake) {
				if test.squeue != "" {
					f.set("squeue", test.squeue)
				}
				if test.sacct != "" {
					f.set("sacct", test.sacct)
				}
				jobs := f.group("g", 1200)
				subs, err := f.Submit(t.Context(), jobs...)
				if err != nil || subs[999].ID != "101_999" || runtime.ClassOf(subs[1000].Err) != runtime.Transient {
					t.Fatalf("got %+v, %+v, %v", subs[999], subs[1000], err)
				}
				ids := f.submit(jobs...)
				if got := fmt.Sprint(ids[1], " ", ids[1100]); got != test.want || f.calls("sbatch") != 2 {
					t.Errorf("got %s by %d calls of sbatch", got, f.calls("sbatch"))
				}
			})
		})
	}
}

// One job of the group has run and says so; squeue and sacct know nothing.
func TestSubmitGroupStarted(t *testing.T) {
	virtually(t, `submit >/dev/null; fail "Socket timed out on send/recv operation"`, func(t *testing.T, f *fake) {
		f.set("squeue", "true")
		f.write("run/g.3/start.json", `{"host":"n1","port":0,"id":"101_3","attempt":0,"time":1}`+"\n")
		if ids := f.submit(f.group("g", 5)...); fmt.Sprint(ids) != "[101_0 101_1 101_2 101_3 101_4]" {
			t.Errorf("got %v", ids)
		}
	})
}

// A limit on jobs refuses an array as a whole. A smaller part of it may do.
func TestSubmitGroupQuota(t *testing.T) {
	const sbatch = `case $tasks in 0-[0-4]) submit; exit ;; esac
fail "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"`
	virtually(t, sbatch, func(t *testing.T, f *fake) {
		g := f.group("g", 2000)
		subs, err := f.Submit(t.Context(), g...)
		if err != nil || f.calls("sbatch") != 1 {
			t.Errorf("%v, %d calls of sbatch", err, f.calls("sbatch"))
		}
		for _, sub := range subs {
			if sub.ID != "" || runtime.ClassOf(sub.Err) != runtime.Quota {
				t.Fatalf("got %+v", sub)
			}
		}
		if ids := f.submit(g[:5]...); ids[4] != "101_4" {
			t.Errorf("got %v", ids)
		}
		subs, err = f.Submit(t.Context(), g...)
		if err != nil || subs[4].ID != "101_4" || runtime.ClassOf(subs[5].Err) != runtime.Quota {
			t.Errorf("got %+v, %+v, %v", subs[4], subs[5], err)
		}
	})
}

// The script of a group becomes each of its jobs.
func TestGroupScript(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	g := f.group("it's g", 1010)
	for i := range g {
		g[i].Token = fmt.Sprintf("aifb-g.%d", i)
		g[i].Args = []string{"sh", "-c", "echo $CLIENT_INDEX $CLIENT_NAME"}
	}
	script, err := Script(g[0])
	other, err2 := Script(g[1])
	if err != nil || err2 != nil || script != other {
		t.Fatalf("%v, %v; the scripts differ:\n%s\n%s", err, err2, script, other)
	}
	f.write("run/it's g/script", script)
	f.write("run/.gate-it's g/go", "1 go\n") // all of them are there
	tests := []struct {
		env    []string
		offset string
		job    int
		id     string
	}{
		{[]string{"SLURM_ARRAY_JOB_ID=100", "SLURM_ARRAY_TASK_ID=7", "SLURM_JOB_ID=107"}, "0", 7, "100_7"},
		{[]string{"SLURM_ARRAY_JOB_ID=100", "SLURM_ARRAY_TASK_ID=7", "SLURM_JOB_ID=107"}, "1000", 1007, "100_7"},
		{[]string{"SLURM_JOB_ID=200"}, "9", 9, "200"},
	}
	for _, test := range tests {
		job := g[test.job]
		if err := os.MkdirAll(job.Dir, 0o777); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bash", filepath.Join(f.dir, "run/it's g/script"), test.offset)
		cmd.Env = append(os.Environ(), test.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		name := "run/" + job.Name + "/"
		if got, want := f.read(name+runtime.FileStdout), fmt.Sprintf("%d %s\n", test.job, job.Name); got != want {
			t.Errorf("it printed %q, want %q", got, want)
		}
		var start runtime.Start
		if err := json.Unmarshal([]byte(f.read(name+runtime.FileStart)), &start); err != nil || start.ID != test.id {
			t.Errorf("start.json has %+v, %v; want id %s", start, err, test.id)
		}
		if f.read(name+runtime.FileScript) != script {
			t.Errorf("the script of %d is not in its directory", test.job)
		}
	}
}

func TestGroupNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		group  string
		index  int
		offset int
		name   string
	}{
		{"aifb-r-c", 7, 0, "aifb-r-c"},
		{"aifb-r-c", 1007, 1000, "aifb-r-c+1000"},
		{"aifb-r-c+5", 7, 0, "aifb-r-c+5+0"},
		{"aifb-r-c.1", 12, 10, "aifb-r-c.1+10"},
	} {
		name := arrayName(test.group, test.offset)
		token := fmt.Sprintf("%s.%d", test.group, test.index)
		if got := taskToken(name, test.index-test.offset); name != test.name || got != token {
			t.Errorf("%+v: got %s, %s", test, name, got)
		}
		job := runtime.Job{Token: token, Group: "c", Index: test.index}
		for _, other := range []string{name + "x", name + "+9999", "x" + name, token + ".1"} {
			a := &attempt{mark: "M", name: other, tasks: parseTasks("0-2000")}
			if a.covers(job) {
				t.Errorf("%s is taken for one of %s", token, other)
			}
		}
		a := &attempt{mark: "M", name: name, tasks: parseTasks(fmt.Sprint(test.index - test.offset))}
		if !a.covers(job) {
			t.Errorf("%s is not taken for one of %s", token, name)
		}
	}
}

func TestChunkWithin(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{100000: 1000, 1001: 1000, 1000: 1000, 999: 100, 100: 100, 11: 10, 9: 1, 1: 1, 0: 1} {
		if got := chunkWithin(size); got != want {
			t.Errorf("%d: got %d, want %d", size, got, want)
		}
	}
}

func TestArrayOutput(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		offset, chunk int
		want          string
	}{{0, 1000, "/50%%/g.%a/slurm.out"}, {3000, 1000, "/50%%/g.3%3a/slurm.out"}, {1230, 10, "/50%%/g.123%1a/slurm.out"}} {
		if got := arrayOutput("/50%/g", test.offset, test.chunk); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestParseTasks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text    string
		has     []int
		without []int
	}{
		{"0", []int{0}, []int{1, -1}},
		{"[0-999%50]", []int{0, 999}, []int{1000}},
		{"1,3,7-8", []int{1, 3, 7, 8}, []int{0, 2, 6, 9}},
		{"0-6:2", []int{0, 2, 6}, []int{1, 7, 8}},
		{"[1,3,5,...]", []int{1, 3, 5, 6, 1 << 40}, []int{0, 2, 4}},
		{"", nil, []int{0}},
		{"N/A", nil, []int{0}},
		{"3-1", nil, []int{1, 2, 3}},
		{"...", nil, []int{0}},
		{"0-9:0", nil, []int{0}},
		{"99999999999", nil, []int{0}},
		{"-1", nil, []int{0, 1}},
	}
	for _, test := range tests {
		set := parseTasks(test.text)
		for _, n := range test.has {
			if !set.has(n) {
				t.Errorf("%q has not %d", test.text, n)
			}
		}
		for _, n := range test.without {
			if set.has(n) {
				t.Errorf("%q has %d", test.text, n)
			}
		}
	}
}

func FuzzParseTasks(f *testing.F) {
	f.Add("[0-999%50]")
	f.Add("1,3,5,...")
	f.Add("0-98:2")
	f.Fuzz(func(t *testing.T, text string) {
		set := parseTasks(text)
		for _, r := range set {
			if r.first < 0 || r.last < r.first || r.step < 1 || !set.has(r.first) {
				t.Errorf("%q: %+v", text, r)
			}
		}
		if len(set) > 0 && !set.overlaps(set) {
			t.Errorf("%q does not overlap itself", text)
		}
	})
}
