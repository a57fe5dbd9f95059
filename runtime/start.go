package runtime

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// How a session starts what a recipe describes: the call returns at once, and the submitter does the deed.

// Service starts a service and returns at once.
func (s *Session) Service(ctx context.Context, spec ServiceSpec) (*Handle, error) {
	if spec.Ready.Kind == "" && spec.Port != NoPort {
		spec.Ready.Kind = "tcp"
	}
	if err := spec.Ready.validate(); err != nil {
		return nil, err
	}
	if (spec.Ready.Kind == "tcp" || spec.Ready.Kind == "http") && spec.Port == NoPort {
		return nil, fieldErrorf("ready", "port = 0 takes a free one", "%s needs a port", spec.Ready.Kind)
	}
	spec.Deed = spec.Deed.describe("service", spec.Name, spec)
	return s.start(ctx, spec.JobSpec, Intent{Role: RoleService, Ready: spec.Ready, Job: Job{Port: spec.Port}}, nil, 1)
}

// Client waits until its services answer, and starts the client.
func (s *Session) Client(ctx context.Context, spec ClientSpec) (*Handle, error) {
	if spec.Count < 0 {
		return nil, fieldErrorf("count", "", "%d is negative", spec.Count)
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
		what := cmp.Or(spec.Name, string(in.Role))
		if len(what) > 64 || strings.ContainsFunc(what, isControl) { // which the error is of
			what = string(in.Role)
		}
		return nil, fmt.Errorf("start %s: %w", what, err)
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
	in.Job.Secrets = spec.Secrets
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

		Secrets: in.Job.Secrets,

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
