package slurm

import (
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// separator is between the fields of what Slurm's commands print, and terminator after the last field of a record of
// squeue. No name and no reason has them, but a reason may be of several lines.
const (
	separator  = "\x1f"
	terminator = "\x1e"
)

// squeueFormat asks squeue's -O for the fields that parseSqueue expects. A field without a width is as long as it is.
var squeueFormat = strings.Join([]string{"JobArrayID", "State", "exit_code", "RestartCnt", "StartTime", "EndTime",
	"NodeList", "Reason"}, ":"+separator+",") + ":" + separator + terminator

// plainFormat asks the older -o for the same, for a squeue that does not know all the fields: what ended badly then has
// no exit code, and what was requeued looks as if it had not been.
var plainFormat = strings.Join([]string{"%i", "%T", "", "", "%S", "%e", "%N", "%r"}, separator) + separator + terminator

// parseSqueue reads records of squeueFormat, by the number of the job. A record that it does not understand it skips.
func parseSqueue(out string, skipped *skips) map[string]runtime.Status {
	known := make(map[string]runtime.Status)
	for record := range strings.SplitSeq(out, terminator) {
		f := fields(record)
		if len(f) < 9 { // the last is empty, but for a separator in the reason
			skipped.add(record)
			continue
		}
		id, ok := skipped.id(f[0])
		if !ok {
			continue
		}
		st := status(f[1], f[2], f[4], f[5], f[6], strings.Join(f[7:len(f)-1], separator))
		st.By, st.Attempt = "squeue", count(f[3])
		if _, again := known[id]; again && st.State == runtime.Unknown {
			continue // a federation shows a job on each of its clusters, and on all but one as revoked
		}
		known[id] = st
	}
	return known
}

// revoked is the state of a job that another cluster of the federation has: it is to be asked there.
const revoked = "REVOKED"

func isRevoked(st runtime.Status) bool { return st.State == runtime.Unknown && st.Reason == revoked }

// sacctFormat asks sacct for the fields that parseSacct expects. Its Reason is not among them: of a job that ended, it is
// why it once waited. Restarts is not in all versions, and so the last.
const (
	sacctFormat    = "JobID,State,ExitCode,Start,End,NodeList,Submit"
	restartsFormat = sacctFormat + ",Restarts"
)

// parseSacct reads lines of sacctFormat, one for each attempt, by the number of the job. The last attempt counts: the
// one that was submitted last, for a job that is requeued counts as submitted again.
func parseSacct(out string, skipped *skips) map[string]runtime.Status {
	known := make(map[string]runtime.Status)
	submitted := make(map[string]time.Time)
	attempts := make(map[string]int)
	for line := range strings.Lines(out) {
		f := fields(strings.TrimSuffix(line, "\n"))
		if len(f) < 7 {
			skipped.add(line)
			continue
		}
		id, ok := skipped.id(f[0])
		if !ok {
			continue
		}
		if _, others := known[id]; f[1] == revoked {
			if !others {
				known[id] = runtime.Status{By: "sacct", Reason: revoked}
			}
			continue // it says nothing of the job on the cluster that has it
		}
		t := epoch(f[6])
		attempts[id]++
		if before, ok := submitted[id]; ok && t.Before(before) {
			continue
		}
		st := status(f[1], f[2], f[3], f[4], f[5], "")
		if st.By = "sacct"; len(f) > 7 {
			st.Attempt = count(f[7])
		}
		submitted[id], known[id] = t, st
	}
	for id, st := range known {
		st.Attempt = max(st.Attempt, attempts[id]-1)
		known[id] = st
	}
	return known
}

// parseScontrol reads what `scontrol show job` prints of the job with that number. Of an array it prints all tasks, of
// which the last has the array's number for its own. The job's name and comments may look like fields: those are read
// where Slurm prints them, at the beginnings of lines.
func parseScontrol(out, id string) (st runtime.Status, ok bool) {
	var state, reason, restarts, exit, start, end, nodes string
	number := ""
lines:
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		switch key, _, _ := strings.Cut(strings.TrimPrefix(line, "   "), "="); {
		case key == "JobId" && number == id && value(line, "HetJobId") == id: // another part of a heterogeneous job
			break lines
		case key == "JobId" && number != "":
			return runtime.Status{}, false
		case key == "JobId":
			number = value(line, "JobId")
			if array := value(line, "ArrayJobId"); array != "" {
				number = array + "_" + value(line, "ArrayTaskId")
			}
		case key == "JobState" && state == "":
			state = value(line, "JobState")
			_, reason, _ = strings.Cut(line, " Reason=")
			reason, _, _ = strings.Cut(reason, " ") // it prints none in a reason
		case key == "Requeue" && restarts == "":
			restarts, exit = value(line, "Restarts"), value(line, "ExitCode")
		case key == "StartTime" && start == "":
			start, end = value(line, "StartTime"), value(line, "EndTime")
		case key == "NodeList" && nodes == "":
			nodes = value(line, "NodeList")
		}
	}
	if number != id || !isID(id) || state == "" {
		return runtime.Status{}, false
	}
	st = status(state, exit, start, end, nodes, strings.ReplaceAll(reason, ",_", ", "))
	st.By, st.Attempt = "scontrol", count(restarts)
	return st, true
}

// value returns the value of a key in a line of "key=value key=value".
func value(line, key string) string {
	_, v, _ := strings.Cut(" "+line, " "+key+"=")
	v, _, _ = strings.Cut(v, " ")
	return v
}

func fields(record string) []string {
	f := strings.Split(record, separator)
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	return f
}

// lastLine leaves out what was printed before a record.
func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

// status makes a status of what Slurm's commands print of a job.
func status(state, exit, start, end, nodes, reason string) runtime.Status {
	word := state
	if strings.HasPrefix(state, "CANCELLED by ") { // sacct adds by whom
		word = "CANCELLED"
	}
	st := runtime.Status{Node: firstNode(nodes), Reason: clean(reason)}
	st.State, st.Outcome = meaning(word)
	if st.Reason == "None" {
		st.Reason = ""
	}
	switch {
	case word == revoked:
		st.Reason = revoked
	case st.Reason == "" && !plainState(state):
		st.Reason = clean(state)
	case isHold(word): // only the user can make it go on
		st.Reason = word + ", " + st.Reason
	}
	if st.State == runtime.Pending && st.Reason != "" {
		st.Class, st.Text = why(st.Reason)
	}
	if st.State == runtime.Pending && !stuck(st.Reason) || st.State != runtime.Pending && st.Node != "" {
		st.Start = epoch(start) // of one cancelled before it ran it would be its end
	}
	if st.State == runtime.Ended {
		st.End = epoch(end)
	}
	if st.Node != "" && exits(st.Outcome) {
		code, signal := exitCode(exit)
		st.Signal = signal
		st.Exited = signal == 0 && (code > 0 || code == 0 && st.Outcome == runtime.Completed)
		if st.Exited {
			st.Code = code
		}
		if st.Outcome == runtime.Completed && (code > 0 || signal > 0) {
			st.Outcome = runtime.Failed // of two words that contradict each other, the bad one counts
		}
	}
	return st
}

// stuck reports whether a job will not start by itself, for that reason. Slurm may tell of a start all the same.
func stuck(reason string) bool {
	class, _ := why(reason)
	return class == held || class == unsatisfiable
}

// meaning says what a state is to a job of ours. Slurm prints one word, and a flag hides the state below it: COMPLETING
// is a job whose outcome is not known yet. Of a word that is not here nothing is known, least of all that the job ended.
func meaning(word string) (runtime.State, runtime.Outcome) {
	switch word {
	case "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT":
		return runtime.Pending, ""
	case "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "EXPEDITING":
		return runtime.Running, ""
	case "COMPLETED":
		return runtime.Ended, runtime.Completed
	case "FAILED":
		return runtime.Ended, runtime.Failed
	case "CANCELLED":
		return runtime.Ended, runtime.Cancelled
	case "TIMEOUT", "DEADLINE":
		return runtime.Ended, runtime.TimedOut
	case "OUT_OF_MEMORY":
		return runtime.Ended, runtime.OutOfMemory
	case "PREEMPTED":
		return runtime.Ended, runtime.Preempted
	case "NODE_FAIL", "BOOT_FAIL":
		return runtime.Ended, runtime.NodeFailure
	}
	return runtime.Unknown, ""
}

// isHold reports whether a job in that state waits for somebody to release it.
func isHold(word string) bool {
	return word == "REQUEUE_HOLD" || word == "SPECIAL_EXIT" || word == "RESV_DEL_HOLD"
}

// plainState reports whether a runtime.Status says all that the word says.
func plainState(word string) bool {
	switch word {
	case "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "PREEMPTED", "NODE_FAIL":
		return true
	}
	return false
}

// exits reports whether the exit code of a job that ended so is its command's. Where the node went away, Slurm makes one
// up.
func exits(o runtime.Outcome) bool {
	switch o {
	case runtime.Completed, runtime.Failed, runtime.OutOfMemory, runtime.TimedOut, runtime.Cancelled:
		return true
	}
	return false
}

// maxSignal is the last of the signals that a kernel sends by itself. Slurm writes errors of its own as higher ones.
const maxSignal = 31

// exitCode reads an exit code: "3:0" is exit code 3, "0:9" is signal 9, and before Slurm 23 squeue prints the status
// of wait(2). The code is -1 if it is not known.
func exitCode(s string) (code, signal int) {
	left, right, pair := strings.Cut(s, ":")
	code, err := strconv.Atoi(left)
	if pair && err == nil {
		signal, err = strconv.Atoi(right)
	} else {
		code, signal = code>>8, code&0x7f
	}
	if err != nil || code < 0 || code > 255 || signal < 0 || signal > maxSignal {
		return -1, 0
	}
	return code, signal
}

// epoch reads a time that SLURM_TIME_FORMAT=%s made. What is not known ("N/A", "Unknown", "None") is the zero time.
func epoch(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// firstNode returns the first node of a list such as "n[07-12,20],login1", or "" if it is none.
func firstNode(list string) string {
	var b strings.Builder
	depth, skip := 0, false
	for _, c := range list {
		switch {
		case c == '[' && depth == 0:
			depth, skip = 1, false
		case c == ']' && depth == 1:
			depth, skip = 0, false
		case depth == 1 && (c == ',' || c == '-'):
			skip = true
		case skip:
		case c == ',':
			return b.String()
		case c == '-' || c == '_' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			b.WriteRune(c)
		default:
			return ""
		}
	}
	return b.String()
}

// numberOf returns the number under which we know the job of an id. Of a heterogeneous job it is that of its first part,
// 200+0, which runs the script. It is "" for its other parts, 200+1, and for tasks of an array that wait together,
// 100_[3-7]. What is no id of a job at all is not ok.
func numberOf(id string) (number string, ok bool) {
	job, part, isPart := strings.Cut(id, "+")
	array, tasks, isArray := strings.Cut(id, "_")
	switch {
	case isID(id):
		return id, true
	case isPart && isJob(job) && isNumber(part):
		if part == "0" {
			return job, true
		}
		return "", true
	case isArray && isJob(array) && parseTasks(tasks) != nil:
		return "", true
	}
	return "", false
}

// isID reports whether s is the number of a job, or of a task of a job array: 100 or 100_7.
func isID(s string) bool {
	job, task, isTask := strings.Cut(s, "_")
	return isJob(job) && (!isTask || isNumber(task) && len(task) < 10)
}

// isJob reports whether s is the number of a job. There is no job 0.
func isJob(s string) bool { return isNumber(s) && s[0] != '0' && len(s) <= 10 }

func isNumber(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// count reads how often something happened; what is no number is 0.
func count(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1<<20 {
		return 0
	}
	return n
}

// clean makes a line of what a cluster says.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(printable, strings.ToValidUTF8(s, "\ufffd")))
}
