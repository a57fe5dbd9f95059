package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Session is a run under way: the engine behind a recipe. All deeds on a target happen here.
//
// An intent is appended to the store before the deed and the result after it, so that whoever folds the records knows
// what may be running. Its methods may be called concurrently; the exported fields are set before the first call.
type Session struct {
	Run    string
	Start  RunStart
	Target Target
	Store  Store
	Files  string // the directory on this machine for the files of runs; those of this one go to Files/Run

	// Binary returns the path of an aifb executable on this machine for the operating system and architecture, as
	// GOOS and GOARCH name them. It is asked only if the target is another machine.
	Binary func(os, arch string) (string, error)

	// Notify, if not nil, is told of each record after it was stored, and of the state that it led to, in order. It
	// must not block, nor call the session.
	Notify func(Record, *RunState)

	// Warn, if not nil, is told what went wrong without ending the run; Tell, of what takes its time.
	Warn, Tell func(string)

	mu      sync.Mutex // guards what follows
	state   RunState
	changed chan struct{} // closed and replaced whenever the state changes
	home    *home         // what is known of the target; nil before the first deed
	aifb    string        // the path of aifb on the target, once it is there
	broken  error         // what the store failed with: the run is over, and is ended from what is known
	unsaved []Record      // what has happened since
	closing bool

	opening  sync.Mutex // held while home or aifb are found out
	submits  sync.WaitGroup
	watching sync.WaitGroup
	stop     context.CancelFunc // of the watcher
	wake     chan struct{}      // tells the watcher that there is something new
}

// append stores records and applies them to the state. If the store fails, they are applied all the same: what runs has
// to be stopped, and for that it has to be known.
func (s *Session) append(ctx context.Context, recs ...Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i := range recs {
		recs[i].Run, recs[i].Time = s.Run, now
	}
	// What happened is stored even if the run is being cancelled.
	if s.broken == nil {
		err := s.Store.Append(context.WithoutCancel(ctx), recs...)
		if err != nil {
			err = fmt.Errorf("store: %w", err)
		}
		if FaultOf(err) == FaultRun {
			return err // no store takes them
		}
		s.broken = err
	}
	if s.broken != nil {
		s.unsaved = append(s.unsaved, recs...)
	}
	for _, rec := range recs {
		if err := s.state.Apply(rec); err != nil {
			return err
		}
		if s.Notify != nil && s.broken == nil {
			s.Notify(rec, &s.state)
		}
	}
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
	return s.broken
}

// save gives a store that failed another chance to take what has happened since.
func (s *Session) save(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil && s.Store.Append(ctx, s.unsaved...) == nil {
		s.broken, s.unsaved = nil, nil
	}
}

// event makes a record with data, which is one of this package's own types and can always be encoded.
func event(kind Kind, source string, data any) Record {
	rec := Record{Kind: kind, Source: source}
	if data != nil {
		rec.Data, _ = json.Marshal(data)
	}
	return rec
}

// Open appends the start of the run. It contacts nothing but the store; the target is contacted by the first deed.
func (s *Session) Open(ctx context.Context) error {
	s.wake = make(chan struct{}, 1)
	return s.append(ctx, event(KindRunStarted, "", s.Start))
}

// view calls f with the state, which f must not keep.
func (s *Session) view(f func(*RunState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.state)
}

// await returns nil once done says so. It asks again whenever the state changes. If the store fails it waits only while
// the run is being closed.
func (s *Session) await(ctx context.Context, done func(*RunState) (bool, error)) error {
	for {
		s.mu.Lock()
		ok, err := done(&s.state)
		if !ok && err == nil && !s.closing {
			err = s.broken
		}
		changed := s.changed
		s.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Service submits a service and returns at once.
func (s *Session) Service(ctx context.Context, spec ServiceSpec) (*Handle, error) {
	if spec.Ready.Kind == "" && spec.Port != NoPort {
		spec.Ready.Kind = "tcp"
	}
	if err := spec.Ready.validate(); err != nil {
		return nil, err
	}
	if (spec.Ready.Kind == "tcp" || spec.Ready.Kind == "http") && spec.Port == NoPort {
		return nil, Faultf(FaultRun, "port = 0 takes a free one", "ready: %s needs a port", spec.Ready.Kind)
	}
	return s.start(ctx, spec.JobSpec, Intent{Role: RoleService, Ready: spec.Ready, Job: Job{Port: spec.Port}}, nil, 1)
}

// Client waits until its services answer, and submits the client.
func (s *Session) Client(ctx context.Context, spec ClientSpec) (*Handle, error) {
	if spec.Count < 0 {
		return nil, Faultf(FaultRun, "", "count: %d is negative", spec.Count)
	}
	if len(spec.Services) > 0 {
		if err := s.WaitRunning(ctx, Wait{}, spec.Services...); err != nil {
			return nil, err
		}
	}
	env, names := s.serviceEnv(spec.Services)
	return s.start(ctx, spec.JobSpec, Intent{Role: RoleClient, Services: names, Job: Job{Env: env}}, spec.Services, max(spec.Count, 1))
}

// Job submits any other job and returns at once.
func (s *Session) Job(ctx context.Context, spec JobSpec) (*Handle, error) {
	return s.start(ctx, spec, Intent{Role: RoleJob}, nil, 1)
}

// start makes count jobs of the spec and submits them together.
func (s *Session) start(ctx context.Context, spec JobSpec, in Intent, services []*Handle, count int) (*Handle, error) {
	s.name(&spec, in)
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	home, err := s.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	spec.Resources = spec.Resources.withDefaults(s.Target.Defaults)
	image, err := s.image(ctx, home, spec.Image)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	env := map[string]string{"BENCHMARK_ID": s.Run}
	switch {
	case in.Role == RoleService:
		env["SERVICE_NAME"] = spec.Name
	case in.Role == RoleClient && count == 1:
		env["CLIENT_NAME"], env["CLIENT_INDEX"], env["CLIENT_COUNT"] = spec.Name, "0", "1"
	}
	maps.Copy(env, in.Job.Env)
	maps.Copy(env, spec.Env)
	if usesBinary(&spec) {
		if env["AIFB"], err = s.stage(ctx, home); err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
	}
	in.Labels, in.Metrics = spec.Labels, spec.Metrics
	h := &Handle{session: s, Name: spec.Name, Role: in.Role, services: services}
	intents := make([]Intent, count)
	for i := range intents {
		intents[i] = in
		intents[i].Job = s.job(spec, in, image, home, env, i, count)
		h.jobs = append(h.jobs, intents[i].Job.Name)
	}
	if err := s.submit(ctx, intents); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return h, nil
}

// job makes the i-th of count jobs of a spec.
func (s *Session) job(spec JobSpec, in Intent, image Image, home *home, env map[string]string, i, count int) Job {
	job := Job{
		Token: "aifb-" + s.Run + "-" + spec.Name,
		Name:  spec.Name,
		Dir:   jobDir(home.runDir, spec.Name),
		Args:  command(&spec, image, home.dir),
		Env:   env,
		Port:  in.Job.Port,
		Image: image,
		Limit: spec.limit(),
		Needs: spec.Resources,
	}
	if count > 1 {
		job.Group, job.Index, job.Count = spec.Name, i, count
		for _, s := range []*string{&job.Token, &job.Name, &job.Dir} {
			*s += fmt.Sprintf(".%d", i)
		}
	}
	return job
}

// name makes the spec's name unique in the run: the second redis is redis-2; a client without one is client-1.
func (s *Session) name(spec *JobSpec, in Intent) {
	taken := func(name string) bool {
		return s.state.Job(name) != nil || s.state.Job(name+".0") != nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	base, n := spec.Name, 2
	if base == "" {
		base, n = string(in.Role), 1
	} else if !taken(base) {
		return
	}
	for ; taken(fmt.Sprintf("%s-%d", base, n)); n++ {
	}
	spec.Name = fmt.Sprintf("%s-%d", base, n)
}

// serviceEnv is how a client finds its services: the first one as SERVICE_*, and each as SERVICE_<NAME>_*.
func (s *Session) serviceEnv(services []*Handle) (env map[string]string, names []string) {
	env = make(map[string]string)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range services {
		j := s.state.Job(h.jobs[0])
		names = append(names, h.Name)
		prefixes := []string{"SERVICE_" + envName(h.Name) + "_"}
		if i == 0 {
			prefixes = append(prefixes, "SERVICE_")
		}
		for _, p := range prefixes {
			env[p+"NAME"], env[p+"HOSTNAME"] = h.Name, j.Host()
			if j.Started != nil && j.Started.Port != 0 {
				env[p+"PORT"], env[p+"URL"] = fmt.Sprint(j.Started.Port), j.URL()
			}
		}
	}
	return env, names
}

// envName is a job's name as a part of the name of an environment variable.
func envName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '-' {
			return '_'
		}
		return r
	}, strings.ToUpper(name))
}

// usesBinary reports whether the job mentions $AIFB: only then is the binary brought to the target.
func usesBinary(spec *JobSpec) bool {
	texts := slices.Concat([]string{spec.Command}, spec.Args, spec.Setup, slices.Collect(maps.Values(spec.Env)))
	return slices.ContainsFunc(texts, func(t string) bool {
		return strings.Contains(t, "$AIFB") || strings.Contains(t, "${AIFB}")
	})
}

// submit appends the intents, submits the jobs, and appends the answers. A submission that is under way is not
// interrupted, or nobody would know whether its jobs exist: if ctx ends, it goes on behind the caller's back, and
// Close waits for it.
func (s *Session) submit(ctx context.Context, intents []Intent) error {
	recs := make([]Record, len(intents))
	jobs := make([]Job, len(intents))
	for i, in := range intents {
		recs[i], jobs[i] = event(KindJobIntended, in.Job.Name, in), in.Job
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := s.append(ctx, recs...); err != nil {
		return err
	}
	done := make(chan error, 1)
	s.submits.Add(1)
	go func() {
		defer s.submits.Done()
		done <- s.submitJobs(context.WithoutCancel(ctx), jobs)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Session) submitJobs(ctx context.Context, jobs []Job) error {
	subs, err := s.Target.Scheduler.Submit(ctx, jobs...)
	if err != nil {
		return err
	}
	var refused error
	recs := make([]Record, len(subs))
	for i, sub := range subs {
		if sub.Err != nil {
			if refused == nil {
				refused = sub.Err
			}
			recs[i] = event(KindJobRefused, jobs[i].Name, Problem{Error: sub.Err.Error(), Hint: HintOf(sub.Err)})
			continue
		}
		recs[i] = event(KindJobSubmitted, jobs[i].Name, Submitted{ID: sub.ID})
	}
	err = s.append(ctx, recs...)
	s.watch() // also if the store fails: the jobs are there
	if err != nil {
		return err
	}
	return refused
}

// Stop cancels the jobs and waits until they have ended.
func (s *Session) Stop(ctx context.Context, hs ...*Handle) error {
	var names []string
	for _, h := range hs {
		names = append(names, h.jobs...)
	}
	return s.cancel(ctx, names)
}

// cancel ends those of the named jobs that are live, and waits until the files of all are here.
func (s *Session) cancel(ctx context.Context, names []string) error {
	ctx, done := context.WithTimeoutCause(ctx, stopGrace, Faultf(FaultInfra,
		"look for them in squeue, then run `aifb stop "+s.Run+"`", "the jobs did not end within %v", stopGrace))
	defer done()
	var ids []JobID
	var recs []Record
	s.view(func(st *RunState) {
		for _, name := range names {
			if j := st.Job(name); j.Live() {
				ids = append(ids, j.ID)
				recs = append(recs, event(KindJobStopping, name, nil))
			}
		}
	})
	if len(ids) > 0 {
		s.append(ctx, recs...) // a store that fails is no reason to leave the jobs; await and Close say it
		if err := s.Target.Scheduler.Cancel(ctx, ids...); err != nil {
			return fmt.Errorf("cancel: %w", err)
		}
		s.nudge()
	}
	return s.await(ctx, func(st *RunState) (bool, error) {
		for _, name := range names {
			if j := st.Job(name); j.ID != "" && j.Collected == nil {
				return false, nil
			}
		}
		return true, nil
	})
}

// Record appends a measurement of the recipe's own.
func (s *Session) Record(ctx context.Context, m Measurement) error {
	return s.append(ctx, m.record(""))
}

// Measurements returns what was measured in this run so far and w selects, in order.
func (s *Session) Measurements(w Where) (recs []Record) {
	s.view(func(st *RunState) { recs = w.Filter(st.Measurements) })
	return recs
}

// stopGrace is how long the jobs of a run may take to end, once they are cancelled, before the run gives up on them.
const stopGrace = 2 * time.Minute

// Close ends the run: it cancels what still runs, unless keep, brings the files here, removes them from the target, and
// appends how the run ended, which is the recipe's error. It returns the names of the jobs that it stopped, and what it
// could not do. The connection and the store stay open.
func (s *Session) Close(ctx context.Context, recipeErr error, keep bool) (stopped []string, err error) {
	s.submits.Wait()
	s.view(func(*RunState) { s.closing = true })
	end := RunEnd{Fault: FaultOf(recipeErr)}
	if recipeErr != nil {
		end.Error = recipeErr.Error()
	}
	if !keep {
		stopped, err = s.sweep(ctx)
	}
	if s.stop != nil {
		s.stop()
	}
	s.watching.Wait()
	if err == nil && !keep {
		err = s.removeRunDir(ctx)
	}
	if err != nil {
		end.Left = err.Error()
	}
	s.save(ctx)
	if failed := s.append(ctx, event(KindRunEnded, "", end)); !errors.Is(recipeErr, failed) {
		err = errors.Join(err, failed)
	}
	return stopped, err
}

// sweep cancels every live job and waits until the files of all are here.
func (s *Session) sweep(ctx context.Context) (stopped []string, err error) {
	var all []string
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			all = append(all, j.Job.Name)
			if j.Live() && !j.Stopping {
				stopped = append(stopped, j.Job.Name)
			}
		}
	})
	return stopped, s.cancel(ctx, all)
}
