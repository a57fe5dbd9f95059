// Package slurm runs jobs on a Slurm cluster by the commands of its login node: sbatch, squeue, sacct, scancel,
// scontrol and sinfo. What it has to remember is in the jobs' directories and in Slurm, so that another process can go on
// where one left off; a Scheduler itself remembers only what saves it questions.
//
// What a method of a [Scheduler] asks is one shell program, sent over the connection as a whole; what comes back is
// fenced, so that nothing else that a login node prints is taken for an answer. The text that goes out (a batch script)
// and the text that comes in (a line of squeue) are made and read by pure functions.
//
// A job is submitted once, whatever happens in between. Before sbatch runs, a file in the job's directory says so, and
// only who made that file runs it; afterwards the file has sbatch's answer. Whoever finds no answer there, or one that
// leaves open whether there is a job, looks for a job of that name, which is the job's token, before submitting again.
// Jobs of a group are tasks of one job array, or of a few.
package slurm

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/aifb/aifb/runtime"
)

// queryLimit bounds a query or a cancellation. A cluster that limits the rate of its users makes squeue wait for seconds.
const queryLimit = time.Minute

// A Scheduler is a Slurm cluster.
type Scheduler struct {
	conn       runtime.Conn
	name       string
	submitting chan struct{} // has an element while jobs are handed in
	chunk      atomic.Int32  // how many jobs go into one array; 0: arrayChunk

	known     atomic.Pointer[capabilities] // nil: not asked yet
	probed    atomic.Bool                  // Status has asked
	oldSqueue atomic.Bool                  // squeue does not know all that it is asked for
	oldSacct  atomic.Bool                  // nor does sacct
	federated atomic.Bool                  // a job went to another cluster of the federation
	memory    memory                       // of Status
	meter     meter
}

// New returns the cluster whose login node conn is connected to. Messages call it name.
func New(conn runtime.Conn, name string) *Scheduler {
	return &Scheduler{conn: conn, name: name, submitting: make(chan struct{}, 1)}
}

// A runtime.JobID of this package is the job's number, of a task of an array with the task's, and, if the job is on
// another cluster than the login node's own, that cluster's name: 100, 100_7, 100;alpha, 100_7;alpha.
var (
	idForm     = regexp.MustCompile(`^[1-9][0-9]{0,9}(_[0-9]{1,9})?(;[^[:space:]]+)?$`)
	sbatchForm = regexp.MustCompile(`^[1-9][0-9]{0,9}(;[^[:space:]]+)?$`) // what sbatch --parsable prints
)

// byCluster sorts the ids by cluster ("" is the login node's own) into numbers. What is no id of ours is left out.
func byCluster(ids []runtime.JobID) map[string][]string {
	clusters := make(map[string][]string)
	for _, id := range ids {
		if idForm.MatchString(string(id)) {
			number, cluster, _ := strings.Cut(string(id), ";")
			clusters[cluster] = append(clusters[cluster], number)
		}
	}
	return clusters
}

// jobID is the reverse of byCluster.
func jobID(number, cluster string) runtime.JobID {
	if cluster == "" {
		return runtime.JobID(number)
	}
	return runtime.JobID(number + ";" + cluster)
}

// taskID returns the id of a task of an array.
func taskID(array runtime.JobID, task int) runtime.JobID {
	number, cluster, _ := strings.Cut(string(array), ";")
	return jobID(fmt.Sprintf("%s_%d", number, task), cluster)
}

// programHead prepares for Slurm's commands. The variables by which users set their defaults would change what the
// commands do and print, and inside an allocation there are those of the job that aifb itself runs in; only where the
// configuration is and who the user is must stay. A login node may have Slurm on the path of login shells only.
const programHead = `for v in $(env | awk -F= '/^(SBATCH|SQUEUE|SACCT|SCANCEL|SINFO|SLURM)_[A-Za-z0-9_]*=/ { print $1 }'); do
	case $v in SLURM_CONF* | SLURM_JWT) ;; *) unset "$v" ;; esac
done
command -v sbatch >/dev/null ||
	PATH=$PATH:$(bash -lc 'printf "\n%s" "$PATH"' 2>/dev/null </dev/null | tail -n 1)
reply() { # KEY CODE OUTPUT
	printf '\n%s begin %s\n%s\n%s end %s\n' "$mark" "$1" "$3" "$mark" "$2"
}
try() { # KEY COMMAND...
	key=$1
	shift
	out=$("$@" 2>&1 </dev/null)
	reply "$key" $? "$out"
}
`

// queryHead makes the commands print times as seconds since 1970. It is not for sbatch, which hands its environment on
// to the job.
const queryHead = "export LC_ALL=C SLURM_TIME_FORMAT=%s\n"

// A reply is what a command on the login node answered.
type reply struct {
	code int    // its exit code
	out  string // stdout and stderr
}

// smallProgram is the size up to which a program is sent as it is. What is larger is compressed: the scripts of many
// jobs are nearly the same, and a laptop's way to its cluster is narrow.
const smallProgram = 8 << 10

// ask runs a shell program with these calls on the login node and returns its replies by their keys. The shell reads all of the program
// before it runs any: of a program that a broken connection cuts short, nothing is run.
func (s *Scheduler) ask(ctx context.Context, limit time.Duration, program string, c calls) (map[string]reply, error) {
	replies, err := s.hear(ctx, limit, program, c)
	if err != nil {
		return nil, err
	}
	return replies, nil
}

// hear is ask, but with an error it returns the replies that had come.
func (s *Scheduler) hear(ctx context.Context, limit time.Duration, program string, c calls) (map[string]reply, error) {
	if err := s.meter.admit(ctx, c); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	mark := "aifb-" + rand.Text()
	program = "main() {\nmark=" + mark + "\n" + programHead + program + "}\nmain\nexit 0\n"
	var out bytes.Buffer
	cmd := runtime.Cmd{Args: []string{"sh", "-c", `eval "$(cat)"`}, Stdin: strings.NewReader(program), Stdout: &out}
	if len(program) > smallProgram {
		cmd.Args[2], cmd.Stdin = `p=$(gzip -dc) || exit; eval "$p"`, compressed(program)
	}
	err := s.conn.Run(limited, cmd)
	replies := parseReplies(out.String(), mark)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return replies, runtime.Faultf(runtime.FaultInfra, "", "no answer from %s within %v", s.name, limit)
	}
	if exit := (*runtime.ExitError)(nil); errors.As(err, &exit) { // the program itself exits with 0
		e := s.failure("sh", reply{exit.Code, exit.Stderr})
		if e.Class = runtime.Ambiguous; exit.Code == 126 || exit.Code == 127 { // nothing ran it
			e.Class = runtime.Permanent
		}
		return replies, &runtime.Error{Fault: runtime.FaultInfra, Err: e}
	}
	return replies, err
}

func compressed(program string) io.Reader {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is one
	io.WriteString(w, program)                      // a Buffer takes all
	w.Close()
	return &b
}

// parseReplies finds the replies in what a program printed. A reply whose end is missing is none.
func parseReplies(out, mark string) map[string]reply {
	replies := make(map[string]reply)
	begin, end := "\n"+mark+" begin ", "\n"+mark+" end "
	for {
		_, rest, ok := strings.Cut(out, begin)
		key, rest, ok1 := strings.Cut(rest, "\n")
		text, rest, ok2 := strings.Cut(rest, end)
		code, rest, ok3 := strings.Cut(rest, "\n")
		if !ok || !ok1 || !ok2 || !ok3 {
			return replies
		}
		var r reply
		if _, err := fmt.Sscanf(code, "%d", &r.code); err == nil {
			r.out = text
			replies[key] = r
		}
		out = "\n" + rest
	}
}

// check returns the error of a command that failed, or that did not answer.
func (s *Scheduler) check(program string, r reply, ok bool) error {
	switch {
	case !ok:
		e := &runtime.CommandError{Target: s.name, Command: program, Text: "no answer from " + s.name, Class: runtime.Ambiguous}
		return &runtime.Error{Fault: runtime.FaultInfra, Err: e}
	case r.code == 127:
		return s.missing(s.failure(program, r))
	case r.code != 0:
		return &runtime.Error{Fault: runtime.FaultInfra, Err: s.failure(program, r)}
	}
	return nil
}

// failure describes a command that failed.
func (s *Scheduler) failure(program string, r reply) *runtime.CommandError {
	text := cmp.Or(cleaned(program, r.out), fmt.Sprintf("exit status %d", r.code))
	return &runtime.CommandError{Target: s.name, Command: program, Code: r.code, Output: r.out, Text: text, Class: classOf(r)}
}

// missing adds to the failure of a command that is not there what to do about it.
func (s *Scheduler) missing(e *runtime.CommandError) error {
	e.Text = fmt.Sprintf("there is no %s on %s", e.Command, s.name)
	hint := fmt.Sprintf("is %s a login node of a Slurm cluster? If Slurm needs a module there, load it in the shell's "+
		"start-up files; without Slurm, set scheduler: local", s.name)
	return &runtime.Error{Fault: runtime.FaultInfra, Hint: hint, Err: e}
}

// cleaned returns what a command says, as one line, without its name. What it says in general ("Batch job submission
// failed: ...") is left out where another error says it in particular.
func cleaned(program, out string) string {
	var errs, all []string
	for line := range strings.Lines(out) {
		text, isError := strings.CutPrefix(strings.TrimSpace(line), program+": error: ")
		text = strings.TrimPrefix(text, program+": ")
		text, general := strings.CutPrefix(text, "Batch job submission failed: ")
		if text == "" {
			continue
		}
		all = append(all, text)
		if isError && (!general || len(errs) == 0) {
			errs = append(errs, text)
		}
	}
	if len(errs) == 0 {
		errs = all
	}
	return strings.Map(printable, strings.Join(slices.Compact(errs), "; "))
}

func printable(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}
