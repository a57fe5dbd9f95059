package runtime

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
)

// A secret is an environment variable of the user's on this machine that a job gets. The store, the batch script and the
// command lines have its name. Its value goes from this process, over the connection, into a file that only the user may
// read and that the job removes when it starts; where it comes back in what a job printed, there are stars in its place.

// dirSecrets is the directory of a run, beside those of its jobs, with a file for each job that has secrets. It is not in
// the job's own, because that is brought to this machine.
const dirSecrets = ".secrets"

const (
	stars = "***"

	// minSecret is the length from which on a value is hidden: "1" would be everywhere.
	minSecret = 4
)

// secrets are what must not show. The zero value is none. The methods may be called concurrently.
type secrets struct {
	mu    sync.Mutex
	known map[string]bool // the names of the variables
	texts [][]byte        // the longest first
}

// add hides the value of a variable from now on.
func (h *secrets) add(name, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known[name] {
		return
	}
	if h.known == nil {
		h.known = make(map[string]bool)
	}
	h.known[name] = true
	for _, text := range []string{value, strings.TrimSpace(value)} {
		if len(text) >= minSecret {
			h.texts = append(slices.Clone(h.texts), []byte(text))
		}
	}
	slices.SortStableFunc(h.texts, func(a, b []byte) int { return cmp.Compare(len(b), len(a)) })
}

func (h *secrets) all() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.texts
}

// reader returns a reader of what r has, with stars for what is to be hidden.
func (h *secrets) reader(r io.Reader) io.Reader {
	if texts := h.all(); len(texts) > 0 {
		return &hider{r: r, texts: texts, chunk: make([]byte, 32<<10)}
	}
	return r
}

// A hider is such a reader.
type hider struct {
	r     io.Reader
	texts [][]byte
	chunk []byte
	in    []byte // was read, and a text may begin in it
	out   []byte // is to be returned
	err   error  // of r
}

func (h *hider) Read(p []byte) (int, error) {
	for len(h.out) == 0 && h.err == nil {
		n, err := h.r.Read(h.chunk)
		h.in, h.err = append(h.in, h.chunk[:n]...), err
		h.out, h.in = hide(h.in, h.texts, err != nil)
	}
	if len(h.out) == 0 {
		return 0, h.err
	}
	n := copy(p, h.out)
	h.out = h.out[n:]
	return n, nil
}

// hide puts stars for the texts, of which the first is the longest. Unless in is the end, it keeps back what may be the
// beginning of one.
func hide(in []byte, texts [][]byte, end bool) (out, rest []byte) {
	safe := len(in)
	if !end {
		safe = max(len(in)-len(texts[0])+1, 0)
	}
	i := 0
	for i < safe {
		first, length := safe, 0
		for _, text := range texts {
			if at := bytes.Index(in[i:], text); at >= 0 && i+at < first {
				first, length = i+at, len(text)
			}
		}
		out = append(out, in[i:first]...)
		if i = first; length > 0 {
			out = append(out, stars...)
			i += length
		}
	}
	return out, slices.Clone(in[i:])
}

// Secret makes sure that the user has the environment variable, and hides its value from now on.
func (s *Session) Secret(name string) error {
	_, err := s.secret(name)
	return err
}

func (s *Session) secret(name string) (value string, err error) {
	if !envForm.MatchString(name) {
		return "", Faultf(FaultRun, "", "%q is not the name of an environment variable", name)
	}
	value = os.Getenv(name)
	if value == "" && s.Rehearsal {
		return stars, nil
	}
	if value == "" {
		return "", Faultf(FaultRun, fmt.Sprintf("set it where you start aifb: export %s=...", name),
			"the environment variable %s is not set", name)
	}
	s.secrets.add(name, value)
	return value, nil
}

// recallSecrets reads the variables again of the jobs whose files are not here yet: to hide them, and to submit those jobs
// again that may not be there.
func (s *Session) recallSecrets() error {
	var errs []error
	for _, j := range s.state.Jobs {
		for _, name := range slices.Sorted(maps.Values(j.Job.Secrets)) {
			if j.Collected == nil && j.Refused == nil {
				errs = append(errs, s.Secret(name))
			}
		}
	}
	return errors.Join(errs...)
}

// Redact returns a text with stars for the values of the secrets that the session knows. Those of less than four bytes
// stay, and so does what a job made of one, such as its base64.
func (s *Session) Redact(text string) string {
	texts := s.secrets.all()
	if len(texts) == 0 {
		return text
	}
	out, _ := hide([]byte(text), texts, true)
	return string(out)
}

// putSecrets writes the files of the jobs that have secrets. It is done before each submission: a job that runs already
// has no use for its file, which goes with those of the run.
func (s *Session) putSecrets(ctx context.Context, jobs []Job) error {
	for len(jobs) > 0 {
		n := slices.IndexFunc(jobs, func(j Job) bool { return !maps.Equal(j.Secrets, jobs[0].Secrets) })
		if n < 0 {
			n = len(jobs)
		}
		if err := s.putSame(ctx, jobs[:min(n, maxBatch)]); err != nil {
			return err
		}
		jobs = jobs[min(n, maxBatch):]
	}
	return nil
}

// writeSecrets writes its stdin to files of the directory $1, which only the user may read, from the beginning on. Its
// last line is $2: without it, the connection broke, and what is there is a part only.
const writeSecrets = `mkdir -p "${1%/*}" && umask 077 && mkdir -p "$1" && cd "$1" || exit
new=.$2 end=$2
shift 2
trap 'rm -f "$new" "$new.copy"' 0
cat >"$new" || exit
if [ "$(tail -n 1 "$new")" != "# $end" ]; then echo "the connection broke" >&2; exit 1; fi
for f; do cp "$new" "$new.copy" && mv -f "$new.copy" "$f" || exit; done`

// putSame writes the files of jobs that have the same secrets.
func (s *Session) putSame(ctx context.Context, jobs []Job) error {
	if len(jobs[0].Secrets) == 0 {
		return nil
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(jobs[0].Secrets)) {
		value, err := s.secret(jobs[0].Secrets[name])
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "export %s=%s\n", name, Quote(value))
	}
	end := rand.Text()
	text.WriteString("# " + end + "\n")
	dir := path.Join(path.Dir(jobs[0].Dir), dirSecrets)
	args := []string{"/bin/sh", "-c", writeSecrets, "sh", dir, end}
	m, isMachine := s.Target.Conn.(Machine)
	for _, j := range jobs {
		args = append(args, path.Base(j.Dir))
		if isMachine {
			if err := m.Put(ctx, path.Join(dir, path.Base(j.Dir)), 0o600, strings.NewReader(text.String())); err != nil {
				return fmt.Errorf("secrets: %w", err)
			}
		}
	}
	if isMachine {
		return nil
	}
	if err := s.Target.Conn.Run(ctx, Cmd{Args: args, Stdin: strings.NewReader(text.String())}); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	return nil
}

// sourceSecrets are the lines of a job's script that give it its secrets. A job that may run again keeps the file until
// its command has ended by itself.
func sourceSecrets(j Job) string {
	if len(j.Secrets) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(`secrets=$run/` + dirSecrets + `/${dir##*/}
[ -r "$secrets" ] || die 'the values of its secrets are not there; were they used by an earlier attempt?'
. "$secrets"
`)
	if j.Needs.Requeue {
		b.WriteString(`trap '[ "${signal:-0}" != 0 ] || rm -f "$secrets"' EXIT` + "\n")
	} else {
		b.WriteString(`rm -f "$secrets"` + "\n")
	}
	if j.Image.SIF != "" {
		for _, name := range slices.Sorted(maps.Keys(j.Secrets)) {
			fmt.Fprintf(&b, "export APPTAINERENV_%s=\"$%s\"\n", name, name)
		}
	}
	return b.String()
}
