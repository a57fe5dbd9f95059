package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// What a recipe does on the target besides jobs: commands on the login node, and files to and from it.

// dirFiles is the directory of a run, beside those of its jobs, for the recipe's own files: its commands run there, and
// names of files that are not absolute are below it.
const dirFiles = ".files"

const (
	// DefaultCommand is how long a command may take that says nothing else.
	DefaultCommand = time.Minute

	// maxCommand is how long a command may be, in bytes: on its way, a byte may become four, and Linux takes 128 KiB.
	maxCommand = 30 << 10

	// maxPrinted is how much a command may print on each of its streams, in bytes.
	maxPrinted = 1 << 20
)

// A Command is a short command on the target, which is not a job.
type Command struct {
	Line    string        // for /bin/sh
	Timeout time.Duration // 0: DefaultCommand
	NoCheck bool          // an exit code other than 0 is no error
	Deed    Deed          `json:"-"`
}

// A CommandResult is what a command came to.
type CommandResult struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Code   int    `json:"code"`
}

// inFiles runs the line $2 in the directory $1.
const inFiles = `mkdir -p "$1" && cd "$1" && exec /bin/sh -c "$2"`

// Command runs a command on the target.
func (s *Session) Command(ctx context.Context, c Command) (CommandResult, error) {
	switch {
	case strings.ContainsRune(c.Line, 0):
		return CommandResult{}, Faultf(FaultRun, "", "the command has a zero byte, which no shell can get")
	case len(c.Line) > maxCommand:
		return CommandResult{}, Faultf(FaultRun, "upload() it as a script", "the command has more than %d KiB", maxCommand>>10)
	}
	d := c.Deed.describe("run", "", c)
	result, err := perform(ctx, s, d, func() (CommandResult, error) { return s.command(ctx, d, c) })
	if err == nil && result.Code != 0 && !c.NoCheck {
		err = Faultf(FaultRun, "check = False makes it no error", "%w", &CommandFailed{c.Line, result})
	}
	return result, err
}

func (s *Session) command(ctx context.Context, d Deed, c Command) (CommandResult, error) {
	home, err := s.open(ctx)
	if err != nil {
		return CommandResult{}, err
	}
	if err := s.begin(ctx, d); err != nil {
		return CommandResult{}, err
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultCommand
	}
	limited, cancel := s.withTimeout(ctx, c.Timeout)
	defer cancel()
	var stdout, stderr capped
	err = s.Target.Conn.Run(limited, Cmd{Args: []string{"/bin/sh", "-c", inFiles, "sh", path.Join(home.runDir, dirFiles), c.Line},
		Stdout: &stdout, Stderr: &stderr})
	result := CommandResult{Stdout: s.printed(stdout), Stderr: s.printed(stderr)}
	exit := (*ExitError)(nil)
	switch {
	case stdout.over || stderr.over:
		return result, Faultf(FaultRun, "let it write to a file, and download() that", "%s: it printed more than %d MiB",
			summary(c.Line), maxPrinted>>20)
	case errors.As(err, &exit):
		result.Code = exit.Code
		return result, nil
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		return result, Faultf(FaultTimeout, "what takes long is a job(); or give it longer with timeout =",
			"%s: not done within %v", summary(c.Line), c.Timeout)
	}
	return result, err
}

// printed is what a command printed, as a text that shows no secret.
func (s *Session) printed(c capped) string {
	return strings.ToValidUTF8(s.Redact(c.text.String()), "\ufffd")
}

// A capped buffer takes no more than maxPrinted.
type capped struct {
	text bytes.Buffer
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.over = c.over || c.text.Len()+len(p) > maxPrinted; c.over {
		return 0, errors.New("too much output")
	}
	return c.text.Write(p)
}

// A CommandFailed reports a command that exited with another code than 0.
type CommandFailed struct {
	Line string
	CommandResult
}

func (e *CommandFailed) Error() string {
	msg := fmt.Sprintf("%s: exit code %d", summary(e.Line), e.Code)
	for _, text := range []string{e.Stderr, e.Stdout} {
		if text = strings.TrimSpace(text); text != "" {
			lines := tailLines(text, logLines)
			return msg + "; its last lines:\n" + indent(lines[max(0, len(lines)-tailSize):], "  | ")
		}
	}
	return msg
}

// summary is the beginning of a command, on one line.
func summary(command string) string {
	const most = 60
	line, more, _ := strings.Cut(strings.TrimSpace(command), "\n")
	if runes := []rune(line); len(runes) > most {
		line, more = string(runes[:most]), "more"
	}
	if more != "" {
		line += "..."
	}
	return line
}

// place returns the absolute name of a file on the target. What ends in a slash is a directory, in which it is called
// base.
func (h *home) place(name, base string) (string, error) {
	if name == "" || strings.HasSuffix(name, "/") {
		name += base
	}
	switch full := expandHome(name, h.user); {
	case strings.ContainsRune(name, 0):
		return "", Faultf(FaultRun, "", "the name %q has a zero byte", name)
	case path.IsAbs(full):
		return path.Clean(full), nil
	case !filepath.IsLocal(name):
		return "", Faultf(FaultRun, "write an absolute name, or ~/... for one in the home directory",
			"%s leads out of the directory for the files of the run", name)
	}
	return path.Join(h.runDir, dirFiles, name), nil
}

// Upload copies a file or a directory of this machine to the target, and returns its absolute name there. A file is there
// as a whole or not at all; so is a directory, unless there is one of that name: then its files are added to it.
func (s *Session) Upload(ctx context.Context, d Deed, local, remote string) (string, error) {
	d = d.describe("upload", "", []string{local, remote})
	return perform(ctx, s, d, func() (string, error) {
		info, err := os.Stat(local)
		if err != nil {
			return "", localError(local, err)
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return "", Faultf(FaultRun, "", "%s is neither a file nor a directory", local)
		}
		home, err := s.open(ctx)
		if err != nil {
			return "", err
		}
		name, err := home.place(remote, filepath.Base(local))
		if err == nil {
			err = s.begin(ctx, d)
		}
		if err != nil {
			return "", err
		}
		if info.IsDir() {
			return name, s.putDir(ctx, local, name)
		}
		return name, s.putFile(ctx, local, name, info.Mode())
	})
}

// localError is the error of a file of this machine that is the recipe's to name.
func localError(name string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return Faultf(FaultRun, "it is a name on this machine, relative to where aifb was started", "%s: %w", name, err)
}

func (s *Session) putFile(ctx context.Context, local, name string, mode fs.FileMode) error {
	f, err := os.Open(local)
	if err != nil {
		return localError(local, err)
	}
	defer f.Close()
	return s.Target.Conn.Put(ctx, name, mode, f)
}

// unpackDir unpacks a tar stream to the directory $1. Its last file is $2: without it, the connection broke.
const unpackDir = `new=$1.aifb-$2
trap 'rm -rf "$new"' 0
trap 'exit 129' 1; trap 'exit 130' 2; trap 'exit 143' 15
mkdir -p "$new" && tar -xof - -C "$new" || exit
if [ ! -e "$new/$2" ]; then echo "the connection broke" >&2; exit 1; fi
rm -f "$new/$2"
if [ -d "$1" ]; then cp -R "$new"/. "$1"/; else mv "$new" "$1"; fi`

// putDir copies a directory to the target as one stream.
func (s *Session) putDir(ctx context.Context, local, name string) error {
	if _, ok := s.Target.Conn.(Machine); ok {
		return fs.WalkDir(os.DirFS(local), ".", func(file string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			return s.putFile(ctx, filepath.Join(local, file), path.Join(name, file), 0o644)
		})
	}
	end := ".aifb-" + rand.Text()
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := packDir(w, local, end)
		w.CloseWithError(err)
		packed <- err
	}()
	err := s.Target.Conn.Run(ctx, Cmd{Args: []string{"/bin/sh", "-c", unpackDir, "sh", name, end}, Stdin: r})
	r.CloseWithError(io.ErrClosedPipe) // nobody reads any more
	if failed := <-packed; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return localError(local, failed)
	}
	return err
}

// packDir writes what is in a directory as a tar stream, and at the end an empty file.
func packDir(w io.Writer, dir, end string) error {
	t := tar.NewWriter(w)
	if err := t.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return errors.Join(t.WriteHeader(&tar.Header{Name: end, Typeflag: tar.TypeReg, Mode: 0o600}), t.Close())
}

// Download copies a file or a directory of the target to this machine, and returns its name here. A file is there as a
// whole or not at all; so are those of a directory, which are added to what is there. Links in it are left out.
func (s *Session) Download(ctx context.Context, d Deed, remote, local string) (string, error) {
	d = d.describe("download", "", []string{remote, local})
	return perform(ctx, s, d, func() (string, error) {
		home, err := s.open(ctx)
		if err != nil {
			return "", err
		}
		name, err := home.place(strings.TrimRight(remote, "/"), "")
		if err != nil {
			return "", err
		}
		to := local
		if info, err := os.Stat(local); local == "" || strings.HasSuffix(local, "/") || err == nil && info.IsDir() {
			to = filepath.Join(local, path.Base(name))
		}
		if s.Rehearsal {
			return to, nil
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			return "", localError(local, err)
		}
		return to, s.get(ctx, name, to)
	})
}

func (s *Session) get(ctx context.Context, name, to string) error {
	var failed error
	err := WriteFile(to, func(w io.Writer) error {
		failed = s.Target.Conn.Get(ctx, name, 0, w)
		return failed
	})
	switch {
	case errors.Is(failed, fs.ErrNotExist):
		return Faultf(FaultRun, "it is a name on the target; what is not absolute is below the directory for the files of the run",
			"%s is not on %s", name, s.Target.Name)
	case failed != nil && ctx.Err() == nil:
		if isDir, err := s.getDir(ctx, name, to); isDir || err != nil {
			return err
		}
		return failed
	case failed != nil:
		return failed
	case err != nil:
		return localError(to, errors.Unwrap(err))
	}
	return nil
}

// getDir copies a directory from the target, if it is one, as one stream.
func (s *Session) getDir(ctx context.Context, name, to string) (isDir bool, err error) {
	if _, ok := s.Target.Conn.(Machine); !ok {
		if isDir, err = fileIs(ctx, s.Target.Conn, "-d", name); !isDir || err != nil {
			return false, err
		}
	}
	temp, err := os.MkdirTemp(filepath.Dir(to), ".aifb-*")
	if err != nil {
		return false, localError(to, err)
	}
	defer os.RemoveAll(temp)
	if err := receive(ctx, s.Target.Conn, path.Dir(name), []string{path.Base(name)}, temp, new(secrets)); err != nil {
		return false, fmt.Errorf("download %s: %w", name, err)
	}
	return true, moveAll(filepath.Join(temp, path.Base(name)), to)
}

// moveAll moves the files below a directory to another, each as a whole.
func moveAll(from, to string) error {
	return filepath.WalkDir(from, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o777)
		}
		if err := os.Chmod(file, 0o644); err != nil {
			return err
		}
		return os.Rename(file, filepath.Join(to, rel))
	})
}

// Input remembers the content of a file that the recipe reads, under a name. If it is not what it was before the run was
// resumed, that is an error: what follows would not be the same run.
func (s *Session) Input(ctx context.Context, d Deed, name string, content []byte) error {
	d = d.describe("read", name, nil)
	sum := sha256.Sum256(content)
	now := hex.EncodeToString(sum[:])
	was, err := perform(ctx, s, d, func() (string, error) { return now, nil })
	if err == nil && was != now {
		err = Faultf(FaultRecipe, "undo the change, or run the recipe anew with aifb exec", "%s has changed since run %s read it", name, s.Run)
	}
	return err
}
