package runtime

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// collectTries is how often the files of an ended job are fetched before an error that does not go away, or the lack
	// of what may never have been there, is taken as it is: one second after the other.
	collectTries = 5

	// lateTries is the same for files that should be there, but that a shared file system does not show yet. It may
	// take a minute; the later tries are ever further apart.
	lateTries = 10
)

// A collector brings the files of ended jobs here, those of many jobs at once, and tries again the jobs that the
// infrastructure failed.
type collector struct {
	*Session
	tries map[string]int       // to fetch the files of a job, by token
	next  map[string]time.Time // when to try again
	away  int                  // how often in a row the target could not be asked
}

func (s *Session) newCollector() *collector {
	return &collector{Session: s, tries: make(map[string]int), next: make(map[string]time.Time)}
}

// run collects until ctx ends.
func (c *collector) run(ctx context.Context) {
	for {
		var ended, due []JobState
		err := c.awaitAnyway(ctx, func(st *RunState) (bool, error) {
			ended, due = nil, nil
			for _, j := range st.Jobs {
				if j.ID == "" || j.Status.State != Ended || j.Collected != nil {
					continue
				}
				ended = append(ended, *j)
				if !c.now().Before(c.next[j.Job.Token]) {
					due = append(due, *j)
				}
			}
			return len(ended) > 0, nil
		})
		if err != nil || ctx.Err() != nil {
			return
		}
		if len(due) > 0 {
			c.collect(ctx, due)
		} else if c.pause(ctx, time.Second) != nil {
			return
		}
	}
}

// collect fetches the files of jobs, and stores what they measured, of those whose files are there.
func (c *collector) collect(ctx context.Context, ended []JobState) {
	err := c.fetch(ctx, ended)
	if ctx.Err() != nil {
		return
	}
	if errors.As(err, new(unreached)) {
		c.later(ended, err)
		return
	}
	if c.away > 0 {
		c.warn("files are fetched from %s again", c.Target.Name)
	}
	c.away = 0
	var recs []Record
	var again []string
	for _, j := range ended {
		lacks := err == nil && c.incomplete(j)
		if (err != nil || lacks) && c.mayCome(j, err) {
			continue
		}
		collected, measured := c.collected(j, err, lacks)
		if j.Retried() && !c.isClosing() {
			measured = nil // it is measured anew
			again = append(again, j.Job.Name)
		}
		recs = append(append(recs, measured...), event(KindJobCollected, j.Job.Name, collected))
	}
	for _, j := range ended {
		if slices.Contains(again, j.Job.Name) {
			recs = append(recs, event(KindJobIntended, j.Job.Name, retry(j)))
		}
	}
	c.store(ctx, recs...)
	if len(again) > 0 {
		c.enqueue(again...)
	}
}

// later plans to fetch the files of jobs when the target can be asked again. That says nothing about the files: it is
// tried for as long as the run waits for them.
func (c *collector) later(ended []JobState, err error) {
	if c.away == 0 {
		c.warn("%v; it is tried again", err)
	}
	wait := min(time.Second<<min(c.away, 10), maxPause/2)
	c.away++
	for _, j := range ended {
		c.next[j.Job.Token] = c.now().Add(wait)
	}
}

// mayCome reports whether files of a job that could not be fetched, or were not there, may come: then they are fetched
// once more.
func (c *collector) mayCome(j JobState, err error) bool {
	c.tries[j.Job.Token]++
	n, most := c.tries[j.Job.Token], collectTries
	if err == nil && (j.Exit != nil || j.Status.Outcome == Completed) && !j.full() {
		most = lateTries
	}
	c.next[j.Job.Token] = c.now().Add(time.Second << max(n-collectTries+1, 0))
	return n < most
}

func (s *Session) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// retryMark is between the name of a job and the number of a later try, in what must differ between them.
const retryMark = "~"

// retry returns the intent of the next try of a job: the same, but elsewhere.
func retry(j JobState) Intent {
	next := j.Intent
	next.Retry++
	mark := fmt.Sprintf("%s%d", retryMark, next.Retry)
	for _, text := range []*string{&next.Job.Token, &next.Job.Dir} {
		*text = strings.TrimSuffix(*text, fmt.Sprintf("%s%d", retryMark, j.Retry)) + mark
	}
	if next.Job.Group != "" { // it comes too late to start with the others
		next.Job.Env = maps.Clone(next.Job.Env)
		next.Job.Env["CLIENT_NAME"], next.Job.Env["CLIENT_INDEX"], next.Job.Env["CLIENT_COUNT"] =
			next.Job.Name, fmt.Sprint(next.Job.Index), fmt.Sprint(next.Job.Count)
		next.Job.Group, next.Job.Index, next.Job.Count = "", 0, 0
	}
	if bad := j.Status.Node; bad != "" && j.Status.Outcome == NodeFailure {
		next.Job.Needs.Exclude = strings.Trim(next.Job.Needs.Exclude+","+bad, ",")
	}
	return next
}

// fetch brings the directories of the jobs to this machine as one stream.
func (s *Session) fetch(ctx context.Context, jobs []JobState) error {
	var names []string
	for _, j := range jobs {
		names = append(names, path.Base(j.Job.Dir))
	}
	if err := receive(ctx, s.Target.Conn, s.home.runDir, names, filepath.Join(s.Files, s.Run), &s.secrets); err != nil {
		return fmt.Errorf("fetch files: %w", err)
	}
	return nil
}

// An unreached error says that a target was not reached, or was lost: there is nothing wrong with what is there.
type unreached struct{ error }

func (u unreached) Unwrap() error { return u.error }

// receive brings what is named in a directory of the target to one of this machine, as one stream, with stars for the
// secrets that are to be hidden.
func receive(ctx context.Context, c Conn, from string, names []string, to string, hide *secrets) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := untar(r, to, hide)
		io.Copy(io.Discard, r) // tar pads its output; and it must not block on a reader that gave up
		done <- err
	}()
	err := archive(ctx, c, from, names, w)
	w.Close()
	if err != nil && !errors.As(err, new(*ExitError)) {
		err = unreached{err}
	}
	return cmp.Or(err, <-done)
}

// untar unpacks the directories and regular files of a tar stream below dir, with stars for the secrets that are to be
// hidden. The stream comes from a job, so a name that leads out of dir is an error, and links and devices are left out.
func untar(r io.Reader, dir string, hide *secrets) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(strings.TrimSuffix(h.Name, "/"))
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o700)
		case tar.TypeReg:
			err = extract(root, name, hide.reader(t))
		}
		if err != nil {
			return err
		}
	}
}

func extract(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// localDir is where the files of a job are on this machine, once they are here.
func (s *Session) localDir(j Job) string { return filepath.Join(s.Files, s.Run, path.Base(j.Dir)) }

// incomplete reports whether the files of a job whose command came to its end lack the proof of it: a shared file system
// may show it later.
func (s *Session) incomplete(j JobState) bool {
	_, err := os.Stat(filepath.Join(s.localDir(j.Job), FileExit))
	return err != nil && (j.Status.Outcome == Completed || j.Status.Outcome == Failed)
}

// collected reads the measurements of a job from its files, which are here unless fetchErr says why not. Lacks says
// that they are not all.
func (s *Session) collected(j JobState, fetchErr error, lacks bool) (Collected, []Record) {
	c := Collected{Dir: s.localDir(j.Job)}
	if fetchErr != nil {
		c.Problem, c.Left = fetchErr.Error(), true
		return c, nil
	}
	measured, err := readMeasurements(c.Dir, j.Metrics)
	switch {
	case s.Simulated:
	case j.full() || lacks && j.Status.Outcome == Completed:
		c.Problem = "what it wrote may be cut short, since " + wroteNoMore
	case err != nil:
		c.Problem = err.Error()
	}
	measured = append(measured, lateness(&j)...)
	recs := make([]Record, 0, len(measured))
	for _, m := range measured {
		for k, v := range j.Labels {
			if m.Labels == nil {
				m.Labels = make(map[string]string)
			}
			if _, ok := m.Labels[k]; !ok {
				m.Labels[k] = v
			}
		}
		recs = append(recs, m.record(j.Job.Name))
	}
	return c, recs
}

// tailSize is how much of a log is shown with an error, at the most.
const tailSize = 4 << 10

// lastLines returns the end of what the job printed: of stderr if there is anything, else of stdout.
func lastLines(dir string, n int) string {
	for _, name := range []string{FileStderr, FileStdout, "slurm.out"} {
		if text := strings.TrimSpace(Tail(filepath.Join(dir, name), n)); text != "" {
			return text
		}
	}
	return ""
}

// Tail returns the last n lines of a file on this machine, at most 4 KiB, or "" if it cannot be read.
func Tail(name string, n int) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size > tailSize {
		f.Seek(-tailSize, io.SeekEnd)
	} else {
		f.Seek(0, io.SeekStart)
	}
	data, _ := io.ReadAll(f)
	return tailLines(string(data), n)
}

func tailLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
