package runtime

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// fetch brings the directories of the jobs to this machine as one stream.
func (s *Session) fetch(ctx context.Context, jobs []JobState) error {
	var names []string
	for _, j := range jobs {
		names = append(names, j.Job.Name)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := untar(r, filepath.Join(s.Files, s.Run))
		io.Copy(io.Discard, r) // tar pads its output; and it must not block on a reader that gave up
		done <- err
	}()
	err := archive(ctx, s.Target.Conn, s.home.runDir, names, w)
	w.Close()
	unpacked := <-done
	if err != nil {
		return fmt.Errorf("fetch files: %w", err)
	}
	if unpacked != nil {
		return fmt.Errorf("fetch files: %w", unpacked)
	}
	return nil
}

// untar unpacks the directories and regular files of a tar stream below dir. The stream comes from a job, so a name
// that leads out of dir is an error, and links and devices are left out.
func untar(r io.Reader, dir string) error {
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
			err = extract(root, name, t)
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
func (s *Session) localDir(name string) string { return filepath.Join(s.Files, s.Run, name) }

// incomplete reports whether the files of a job whose command came to its end lack the proof of it: a shared file system
// may show it later.
func (s *Session) incomplete(j JobState) bool {
	_, err := os.Stat(filepath.Join(s.localDir(j.Job.Name), FileExit))
	return err != nil && (j.Status.Outcome == Completed || j.Status.Outcome == Failed)
}

// collected reads the measurements of a job from its files, which are here unless fetchErr says why not.
func (s *Session) collected(j JobState, fetchErr error) (Collected, []Record) {
	c := Collected{Dir: s.localDir(j.Job.Name)}
	if fetchErr != nil {
		c.Problem = fetchErr.Error()
		return c, nil
	}
	measured, err := readMeasurements(c.Dir, j.Metrics)
	if err != nil {
		c.Problem = err.Error()
	}
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
