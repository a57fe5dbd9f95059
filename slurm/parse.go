package slurm

import (
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// parseSqueue reads lines of squeueFormat, by the number of the job. A line that it does not understand it skips.
func parseSqueue(out string) map[string]runtime.Status {
	known := make(map[string]runtime.Status)
	for line := range strings.Lines(out) {
		f := fields(line)
		if len(f) < 7 || !isNumber(f[0]) {
			continue
		}
		known[f[0]] = status(f[1:7])
	}
	return known
}

// parseSacct reads lines of sacctFormat, by the number of the job. Of several attempts the one that was submitted last
// counts. It leaves out jobs that have not ended: a job that runs is in squeue, and if it is not, accounting is behind.
func parseSacct(out string) map[string]runtime.Status {
	known := make(map[string]runtime.Status)
	submitted := make(map[string]time.Time)
	for line := range strings.Lines(out) {
		f := fields(line)
		if len(f) < 8 || !isNumber(f[0]) {
			continue
		}
		t := epoch(f[7])
		if before, ok := submitted[f[0]]; ok && t.Before(before) {
			continue
		}
		submitted[f[0]] = t
		delete(known, f[0])
		if st := status(f[1:7]); st.State == runtime.Ended {
			known[f[0]] = st
		}
	}
	return known
}

func fields(line string) []string {
	f := strings.Split(strings.TrimSuffix(line, "\n"), separator)
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	return f
}

// status makes a status of the fields state, exit code, start, end, nodes and reason.
func status(f []string) runtime.Status {
	word, _, _ := strings.Cut(f[0], " ") // CANCELLED by 1000
	st := runtime.Status{Node: firstNode(f[4]), Reason: f[5]}
	st.State, st.Outcome = meaning(word)
	if st.Reason == "None" {
		st.Reason = ""
	}
	if st.Reason == "" && !plainState(f[0]) {
		st.Reason = f[0]
	}
	if st.Node != "" && st.State != runtime.Pending {
		st.Start = epoch(f[2]) // of a job that waits it is an estimate, of one cancelled before it ran its end
	}
	if st.State == runtime.Ended {
		st.End = epoch(f[3])
	}
	if st.Node != "" && exits(st.Outcome) {
		code, signal := exitCode(f[1])
		st.Signal = signal
		st.Exited = signal == 0 && (code > 0 || code == 0 && st.Outcome == runtime.Completed)
		if st.Exited {
			st.Code = code
		}
	}
	return st
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

func isNumber(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
