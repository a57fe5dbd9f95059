package slurm

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/aifb/aifb/runtime"
)

// FileOutput is the file in a job's directory that has what Slurm and the login shell print about the job; what its
// command prints is in runtime.FileStdout and runtime.FileStderr.
const FileOutput = "slurm.out"

// scriptHead sets what runtime.Script asks for.
const scriptHead = `host=${SLURMD_NODENAME:-$(hostname)}
id=$SLURM_JOB_ID
attempt=${SLURM_RESTART_COUNT:-0}
`

// scriptGroup does so for a job of a group. Its first argument is what is to be added to the number of the array's task.
// It brings the job's own copy of the script, of which there is one for the group.
const scriptGroup = `index=$(($1 + ${SLURM_ARRAY_TASK_ID:-0}))
id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
id=${id:-$SLURM_JOB_ID}
`

// Script returns the job's batch script, which is the same for all jobs of a group: what they differ in, arguments of
// sbatch say. A login shell runs it, because on many clusters only a login shell knows `module`.
func Script(job runtime.Job) (string, error) {
	options, err := options(job)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("#!/bin/bash -l\n")
	for _, o := range options {
		b.WriteString("#SBATCH " + o + "\n")
	}
	body := scriptHead
	if job.Group != "" {
		_, dir := groupOf(job)
		dir = runtime.Quote(dir)
		body += scriptGroup + "cp " + dir + "/" + runtime.FileScript + " " + dir + ".$index/" + runtime.FileScript + "\n"
	}
	body += runtime.Script(job)
	if strings.ContainsRune(body, 0) {
		return "", runtime.Faultf(runtime.FaultRun, "", "a NUL character in the command or environment of %s", job.Name)
	}
	if strings.Contains(body, "\r\n") {
		body = withoutReturns(body)
	}
	return b.String() + body, nil
}

// withoutReturns returns a program that does as body does and has no carriage returns: where sbatch finds one before a
// newline, be it in an argument of the command, it takes the script for one written on Windows, and refuses it.
func withoutReturns(body string) string {
	return "eval $'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\r", `\r`).Replace(body) + "'\n"
}

// options returns the job's options of sbatch, as they stand in #SBATCH lines.
func options(job runtime.Job) ([]string, error) {
	if job.Limit <= 0 {
		return nil, invalid("time", "a job must have a time limit")
	}
	if !path.IsAbs(job.Dir) {
		return nil, invalid("dir", "%q is not an absolute path", job.Dir)
	}
	if job.Token == "" || strings.Contains(job.Token, ",") { // squeue takes a comma for the end of a name
		return nil, invalid("name", "%q is no name for a job", job.Token)
	}
	var o optionList
	n := job.Needs
	o.word("name", "--job-name", job.Token)
	o.text("dir", "--output", strings.ReplaceAll(path.Join(job.Dir, FileOutput), "%", "%%"))
	if job.Group != "" { // then they are not the script's
		o.list = nil
		o.group(job)
	}
	o.number("time", "--time", int((job.Limit+time.Minute-1)/time.Minute), "")
	if n.Requeue {
		o.list = append(o.list, "--requeue")
	} else {
		o.list = append(o.list, "--no-requeue")
	}
	o.number("nodes", "--nodes", n.Nodes, "")
	o.number("tasks", "--ntasks", n.Tasks, "")
	o.number("cpus", "--cpus-per-task", n.CPUs, "")
	o.number("mem", "--mem", int((n.Mem+1<<20-1)>>20), "M")
	o.number("gpus", "--gpus", n.GPUs, "")
	o.word("partition", "--partition", n.Partition)
	o.word("account", "--account", n.Account)
	o.word("qos", "--qos", n.QOS)
	o.word("constraint", "--constraint", n.Constraint)
	o.word("exclude", "--exclude", n.Exclude)
	o.word("nodelist", "--nodelist", n.NodeList)
	o.word("reservation", "--reservation", n.Reservation)
	if n.Exclusive {
		o.list = append(o.list, "--exclusive")
	}
	for _, extra := range n.Extra {
		o.extra(extra)
	}
	return o.list, o.err
}

// An optionList collects options and keeps the first error. Each value comes with the parameter that a recipe calls
// it by.
type optionList struct {
	list []string
	err  error
}

func (o *optionList) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}

func invalid(param, format string, args ...any) error {
	return runtime.Faultf(runtime.FaultRun, "", "%s: %w", param, fmt.Errorf(format, args...))
}

// group checks that a job of a group is named as one: its script takes the others' names for granted.
func (o *optionList) group(job runtime.Job) {
	suffix := fmt.Sprintf(".%d", job.Index)
	if job.Index < 0 || !strings.HasSuffix(job.Token, suffix) || !strings.HasSuffix(job.Dir, suffix) {
		o.fail(invalid("name", "%q in %s is not number %d of a group", job.Token, job.Dir, job.Index))
	}
}

// number adds an option if n is set.
func (o *optionList) number(param, option string, n int, unit string) {
	if n < 0 {
		o.fail(invalid(param, "%d is negative", n))
	} else if n > 0 {
		o.list = append(o.list, fmt.Sprintf("%s=%d%s", option, n, unit))
	}
}

// word adds an option, if its value is set, whose value has no spaces.
func (o *optionList) word(param, option, value string) {
	switch {
	case value == "":
	case strings.ContainsFunc(value, unicode.IsSpace):
		o.fail(invalid(param, "%q has a space or newline", value))
	default:
		o.text(param, option, value)
	}
}

var plainValue = regexp.MustCompile(`^[A-Za-z0-9_@%+:,./-]+$`)

// text adds an option. In an #SBATCH line a value may be in double quotes, and there is no way to write quotes and
// backslashes that all versions agree on.
func (o *optionList) text(param, option, value string) {
	switch {
	case strings.ContainsFunc(value, unicode.IsControl):
		o.fail(invalid(param, "%q has a newline or another control character", value))
	case strings.ContainsAny(value, `"\`):
		o.fail(invalid(param, "%q has a double quote or backslash", value))
	case plainValue.MatchString(value):
		o.list = append(o.list, option+"="+value)
	default:
		o.list = append(o.list, option+`="`+value+`"`)
	}
}

var optionName = regexp.MustCompile(`^--[a-z][a-z0-9-]*$`)

// extra adds an option that a recipe wrote as such, unless aifb sets it by itself.
func (o *optionList) extra(arg string) {
	name, value, hasValue := strings.Cut(arg, "=")
	if !optionName.MatchString(name) {
		const hint = `write extra=["--mail-type=END", ...]`
		o.fail(runtime.Faultf(runtime.FaultRun, hint, "extra: %q is not an option of sbatch", arg))
		return
	}
	if instead, ok := takenInstead(name); ok {
		o.fail(runtime.Faultf(runtime.FaultRun, instead, "extra: %s is set by aifb", name))
		return
	}
	if !hasValue {
		o.list = append(o.list, name)
		return
	}
	o.text("extra", name, value)
}

// taken are the options that aifb sets, or that would change what a submission is, and what to use instead.
var taken = []struct{ option, instead string }{
	{"--job-name", "use name="},
	{"--time", "use time="},
	{"--nodes", "use nodes="},
	{"--ntasks", "use tasks="},
	{"--cpus-per-task", "use cpus="},
	{"--mem", "use mem="},
	{"--gpus", "use gpus="},
	{"--partition", "use partition="},
	{"--account", "use account="},
	{"--qos", "use qos="},
	{"--constraint", "use constraint="},
	{"--exclude", "use exclude="},
	{"--nodelist", "use nodelist="},
	{"--reservation", "use reservation="},
	{"--exclusive", "use exclusive="},
	{"--chdir", "use workdir="},
	{"--array", "submit several jobs, as client(count=N) does"},
	{"--output", "`aifb logs` shows what a job prints"},
	{"--error", "`aifb logs` shows what a job prints"},
	{"--input", "a job has no input; let its command read a file"},
	{"--requeue", "use requeue="},
	{"--no-requeue", "it is set unless requeue= is"},
	{"--wait", "use wait_done()"},
	{"--wrap", "use command="},
	{"--parsable", "it is always set"},
	{"--quiet", "aifb needs to be told the job's id"},
	{"--test-only", "use `aifb plan`"},
}

// takenInstead looks an option up as sbatch does: an option may be abbreviated.
func takenInstead(name string) (instead string, ok bool) {
	for _, t := range taken {
		if strings.HasPrefix(t.option, name) {
			return t.instead, true
		}
	}
	return "", false
}
