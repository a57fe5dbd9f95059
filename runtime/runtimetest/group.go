package runtimetest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

var groupClauses = []clause{
	{name: "group", check: checkGroup,
		rule: "the jobs of a group are jobs of their own: with an id, a status, a directory and an environment each"},
	{name: "barrier", check: checkBarrier,
		rule: "the jobs of a group start their commands together, and record by how much they missed the moment"},
	{name: "group again", check: checkGroupAgain,
		rule: "submitting a group again, or a part of it, makes no second job and returns the ids that there are"},
	{name: "group cancel", check: checkGroupCancel,
		rule: "a job of a group can be cancelled without the others, and all of them at once"},
	{name: "two groups", check: checkTwoGroups,
		rule: "groups, and jobs of none, may be submitted by one call"},
}

// group makes the jobs of a group, each with a directory of its own below the clause's.
func (t *schedulerTest) group(name string, count int, args ...string) (jobs []runtime.Job) {
	for i := range count {
		job := t.job(fmt.Sprintf("%s.%d", name, i), args...)
		job.Group, job.Index, job.Count = name, i, count
		jobs = append(jobs, job)
	}
	return jobs
}

func checkGroup(t *schedulerTest) {
	jobs := t.group("g", 4, "sh", "-c", `echo "$CLIENT_NAME $CLIENT_INDEX $CLIENT_COUNT"; echo 1 >metrics/m; exit "$CLIENT_INDEX"`)
	for i, job := range jobs {
		t.behave(job.Name, sim.Behaviour{Stdout: fmt.Sprintf("g.%d %d 4\n", i, i), Files: map[string]string{"metrics/m": "1\n"}, Code: i})
	}
	ids := t.submit(jobs...)
	if sorted := slices.Sorted(slices.Values(ids)); len(slices.Compact(sorted)) != len(ids) {
		t.Errorf("the ids are %v", ids)
	}
	for i, job := range jobs {
		st := t.ended(ids[i])
		if !st.Exited || st.Code != i || (st.Outcome == runtime.Completed) != (i == 0) {
			t.Errorf("the status of %s is %+v; want exit code %d", job.Name, st, i)
		}
		if got, want := t.read(job, runtime.FileStdout), fmt.Sprintf("g.%d %d 4\n", i, i); got != want {
			t.Errorf("%s printed %q, want %q", job.Name, got, want)
		}
		if got := t.read(job, runtime.DirMetrics+"/m"); got != "1\n" {
			t.Errorf("the metrics of %s are %q", job.Name, got)
		}
		var exit runtime.Exit
		t.json(job, runtime.FileExit, &exit)
		if start := t.start(job); start.Host == "" || start.ID == "" || exit.Code != i {
			t.Errorf("%s: start.json has %+v, exit.json %+v", job.Name, start, exit)
		}
	}
}

// togetherness is by how much the jobs of a group may miss their start, and each other. It is for a busy machine; what
// is rare on a cluster is rarer there.
const togetherness = 5

func checkBarrier(t *schedulerTest) {
	jobs := t.group("g", 3, "sh", "-c", "date +%s >began")
	for _, job := range jobs {
		t.behave(job.Name, sim.Behaviour{Files: map[string]string{"began": "1\n"}})
	}
	t.behave("g.1", sim.Behaviour{Wait: 20 * time.Second, Late: 30 * time.Millisecond, Files: map[string]string{"began": "1\n"}})
	ids := t.submit(jobs...)
	first, last := 0, 0
	for i, job := range jobs {
		t.ended(ids[i])
		var exit runtime.Exit
		t.json(job, runtime.FileExit, &exit)
		if exit.Late == nil || math.Abs(*exit.Late) > togetherness {
			t.Errorf("%s: exit.json has %s; want by how much it started late", job.Name, t.read(job, runtime.FileExit))
		} else if t.Cluster != nil && i == 1 && *exit.Late != 0.03 {
			t.Errorf("%s was %v s late", job.Name, *exit.Late)
		}
		var began int
		if _, err := fmt.Sscan(t.read(job, "began"), &began); err != nil {
			t.Fatal(err)
		}
		if first == 0 || began < first {
			first = began
		}
		last = max(last, began)
	}
	if last-first > togetherness {
		t.Errorf("the first command began %d s before the last", last-first)
	}
}

func checkGroupAgain(t *schedulerTest) {
	jobs := t.group("g", 5, "sh", "-c", "echo >>runs")
	ids := t.submit(jobs...)
	first := t.Scheduler
	t.Scheduler = t.Open(t.T)
	if again := t.submit(jobs...); !slices.Equal(again, ids) {
		t.Errorf("got the ids %v, and then %v", ids, again)
	}
	if again := t.submit(jobs[3], jobs[1]); again[0] != ids[3] || again[1] != ids[1] {
		t.Errorf("got the ids %v, and then %v for two of them", ids, again)
	}
	t.Scheduler = first // another need not know how they end
	for i, job := range jobs {
		t.ended(ids[i])
		t.once(job, "runs")
	}
}

func checkGroupCancel(t *schedulerTest) {
	jobs := t.group("g", 4, "sh", "-c", "while :; do echo >>beat; sleep 0.1; done")
	t.behave("g.*", sim.Behaviour{Run: sim.Forever})
	ids := t.submit(jobs...)
	for i, job := range jobs {
		t.waitFor("a running job", func() bool { return t.beats(ids[i], job) })
	}
	if err := t.Cancel(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	if st := t.ended(ids[1]); st.Outcome != runtime.Cancelled {
		t.Errorf("the status is %+v, want cancelled", st)
	}
	t.silent(jobs[1])
	for _, i := range []int{0, 2, 3} {
		if st := t.status(ids[i]); st.State != runtime.Running {
			t.Errorf("the status of another job is %+v, want running", st)
		}
	}
	if err := t.Cancel(t.Context(), ids...); err != nil {
		t.Fatal(err)
	}
	for i, job := range jobs {
		if st := t.ended(ids[i]); st.Outcome != runtime.Cancelled {
			t.Errorf("the status of %s is %+v, want cancelled", job.Name, st)
		}
		t.silent(job)
	}
}

func checkTwoGroups(t *schedulerTest) {
	a, b := t.group("a", 2, "sh", "-c", "echo $CLIENT_NAME"), t.group("b", 3, "sh", "-c", "echo $CLIENT_NAME")
	jobs := slices.Concat([]runtime.Job{t.job("x", "echo", "x")}, a, b, []runtime.Job{t.job("y", "echo", "y")})
	for _, job := range jobs {
		t.behave(job.Name, sim.Behaviour{Stdout: job.Name + "\n"})
	}
	for i, id := range t.submit(jobs...) {
		if st := t.ended(id); st.Outcome != runtime.Completed {
			t.Errorf("the status of %s is %+v", jobs[i].Name, st)
		}
		if got, want := t.read(jobs[i], runtime.FileStdout), jobs[i].Name+"\n"; got != want {
			t.Errorf("job %s printed %q, want %q", strconv.Itoa(i), got, want)
		}
	}
}
