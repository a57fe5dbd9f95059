package runtime

import (
	"errors"
	"fmt"
	"strings"
)

// A Fault says whose an error is to mend. It decides the exit code of the program.
type Fault string

const (
	FaultUsage     Fault = "usage"          // of the command line
	FaultRecipe    Fault = "invalid recipe" // does not parse, names what is not there, bad parameters
	FaultRun       Fault = "recipe failed"  // fail(), a job that failed, a job that the cluster refused
	FaultThreshold Fault = "threshold"      // expect() was not met
	FaultInfra     Fault = "infrastructure" // SSH, the scheduler, the store
	FaultTimeout   Fault = "timeout"
)

// An Error is an error with what the user can do about it.
type Error struct {
	Fault Fault  // "" is decided by the errors below it
	Hint  string // "" is none
	Field string // of a spec, that it is of, by the name that a recipe gives it; "" is decided by the errors below it
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Faultf makes an Error. The format's %w keeps the chain.
func Faultf(fault Fault, hint, format string, args ...any) error {
	return &Error{Fault: fault, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// FaultOf returns the outermost fault of err, or "" if nobody set one.
func FaultOf(err error) Fault {
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Fault != "" {
			return e.Fault
		}
	}
	return ""
}

// HintOf returns the outermost hint of err, or "".
func HintOf(err error) string {
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Hint != "" {
			return e.Hint
		}
	}
	return ""
}

// FieldOf returns the field of a spec that err is of, by the name that a recipe gives it, or "".
func FieldOf(err error) string {
	if e := (*FieldError)(nil); errors.As(err, &e) {
		return e.Field
	}
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Field != "" {
			return e.Field
		}
	}
	return ""
}

// A FieldError is what is wrong with one field of a spec, by the name that a recipe gives it.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// fieldErrorf makes a FieldError that is the recipe's to mend.
func fieldErrorf(field, hint, format string, args ...any) error {
	return &Error{Fault: FaultRun, Hint: hint, Err: &FieldError{field, fmt.Errorf(format, args...)}}
}

// A Class says what can be done about an error of a scheduler.
type Class string

const (
	Transient Class = "transient" // it was not reached, or is busy: nothing happened, and asking again may help
	Quota     Class = "quota"     // a limit on the user's jobs: it will do when some have ended
	Permanent Class = "permanent" // asking again will not help
	Ambiguous Class = "ambiguous" // the answer was lost: it may have happened
)

// A CommandError is the failure of a command of a scheduler.
type CommandError struct {
	Target  string // on which it ran
	Command string // its name, such as "sbatch"
	Code    int
	Output  string // what it printed, whole
	Text    string // what of that says what is wrong, on one line
	Class   Class
}

func (e *CommandError) Error() string { return e.Command + ": " + e.Text }

// ClassOf returns the class of an error of a scheduler. What is not the failure of one of its commands, nor the recipe's
// to mend, is a lost connection or a lost answer: nobody knows.
func ClassOf(err error) Class {
	if e := (*CommandError)(nil); errors.As(err, &e) && e.Class != "" {
		return e.Class
	}
	switch FaultOf(err) {
	case FaultRun, FaultRecipe, FaultUsage:
		return Permanent
	}
	return Ambiguous
}

// A JobError reports a job that ended otherwise than it was expected to.
type JobError struct {
	Name   string
	ID     JobID
	Deed   Deed // that started it
	Status Status
	Tries  int    // of which this was the last; 0 and 1: it was the only one
	Log    string // its last lines
}

func (e *JobError) Error() string {
	msg := fmt.Sprintf("%s (job %s) %s", e.Name, e.ID, describeEnd(e.Status))
	if e.Tries > 1 {
		msg += fmt.Sprintf(", the last of %d tries", e.Tries)
	}
	if e.Log != "" {
		msg += "; its last lines:\n" + indent(e.Log, "  | ")
	}
	return msg
}

// describeEnd says in words how a job ended, such as "failed with exit code 3".
func describeEnd(s Status) string {
	var b strings.Builder
	switch s.Outcome {
	case Completed:
		b.WriteString("ended")
	case Failed:
		b.WriteString("failed")
	case TimedOut:
		b.WriteString("reached its time limit")
	case OutOfMemory:
		b.WriteString("ran out of memory")
	case Cancelled:
		b.WriteString("was cancelled")
	case Preempted:
		b.WriteString("was preempted")
	case NodeFailure:
		b.WriteString("ended with its node")
	default:
		b.WriteString("is lost: neither the scheduler nor its files say how it ended")
	}
	if s.Exited && s.Code != 0 {
		fmt.Fprintf(&b, " with exit code %d", s.Code)
	} else if s.Signal != 0 {
		fmt.Fprintf(&b, " by signal %d", s.Signal)
	}
	if s.Node != "" {
		fmt.Fprintf(&b, " on %s", s.Node)
	}
	if s.Reason != "" && s.Reason != "None" {
		fmt.Fprintf(&b, " (%s)", s.Reason)
	}
	return b.String()
}

func indent(s, prefix string) string {
	return prefix + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+prefix)
}

// Suggest returns the candidate that word is most likely a misspelling of, or "". It allows one mistake in three
// letters, and one in two, an exchange of two neighbours counting as one.
func Suggest(word string, candidates []string) string {
	n := len([]rune(word))
	best, least := "", min(max(1, n/3), n/2)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least && c != word {
			best, least = c, d
		}
	}
	return best
}

// DidYouMean is the hint for a misspelt word: a suggestion, or the list of what there is, or "".
func DidYouMean(word string, candidates []string) string {
	if s := Suggest(word, candidates); s != "" {
		return fmt.Sprintf("did you mean %s?", s)
	}
	return ""
}

// distance is the optimal string alignment distance (Damerau-Levenshtein, no substring edited twice).
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, last, this := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		this[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			this[j] = min(last[j]+1, this[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				this[j] = min(this[j], before[j-2]+1)
			}
		}
		before, last, this = last, this, before
	}
	return last[len(t)]
}
