package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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

	// KeepFiles leaves the files of the run on the target when it is closed, also if no job is left there.
	KeepFiles bool

	// Notify, if not nil, is told of each record after it was stored, and of the state that it led to, in order. It
	// must not block, nor call the session.
	Notify func(Record, *RunState)

	// Warn, if not nil, is told what went wrong without ending the run; Tell, of what takes its time.
	Warn, Tell func(string)

	mu       sync.Mutex // guards what follows
	state    RunState
	changed  chan struct{}     // closed and replaced whenever the state changes
	home     *home             // what is known of the target; nil before the first deed
	aifb     string            // the path of aifb on the target, once it is there
	images   map[string]bool   // the files of images that are there
	before   map[string]Deed   // what was done before the run was resumed, and not yet again
	told     map[string]bool   // the jobs whose refusal was reported
	numbers  map[string]int    // the next one to try for a name that is taken
	unstored map[string]Record // the intents that are only in the state, by token
	toSubmit []string          // the names of jobs that the submitter has not yet seen
	freed    bool              // a job has ended since the submitter last looked
	closing  bool              // nothing is submitted any more
	broken   error             // what the store failed with: the run is over, and is ended from what is known
	unsaved  []Record          // what has happened since

	opening        sync.Mutex // held while home, aifb or images are found out
	submitting     sync.WaitGroup
	submitNow      chan struct{} // tells the submitter that there is something to do; nil before the first job
	stopSubmitting context.CancelFunc
	watching       sync.WaitGroup
	wake           chan struct{}      // tells the watcher that there is something new
	stop           context.CancelFunc // of the watcher
}

// append stores records and applies them to the state. If the store fails, they are applied all the same: what runs has
// to be stopped, and for that it has to be known.
func (s *Session) append(ctx context.Context, recs ...Record) error {
	if len(recs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stamp(recs)
	err := s.persist(ctx, recs)
	if err != nil && s.broken == nil {
		return err // no store takes them
	}
	if applied := s.apply(recs); applied != nil {
		return applied
	}
	return err
}

func (s *Session) stamp(recs []Record) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i := range recs {
		recs[i].Run, recs[i].Time = s.Run, now
	}
}

// persist stores records, also if the run is being cancelled: it happened. The caller holds mu.
func (s *Session) persist(ctx context.Context, recs []Record) error {
	if s.broken == nil {
		err := s.Store.Append(context.WithoutCancel(ctx), recs...)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("store: %w", err)
		if FaultOf(err) == FaultRun {
			return err
		}
		s.broken = err
		s.wakeAll()
	}
	s.unsaved = append(s.unsaved, recs...)
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

// apply adds records to the state, and tells those who wait for it to change. The caller holds mu.
func (s *Session) apply(recs []Record) error {
	for _, rec := range recs {
		if err := s.state.Apply(rec); err != nil {
			return err
		}
		if s.Notify != nil && s.broken == nil {
			s.Notify(rec, &s.state)
		}
		if j := s.state.Job(rec.Source); rec.Kind == KindJobStatus && j != nil && j.Status.State == Ended {
			s.freed = true
		}
	}
	if s.freed && s.submitNow != nil {
		notify(s.submitNow)
	}
	s.wakeAll()
	return nil
}

// wakeAll makes those who wait look again. The caller holds mu.
func (s *Session) wakeAll() {
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
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
	s.init()
	return s.append(ctx, event(KindRunStarted, "", s.Start))
}

func (s *Session) init() {
	s.wake = make(chan struct{}, 1)
	s.images, s.told = make(map[string]bool), make(map[string]bool)
	s.unstored, s.numbers = make(map[string]Record), make(map[string]int)
}

// Reopen goes on with the run that the records tell of, and whose process has ended without ending the run. The jobs
// that may be running are looked after again, those whose submission is in doubt are submitted, and the deeds that were
// done are not done again.
func (s *Session) Reopen(ctx context.Context, recs iter.Seq2[Record, error]) error {
	if err := s.read(recs); err != nil {
		return err
	}
	s.before = maps.Clone(s.state.deeds)
	if err := s.append(ctx, event(KindRunResumed, "", nil)); err != nil {
		return err
	}
	if len(s.state.Jobs) == 0 {
		return nil
	}
	if _, err := s.open(ctx); err != nil {
		return err
	}
	var doubtful []string
	for _, j := range s.state.Jobs {
		if j.Waiting() {
			doubtful = append(doubtful, j.Job.Name)
		}
	}
	s.watch()
	if len(doubtful) > 0 {
		s.enqueue(doubtful...)
	}
	return nil
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
	return s.awaitAnyway(ctx, func(st *RunState) (bool, error) {
		ok, err := done(st)
		if !ok && err == nil && !s.closing {
			err = s.broken
		}
		return ok, err
	})
}

// awaitAnyway is await for those who work until the run is closed, also if the store fails.
func (s *Session) awaitAnyway(ctx context.Context, done func(*RunState) (bool, error)) error {
	for {
		s.mu.Lock()
		ok, err := done(&s.state)
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

// Service starts a service and returns at once.
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
	spec.Deed = spec.Deed.describe("service", spec.Name, spec)
	return s.start(ctx, spec.JobSpec, Intent{Role: RoleService, Ready: spec.Ready, Job: Job{Port: spec.Port}}, nil, 1)
}

// Client waits until its services answer, and starts the client.
func (s *Session) Client(ctx context.Context, spec ClientSpec) (*Handle, error) {
	if spec.Count < 0 {
		return nil, Faultf(FaultRun, "", "count: %d is negative", spec.Count)
	}
	var names []string
	for _, h := range spec.Services {
		names = append(names, h.Name)
	}
	services := spec.Services
	spec.Services = nil
	spec.Deed = spec.Deed.describe("client", spec.Name, struct {
		ClientSpec
		Of []string
	}{spec, names})
	in := Intent{Role: RoleClient, Services: names}
	return s.start(ctx, spec.JobSpec, in, services, max(spec.Count, 1))
}

// Job starts any other job and returns at once.
func (s *Session) Job(ctx context.Context, spec JobSpec) (*Handle, error) {
	spec.Deed = spec.Deed.describe("job", spec.Name, spec)
	return s.start(ctx, spec, Intent{Role: RoleJob}, nil, 1)
}

// start makes count jobs of the spec, to be submitted together.
func (s *Session) start(ctx context.Context, spec JobSpec, in Intent, services []*Handle, count int) (*Handle, error) {
	if done, err := s.done(spec.Deed); done || err != nil {
		return s.again(spec.Deed, in.Role, services), err
	}
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmp.Or(spec.Name, string(in.Role)), err)
	}
	if len(services) > 0 {
		if err := s.WaitRunning(ctx, Wait{}, services...); err != nil {
			return nil, err
		}
	}
	home, err := s.open(ctx)
	if err == nil {
		spec.Resources = spec.Resources.withDefaults(s.Target.Defaults)
		in.Job.Image, err = s.image(ctx, home, spec.Image)
	}
	env := map[string]string{"BENCHMARK_ID": s.Run}
	maps.Copy(env, s.serviceEnv(services))
	maps.Copy(env, spec.Env)
	if err == nil && usesBinary(&spec) {
		env["AIFB"], err = s.stage(ctx, home)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmp.Or(spec.Name, string(in.Role)), err)
	}
	in.Job.Env, in.Labels, in.Metrics, in.Retries, in.Deed = env, spec.Labels, spec.Metrics, spec.Retries, spec.Deed
	h := s.intend(spec, in, home, count)
	h.services = services
	s.enqueue(h.jobs...)
	return h, nil
}

// intend gives the jobs their name, and adds them to the state. The submitter stores the intents before the deed.
func (s *Session) intend(spec JobSpec, in Intent, home *home, count int) *Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	spec.Name = s.freeName(spec.Name, in.Role)
	h := &Handle{session: s, Name: spec.Name, Role: in.Role}
	recs := make([]Record, count)
	for i := range recs {
		intent := in
		intent.Job = s.job(spec, in, home, i, count)
		h.jobs = append(h.jobs, intent.Job.Name)
		recs[i] = event(KindJobIntended, intent.Job.Name, intent)
	}
	s.stamp(recs)
	s.apply(recs) // they were encoded a moment ago
	for _, rec := range recs {
		s.unstored[s.state.Job(rec.Source).Job.Token] = rec
	}
	return h
}

// again returns the handle of the jobs that a deed started.
func (s *Session) again(d Deed, role Role, services []*Handle) *Handle {
	h := &Handle{session: s, Role: role, services: services}
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if d.Key != "" && j.Deed.Key == d.Key {
				h.jobs = append(h.jobs, j.Job.Name)
				h.Name = cmp.Or(j.Job.Group, j.Job.Name)
			}
		}
	})
	return h
}

// job makes the i-th of count jobs of a spec.
func (s *Session) job(spec JobSpec, in Intent, home *home, i, count int) Job {
	job := Job{
		Token: "aifb-" + s.Run + "-" + spec.Name,
		Name:  spec.Name,
		Dir:   jobDir(home.runDir, spec.Name),
		Args:  command(&spec, in.Job.Image, home.dir),
		Env:   maps.Clone(in.Job.Env),
		Port:  in.Job.Port,
		Image: in.Job.Image,
		Limit: spec.limit(),
		Lease: spec.Lease,
		Needs: spec.Resources,
	}
	switch {
	case count > 1:
		job.Group, job.Index, job.Count = spec.Name, i, count
		for _, text := range []*string{&job.Token, &job.Name, &job.Dir} {
			*text += fmt.Sprintf(".%d", i)
		}
	case in.Role == RoleService:
		job.Env["SERVICE_NAME"] = spec.Name
	case in.Role == RoleClient:
		job.Env["CLIENT_NAME"], job.Env["CLIENT_INDEX"], job.Env["CLIENT_COUNT"] = spec.Name, "0", "1"
	}
	return job
}

// freeName makes a name unique in the run: the second redis is redis-2; a client without one is client-1. The caller
// holds mu.
func (s *Session) freeName(name string, role Role) string {
	taken := func(name string) bool {
		return s.state.Job(name) != nil || s.state.Job(name+".0") != nil
	}
	first := 2
	if name == "" {
		name, first = string(role), 1
	} else if !taken(name) {
		return name
	}
	n := max(s.numbers[name], first)
	for ; taken(fmt.Sprintf("%s-%d", name, n)); n++ {
	}
	s.numbers[name] = n + 1
	return fmt.Sprintf("%s-%d", name, n)
}

// serviceEnv is how a client finds its services: the first one as SERVICE_*, and each as SERVICE_<NAME>_*.
func (s *Session) serviceEnv(services []*Handle) map[string]string {
	env := make(map[string]string)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range services {
		j := s.state.Job(h.jobs[0])
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
	return env
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

// Stop cancels the jobs and waits until they have ended.
func (s *Session) Stop(ctx context.Context, hs ...*Handle) error {
	var names []string
	for _, h := range hs {
		names = append(names, h.jobs...)
	}
	return s.cancel(ctx, names)
}

// cancel ends those of the named jobs that are live, and waits until the files of all are here. Of a job that is still
// to be submitted it waits for the answer first, unless the submitter has ended.
func (s *Session) cancel(ctx context.Context, names []string) error {
	ctx, done := context.WithTimeoutCause(ctx, stopGrace, Faultf(FaultInfra,
		"look for them in squeue, then run `aifb stop "+s.Run+"`", "the jobs did not end within %v", stopGrace))
	defer done()
	err := s.await(ctx, func(st *RunState) (bool, error) {
		for _, name := range names {
			if j := st.Job(name); j.Waiting() && j.Held == nil && !s.closing {
				return false, nil
			}
		}
		return true, nil
	})
	if err == nil {
		err = s.findLost(ctx, names)
	}
	if err != nil {
		return err
	}
	if err := s.cancelLive(ctx, names, nil); err != nil {
		return err
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

// cancelLive ends those of the named jobs that are live. Why says who wants it, if it is neither the recipe nor the user.
func (s *Session) cancelLive(ctx context.Context, names []string, why error) error {
	var ids []JobID
	var recs []Record
	s.view(func(st *RunState) {
		for _, name := range names {
			j := st.Job(name)
			if !j.Live() {
				continue
			}
			ids = append(ids, j.ID)
			rec := event(KindJobStopping, name, nil)
			if why != nil {
				rec = event(KindJobStopping, name, problem(why))
			}
			recs = append(recs, rec)
		}
	})
	if len(ids) == 0 {
		return nil
	}
	s.append(ctx, recs...) // a store that fails is no reason to leave the jobs; await and Close say it
	if err := s.Target.Scheduler.Cancel(ctx, ids...); err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	s.nudge()
	return nil
}

// Record appends a measurement of the recipe's own.
func (s *Session) Record(ctx context.Context, d Deed, m Measurement) error {
	d = d.describe("record", "", m)
	if done, err := s.done(d); done || err != nil {
		return err
	}
	recs := []Record{m.record("")}
	if d.Key != "" {
		recs = append(recs, event(KindDeed, "", d))
	}
	return s.append(ctx, recs...)
}

// Measurements returns what was measured in this run so far and w selects: the recipe's own first, and then job by job
// in the order of their start. So they are the same however fast each of the jobs was.
func (s *Session) Measurements(w Where) (recs []Record) {
	s.view(func(st *RunState) { recs = w.Filter(st.Ordered()) })
	return recs
}

// stopGrace is how long the jobs of a run may take to end, once they are cancelled, before the run gives up on them.
const stopGrace = 2 * time.Minute

// Close ends the run: it cancels what still runs, unless keep, brings the files here, removes them from the target, and
// appends how the run ended, which is the recipe's error. It returns the names of the jobs that it stopped, and what it
// could not do. The connection and the store stay open.
func (s *Session) Close(ctx context.Context, recipeErr error, keep bool) (stopped []string, err error) {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.endSubmissions(ctx)
	end := RunEnd{Fault: FaultOf(recipeErr)}
	if recipeErr != nil {
		end.Error = recipeErr.Error()
	}
	if keep {
		err = s.findLost(ctx, s.names())
	} else {
		stopped, err = s.sweep(ctx)
	}
	if err == nil {
		err = s.confirm(ctx)
	}
	if s.stop != nil {
		s.stop()
	}
	s.watching.Wait()
	switch {
	case keep && s.home != nil:
		err = errors.Join(err, keepRun(ctx, s.Target.Conn, s.home.runDir))
	case keep, s.KeepFiles:
	case err == nil:
		err = s.removeRunDir(ctx)
	}
	if err != nil {
		end.Left = err.Error()
	}
	s.save(ctx)
	var ended bool // before, and what it left has ended now
	s.view(func(st *RunState) { ended = st.End != nil && *st.End == end })
	if ended {
		return stopped, err
	}
	if failed := s.append(ctx, event(KindRunEnded, "", end)); failed != nil && !errors.Is(recipeErr, failed) {
		err = errors.Join(err, failed)
	}
	return stopped, err
}

// sweep cancels every live job and waits until the files of all are here.
func (s *Session) sweep(ctx context.Context) (stopped []string, err error) {
	before := make(map[string]bool)
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			before[j.Job.Name] = j.Stopping
		}
	})
	err = s.cancel(ctx, s.names())
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if j.Stopping && !before[j.Job.Name] {
				stopped = append(stopped, j.Job.Name)
			}
		}
	})
	return stopped, err
}

// names returns the names of all jobs.
func (s *Session) names() (names []string) {
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			names = append(names, j.Job.Name)
		}
	})
	return names
}
