package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// scriptedClauses are about what goes wrong on a cluster.
var scriptedClauses = []clause{
	{name: "lost before", check: func(t *schedulerTest) { checkLost(t, sim.LostBefore) }, needs: aScript,
		rule: "a submission that is lost on its way there makes exactly one job, once it is repeated"},
	{name: "lost after", check: func(t *schedulerTest) { checkLost(t, sim.LostAfter) }, needs: aScript,
		rule: "a submission whose answer is lost makes exactly one job, however often it is repeated"},
	{name: "late", check: func(t *schedulerTest) { checkLost(t, sim.Late) }, needs: aScript,
		rule: "a job that appears after its submission was given up is the only one of its token"},
	{name: "lost long ago", check: checkLostLongAgo, needs: aScript,
		rule:   "a job whose answer is lost, and that the queue forgets before anybody asks, is not submitted again",
		config: sim.Config{MinJobAge: 5 * time.Second}},
	{name: "lost long ago without accounting", check: checkLostLongAgo, needs: aScript,
		rule:   "the same where only the job's own files know of it",
		config: sim.Config{MinJobAge: 5 * time.Second, NoAccounting: true}},
	{name: "nothing known", check: checkNothingKnown, needs: aScript,
		rule: "while nobody can say whether there is a job, none is submitted"},
	{name: "refused", check: checkRefused, needs: aScript,
		rule: "a job that is refused does not exist; the error's class says whether it may come to, and submitting it again does"},
	{name: "query fails", check: checkQueryFails, needs: aScript,
		rule: "a query that fails, be it a thousand times, is an error, and changes nothing of what is known of any job"},
	{name: "disconnected", check: checkDisconnected, needs: aScript,
		rule: "without a connection everything fails, and nothing else happens"},
	{name: "forgotten", check: checkForgotten, needs: aScript,
		rule:   "a job that the queue has forgotten ended as accounting says",
		config: sim.Config{MinJobAge: 5 * time.Second}},
	{name: "lag of 5 s", check: checkForgotten, needs: aScript,
		rule:   "while accounting is behind, a job that the queue has forgotten is unknown, or has ended as it did",
		config: sim.Config{MinJobAge: 5 * time.Second, Lag: 5 * time.Second}},
	{name: "lag of 60 s", check: checkForgotten, needs: aScript,
		rule:   "the same, for longer",
		config: sim.Config{MinJobAge: 5 * time.Second, Lag: time.Minute}},
	{name: "lag of 300 s", check: checkForgotten, needs: aScript,
		rule:   "the same, for very long",
		config: sim.Config{MinJobAge: 5 * time.Second, Lag: 5 * time.Minute}},
	{name: "no accounting", check: checkNoAccounting, needs: aScript,
		rule:   "without accounting, a job that the queue has forgotten is unknown, or has ended as it did",
		config: sim.Config{MinJobAge: 5 * time.Second, NoAccounting: true}},
	{name: "unknown without accounting", check: checkUnknown, needs: aScript,
		rule:   "a job that the scheduler does not know has no state, and to cancel it is no error",
		config: sim.Config{NoAccounting: true}},
	{name: "lost job", check: checkLostJob, needs: aScript,
		rule: "of a job that nobody knows how it ended, nobody says that it did"},
	{name: "accounting down", check: checkAccountingDown, needs: aScript,
		rule:   "an accounting database that is down says nothing of a job, and what the queue knows is known",
		config: sim.Config{MinJobAge: 5 * time.Second}},
	{name: "outcomes", check: checkOutcomes, needs: aScript,
		rule: "each way to end is an outcome of its own, and an exit code is known only where the command had one"},
	{name: "no requeue", check: checkNoRequeue, needs: aScript,
		rule: "a job that is not to be requeued and loses its node, or is preempted, has ended by that"},
	{name: "requeue", check: checkRequeue, needs: aScript,
		rule: "a job that is to be requeued runs again; that is another attempt, whose end is the job's"},
	{name: "parts", check: checkParts, needs: aScript,
		rule:   "a job of which the cluster makes several is one job, found again if its answer is lost, and ends as the first of them",
		config: sim.Config{MinJobAge: 5 * time.Second}},
	{name: "parts without accounting", check: checkParts, needs: aScript,
		rule:   "the same where there is no accounting",
		config: sim.Config{NoAccounting: true}},
	{name: "requeue forgotten", check: checkRequeueForgotten, needs: aScript,
		rule:   "of the attempts that accounting knows, the last one counts",
		config: sim.Config{MinJobAge: 5 * time.Second}},
	{name: "reasons", check: checkReasons, needs: aScript,
		rule: "a reason for which a job waits is told as it is, whatever its text has; no reason ends a job"},
	{name: "queue", check: checkQueue, needs: aScript,
		rule:   "jobs wait for nodes, and say so; an Explainer says how many come first",
		config: sim.Config{Nodes: 1, Cores: 1}},
	{name: "stop", check: checkStop, needs: aScript,
		rule: "a job that does not want to end is running until it is gone"},
	{name: "cancel waiting", check: checkCancelWaiting, needs: aScript,
		rule: "a job that is cancelled before it runs never does, and the others of its group do not mind"},
	{name: "clock", check: checkFilesOfClock, needs: aScript,
		rule:   "a cluster whose clock is off runs jobs as any other",
		config: sim.Config{Skew: -10 * time.Minute}},
}

// persist submits jobs until each has an id or is refused for good, with a pause after each failure, as a session does.
func (t *schedulerTest) persist(jobs ...runtime.Job) []runtime.Submission {
	t.Helper()
	for range 50 {
		subs, err := t.Submit(t.Context(), jobs...)
		if err == nil && !slices.ContainsFunc(subs, func(s runtime.Submission) bool { return mayPass(s.Err) }) {
			return subs
		}
		if err != nil && runtime.ClassOf(err) == runtime.Permanent {
			t.Fatalf("submit: %v, and it is said to be permanent", err)
		}
		time.Sleep(2 * time.Second)
	}
	t.Fatal("the jobs were submitted 50 times")
	return nil
}

func mayPass(err error) bool { return err != nil && runtime.ClassOf(err) != runtime.Permanent }

func checkLost(t *schedulerTest, fault sim.Fault) {
	jobs := append(t.group("g", 3, "true"), t.job("a", "true"), t.job("b", "true"))
	t.behave("*", sim.Behaviour{Run: time.Minute})
	for times := 1; times <= 2; times++ {
		t.Cluster.Fault(fault, times)
		for _, sub := range t.persist(jobs...) {
			if sub.Err != nil || sub.ID == "" {
				t.Fatalf("got %+v", sub)
			}
		}
		time.Sleep(2 * sim.Lateness)
	}
	t.Scheduler = t.Open(t.T)
	for i, sub := range t.persist(jobs...) {
		t.once(jobs[i], "")
		if st := t.ended(sub.ID); st.Outcome != runtime.Completed {
			t.Errorf("the status of %s is %+v", sub.Token, st)
		}
		if start := t.start(jobs[i]); start.Attempt != 0 {
			t.Errorf("it ran twice: start.json has %+v", start)
		}
	}
}

func checkLostLongAgo(t *schedulerTest) {
	job := t.job("j", "true")
	t.Cluster.Fault(sim.LostAfter, 1)
	if subs, err := t.Submit(t.Context(), job); err == nil && !mayPass(subs[0].Err) {
		return // it found the job by itself, and nobody has to come back for it
	}
	time.Sleep(time.Minute)
	t.Scheduler = t.Open(t.T)
	if sub := t.persist(job)[0]; sub.Err != nil {
		t.Error(sub.Err)
	}
	t.once(job, "")
}

func checkNothingKnown(t *schedulerTest) {
	job := t.job("j", "true")
	t.behave("j", sim.Behaviour{Run: time.Hour})
	t.Cluster.Fault(sim.LostAfter, 1)
	t.Cluster.Fault(sim.NoQueue, sim.Always)
	t.Cluster.Fault(sim.NoAccounts, sim.Always)
	for range 5 {
		if subs, err := t.Submit(t.Context(), job); err == nil && subs[0].Err == nil && t.Cluster.Made(job.Token) != 1 {
			t.Fatalf("got %+v", subs)
		}
		time.Sleep(time.Minute)
	}
	t.Cluster.Fault(sim.NoQueue, 0)
	t.Cluster.Fault(sim.NoAccounts, 0)
	if sub := t.persist(job)[0]; t.status(sub.ID).State != runtime.Running {
		t.Errorf("got %+v", sub)
	}
	t.once(job, "")
}

func checkRefused(t *schedulerTest) {
	for _, test := range []struct {
		name  string
		class runtime.Class
		text  string
	}{
		{"wrong", runtime.Permanent, "Invalid account or account/partition combination specified"},
		{"full", runtime.Quota, "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"},
	} {
		job, good := t.job(test.name, "true"), t.job("beside-"+test.name, "true")
		group := t.group(test.name+"-g", 2, "true")
		refusal := sim.Behaviour{Refuse: &runtime.Error{Fault: runtime.FaultRun,
			Err: &runtime.CommandError{Command: "submit", Code: 1, Text: test.text, Output: test.text + "\n", Class: test.class}}}
		t.behave(test.name+"*", refusal)
		jobs := append(group, job, good)
		subs, err := t.Submit(t.Context(), jobs...)
		if err != nil {
			t.Fatal(err)
		}
		for i, sub := range subs[:3] {
			if sub.Err == nil || sub.ID != "" || runtime.ClassOf(sub.Err) != test.class || t.Cluster.Made(jobs[i].Token) != 0 {
				t.Errorf("%s: got %+v of class %s; want it refused, of class %s", sub.Token, sub, runtime.ClassOf(sub.Err), test.class)
			}
		}
		if subs[3].Err != nil && runtime.ClassOf(subs[3].Err) == runtime.Permanent {
			t.Errorf("the job beside it: %+v", subs[3])
		}
		t.behave(test.name+"*", sim.Behaviour{})
		for i, sub := range t.persist(jobs...) {
			if sub.Err != nil {
				t.Errorf("%s: submitted again: %v", sub.Token, sub.Err)
			}
			t.once(jobs[i], "")
		}
	}
}

func checkQueryFails(t *schedulerTest) {
	job := t.job("j", "true")
	t.behave("j", sim.Behaviour{Run: time.Hour, Code: 4})
	id := t.submit(job)[0]
	t.waitFor("a running job", func() bool { return t.status(id).State == runtime.Running })
	before := t.status(id)
	const queue, connection = 50, 950
	t.Cluster.Fault(sim.NoQueue, queue)
	for failed := range queue + connection {
		if failed == queue {
			t.Cluster.Fault(sim.Disconnected, connection)
		}
		known, err := t.Status(t.Context(), id)
		if err == nil || len(known) != 0 || runtime.ClassOf(err) == runtime.Permanent {
			t.Fatalf("after %d failures: got %+v, and %v of class %s", failed, known, err, runtime.ClassOf(err))
		}
		time.Sleep(time.Second)
	}
	t.Cluster.Fault(sim.NoQueue, 0) // some may ask more than once
	t.Cluster.Fault(sim.Disconnected, 0)
	if after := t.status(id); after != before {
		t.Errorf("the status is %+v, before the failures it was %+v", after, before)
	}
	if st := t.endedWithin(id, 2*time.Hour); st.Outcome != runtime.Failed || st.Code != 4 {
		t.Errorf("the status is %+v", st)
	}
}

func checkDisconnected(t *schedulerTest) {
	a, b := t.job("a", "true"), t.job("b", "true")
	t.behave("*", sim.Behaviour{Run: time.Hour})
	id := t.submit(a)[0]
	t.waitFor("a running job", func() bool { return t.status(id).State == runtime.Running })
	t.Cluster.Fault(sim.Disconnected, sim.Always)
	for range 3 {
		if known, err := t.Status(t.Context(), id); err == nil {
			t.Errorf("status: %+v, and no error", known)
		}
		if err := t.Cancel(t.Context(), id); err == nil {
			t.Error("cancel: no error")
		}
		subs, err := t.Submit(t.Context(), b)
		if err == nil && len(subs) == 1 {
			err = subs[0].Err
		}
		if err == nil || runtime.ClassOf(err) == runtime.Permanent {
			t.Errorf("submit: %+v, %v", subs, err)
		}
		time.Sleep(10 * time.Second)
	}
	t.Cluster.Fault(sim.Disconnected, 0)
	if st := t.status(id); st.State != runtime.Running {
		t.Errorf("the status is %+v, want running", st)
	}
	ids := []runtime.JobID{id, t.persist(b)[0].ID}
	for i, job := range []runtime.Job{a, b} {
		t.once(job, "")
		if st := t.endedWithin(ids[i], 2*time.Hour); st.Outcome != runtime.Completed {
			t.Errorf("the status is %+v", st)
		}
	}
}

// observe asks for a job's status every now and then until the time is over, and calls see with each.
func (t *schedulerTest) observe(id runtime.JobID, d time.Duration, see func(runtime.Status)) {
	t.Helper()
	const times = 40
	for range times {
		see(t.status(id))
		time.Sleep(d / times)
	}
}

func checkForgotten(t *schedulerTest) {
	t.behave("j", sim.Behaviour{Run: 5 * time.Second, Code: 3})
	id := t.submit(t.job("j", "true"))[0]
	t.waitFor("a running job", func() bool { return t.status(id).State == runtime.Running })
	seen := map[runtime.State]int{}
	time.Sleep(5 * time.Second)
	t.observe(id, 6*time.Minute, func(st runtime.Status) {
		seen[st.State]++
		switch st.State {
		case runtime.Unknown:
		case runtime.Ended:
			if st.Outcome != runtime.Failed || !st.Exited || st.Code != 3 {
				t.Fatalf("the status is %+v", st)
			}
		default:
			t.Fatalf("the status is %+v, of a job that has ended", st)
		}
	})
	if st := t.endedWithin(id, 20*time.Minute); st.Code != 3 {
		t.Errorf("the status is %+v; before it was %v", st, seen)
	}
	if err := t.Cancel(t.Context(), id); err != nil {
		t.Errorf("cancel: %v", err)
	}
}

func checkNoAccounting(t *schedulerTest) {
	t.behave("j", sim.Behaviour{Run: 5 * time.Second, Code: 3})
	id := t.submit(t.job("j", "true"))[0]
	st := t.ended(id)
	if st.Outcome != runtime.Failed || st.Code != 3 {
		t.Errorf("the status is %+v", st)
	}
	t.observe(id, 10*time.Minute, func(st runtime.Status) {
		if st.State != runtime.Unknown && (st.State != runtime.Ended || st.Outcome != runtime.Failed || st.Code != 3) {
			t.Fatalf("the status is %+v", st)
		}
	})
	if err := t.Cancel(t.Context(), id); err != nil {
		t.Errorf("cancel: %v", err)
	}
}

func checkLostJob(t *schedulerTest) {
	t.behave("j", sim.Behaviour{Run: 5 * time.Second, Outcome: runtime.Lost, Silent: true})
	id := t.submit(t.job("j", "true"))[0]
	t.waitFor("a running job", func() bool { return t.status(id).State == runtime.Running })
	time.Sleep(6 * time.Second)
	t.observe(id, time.Hour, func(st runtime.Status) {
		if st.State != runtime.Unknown {
			t.Fatalf("the status is %+v", st)
		}
	})
}

func checkAccountingDown(t *schedulerTest) {
	t.behave("*", sim.Behaviour{Run: 5 * time.Second, Code: 3})
	t.behave("long", sim.Behaviour{Run: time.Hour})
	ids := t.submit(t.job("j", "true"), t.job("long", "true"))
	t.waitFor("a running job", func() bool { return t.status(ids[0]).State == runtime.Running })
	t.Cluster.Fault(sim.NoAccounts, sim.Always)
	time.Sleep(time.Minute)
	for range 20 {
		known, err := t.Status(t.Context(), ids...)
		if st := known[ids[0]]; st.State != runtime.Unknown {
			t.Fatalf("the status of the job that is over is %+v", st)
		}
		if err == nil && known[ids[1]].State != runtime.Running || err != nil && len(known) != 0 {
			t.Fatalf("the status of the job that runs is %+v, %v", known[ids[1]], err)
		}
		time.Sleep(30 * time.Second)
	}
	t.Cluster.Fault(sim.NoAccounts, 0)
	if st := t.endedWithin(ids[0], 20*time.Minute); st.Outcome != runtime.Failed || st.Code != 3 {
		t.Errorf("the status is %+v", st)
	}
}

func checkOutcomes(t *schedulerTest) {
	tests := []struct {
		name   string
		does   sim.Behaviour
		want   runtime.Outcome
		exited bool
		code   int
	}{
		{"success", sim.Behaviour{}, runtime.Completed, true, 0},
		{"failure", sim.Behaviour{Code: 9}, runtime.Failed, true, 9},
		{"signal", sim.Behaviour{Signal: 11}, runtime.Failed, true, 139},
		{"memory", sim.Behaviour{Outcome: runtime.OutOfMemory, Code: 137}, runtime.OutOfMemory, true, 137},
		{"node", sim.Behaviour{Outcome: runtime.NodeFailure}, runtime.NodeFailure, false, 0},
		{"preempted", sim.Behaviour{Outcome: runtime.Preempted}, runtime.Preempted, false, 0},
		{"limit", sim.Behaviour{Run: sim.Forever}, runtime.TimedOut, false, 0},
		{"hard-limit", sim.Behaviour{Run: sim.Forever, Stop: time.Hour}, runtime.TimedOut, false, 0},
	}
	var jobs []runtime.Job
	for _, test := range tests {
		t.behave(test.name, test.does)
		jobs = append(jobs, t.job(test.name, "true"))
		jobs[len(jobs)-1].Limit = 10 * time.Minute
	}
	for i, id := range t.submit(jobs...) {
		st := t.endedWithin(id, time.Hour)
		test := tests[i]
		if st.Outcome != test.want || st.Exited != test.exited || st.Code != test.code || st.Node == "" || st.End.Before(st.Start) {
			t.Errorf("%s: the status is %+v", test.name, st)
		}
	}
}

func checkNoRequeue(t *schedulerTest) {
	for name, outcome := range map[string]runtime.Outcome{"node": runtime.NodeFailure, "preempted": runtime.Preempted} {
		t.behave(name, sim.Behaviour{Run: 10 * time.Second, Outcome: outcome, Again: &sim.Behaviour{}})
		job := t.job(name, "true")
		id := t.submit(job)[0]
		if st := t.ended(id); st.Outcome != outcome || st.Attempt != 0 {
			t.Errorf("%s: the status is %+v", name, st)
		}
		time.Sleep(10 * time.Minute)
		if start := t.start(job); start.Attempt != 0 {
			t.Errorf("%s: it ran again: start.json has %+v", name, start)
		}
	}
}

func checkRequeue(t *schedulerTest) {
	for name, outcome := range map[string]runtime.Outcome{"node": runtime.NodeFailure, "preempted": runtime.Preempted} {
		t.behave(name, sim.Behaviour{Run: 10 * time.Second, Outcome: outcome, Stdout: "first\n",
			Again: &sim.Behaviour{Run: time.Minute, Stdout: "second\n", Code: 5}})
		job := t.job(name, "true")
		job.Needs.Requeue = true
		id := t.submit(job)[0]
		var last runtime.Status
		for range 60 {
			if st := t.status(id); st.State != runtime.Unknown {
				if last = st; st.State == runtime.Ended {
					break
				}
			}
			time.Sleep(7 * time.Second)
		}
		if last.Outcome != runtime.Failed || last.Code != 5 {
			t.Errorf("%s: the status is %+v, want that of the second attempt", name, last)
		}
		if start := t.start(job); start.Attempt != 1 || t.read(job, runtime.FileStdout) != "second\n" {
			t.Errorf("%s: start.json has %+v, stdout %q", name, start, t.read(job, runtime.FileStdout))
		}
		if start := t.read(job, path.Join("attempt-0", runtime.FileStart)); !strings.Contains(start, `"attempt":0`) {
			t.Errorf("%s: start.json of the first attempt has %s", name, start)
		}
	}
}

func checkParts(t *schedulerTest) {
	t.behave("*", sim.Behaviour{Run: time.Minute, Code: 3, Parts: 3})
	jobs := []runtime.Job{t.job("a", "true"), t.job("b", "true")}
	t.Cluster.Fault(sim.LostAfter, 1)
	subs := t.persist(jobs...)
	for i, sub := range subs {
		if sub.Err != nil {
			t.Fatal(sub.Err)
		}
		t.once(jobs[i], "")
		t.waitFor("a running job", func() bool { return t.status(sub.ID).State == runtime.Running })
	}
	if finder, ok := t.Scheduler.(runtime.Finder); ok {
		found, err := finder.Find(t.Context(), jobs[0].Token)
		if err != nil || len(found) != 1 || found[0].ID != subs[0].ID || found[0].Status.State != runtime.Running {
			t.Errorf("found %+v, %v", found, err)
		}
	}
	if err := t.Cancel(t.Context(), subs[1].ID); err != nil {
		t.Fatal(err)
	}
	for i, want := range []runtime.Outcome{runtime.Failed, runtime.Cancelled} {
		if st := t.ended(subs[i].ID); st.Outcome != want {
			t.Errorf("the status of %s is %+v, want %s", jobs[i].Name, st, want)
		}
	}
}

func checkRequeueForgotten(t *schedulerTest) {
	t.behave("j", sim.Behaviour{Run: 10 * time.Second, Outcome: runtime.NodeFailure, Again: &sim.Behaviour{Run: time.Minute}})
	job := t.job("j", "true")
	job.Needs.Requeue = true
	id := t.submit(job)[0]
	time.Sleep(10 * time.Minute)
	if st := t.endedWithin(id, 20*time.Minute); st.Outcome != runtime.Completed || !st.Exited {
		t.Errorf("the status is %+v, want that of the second attempt", st)
	}
}

func checkReasons(t *schedulerTest) {
	reasons := []string{
		"ReqNodeNotAvail, UnavailableNodes:nid00[408,411-415]", "a|b, c; d", "Grüße an 漢字", "BadConstraints",
		"PartitionTimeLimit", "JobHeldAdmin", "DependencyNeverSatisfied", "NobodyHasHeardOfIt",
	}
	var jobs []runtime.Job
	for i, reason := range reasons {
		name := fmt.Sprintf("j%d", i)
		t.behave(name, sim.Behaviour{Wait: 2 * time.Hour, Reason: reason})
		jobs = append(jobs, t.job(name, "true"))
	}
	ids := t.submit(jobs...)
	for range 20 {
		known, err := t.Status(t.Context(), ids...)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			if st := known[id]; st.State != runtime.Pending || st.Reason != reasons[i] {
				t.Fatalf("the status is %+v, want pending, with reason %q", st, reasons[i])
			}
		}
		time.Sleep(5 * time.Minute)
	}
	for _, id := range ids {
		if st := t.endedWithin(id, 2*time.Hour); st.Outcome != runtime.Completed {
			t.Errorf("the status is %+v", st)
		}
	}
}

func checkQueue(t *schedulerTest) {
	var jobs []runtime.Job
	for i := range 4 {
		jobs = append(jobs, t.job(fmt.Sprintf("j%d", i), "true"))
	}
	t.behave("*", sim.Behaviour{Run: 10 * time.Minute})
	ids := t.submit(jobs...)
	t.waitFor("a running job", func() bool { return t.status(ids[0]).State == runtime.Running })
	for i, want := range []string{"", "Resources", "Priority", "Priority"} {
		if st := t.status(ids[i]); st.Reason != want || i > 0 && st.State != runtime.Pending {
			t.Errorf("job %d: the status is %+v, want the reason %q", i, st, want)
		}
	}
	if explainer, ok := t.Scheduler.(runtime.Explainer); ok {
		why, err := explainer.Explain(t.Context(), ids...)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			q, ok := why[id]
			if ok != (i > 0) || ok && (q.Class != "resources" || q.Text == "" || q.Ahead >= 0 && q.Ahead != i-1) {
				t.Errorf("job %d: it waits for %+v", i, q)
			}
		}
	}
	for _, id := range ids {
		if st := t.endedWithin(id, time.Hour); st.Outcome != runtime.Completed {
			t.Errorf("the status is %+v", st)
		}
	}
}

func checkStop(t *schedulerTest) {
	job := t.job("j", "true")
	t.behave("j", sim.Behaviour{Run: sim.Forever, Stop: time.Hour})
	id := t.submit(job)[0]
	t.waitFor("a running job", func() bool { return t.status(id).State == runtime.Running })
	if err := t.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Second)
	if st := t.status(id); st.State != runtime.Running {
		t.Errorf("the status is %+v, want running", st)
	}
	if st := t.ended(id); st.Outcome != runtime.Cancelled {
		t.Errorf("the status is %+v, want cancelled", st)
	}
	if err := t.Conn.Get(t.Context(), path.Join(job.Dir, runtime.FileExit), 0, new(strings.Builder)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("exit.json of a job that was killed: %v", err)
	}
}

func checkCancelWaiting(t *schedulerTest) {
	t.behave("*", sim.Behaviour{Wait: time.Hour, Reason: "Priority"})
	ids := t.submit(append(t.group("g", 3, "true"), t.job("a", "true"))...)
	if err := t.Cancel(t.Context(), ids[1], ids[3]); err != nil {
		t.Fatal(err)
	}
	if st := t.ended(ids[3]); st.Outcome != runtime.Cancelled || st.Exited {
		t.Errorf("the status of the cancelled job is %+v", st)
	}
	for range 10 {
		known, err := t.Status(t.Context(), ids...)
		if err != nil {
			t.Fatal(err)
		}
		// Slurm keeps no record of such a task of an array.
		if st := known[ids[1]]; st.State != runtime.Unknown && st.Outcome != runtime.Cancelled {
			t.Fatalf("the status of the cancelled job of the group is %+v", st)
		}
		if known[ids[0]].State != runtime.Pending || known[ids[2]].State != runtime.Pending {
			t.Fatalf("the statuses of the others are %+v and %+v, want pending", known[ids[0]], known[ids[2]])
		}
		time.Sleep(3 * time.Minute)
	}
	for _, i := range []int{0, 2} {
		if st := t.endedWithin(ids[i], 2*time.Hour); st.Outcome != runtime.Completed {
			t.Errorf("the status of another job is %+v, want completed", st)
		}
	}
}

func checkFilesOfClock(t *schedulerTest) {
	checkFiles(t)
	checkRequeue(t)
	checkLost(t, sim.LostAfter)
}

// endedWithin is ended for a job that takes long.
func (t *schedulerTest) endedWithin(id runtime.JobID, d time.Duration) (st runtime.Status) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for st = t.status(id); st.State != runtime.Ended; st = t.status(id) {
		select {
		case <-time.After(d / 40):
		case <-ctx.Done():
			t.Fatalf("the status of job %s is %+v after %v", id, st, d)
		}
	}
	return st
}
