package sim_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

const runDir = "/home/user/.aifb/runs/r"

// job makes a job of the run.
func job(name string) runtime.Job {
	return runtime.Job{Token: "aifb-r-" + name, Name: name, Dir: runDir + "/" + name, Args: []string{"x"}, Limit: time.Hour}
}

// submit submits jobs of which none may be refused.
func submit(t *testing.T, c *sim.Cluster, jobs ...runtime.Job) (ids []runtime.JobID) {
	t.Helper()
	subs, err := c.Submit(t.Context(), jobs...)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range subs {
		if sub.Err != nil {
			t.Fatal(sub.Err)
		}
		ids = append(ids, sub.ID)
	}
	return ids
}

func status(t *testing.T, c *sim.Cluster, id runtime.JobID) runtime.Status {
	t.Helper()
	known, err := c.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return known[id]
}

func read(t *testing.T, c *sim.Cluster, name string) string {
	t.Helper()
	var b strings.Builder
	if err := c.Conn().Get(t.Context(), name, 0, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What happens at which time does not depend on when somebody looks.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c := sim.New(sim.Config{Nodes: 1, Cores: 2, Interval: 10 * time.Second})
		c.Behave("*", sim.Behaviour{Run: 95 * time.Second})
		long := job("long")
		long.Needs.Exclusive = true
		ids := submit(t, c, job("a"), job("b"), long, job("d"))
		time.Sleep(time.Hour)
		for i, want := range []struct{ start, end int }{{10, 105}, {10, 105}, {110, 205}, {210, 305}} {
			st := status(t, c, ids[i])
			if start, end := st.Start.Sub(begin).Seconds(), st.End.Sub(begin).Seconds(); int(start) != want.start || int(end) != want.end {
				t.Errorf("job %d ran from %v to %v, want %+v", i, start, end, want)
			}
		}
		var start runtime.Start
		var exit runtime.Exit
		json.Unmarshal([]byte(read(t, c, long.Dir+"/start.json")), &start)
		json.Unmarshal([]byte(read(t, c, long.Dir+"/exit.json")), &exit)
		if exit.Time-start.Time != 95 || start.Host != "n1" {
			t.Errorf("the long one has %+v and %+v", start, exit)
		}
	})
}

func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{Nodes: 3, Cores: 4})
		c.Behave("*", sim.Behaviour{Run: sim.Forever})
		a, b, wide, late := job("a"), job("b"), job("wide"), job("late")
		b.Needs.Exclude = "n[1-2]"
		wide.Needs = runtime.Resources{Nodes: 2, Tasks: 4, CPUs: 2}
		late.Needs.NodeList = "n1,n3"
		ids := submit(t, c, a, b, wide)
		time.Sleep(time.Minute)
		for i, node := range []string{"n1", "n3", ""} { // of n1 and n3 three cores are left, of n2 four
			if st := status(t, c, ids[i]); st.Node != node {
				t.Errorf("job %d: %+v, want it on node %q", i, st, node)
			}
		}
		c.SetNode("n1", false)
		c.SetNode("n3", false)
		ids = append(ids, submit(t, c, late)...)
		time.Sleep(time.Minute)
		if st := status(t, c, ids[0]); st.Outcome != runtime.NodeFailure || st.Exited {
			t.Errorf("of the node that went down: %+v", st)
		}
		for _, id := range ids[2:] {
			if st := status(t, c, id); st.Reason != "ReqNodeNotAvail, UnavailableNodes:n1,n3" {
				t.Errorf("what waits for it: %+v", st)
			}
		}
		c.SetNode("n1", true)
		time.Sleep(time.Minute)
		if st := status(t, c, ids[2]); st.State != runtime.Running || st.Node != "n1" {
			t.Errorf("once the node is back: %+v", st)
		}
		if st := status(t, c, ids[3]); st.Reason != "Resources" {
			t.Errorf("who comes after: %+v", st)
		}
		wide.Token, wide.Needs.CPUs = "wider", 3
		subs, err := c.Submit(t.Context(), wide)
		if err != nil || runtime.ClassOf(subs[0].Err) != runtime.Permanent {
			t.Errorf("what no node has: %+v, %v", subs, err)
		}
	})
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{MaxJobs: 2})
		subs, err := c.Submit(t.Context(), job("a"), job("b"), job("c"))
		if err != nil || subs[1].Err != nil || runtime.ClassOf(subs[2].Err) != runtime.Quota {
			t.Errorf("got %+v, %v", subs, err)
		}
		time.Sleep(time.Minute)
		submit(t, c, job("c"))
	})
}

func TestService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		conn := c.Conn()
		c.Behave("web", sim.Behaviour{Answer: time.Minute, Status: 418, Body: "short and stout", Stdout: "ready\n"})
		web := job("web")
		web.Port = 8080
		id := submit(t, c, web)[0]
		probe := func() error { // as Session does for ready.command
			return conn.Run(t.Context(), runtime.Cmd{Args: []string{"env", "SERVICE_HOSTNAME=n1", "SERVICE_PORT=8080", "/bin/sh", "-c", "x"}})
		}
		time.Sleep(59 * time.Second)
		if _, err := conn.Dial(t.Context(), "tcp", "n1:8080"); err == nil || probe() == nil || read(t, c, web.Dir+"/stdout") != "" {
			t.Errorf("it answers at once: %v", err)
		}
		time.Sleep(2 * time.Second)
		client := http.Client{Transport: &http.Transport{DialContext: conn.Dial}}
		for range 2 {
			resp, err := client.Get("http://n1:8080/x")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.Body.Close(); resp.StatusCode != 418 || string(body) != "short and stout" {
				t.Errorf("it answers %d %q, %v", resp.StatusCode, body, err)
			}
		}
		client.CloseIdleConnections()
		if err := probe(); err != nil || read(t, c, web.Dir+"/stdout") != "ready\n" {
			t.Errorf("the probe: %v", err)
		}
		c.Cancel(t.Context(), id)
		if _, err := conn.Dial(t.Context(), "tcp", "n1:8080"); err == nil {
			t.Error("it answers when it is gone")
		}
	})
}

func TestFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := sim.New(sim.Config{}).Conn()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(conn.Put(t.Context(), "/a/b/file", 0o600, strings.NewReader("0123456789")))
		broken := errors.New("broken")
		if err := conn.Put(t.Context(), "/a/b/file", 0o600, io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("Put of a broken reader: %v", err)
		}
		for from, want := range map[int64]string{0: "0123456789", 9: "9", 10: "", 1 << 40: ""} {
			var b bytes.Buffer
			if err := conn.Get(t.Context(), "/a/b/file", from, &b); err != nil || b.String() != want {
				t.Errorf("Get from %d: %q, %v", from, b.String(), err)
			}
		}
		if err := conn.Get(t.Context(), "/a/none", 0, io.Discard); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get of no file: %v", err)
		}
		for _, name := range []string{"/a/b/file/below", "/a/b"} {
			if err := conn.Put(t.Context(), name, 0o600, strings.NewReader("")); err == nil {
				t.Errorf("Put of %s: no error", name)
			}
		}
		must(conn.Put(t.Context(), "/a/c/empty", 0o600, strings.NewReader("")))
		var archive bytes.Buffer
		must(conn.Archive(t.Context(), "/a", []string{"c", "none", "b"}, &archive))
		var got []string
		for r := tar.NewReader(&archive); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			must(err)
			text, err := io.ReadAll(r)
			must(err)
			got = append(got, h.Name+"="+string(text))
		}
		if want := []string{"c/=", "c/empty=", "b/=", "b/file=0123456789"}; !slices.Equal(got, want) {
			t.Errorf("the archive has %q, want %q", got, want)
		}
		must(conn.RemoveAll(t.Context(), "/a/b"))
		must(conn.RemoveAll(t.Context(), "/a/b"))
		if err := conn.Get(t.Context(), "/a/b/file", 0, io.Discard); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get of a file that was removed: %v", err)
		}
	})
}

// A stamped writer notes when each line came.
type stamped struct {
	begin time.Time
	lines []string
}

func (s *stamped) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), `,"time"`)
		s.lines = append(s.lines, fmt.Sprint(time.Since(s.begin), " ", line))
	}
	return len(p), nil
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		out := &stamped{begin: time.Now()}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- c.Conn().Watch(ctx, runDir, out) }()
		synctest.Wait()
		c.Behave("b", sim.Behaviour{Run: time.Minute, Code: 3})
		other := job("other")
		other.Dir = "/home/user/.aifb/runs/s/other"
		submit(t, c, job("a"), job("b"), other)
		time.Sleep(time.Hour)
		enough := errors.New("enough")
		cancel(enough)
		if err := <-done; err != enough {
			t.Errorf("it ended with %v", err)
		}
		want := []string{
			`0s .`,
			`1s {"job":"a","start":{"host":"n1","port":0,"id":"100","attempt":0`,
			`1s {"job":"b","start":{"host":"n1","port":0,"id":"101","attempt":0`,
			`2s {"job":"a","exit":{"code":0,"signal":0`,
			`1m1s {"job":"b","exit":{"code":3,"signal":0`,
		}
		if !slices.Equal(out.lines, want) {
			t.Errorf("got\n%s", strings.Join(out.lines, "\n"))
		}
		submit(t, c, job("c")) // while nobody watches
		time.Sleep(time.Hour)
		ctx, cancel = context.WithCancelCause(t.Context())
		out.lines = nil
		go func() { done <- c.Conn().Watch(ctx, runDir, out) }()
		synctest.Wait()
		if len(out.lines) != 3 || !strings.Contains(out.lines[1], `"exit"`) {
			t.Errorf("got\n%s", strings.Join(out.lines, "\n"))
		}
		c.Fault(sim.Disconnected, 1)
		if err := <-done; err == nil || !strings.Contains(err.Error(), "connection") {
			t.Errorf("without a connection it ended with %v", err)
		}
		cancel(nil)
	})
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		renew := func(text string) {
			if err := c.Conn().Put(t.Context(), runDir+"/.lease", 0o600, strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
		}
		c.Behave("*", sim.Behaviour{Run: sim.Forever, Stderr: "hello\n"})
		leased := job("j")
		leased.Lease, leased.Limit = 10*time.Minute, 24*time.Hour
		id := submit(t, c, leased)[0]
		for i := range 10 {
			time.Sleep(9 * time.Minute)
			renew(fmt.Sprint(i))
		}
		renew("9")
		time.Sleep(9 * time.Minute)
		renew("9") // the same again is no sign of life
		if st := status(t, c, id); st.State != runtime.Running {
			t.Errorf("while it is renewed: %+v", st)
		}
		time.Sleep(2 * time.Minute)
		if st := status(t, c, id); st.Outcome != runtime.Failed || st.Code != 143 {
			t.Errorf("when nobody renews it: %+v", st)
		}
		if got := read(t, c, leased.Dir+"/stderr"); got != "hello\naifb: nobody has renewed the lease of 600 s; the job ends\n" {
			t.Errorf("stderr has %q", got)
		}
		watched := leased
		watched.Token, watched.Dir = "watched", runDir+"/watched"
		id = submit(t, c, watched)[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		c.Conn().Watch(ctx, runDir, io.Discard)
		cancel()
		time.Sleep(9 * time.Minute)
		if st := status(t, c, id); st.State != runtime.Running {
			t.Errorf("while somebody watches: %+v", st)
		}
		time.Sleep(2 * time.Minute)
		if st := status(t, c, id); st.Outcome != runtime.Failed {
			t.Errorf("when nobody watches any more: %+v", st)
		}
		kept := leased
		kept.Token, kept.Dir = "kept", runDir+"/kept"
		renew("keep")
		id = submit(t, c, kept)[0]
		time.Sleep(5 * time.Hour)
		if st := status(t, c, id); st.State != runtime.Running {
			t.Errorf("a run that is kept: %+v", st)
		}
	})
}

// The last pattern that matches counts.
func TestBehave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{})
		c.Behave("*", sim.Behaviour{Code: 1})
		c.Behave("client-1.*", sim.Behaviour{Code: 2})
		c.Behave("client-1.7", sim.Behaviour{Code: 3})
		c.Behave("d?", sim.Behaviour{Code: 4})
		c.Behave("db", sim.Behaviour{Code: 5})
		c.Behave("d*", sim.Behaviour{Code: 6})
		names := []string{"x", "client-1.6", "client-1.7", "db", "dx"}
		var jobs []runtime.Job
		for _, name := range names {
			jobs = append(jobs, job(name))
		}
		ids := submit(t, c, jobs...)
		time.Sleep(time.Minute)
		for i, want := range []int{1, 2, 3, 6, 6} {
			if st := status(t, c, ids[i]); st.Code != want {
				t.Errorf("%s has exit code %d, want %d", names[i], st.Code, want)
			}
		}
	})
}

// A group whose jobs can't run all at once does not wait for ever.
func TestBarrierPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{Nodes: 1, Cores: 1})
		var jobs []runtime.Job
		for i := range 2 {
			j := job(fmt.Sprintf("g.%d", i))
			j.Group, j.Index, j.Count = "g", i, 2
			jobs = append(jobs, j)
		}
		ids := submit(t, c, jobs...)
		time.Sleep(time.Hour)
		first, second := status(t, c, ids[0]), status(t, c, ids[1])
		if took := first.End.Sub(first.Start); took != 2*time.Minute+time.Second || first.Outcome != runtime.Completed {
			t.Errorf("the first took %v: %+v", took, first)
		}
		if second.Outcome != runtime.Completed || strings.Contains(read(t, c, jobs[0].Dir+"/exit.json"), "late") {
			t.Errorf("the second: %+v", second)
		}
	})
}

// memory is a store that forgets.
type memory struct {
	runtime.Store
	count int
}

func (m *memory) Append(_ context.Context, recs ...runtime.Record) error {
	m.count += len(recs)
	return nil
}

// A session needs no more of a cluster than its target.
func TestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(sim.Config{RTT: 50 * time.Millisecond})
		c.Behave("web", sim.Behaviour{Answer: 10 * time.Second, Body: "ok"})
		c.Behave("client-1*", sim.Behaviour{Run: time.Minute, Stdout: "rps: 42\n"})
		s := &runtime.Session{Run: "20000101-000000-test", Store: new(memory), Files: t.TempDir(), Target: c.Target(),
			Warn: func(text string) { t.Error(text) }}
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		web, err := s.Service(t.Context(), runtime.ServiceSpec{JobSpec: runtime.JobSpec{Name: "web", Command: "$AIFB mock http"},
			Port: runtime.AnyPort, Ready: runtime.Ready{Kind: "http", Path: "/health"}})
		if err != nil {
			t.Fatal(err)
		}
		h, err := s.Client(t.Context(), runtime.ClientSpec{Services: []*runtime.Handle{web}, Count: 3,
			JobSpec: runtime.JobSpec{Command: "bench", Metrics: []runtime.Metric{{Kind: "regex", Source: "stdout", Pattern: `rps: (\d+)`, Name: "rps"}}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitDone(t.Context(), runtime.Wait{}, h); err != nil {
			t.Fatal(err)
		}
		if got := h.Measurements(runtime.Where{Metric: []string{"rps"}}); len(got) != 3 || got[2].Value != 42 {
			t.Errorf("measurements: %+v", got)
		}
		if stopped, err := s.Close(t.Context(), nil, false); err != nil || !slices.Equal(stopped, []string{"web"}) {
			t.Errorf("Close: %v, %v", stopped, err)
		}
		var left bytes.Buffer
		if err := c.Conn().Archive(t.Context(), "/home/user/.aifb/runs", []string{"20000101-000000-test"}, &left); err != nil || left.Len() > 1024 {
			t.Errorf("%d bytes are left there, %v", left.Len(), err)
		}
	})
}

// 10 000 jobs, in groups and alone, through their whole life.
func BenchmarkJobs(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				c := sim.New(sim.Config{Nodes: 100})
				c.Behave("*", sim.Behaviour{Run: sim.Forever, Stdout: "x\n"})
				c.Behave("g.*", sim.Behaviour{})
				var jobs []runtime.Job
				for i := range n {
					j := job(fmt.Sprintf("j%d", i))
					if i%2 == 0 {
						j = job(fmt.Sprintf("g.%d", i/2))
						j.Group, j.Index, j.Count = "g", i/2, n/2
					}
					jobs = append(jobs, j)
				}
				subs, err := c.Submit(b.Context(), jobs...)
				if err != nil {
					b.Fatal(err)
				}
				var ids []runtime.JobID
				for _, sub := range subs {
					ids = append(ids, sub.ID)
				}
				for range 10 {
					if _, err := c.Status(b.Context(), ids...); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := c.Explain(b.Context(), ids...); err != nil {
					b.Fatal(err)
				}
				if err := c.Cancel(b.Context(), ids...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N*n), "µs/job")
		})
	}
}
