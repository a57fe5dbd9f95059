package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The first probe of a service comes at once, later ones at growing intervals; each has a deadline of its own.
const (
	probeMin     = 50 * time.Millisecond
	probeMax     = 2 * time.Second
	probeTimeout = 10 * time.Second
)

// waitReady waits until the service answers, and says so in the store.
func (s *Session) waitReady(ctx context.Context, w Wait, name string) error {
	var j JobState
	s.view(func(st *RunState) { j = *st.Job(name) })
	if j.Ready {
		return nil
	}
	limit := w.Timeout
	if limit == 0 {
		limit = DefaultReady
	}
	if j.Intent.Ready.Kind == "" {
		return s.waitBegun(ctx, &j, limit)
	}
	limited, cancel := s.withTimeout(ctx, limit)
	defer cancel()
	err := s.probeUntilReady(limited, &j)
	switch {
	case err == nil:
		return s.append(ctx, event(KindJobReady, name, nil))
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limited.Err() != nil:
		return s.notReady(ctx, &j, limit, err)
	}
	return s.explain(ctx, err)
}

// waitBegun waits until the command of a service that cannot be asked has begun: its image is there, and its setup done.
func (s *Session) waitBegun(ctx context.Context, j *JobState, limit time.Duration) error {
	ctx, cancel := withTimeout(ctx, s.Clock, limit, Faultf(FaultTimeout,
		"see what takes so long with: aifb logs "+s.Run+" "+j.Job.Name,
		"%s (job %s) runs on %s, and after %v its command has not begun: it is setting up, or pulling its image",
		j.Job.Name, j.ID, j.Host(), limit))
	defer cancel()
	return s.explain(ctx, s.await(ctx, func(st *RunState) (bool, error) {
		return st.Job(j.Job.Name).begun(), s.failed(st, j.Job.Name)
	}))
}

// probeUntilReady probes the service until it answers, ends, or ctx does; the error is then the last probe's.
func (s *Session) probeUntilReady(ctx context.Context, j *JobState) error {
	for interval := probeMin; ; interval = min(interval*3/2, probeMax) {
		last := s.probe(ctx, j)
		if last == nil {
			return nil
		}
		pause, cancel := s.withTimeout(ctx, interval)
		err := s.await(pause, func(st *RunState) (bool, error) { return false, s.failed(st, j.Job.Name) })
		cancel()
		if job := (*JobError)(nil); errors.As(err, &job) {
			return err
		}
		if ctx.Err() != nil {
			return last
		}
	}
}

// notReady is the error for a service that runs and does not answer.
func (s *Session) notReady(ctx context.Context, j *JobState, limit time.Duration, last error) error {
	msg := fmt.Sprintf("%s (job %s) runs on %s and does not answer after %v: %s: %v",
		j.Job.Name, j.ID, j.Host(), limit, j.Intent.Ready, last)
	h := &Handle{session: s, Name: j.Job.Name, jobs: []string{j.Job.Name}}
	if log, err := h.Logs(ctx, logLines); err == nil && log != "" {
		msg += "; its last lines:\n" + indent(log, "  | ")
	}
	return Faultf(FaultTimeout, "give it longer with wait_running(..., timeout = ...), or another ready", "%s", msg)
}

// probe returns nil if the service answers.
func (s *Session) probe(ctx context.Context, j *JobState) error {
	ctx, cancel := s.withTimeout(ctx, probeTimeout)
	defer cancel()
	switch r := j.Intent.Ready; r.Kind {
	case "http":
		return s.probeHTTP(ctx, r, j)
	case "log":
		return s.probeLog(ctx, r, j)
	case "command":
		_, err := Output(ctx, s.Target.Conn, "env", "SERVICE_HOSTNAME="+j.Host(),
			"SERVICE_PORT="+strconv.Itoa(j.Started.Port), "/bin/sh", "-c", r.Command)
		return err
	default:
		c, err := s.Target.Conn.Dial(ctx, "tcp", j.address())
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func (j *JobState) address() string { return net.JoinHostPort(j.Host(), strconv.Itoa(j.Started.Port)) }

// probeHTTP asks the service as the login node sees it.
func (s *Session) probeHTTP(ctx context.Context, r Ready, j *JobState) error {
	transport := &http.Transport{DialContext: s.Target.Conn.Dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+j.address()+"/"+strings.TrimPrefix(r.Path, "/"), nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if r.Status != 0 && resp.StatusCode != r.Status || r.Status == 0 && resp.StatusCode/100 != 2 {
		return fmt.Errorf("status %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && !bytes.Contains(body, []byte(r.Contains)) {
		return fmt.Errorf("the answer has no %q", r.Contains)
	}
	return err
}

// probeLog looks for the pattern in all that the service printed so far.
func (s *Session) probeLog(ctx context.Context, r Ready, j *JobState) error {
	re, err := regexp.Compile("(?m)" + r.Pattern)
	if err != nil {
		return err
	}
	for _, name := range []string{FileStdout, FileStderr} {
		var out bytes.Buffer
		err := s.Target.Conn.Get(ctx, path.Join(j.Job.Dir, name), 0, &out)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if re.Match(out.Bytes()) {
			return nil
		}
	}
	return errors.New("no such line yet")
}
