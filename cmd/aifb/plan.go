package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/local"
	"github.com/aifb/aifb/runtime/sim"
	"github.com/aifb/aifb/slurm"
	"github.com/aifb/aifb/starlib"
)

func planCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "show what a recipe would do, and submit nothing",
		ArgsUsage: "RECIPE [name=value ...]",
		Description: `The recipe runs as aifb exec runs it, but on a simulated cluster and in simulated time: nothing is contacted, and
no file is written. Each call that acts is shown with its line, what would come of it, and the very script that would
be submitted. What only the cluster knows is made up: job ids, nodes, ports, times, and what clients measure. How jobs
may go otherwise is assumed with --assume NAME=STATE[@AFTER], such as --assume 'redis=timeout' or 'client-*=exit:2@30s';
NAME may be a pattern, and the states are
` + strings.Join(jobStates, ", ") + `
and exit:N.`,
		Flags: []cli.Flag{
			targetFlag(), configFlag(), paramsFlag(),
			&cli.StringSliceFlag{Name: "assume", Usage: "how jobs go, `HOW` being NAME=STATE[@AFTER]; may be given several times"},
			&cli.BoolFlag{Name: "scripts", Value: true, Usage: "show the scripts; --scripts=false hides them"},
			boolFlag("json", "print the plan as JSON"),
			&cli.BoolFlag{Name: recipeHelpFlag, Hidden: true},
		},
		Action: func(c *cli.Context) error { return planRecipe(c, std) },
	}
}

func planRecipe(c *cli.Context, std streams) error {
	name := c.Args().First()
	switch {
	case name == "" && c.Bool(recipeHelpFlag):
		return cli.ShowSubcommandHelp(c)
	case name == "":
		return runtime.Faultf(runtime.FaultUsage, helpHint(c), "there is no recipe to plan")
	}
	recipe, start, err := readRecipe(c, std, name)
	if recipe == nil {
		return err
	}
	start.Version = version()
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	start.Target = targetName(c, cfg, recipe.Target())
	files, err := os.MkdirTemp("", "aifb-plan-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(files)
	p, err := newPlan(cfg, start.Target, files)
	if err != nil {
		return err
	}
	for _, a := range c.StringSlice("assume") {
		if err := p.assume(a); err != nil {
			return err
		}
	}
	p.session.Start = start
	caught, stop := catchSignals(std.err, "")
	defer stop()
	ctx, done := caught.scope(c.Context)
	defer done()
	warn := func(text string) { fmt.Fprintf(std.err, "warning: %s\n", runtime.Printable(text)) }
	p.session.Warn = warn
	env := starlib.Env{Stdout: p, Warn: warn, Step: p.step, Create: p.create}
	err = p.run(ctx, func(ctx context.Context) error { return recipe.Exec(ctx, p.session, env, start.Args) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, pattern := range p.unused() {
		warn("--assume " + pattern + ": there was no job of that name")
	}
	doc := p.document(err)
	if c.Bool("json") {
		return cmp.Or(err, writeJSON(std.out, doc))
	}
	return cmp.Or(err, doc.print(std.out, c.Bool("scripts")))
}

// A plan is a rehearsal of a recipe, of which everything is noted.
type plan struct {
	*stage
	notes []string // of what is taken for granted

	mu    sync.Mutex
	steps []*planned
}

// A planned is a call of the recipe that is a part of the plan.
type planned struct {
	*starlib.Step
	call         string
	began, ended time.Time
	err          error
	printed      bytes.Buffer
	files        []planFile
}

// newPlan sets a stage that passes for a target.
func newPlan(cfg *config, name, files string) (*plan, error) {
	t, err := openTarget(cfg, name)
	if err != nil {
		return nil, err
	}
	t.Conn.Close() // which was not connected
	p := new(plan)
	remote := cfg.Targets[name].SSH
	if _, known := cfg.Targets[name]; !known && name != "local" {
		remote = name
	}
	config := sim.Config{Nodes: 1000, Home: home()}
	if remote != "" {
		config.Home = "/home/" + remoteUser(remote)
		if !path.IsAbs(t.Dir) {
			p.notes = append(p.notes, fmt.Sprintf("the home directory on %s is taken to be %s; an absolute workdir in the config file needs none", name, config.Home))
		}
		p.notes = append(p.notes, name+" is taken to be linux/amd64")
	}
	scripts := slurm.Previews
	if _, ok := t.Scheduler.(*local.Scheduler); ok {
		config.Host, scripts = "127.0.0.1", localPreviews
	}
	p.stage = newStage(time.Now().Truncate(time.Second), config, files)
	p.scripts = scripts
	t.Conn = wholeMachine{p.Conn()}
	p.poll(&t)
	p.session.Target, p.session.Simulated = t, true
	return p, nil
}

// remoteUser guesses who logs in to a host.
func remoteUser(host string) string {
	if user, _, ok := strings.Cut(host, "@"); ok {
		return user
	}
	if user := os.Getenv("USER"); user != "" {
		return user
	}
	return "user"
}

// localPreviews returns what the scheduler of this machine would run.
func localPreviews(jobs ...runtime.Job) (all []slurm.Preview) {
	for _, j := range jobs {
		all = append(all, slurm.Preview{Tokens: []string{j.Token}, Script: local.Script(j)})
	}
	return all
}

// assume adds what NAME=STATE[@AFTER] says.
func (p *plan) assume(text string) error {
	pattern, state, ok := strings.Cut(text, "=")
	if _, err := path.Match(pattern, ""); !ok || pattern == "" || err != nil {
		return runtime.Faultf(runtime.FaultUsage, "write --assume 'redis=timeout'", "--assume %q is not NAME=STATE", text)
	}
	state, late, ok := strings.Cut(state, "@")
	after := time.Duration(0)
	if ok {
		var err error
		if after, err = runtime.ParseDuration(late); err != nil {
			return runtime.Faultf(runtime.FaultUsage, "", "--assume %q: %w", text, err)
		}
	}
	if err := setState(new(sim.Behaviour), state, after); err != nil {
		return runtime.Faultf(runtime.FaultUsage, "", "--assume: %w", err)
	}
	p.rule(pattern, func(b *sim.Behaviour) { setState(b, state, after) })
	return nil
}

// step notes a call that acts, or that says something.
func (p *plan) step(s *starlib.Step) (done func(error)) {
	if !s.Acts && !slices.Contains([]string{"print", "warn", "help"}, s.Builtin) {
		return func(error) {}
	}
	n := &planned{Step: s, call: s.Builtin, began: p.clock.Now()}
	if s.Acts {
		n.call = s.Text()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, n)
	return func(err error) { n.ended, n.err = p.clock.Now(), err }
}

// Write takes what the recipe prints.
func (p *plan) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.steps); n > 0 {
		p.steps[n-1].printed.Write(text)
	}
	return len(text), nil
}

// create takes what the recipe would write to a file, and writes nothing.
func (p *plan) create(name string, write func(io.Writer) error) error {
	var text bytes.Buffer
	if err := write(&text); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.steps); n > 0 {
		s := p.steps[n-1]
		s.files = append(s.files, planFile{name, rows(s.Builtin, text.Bytes()), text.Len()})
	}
	return nil
}

// rows returns how many measurements an export has.
func rows(builtin string, text []byte) int {
	if builtin == "export_csv" {
		return max(bytes.Count(text, []byte("\n"))-1, 0)
	}
	var doc struct{ Measurements []json.RawMessage }
	json.Unmarshal(text, &doc) // what is no export has none
	return len(doc.Measurements)
}

// planVersion is that of the JSON form of a plan. It changes when a field is removed or means something else.
const planVersion = 1

// A planDocument is a plan as it is shown.
type planDocument struct {
	Version      int        `json:"version"`
	Recipe       string     `json:"recipe"`
	Target       string     `json:"target"`
	Run          string     `json:"run"`
	Exit         int        `json:"exit"`
	Error        string     `json:"error,omitempty"`
	Seconds      float64    `json:"seconds"` // of simulated time
	Steps        []planStep `json:"steps"`
	Simulated    bool       `json:"simulated"`
	Jobs         int        `json:"jobs"`
	Measurements int        `json:"measurements"`
	Notes        []string   `json:"notes"`
}

type planStep struct {
	Position    string           `json:"position"`
	Callers     []string         `json:"callers,omitempty"` // the places of the calls that led there, the innermost first
	Call        string           `json:"call"`
	Seconds     float64          `json:"seconds"` // that it takes in simulated time
	Error       string           `json:"error,omitempty"`
	Printed     string           `json:"printed,omitempty"`
	Files       []planFile       `json:"files,omitempty"`
	Jobs        []planJob        `json:"jobs,omitempty"`
	Submissions []planSubmission `json:"submissions,omitempty"`
}

type planFile struct {
	Path  string `json:"path"`
	Rows  int    `json:"rows"`
	Bytes int    `json:"bytes"`
}

type planJob struct {
	Name string `json:"name"`
	ID   string `json:"id,omitempty"`
	Host string `json:"host,omitempty"`
	Port int    `json:"port,omitempty"`
	End  string `json:"end"`
}

type planSubmission struct {
	Command []string `json:"command,omitempty"` // of Slurm
	Names   []string `json:"names"`
	Script  string   `json:"script"`
}

// document puts together what was noted.
func (p *plan) document(err error) *planDocument {
	st, _ := foldRun(context.Background(), p.session.Store, p.session.Run) // from memory
	doc := &planDocument{Version: planVersion, Recipe: st.Start.Recipe, Target: st.Start.Target, Run: st.Run, Exit: exitCode(err),
		Simulated: true, Jobs: len(st.Jobs), Measurements: len(st.Measurements), Steps: []planStep{}, Notes: p.notes}
	doc.Seconds = st.Ended.Sub(st.Started).Seconds()
	if err != nil {
		doc.Error = err.Error()
	}
	byToken := make(map[string]slurm.Preview)
	for _, v := range p.previews {
		for _, token := range v.Tokens {
			byToken[token] = v
		}
	}
	for _, s := range p.steps {
		doc.Steps = append(doc.Steps, s.document(st, byToken))
	}
	if doc.Notes == nil {
		doc.Notes = []string{}
	}
	return doc
}

// document is a step with the jobs that it started.
func (s *planned) document(st *runtime.RunState, previews map[string]slurm.Preview) planStep {
	step := planStep{Call: s.call, Printed: s.printed.String(), Files: s.files}
	if len(s.Frames) > 0 {
		step.Position = s.Frames[0].Pos.String()
		for _, f := range s.Frames[1:] {
			step.Callers = append(step.Callers, f.Pos.String())
		}
	}
	if !s.ended.IsZero() {
		step.Seconds = s.ended.Sub(s.began).Seconds()
	}
	if s.err != nil {
		step.Error = s.err.Error()
	}
	seen := make(map[string]bool)
	for _, j := range st.Jobs {
		if s.Key == "" || j.Deed.Key != s.Key {
			continue
		}
		job := planJob{Name: j.Job.Name, ID: string(j.ID), Host: j.Host(), End: j.String()}
		if j.Started != nil {
			job.Port = j.Started.Port
		}
		if job.Host != "" {
			job.End = strings.Replace(job.End, " on "+job.Host, "", 1)
		}
		if j.Stopping && j.Status.Outcome == runtime.Cancelled {
			job.End = "stopped"
			if j.Why != "" {
				job.End += " (" + j.Why + ")"
			}
		}
		step.Jobs = append(step.Jobs, job)
		v := previews[j.Job.Token]
		if v.Script == "" || seen[v.Tokens[0]] {
			continue
		}
		for _, token := range v.Tokens {
			seen[token] = true
		}
		step.Submissions = append(step.Submissions, submissionOf(v, st.Run))
	}
	return step
}

func submissionOf(v slurm.Preview, run string) planSubmission {
	sub := planSubmission{Script: v.Script}
	if v.Args != nil {
		sub.Command = append([]string{"sbatch"}, v.Args...)
	}
	for _, token := range v.Tokens {
		sub.Names = append(sub.Names, strings.TrimPrefix(token, "aifb-"+run+"-"))
	}
	return sub
}

// print writes the plan for a person.
func (d *planDocument) print(w io.Writer, scripts bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "plan of %s on %s; nothing is contacted, and time is simulated\n", d.Recipe, d.Target)
	var last planSubmission
	for i, s := range d.Steps {
		fmt.Fprintf(&b, "\n%d. %s: %s\n", i+1, strings.Join(append([]string{s.Position}, s.Callers...), " < "), s.Call)
		s.printWords(&b)
		for _, sub := range s.Submissions {
			if scripts {
				sub.print(&b, last)
				last = sub
			}
		}
	}
	fmt.Fprintf(&b, "\nexit code %d after %v of simulated time\n", d.Exit, seconds(d.Seconds))
	fmt.Fprintf(&b, "made up, because only the target knows: ids, nodes, ports and times of %s, and %s\n",
		runtime.Plural(d.Jobs, "job"), runtime.Plural(d.Measurements, "measurement"))
	for _, note := range append([]string{"RUN stands for the id of the run"}, d.Notes...) {
		b.WriteString(note + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond)
}

// printWords says what comes of a step.
func (s *planStep) printWords(b *strings.Builder) {
	for line := range strings.Lines(s.Printed) {
		fmt.Fprintf(b, "   > %s\n", runtime.Printable(strings.TrimSuffix(line, "\n")))
	}
	for _, f := range s.Files {
		what := fmt.Sprintf("%d rows", f.Rows)
		if f.Rows == 0 {
			what = fmt.Sprintf("%d bytes", f.Bytes)
		}
		fmt.Fprintf(b, "   would write %s to %s\n", what, f.Path)
	}
	for _, j := range collapse(s.Jobs) {
		fmt.Fprintf(b, "   %s\n", j)
	}
	if took := seconds(s.Seconds); took > 0 {
		fmt.Fprintf(b, "   takes %v\n", took)
	}
	if s.Error != "" {
		first, _, _ := strings.Cut(s.Error, "\n")
		fmt.Fprintf(b, "   fails: %s\n", runtime.Printable(first))
	}
}

// collapse describes jobs, those of a group that fare alike as one.
func collapse(jobs []planJob) (lines []string) {
	for i := 0; i < len(jobs); {
		n := i + 1
		for n < len(jobs) && jobs[n].End == jobs[i].End {
			n++
		}
		text := jobs[i].String()
		if n > i+1 {
			text = fmt.Sprintf("%s ... %s: %d jobs, %s", jobs[i].Name, jobs[n-1].Name, n-i, jobs[i].End)
		}
		lines = append(lines, text)
		i = n
	}
	return lines
}

func (j planJob) String() string {
	text := j.Name
	if j.ID != "" {
		text += ": job " + j.ID
	}
	if j.Host != "" {
		text += " on " + j.Host
	}
	if j.Port != 0 {
		text += fmt.Sprintf(":%d", j.Port)
	}
	return text + ", " + j.End
}

// maxDiffering is how many lines of a script may differ from the one before it if only those are to be shown.
const maxDiffering = 8

// print writes a submission: all of its script, or in what it differs from that of the one before it.
func (s planSubmission) print(b *strings.Builder, last planSubmission) {
	if s.Command != nil {
		fmt.Fprintf(b, "   %s\n", runtime.Quote(s.Command...))
	}
	old, lines := strings.Split(last.Script, "\n"), strings.Split(strings.TrimSuffix(s.Script, "\n"), "\n")
	var differing []string
	for i, line := range lines {
		if i >= len(old) || old[i] != line {
			differing = append(differing, line)
		}
	}
	if last.Names != nil && len(differing) <= maxDiffering {
		fmt.Fprintf(b, "   the script is that of %s, but for:\n", last.Names[0])
		lines = differing
	}
	for _, line := range lines {
		fmt.Fprintf(b, "   | %s\n", line)
	}
}
