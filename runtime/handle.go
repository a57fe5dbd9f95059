package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// A Handle is a recipe's hold on what it started: one job, or the count jobs of a client.
type Handle struct {
	Name string
	Role Role

	session  *Session
	services []*Handle
	jobs     []string // their names
}

// States returns what is known of the handle's jobs now.
func (h *Handle) States() []JobState {
	states := make([]JobState, len(h.jobs))
	h.session.view(func(st *RunState) {
		for i, name := range h.jobs {
			states[i] = *st.Job(name)
		}
	})
	return states
}

// State returns the state of the job that is the least far.
func (h *Handle) State() JobState {
	order := map[State]int{Unknown: 0, Pending: 1, Running: 2, Ended: 3}
	states := h.States()
	least := states[0]
	for _, j := range states[1:] {
		if order[j.Status.State] < order[least.Status.State] {
			least = j
		}
	}
	return least
}

// String is one status line.
func (h *Handle) String() string {
	j := h.State()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s", h.Role, h.Name, j.String())
	if j.Live() {
		h.session.view(func(st *RunState) { b.WriteString(st.stale(h.session.now())) })
	}
	if n := len(h.jobs); n > 1 {
		fmt.Fprintf(&b, " (%d jobs)", n)
	} else if j.ID != "" {
		fmt.Fprintf(&b, " (job %s)", j.ID)
	}
	return b.String()
}

// String says in a few words where the job stands.
func (j *JobState) String() string {
	switch {
	case j.Refused != nil:
		return "refused (" + j.Refused.Error + ")"
	case j.Status.State == Ended:
		text := describeEnd(j.Status)
		if took := j.Status.End.Sub(j.Status.Start); took > 0 && !j.Status.Start.IsZero() {
			text += " after " + took.Round(100*time.Millisecond).String()
		}
		return text
	case j.Queued != nil:
		return "pending: " + j.Queued.String()
	case j.Status.State == Pending && j.Status.Reason != "" && j.Status.Reason != "None":
		return "pending (" + j.Status.Reason + ")"
	case j.Status.State == Pending:
		return "pending"
	case j.Held != nil && j.ID == "":
		return "held back (" + j.Held.Error + ")"
	case j.ID == "" && j.Started == nil: // its own word may be here before sbatch's
		return "to be submitted"
	case j.Status.State == Unknown && j.Started == nil:
		return "submitted"
	}
	where := j.Host()
	if j.Started != nil && j.Started.Port != 0 {
		where = fmt.Sprintf("%s:%d", where, j.Started.Port)
	}
	if j.Ready {
		return "answers at " + where
	}
	return strings.TrimSpace("running on " + where)
}

// Stale says since when nothing is known of the target, such as ", as of 2m ago", or is "".
func (s *RunState) Stale() string { return s.stale(time.Now()) }

func (s *RunState) stale(now time.Time) string {
	if s.LostSince.IsZero() {
		return ""
	}
	return fmt.Sprintf(", as of %v ago", now.Sub(s.LostSince).Round(time.Second))
}

// JobID returns the scheduler's id of the handle's first job, as soon as it is known. Of one that was refused it is "".
func (h *Handle) JobID(ctx context.Context) (id JobID, err error) {
	err = h.session.await(ctx, func(st *RunState) (bool, error) {
		j := st.Job(h.jobs[0])
		id = j.ID
		return !j.Waiting(), nil
	})
	return id, err
}

// Elapsed is how long the handle's jobs have been running, or ran, from the first start to the last end.
func (h *Handle) Elapsed() time.Duration {
	var first, last time.Time
	for _, j := range h.States() {
		start, end := j.Status.Start, j.Status.End
		if j.Started != nil {
			start = seconds(j.Started.Time)
		}
		if start.IsZero() {
			continue
		}
		if j.Status.State != Ended {
			end = h.session.now()
		}
		if first.IsZero() || start.Before(first) {
			first = start
		}
		if end.After(last) {
			last = end
		}
	}
	return max(last.Sub(first), 0)
}

// Measurements returns what the handle's jobs measured, as far as w selects it.
func (h *Handle) Measurements(w Where) []Record {
	w.Source = h.jobs
	return h.session.Measurements(w)
}

// Logs returns the last n lines that the handle's first job printed: stdout, and stderr if that has something. It reads
// them from the target while the job runs.
func (h *Handle) Logs(ctx context.Context, n int) (string, error) {
	j := h.States()[0]
	if j.ID == "" {
		return "", nil
	}
	var b strings.Builder
	for _, name := range []string{FileStdout, FileStderr} {
		text := ""
		if j.Collected != nil {
			text = Tail(filepath.Join(j.Collected.Dir, name), n)
		} else {
			var out bytes.Buffer
			err := h.session.Target.Conn.Get(ctx, path.Join(j.Job.Dir, name), 0, &out)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("logs of %s: %w", h.Name, err)
			}
			text = tailLines(h.session.Redact(out.String()), n)
		}
		if text = strings.TrimRight(text, "\n"); text != "" {
			b.WriteString(text + "\n")
		}
	}
	return b.String(), nil
}
