package slurm

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

// The commands of a world do as Slurm's own, as far as its source, its manual pages and the captured output in
// testdata/slurm say, and not as far as package slurm happens to use them.

const (
	maxArraySize = 1001
	userID       = "1000"
	userName     = "alice"
)

// command runs one of Slurm's commands.
func (w *world) command(c *call) result {
	if cluster := c.getenv("SLURM_CLUSTERS"); cluster != "" {
		return fails(1, "%s: error: No cluster '%s' known by database.", c.Name, cluster)
	}
	switch c.Name {
	case "sbatch":
		return w.sbatch(c)
	case "squeue":
		return w.squeueCommand(c)
	case "sacct":
		return w.sacct(c)
	case "scontrol":
		return w.scontrol(c)
	case "scancel":
		return w.scancel(c)
	}
	return sinfo(c)
}

// sinfo prints the partitions: their names, by -h -o %R, or what is of one kind of nodes.
func sinfo(c *call) result {
	if i := slices.Index(c.Args, "-e"); i >= 0 {
		return result{Stdout: strings.NewReplacer("%P", "cpu*", "%a", "up", "%l", "1-00:00:00", "%D", "2", "%T", "idle", "%c", "4",
			"%m", "1000+", "%G", "(null)", "%f", "fast,ssd", "%N", "n[1-2]").Replace(c.Args[slices.Index(c.Args, "-o")+1]) + "\n"}
	}
	return result{Stdout: "cpu\ngpu\n"}
}

// options are the options of a command, by their long names, and what else there is on its command line.
type commandLine struct {
	set  map[string]string
	rest []string
}

func (o commandLine) has(name string) bool { _, ok := o.set[name]; return ok }

// parseOptions reads a command line. Short has the long names of short options; an option of either kind has a value
// if the long name ends in "=". The error is what the command says.
func parseOptions(c *call, short, long string) (o commandLine, failed *result) {
	o.set = make(map[string]string)
	names := make(map[string]bool) // whether it has a value
	for _, name := range strings.Fields(long) {
		names[strings.TrimSuffix(name, "=")] = strings.HasSuffix(name, "=")
	}
	letters := make(map[byte]string)
	for _, pair := range strings.Fields(short) {
		letters[pair[0]] = pair[2:]
	}
	unknown := func(format string, args ...any) (commandLine, *result) {
		r := fails(cmp.Or(map[string]int{"sbatch": 255}[c.Name], 1), "%s: "+format+"\nTry \"%s --help\" for more information",
			append(append([]any{c.Name}, args...), c.Name)...)
		return o, &r
	}
	for args := c.Args; len(args) > 0; {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			o.rest = append(o.rest, args...)
			return o, nil
		case strings.HasPrefix(arg, "--"):
			name, value, inline := strings.Cut(arg[2:], "=")
			valued, ok := names[name]
			if !ok {
				return unknown("unrecognized option '--%s'", name)
			}
			if valued && !inline {
				if len(args) == 0 {
					return unknown("option '--%s' requires an argument", name)
				}
				value, args = args[0], args[1:]
			}
			o.set[name] = value
		case strings.HasPrefix(arg, "-") && arg != "-":
			for i := 1; i < len(arg); i++ {
				name, ok := letters[arg[i]]
				if !ok {
					return unknown("invalid option -- '%c'", arg[i])
				}
				if !names[name] {
					o.set[name] = ""
					continue
				}
				value := arg[i+1:]
				if value == "" && len(args) > 0 {
					value, args = args[0], args[1:]
				}
				o.set[name] = value
				break
			}
		case c.Name == "sbatch": // what follows the script is for the script
			o.rest = append([]string{arg}, args...)
			return o, nil
		default:
			o.rest = append(o.rest, arg)
		}
	}
	return o, nil
}

const sbatchOptions = "parsable quiet version wrap= job-name= output= error= time= no-requeue requeue nodes= ntasks= " +
	"cpus-per-task= mem= gpus= partition= account= qos= constraint= exclude= nodelist= reservation= exclusive array= " +
	"hold comment= mail-type= clusters= export= chdir= open-mode= kill-on-invalid-dep= signal= input= begin="

const sbatchShort = "J=job-name o=output e=error t=time N=nodes n=ntasks c=cpus-per-task p=partition A=account q=qos " +
	"C=constraint x=exclude w=nodelist a=array H=hold M=clusters V=version Q=quiet D=chdir i=input"

const noAnswer = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"

// sbatch hands in a job or an array.
func (w *world) sbatch(c *call) result {
	line, failed := parseOptions(c, sbatchShort, sbatchOptions)
	if failed != nil {
		return *failed
	}
	if line.has("version") {
		return result{Stdout: "slurm-wlm " + w.version() + "\n"}
	}
	script := c.Stdin
	if len(line.rest) > 0 {
		data, err := os.ReadFile(line.rest[0])
		if err != nil {
			return fails(1, "sbatch: error: Unable to open file %s", line.rest[0])
		}
		script, line.rest = string(data), line.rest[1:]
	}
	if line.has("wrap") {
		script = "#!/bin/sh\n" + line.set["wrap"] + "\n"
	}
	if !strings.HasPrefix(script, "#!") {
		return fails(1, "sbatch: error: This does not look like a batch script.  The first\n"+
			"sbatch: error: line must start with #! followed by the path to an interpreter.")
	}
	set := scriptOptions(script)
	for name, value := range line.set { // before the environment, and that before the script
		set[name] = value
	}
	partition := cmp.Or(line.set["partition"], c.getenv("SBATCH_PARTITION"), set["partition"], "cpu")
	if partition != "cpu" && partition != "gpu" {
		return fails(1, "sbatch: error: invalid partition specified: %s\n"+
			"sbatch: error: Batch job submission failed: Invalid partition name specified", partition)
	}
	tasks, ok := expand(set["array"])
	if set["array"] != "" && (!ok || slices.Max(tasks) >= maxArraySize) {
		return fails(1, "sbatch: error: Batch job submission failed: Invalid job array specification")
	}
	jobs, err := w.jobsOf(script, set, tasks, line.rest)
	if err != nil {
		w.t.Errorf("sbatch: %v", err)
		return fails(1, "sbatch: error: %v", err)
	}
	return w.handIn(c, tasks, jobs)
}

// handIn hands jobs in, if nothing goes wrong.
func (w *world) handIn(c *call, tasks []int, jobs []runtime.Job) result {
	before, after, late := w.Sees(sim.LostBefore), w.Sees(sim.LostAfter), w.Sees(sim.Late)
	lost := before || after || late
	c.cut = lost && w.flavor.cut
	if before {
		return fails(1, noAnswer)
	}
	delay := time.Duration(0)
	if late {
		delay = sim.Lateness
	}
	number, err := w.Add(delay, tasks, jobs...)
	switch {
	case err != nil:
		text := err.Error()
		_, text, _ = strings.Cut(text, ": ")
		return fails(1, "sbatch: error: Batch job submission failed: %s", text)
	case lost:
		return fails(1, noAnswer)
	}
	if w.noise != nil {
		stdout, stderr := w.noise(strconv.Itoa(number))
		return result{Stdout: stdout, Stderr: stderr}
	}
	return result{Stdout: fmt.Sprintln(number), Stderr: "sbatch: lua: 42 SUs are left of 100\n"}
}

// scriptOptions reads the #SBATCH lines of a script.
func scriptOptions(script string) map[string]string {
	set := make(map[string]string)
	for line := range strings.Lines(script) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			break
		}
		if option, ok := strings.CutPrefix(line, "#SBATCH --"); ok {
			name, value, _ := strings.Cut(option, "=")
			set[name] = strings.Trim(value, `"`)
		}
	}
	return set
}

// expand reads a list such as 0-3,7,10-20:2%50.
func expand(list string) (numbers []int, ok bool) {
	list, _, _ = strings.Cut(list, "%")
	for part := range strings.SplitSeq(list, ",") {
		span, step, stepped := strings.Cut(part, ":")
		from, to, pair := strings.Cut(span, "-")
		if !pair {
			to = from
		}
		by := 1
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if stepped {
			by, _ = strconv.Atoi(step)
		}
		if err1 != nil || err2 != nil || by < 1 || last < first || first < 0 {
			return nil, false
		}
		for n := first; n <= last; n += by {
			numbers = append(numbers, n)
		}
	}
	return numbers, true
}

var (
	barrierLine = regexp.MustCompile(`(?m)^barrier "\$run"/(?:'.gate-(.*)'|.gate-(\S*)) (\d+)$`)
	leaseLine   = regexp.MustCompile(`(?m)^lease (\d+)$`)
	chunkSuffix = regexp.MustCompile(`\+\d+$`)
)

// jobsOf finds out which jobs a script is. It runs the lines at its head that say so, once for each task.
func (w *world) jobsOf(script string, set map[string]string, tasks []int, args []string) ([]runtime.Job, error) {
	start := strings.Index(script, "\nhost=")
	end := strings.Index(script, "\nport=")
	if start < 0 || end < start {
		return nil, fmt.Errorf("this is no script of ours:\n%s", script)
	}
	length := strings.IndexByte(script[end+1:], '\n')
	head := script[start : end+1+length]
	numbers := []string{"-"}
	if tasks != nil {
		numbers = nil
		for _, task := range tasks {
			numbers = append(numbers, strconv.Itoa(task))
		}
	}
	program := "for task; do (\nSLURMD_NODENAME=n1 SLURM_JOB_ID=1\n" +
		"[ \"$task\" = - ] || SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=$task\n" +
		"set -- " + runtime.Quote(args...) + head +
		"\nprintf '%s\\037' \"$dir\" \"$name\" \"${index-}\" \"$port\"; printf '\\036'\n) done\n"
	cmd := exec.Command("sh", append([]string{"-c", program, "sh"}, numbers...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	minutes, err := strconv.Atoi(set["time"])
	if err != nil {
		return nil, fmt.Errorf("--time=%s: %w", set["time"], err)
	}
	common := runtime.Job{Limit: time.Duration(minutes) * time.Minute, Needs: runtime.Resources{
		Nodes: atoi(set["nodes"]), Tasks: atoi(set["ntasks"]), CPUs: atoi(set["cpus-per-task"]),
		Exclude: set["exclude"], NodeList: set["nodelist"],
	}}
	_, common.Needs.Requeue = set["requeue"]
	_, common.Needs.Exclusive = set["exclusive"]
	if m := leaseLine.FindStringSubmatch(script); m != nil {
		common.Lease = time.Duration(atoi(m[1])) * time.Second
	}
	if m := barrierLine.FindStringSubmatch(script); m != nil {
		common.Group, common.Count = m[1]+m[2], atoi(m[3])
	}
	var jobs []runtime.Job
	for _, record := range strings.SplitAfter(string(out), "\x1e") {
		f := strings.Split(record, "\x1f")
		if len(f) < 5 {
			continue
		}
		job := common
		job.Dir, job.Name, job.Token, job.Port = f[0], f[1], set["job-name"], runtime.Port(atoi(f[3]))
		if common.Group != "" {
			job.Index = atoi(f[2])
			job.Token = chunkSuffix.ReplaceAllString(job.Token, "") + "." + f[2]
		}
		if strings.Contains(script, "/dev/urandom") {
			job.Port = runtime.AnyPort
		}
		jobs = append(jobs, job)
	}
	if len(jobs) != len(numbers) {
		return nil, fmt.Errorf("the head of the script printed %q", out)
	}
	return jobs, nil
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func (w *world) version() string {
	if w.flavor.old {
		return "22.05.8"
	}
	return "26.05.5"
}

// queued returns the jobs that slurmctld knows.
func (w *world) queued() []sim.Job {
	jobs := w.Jobs()
	gone := traceless(jobs)
	return slices.DeleteFunc(jobs, func(j sim.Job) bool {
		return j.State == runtime.Unknown || gone[j.ID] ||
			j.State == runtime.Ended && (j.Outcome == runtime.Lost || time.Since(j.Ended) >= w.config.MinJobAge)
	})
}

// traceless returns the tasks that were cancelled before they ran. They leave the record of their array, and have none of
// their own; only those that were the last of it are in that as it was cancelled.
func traceless(jobs []sim.Job) map[runtime.JobID]bool {
	last := make(map[int]time.Time) // when the record of an array was cancelled
	waits := make(map[int]bool)
	never := func(j sim.Job) bool { return j.Array != 0 && j.State == runtime.Ended && len(j.Attempts) == 0 }
	for _, j := range jobs {
		if never(j) && j.Ended.After(last[j.Array]) {
			last[j.Array] = j.Ended
		}
		if j.Array != 0 && j.State == runtime.Pending {
			waits[j.Array] = true
		}
	}
	gone := make(map[runtime.JobID]bool)
	for _, j := range jobs {
		if never(j) && (waits[j.Array] || !j.Ended.Equal(last[j.Array])) {
			gone[j.ID] = true
		}
	}
	return gone
}

const squeueOptions = "me all user= users= states= noheader array format= Format= name= jobs= job= clusters= partition= " +
	"only-job-state sort= start"

const squeueShort = "u=user t=states h=noheader r=array o=format O=Format n=name j=jobs M=clusters p=partition a=all S=sort"

func (w *world) squeueCommand(c *call) result {
	o, failed := parseOptions(c, squeueShort, squeueOptions)
	if failed != nil {
		return *failed
	}
	if w.Sees(sim.NoQueue) {
		return fails(1, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
	}
	user := cmp.Or(o.set["user"], o.set["users"], c.getenv("SQUEUE_USERS"))
	states := cmp.Or(o.set["states"], c.getenv("SQUEUE_STATES"))
	partition := cmp.Or(o.set["partition"], c.getenv("SQUEUE_PARTITION"))
	for state := range strings.SplitSeq(cmp.Or(states, "all"), ",") {
		if !knownState(state) {
			return fails(1, "Invalid job state specified: %s", state)
		}
	}
	ids := splitList(cmp.Or(o.set["jobs"], o.set["job"]))
	jobs := slices.DeleteFunc(w.queued(), func(j sim.Job) bool {
		return !o.has("me") && user != "" && user != userName && user != userID ||
			ids != nil && !slices.ContainsFunc(ids, func(id string) bool { return meant(id, j) }) ||
			o.has("name") && !slices.Contains(splitList(o.set["name"]), jobName(j)) ||
			partition != "" && !slices.Contains(splitList(partition), "cpu") ||
			!inStates(stateWord(j), states)
	})
	if len(ids) == 1 && len(jobs) == 0 {
		return fails(1, "slurm_load_jobs error: Invalid job id specified")
	}
	var row func(j sim.Job) string
	var errs string
	if format := o.set["Format"]; format != "" {
		row, errs = w.longFormat(format)
	} else {
		format := cmp.Or(o.set["format"], c.getenv("SQUEUE_FORMAT"), "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R")
		row = w.shortFormat(format)
	}
	jobs = parts(jobs)
	times := c.getenv("SLURM_TIME_FORMAT")
	if times != "%s" {
		return result{Stdout: "the times are not those of the epoch, but in the format " + times + "\n"}
	}
	var b strings.Builder
	if !o.has("noheader") {
		b.WriteString("HEADER\n")
	}
	for _, j := range jobs {
		b.WriteString(row(j) + "\n")
	}
	if !o.has("array") {
		return result{Stdout: w.collapsed(jobs, row, c.getenv("SLURM_BITSTR_LEN") != "0"), Stderr: errs}
	}
	return result{Stdout: b.String(), Stderr: errs}
}

// parts has the parts of heterogeneous jobs in their place. The first runs the script; of the others this world says what
// is not so of the first.
func parts(jobs []sim.Job) (all []sim.Job) {
	for _, j := range jobs {
		if j.Parts == 0 {
			all = append(all, j)
			continue
		}
		for i := range j.Parts {
			part := j
			part.ID = runtime.JobID(fmt.Sprintf("%d+%d", j.Number, i))
			if i > 0 && j.State == runtime.Running {
				part.State, part.Outcome, part.Ended = runtime.Ended, runtime.Cancelled, time.Now()
			} else if i > 0 {
				part.State, part.Outcome = runtime.Running, ""
			}
			all = append(all, part)
		}
	}
	return all
}

// collapsed has one row for all tasks of an array that have not run, as squeue has without -r.
func (w *world) collapsed(jobs []sim.Job, row func(sim.Job) string, truncate bool) string {
	var b strings.Builder
	seen := make(map[int]bool)
	for _, j := range jobs {
		if j.Array != 0 && (j.State == runtime.Pending || len(j.Attempts) == 0) {
			if seen[j.Array] {
				continue
			}
			seen[j.Array] = true
			id := waitingTasks(jobs, j.Array)
			if truncate && len(id) > 31 {
				id = id[:31]
			}
			j.ID = runtime.JobID(id)
		}
		b.WriteString(row(j) + "\n")
	}
	return b.String()
}

// waitingTasks is how Slurm calls all tasks of an array that have not run, such as 100_[1-3,5].
func waitingTasks(jobs []sim.Job, array int) string {
	var list []string
	first, last := -1, -1
	flush := func() {
		switch {
		case first < 0:
		case first == last:
			list = append(list, strconv.Itoa(first))
		default:
			list = append(list, fmt.Sprintf("%d-%d", first, last))
		}
	}
	for _, j := range jobs {
		if j.Array != array || j.State != runtime.Pending && len(j.Attempts) > 0 {
			continue
		}
		if last < 0 || j.Task != last+1 {
			flush()
			first = j.Task
		}
		last = j.Task
	}
	flush()
	return fmt.Sprintf("%d_[%s]", array, strings.Join(list, ","))
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// meant reports whether an id on a command line means the job: its number, its array's, or 100_7 or 100_[3-7].
func meant(id string, j sim.Job) bool {
	array, list, isTask := strings.Cut(id, "_")
	if !isTask {
		return id == strconv.Itoa(j.Number) || j.Array != 0 && id == strconv.Itoa(j.Array)
	}
	tasks, _ := expand(strings.Trim(list, "[]"))
	return j.Array != 0 && array == strconv.Itoa(j.Array) && slices.Contains(tasks, j.Task)
}

// jobName is the name that the job was submitted under: tasks of an array have the same.
func jobName(j sim.Job) string {
	if j.Group != "" {
		name := strings.TrimSuffix(j.Token, fmt.Sprintf(".%d", j.Index))
		if offset := j.Index - j.Task; offset > 0 {
			name += fmt.Sprintf("+%d", offset)
		}
		return name
	}
	return j.Token
}

// stateWord is the state as squeue prints it.
func stateWord(j sim.Job) string {
	switch {
	case j.State == runtime.Pending:
		return "PENDING"
	case j.Stopping:
		return "COMPLETING"
	case j.State == runtime.Running:
		return "RUNNING"
	}
	return outcomeWord(j.Outcome)
}

func outcomeWord(o runtime.Outcome) string {
	return map[runtime.Outcome]string{
		runtime.Completed: "COMPLETED", runtime.Failed: "FAILED", runtime.TimedOut: "TIMEOUT", runtime.Cancelled: "CANCELLED",
		runtime.OutOfMemory: "OUT_OF_MEMORY", runtime.Preempted: "PREEMPTED", runtime.NodeFailure: "NODE_FAIL",
	}[o]
}

// knownState reports whether squeue has heard of a state.
func knownState(s string) bool {
	s = strings.ToUpper(s)
	return slices.Contains(strings.Fields("ALL PD R CG CD F CA TO NF PR OOM PENDING RUNNING COMPLETING COMPLETED FAILED CANCELLED "+
		"TIMEOUT NODE_FAIL PREEMPTED OUT_OF_MEMORY"), s)
}

// inStates reports whether squeue shows a job in that state.
func inStates(word, states string) bool {
	if states == "" {
		states = "PENDING,RUNNING,COMPLETING"
	}
	short := map[string]string{"PD": "PENDING", "R": "RUNNING", "CG": "COMPLETING"}
	return slices.ContainsFunc(splitList(states), func(s string) bool {
		s = strings.ToUpper(s)
		return s == "ALL" || s == word || short[s] == word
	})
}

// field returns what squeue prints of a job.
func (w *world) field(j sim.Job, name string) (string, bool) {
	last := sim.Attempt{}
	ran := len(j.Attempts) > 0 && j.State != runtime.Pending
	if ran {
		last = j.Attempts[len(j.Attempts)-1]
	}
	switch strings.ToLower(name) {
	case "jobarrayid":
		return string(j.ID), true
	case "jobid":
		return strconv.Itoa(j.Number), true
	case "arrayjobid":
		return strconv.Itoa(cmp.Or(j.Array, j.Number)), true
	case "arraytaskid":
		if j.Array == 0 {
			return "N/A", true
		}
		return strconv.Itoa(j.Task), true
	case "name":
		return jobName(j), true
	case "state":
		return stateWord(j), true
	case "reason", "reasonlist":
		return reasonOf(j), true
	case "exit_code":
		return w.exitCode(j, last), true
	case "restartcnt":
		return strconv.Itoa(restarts(j)), true
	case "submittime":
		return w.epoch(j.Submitted, "N/A"), true
	case "starttime":
		if j.State == runtime.Ended && !ran {
			return w.epoch(j.Ended, "N/A"), true
		}
		return w.epoch(last.Start, "N/A"), true
	case "endtime":
		switch {
		case j.State == runtime.Ended:
			return w.epoch(j.Ended, "N/A"), true
		case ran:
			return w.epoch(last.Start.Add(j.Limit), "N/A"), true
		}
		return "N/A", true
	case "nodelist":
		return strings.Join(last.Nodes, ","), true
	case "partition":
		return "cpu", true
	case "prioritylong", "priority":
		if strings.HasPrefix(j.Reason, "JobHeld") {
			return "0", true
		}
		return strconv.Itoa(1<<31 - j.Number), true
	case "username":
		return userName, true
	case "numnodes":
		return "1", true
	case "account":
		return "(null)", true
	case "qos":
		return "normal", true
	case "timelimit":
		return "1-00:00:00", true
	case "timeused":
		return "1:01", true
	}
	return "", false
}

func restarts(j sim.Job) int {
	if j.State == runtime.Pending {
		return len(j.Attempts)
	}
	return max(len(j.Attempts)-1, 0)
}

func reasonOf(j sim.Job) string {
	switch {
	case j.State == runtime.Pending:
		return cmp.Or(j.Reason, "None")
	case j.State != runtime.Ended:
		return "None"
	}
	return cmp.Or(map[runtime.Outcome]string{runtime.Failed: "NonZeroExitCode", runtime.TimedOut: "TimeLimit",
		runtime.NodeFailure: "NodeDown", runtime.OutOfMemory: "OutOfMemory"}[j.Outcome], "None")
}

// exitCode is what squeue has: before 23.02 the status of wait(2), and what Slurm makes up where a node is gone.
func (w *world) exitCode(j sim.Job, a sim.Attempt) string {
	code, signal := 0, 0
	switch {
	case j.State != runtime.Ended:
	case a.Exited:
		code = a.Code
	case j.Outcome == runtime.NodeFailure && !w.flavor.old:
		signal = 1
	case j.Outcome == runtime.Cancelled || j.Outcome == runtime.TimedOut || j.Outcome == runtime.Preempted:
		signal = a.Signal
	}
	if w.flavor.old {
		return strconv.Itoa(code<<8 | signal)
	}
	return fmt.Sprintf("%d:%d", code, signal)
}

// epoch is a time by the clock of the cluster.
func (w *world) epoch(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return strconv.FormatInt(t.Add(w.config.Skew).Unix(), 10)
}

var longField = regexp.MustCompile(`^(\w+)(?::(\.?)(\d*)((?s:.*)))?$`)

// longFormat reads the argument of squeue -O: fields with a width each, and a text behind.
func (w *world) longFormat(format string) (row func(sim.Job) string, errs string) {
	var columns []func(j sim.Job) string
	for part := range strings.SplitSeq(format, ",") {
		m := longField.FindStringSubmatch(part)
		if m == nil {
			return func(sim.Job) string { return "" }, "squeue: error: Invalid job format specification: " + part + "\n"
		}
		if _, ok := w.field(sim.Job{}, m[1]); !ok {
			errs += "squeue: error: Invalid job format specification: " + m[1] + "\n"
			continue
		}
		width, suffix := 20, ""
		if strings.Contains(part, ":") {
			width, suffix = atoi(m[3]), m[4]
		}
		columns = append(columns, func(j sim.Job) string {
			text, _ := w.field(j, m[1])
			return padded(text, width, m[2] == ".") + suffix
		})
	}
	return func(j sim.Job) string {
		var b strings.Builder
		for _, column := range columns {
			b.WriteString(column(j))
		}
		return b.String()
	}, errs
}

// padded makes a text as wide as asked for, which may cut it off. Of width 0 it stays as it is.
func padded(text string, width int, right bool) string {
	switch {
	case width == 0:
		return text
	case len(text) > width:
		return text[:width]
	case right:
		return fmt.Sprintf("%*s", width, text)
	}
	return fmt.Sprintf("%-*s", width, text)
}

var shortField = regexp.MustCompile(`%(\.?)(\d*)([A-Za-z])`)

var shortNames = map[string]string{"i": "jobarrayid", "A": "jobid", "F": "arrayjobid", "K": "arraytaskid", "j": "name",
	"T": "state", "t": "state", "r": "reason", "R": "reason", "S": "starttime", "e": "endtime", "N": "nodelist", "P": "partition",
	"Q": "prioritylong", "V": "submittime", "u": "username", "D": "numnodes", "M": "timeused", "a": "account", "q": "qos", "l": "timelimit"}

// shortFormat reads the argument of squeue -o.
func (w *world) shortFormat(format string) func(sim.Job) string {
	return func(j sim.Job) string {
		return shortField.ReplaceAllStringFunc(format, func(part string) string {
			m := shortField.FindStringSubmatch(part)
			text, ok := w.field(j, shortNames[m[3]])
			if !ok {
				w.t.Errorf("squeue: this world does not know %s", part)
			}
			return padded(text, atoi(m[2]), m[1] == ".")
		})
	}
}

const sacctOptions = "allocations duplicates parsable2 noheader delimiter= starttime= endtime= format= jobs= name= user= " +
	"clusters= helpformat state= array"

const sacctShort = "X=allocations D=duplicates P=parsable2 n=noheader S=starttime E=endtime o=format j=jobs u=user M=clusters e=helpformat s=state"

const sacctFields = "Account AllocCPUS Cluster DerivedExitCode Elapsed ElapsedRaw End ExitCode JobID JobIDRaw JobName NNodes NodeList Partition QOS Reason Start State Submit TimelimitRaw User"

func (w *world) sacct(c *call) result {
	o, failed := parseOptions(c, sacctShort, sacctOptions)
	if failed != nil {
		return *failed
	}
	fields := sacctFields
	if !w.flavor.old {
		fields += " Restarts"
	}
	switch {
	case w.config.NoAccounting:
		return fails(1, "Slurm accounting storage is disabled")
	case o.has("helpformat"):
		return result{Stdout: fields + "\n"}
	case w.Sees(sim.NoAccounts):
		return fails(1, "sacct: error: Problem talking to the database: Connection refused")
	}
	var format []string
	for _, name := range splitList(cmp.Or(o.set["format"], c.getenv("SACCT_FORMAT"))) {
		i := slices.IndexFunc(strings.Fields(fields), func(f string) bool { return strings.EqualFold(f, name) })
		if i < 0 {
			return fails(1, "sacct: fatal: Invalid field requested: \"%s\"", name)
		}
		format = append(format, strings.Fields(fields)[i])
	}
	if !o.has("allocations") || !o.has("parsable2") || c.getenv("SLURM_TIME_FORMAT") != "%s" {
		w.t.Errorf("sacct: this world prints only what -X -P prints, with times as %%s: %q", c.Args)
	}
	if !o.has("starttime") && !o.has("jobs") {
		w.t.Errorf("sacct: without a start it begins at midnight: %q", c.Args)
	}
	ids, names := splitList(o.set["jobs"]), splitList(o.set["name"])
	var b strings.Builder
	waiting := make(map[int]bool) // arrays that have a row
	jobs := w.Jobs()
	gone := traceless(jobs)
	for _, j := range jobs {
		if gone[j.ID] || ids != nil && !slices.ContainsFunc(ids, func(id string) bool { return meant(id, j) }) ||
			names != nil && !slices.Contains(names, jobName(j)) {
			continue
		}
		rows := w.accounts(j)
		if !o.has("duplicates") && len(rows) > 1 {
			rows = rows[len(rows)-1:]
		}
		for _, row := range rows {
			if row["NodeList"] == "None assigned" && j.Array != 0 { // one row for all, and none of a task alone
				if waiting[j.Array] || ids != nil && !slices.Contains(ids, strconv.Itoa(j.Array)) {
					continue
				}
				waiting[j.Array] = true
				row["JobID"] = waitingTasks(jobs, j.Array)
				if id := row["JobID"]; len(id) > 66 && c.getenv("SLURM_BITSTR_LEN") != "0" {
					row["JobID"] = id[:62] + "...]"
				}
			}
			for part := range max(j.Parts, 1) {
				if j.Parts > 0 {
					row["JobID"] = fmt.Sprintf("%d+%d", j.Number, part)
				}
				if part > 0 {
					row["State"] = "OUT_OF_MEMORY"
				}
				for i, name := range format {
					if i > 0 {
						b.WriteString(cmp.Or(o.set["delimiter"], "|"))
					}
					b.WriteString(row[name])
				}
				b.WriteString("\n")
			}
		}
	}
	return result{Stdout: b.String()}
}

// accounts is what the database has of a job: a row for each attempt, as it was some time ago.
func (w *world) accounts(j sim.Job) (rows []map[string]string) {
	asOf := time.Now().Add(-w.config.Lag)
	if j.State == runtime.Unknown || j.Outcome == runtime.Lost {
		return nil
	}
	attempts := j.Attempts
	if n := len(attempts); n == 0 || !attempts[n-1].End.IsZero() && attempts[n-1].Submitted.Before(j.Submitted) {
		attempts = append(attempts[:n:n], sim.Attempt{Submitted: j.Submitted, End: j.Ended, Outcome: j.Outcome}) // has not started
	}
	for i, a := range attempts {
		if a.Submitted.After(asOf) {
			break
		}
		row := map[string]string{
			"JobID": string(j.ID), "Cluster": "world", "JobIDRaw": strconv.Itoa(j.Number), "JobName": jobName(j), "State": "PENDING",
			"ExitCode": "0:0", "DerivedExitCode": "0:0", "Submit": w.epoch(a.Submitted, "Unknown"), "Start": "Unknown",
			"End": "Unknown", "NodeList": "None assigned", "Reason": "None", "Restarts": strconv.Itoa(i), "Elapsed": "00:00:01",
			"Account": "p1", "AllocCPUS": "1", "ElapsedRaw": "1", "NNodes": "1", "Partition": "cpu", "QOS": "normal", "TimelimitRaw": "720",
			"User": userName,
		}
		if !a.Start.IsZero() && !a.Start.After(asOf) {
			row["State"], row["Start"], row["NodeList"] = "RUNNING", w.epoch(a.Start, "None"), strings.Join(a.Nodes, ",")
		}
		if !a.End.IsZero() && !a.End.After(asOf) {
			row["State"], row["End"] = outcomeWord(a.Outcome), w.epoch(a.End, "Unknown")
			switch {
			case a.Start.IsZero():
				row["Start"] = "None"
			case a.Exited:
				row["ExitCode"] = fmt.Sprintf("%d:0", a.Code)
			case a.Outcome == runtime.NodeFailure && !w.flavor.old:
				row["ExitCode"] = "1:0"
			}
			if a.Outcome == runtime.Cancelled {
				row["State"] = "CANCELLED by " + userID
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (w *world) scontrol(c *call) result {
	o, failed := parseOptions(c, "o=oneliner d=details M=clusters", "oneliner details clusters=")
	if failed != nil {
		return *failed
	}
	switch args := strings.Join(o.rest, " "); {
	case args == "show config":
		return result{Stdout: w.showConfig()}
	case strings.HasPrefix(args, "show job ") && len(o.rest) == 3:
		return w.showJob(o.rest[2])
	}
	w.t.Errorf("scontrol: this world does not know %q", c.Args)
	return fails(1, "invalid keyword: %s", strings.Join(o.rest, " "))
}

func (w *world) showConfig() string {
	storage := "accounting_storage/slurmdbd"
	switch {
	case w.config.NoAccounting && w.flavor.old:
		storage = "accounting_storage/none"
	case w.config.NoAccounting:
		storage = "(null)"
	}
	return fmt.Sprintf("Configuration data as of 2000-01-01T00:00:00\nAccountingStorageType   = %s\n"+
		"ClusterName             = world\nKillWait                = 30 sec\nMaxArraySize            = %d\n"+
		"MaxJobCount             = 10000\nMinJobAge               = %d sec\nPriorityType            = priority/basic\n"+
		"SLURM_VERSION           = %s\n\nSlurmctld(primary) at login is UP\n",
		storage, maxArraySize, w.config.MinJobAge/time.Second, w.version())
}

func (w *world) showJob(id string) result {
	if w.Sees(sim.NoQueue) {
		return fails(1, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
	}
	var b strings.Builder
	for _, j := range w.queued() {
		if !meant(id, j) {
			continue
		}
		array := ""
		if j.Array != 0 {
			array = fmt.Sprintf(" ArrayJobId=%d ArrayTaskId=%d", j.Array, j.Task)
		}
		if j.Parts > 0 {
			array = fmt.Sprintf(" HetJobId=%d HetJobOffset=0", j.Number)
		}
		get := func(name string) string { text, _ := w.field(j, name); return text }
		nodes := cmp.Or(get("nodelist"), "(null)")
		exit := "0:0"
		if n := len(j.Attempts); n > 0 && j.Attempts[n-1].Exited {
			exit = fmt.Sprintf("%d:0", j.Attempts[n-1].Code)
		}
		requeue := 0
		if j.Needs.Requeue {
			requeue = 1
		}
		fmt.Fprintf(&b, "JobId=%d%s JobName=%s\n   UserId=alice(1000) GroupId=alice(1000) MCS_label=N/A\n"+
			"   Priority=%s Nice=0 Account=p200981 QOS=normal\n   JobState=%s Reason=%s Dependency=(null)\n"+
			"   Requeue=%d Restarts=%d BatchFlag=1 Reboot=0 ExitCode=%s\n   StartTime=%s EndTime=%s Deadline=N/A\n"+
			"   Partition=cpu AllocNode:Sid=login:1\n   NodeList=%s\n   BatchHost=%s\n\n",
			j.Number, array, jobName(j), get("priority"), stateWord(j), strings.ReplaceAll(reasonOf(j), " ", "_"),
			requeue, restarts(j), exit, strings.ReplaceAll(get("starttime"), "N/A", "Unknown"),
			strings.ReplaceAll(get("endtime"), "N/A", "Unknown"), nodes, nodes)
		for i := 1; i < j.Parts; i++ {
			fmt.Fprintf(&b, "JobId=%d HetJobId=%d HetJobOffset=%d JobName=%s\n   JobState=TIMEOUT Reason=None Dependency=(null)\n\n",
				j.Number+i, j.Number, i, jobName(j))
		}
	}
	if b.Len() == 0 {
		if strings.Contains(id, "_") {
			return fails(1, "Job %s not found", id)
		}
		return fails(1, "slurm_load_jobs error: Invalid job id specified")
	}
	return result{Stdout: b.String()}
}

func (w *world) scancel(c *call) result {
	o, failed := parseOptions(c, "Q=quiet u=user n=name M=clusters", "quiet me user= name= jobname= state= clusters= full ctld")
	if failed != nil {
		return *failed
	}
	names := splitList(cmp.Or(o.set["name"], o.set["jobname"]))
	known := w.queued()
	var ids []runtime.JobID
	for _, j := range known {
		if j.State != runtime.Ended && (slices.Contains(names, jobName(j)) ||
			slices.ContainsFunc(o.rest, func(id string) bool { return meant(id, j) })) {
			ids = append(ids, j.ID)
		}
	}
	for _, id := range o.rest { // of jobs that it does not know, or that have ended, it says nothing
		if !cancelID.MatchString(id) {
			return fails(1, "scancel: error: Invalid job id %s", id)
		}
	}
	if err := w.Cancel(context.Background(), ids...); err != nil {
		return fails(1, "scancel: error: %v", err)
	}
	return result{}
}

var cancelID = regexp.MustCompile(`^\d+(_(\d+|\[[\d,:-]+\]))?$`)
