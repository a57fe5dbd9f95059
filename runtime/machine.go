package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// What a session does on a target beside reading and writing single files is done by the functions of this file: by a
// shell program on most machines, by a method on a Machine.

// probe prints what a home needs behind a marker, so that what a login shell prints is not taken for it.
const probe = `printf '\naifb-probe\n%s\n%s\n%s\n' "$HOME" "$(uname -s)" "$(uname -m)"`

// probeHome asks whose and what machine a target is.
func probeHome(ctx context.Context, t Target) (*home, error) {
	if m, ok := t.Conn.(Machine); ok {
		user, os, arch, err := m.Host(ctx)
		return &home{user: user, os: os, arch: arch}, err
	}
	out, err := Output(ctx, t.Conn, "/bin/sh", "-c", probe)
	if err != nil {
		return nil, err
	}
	h, err := parseProbe(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	return h, nil
}

// Host contacts a target, and returns the user's home directory there, and the operating system and the architecture as
// GOOS and GOARCH name them.
func Host(ctx context.Context, t Target) (home, os, arch string, err error) {
	h, err := probeHome(ctx, t)
	if err != nil {
		return "", "", "", err
	}
	return h.user, h.os, h.arch, nil
}

func parseProbe(out string) (*home, error) {
	_, answer, _ := strings.Cut(out, "\naifb-probe\n")
	lines := strings.Split(strings.TrimSuffix(answer, "\n"), "\n")
	if len(lines) != 3 || !path.IsAbs(lines[0]) {
		return nil, Faultf(FaultInfra, "is there a POSIX shell, and is $HOME set?", "probe: unexpected answer %q", out)
	}
	arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "ppc64le": "ppc64le", "riscv64": "riscv64"}[lines[2]]
	if arch == "" {
		arch = lines[2]
	}
	return &home{user: lines[0], os: strings.ToLower(lines[1]), arch: arch}, nil
}

// fileIs reports whether there is a file that passes a test of test(1): -r or -x.
func fileIs(ctx context.Context, c Conn, test, name string) (bool, error) {
	if m, ok := c.(Machine); ok {
		err := m.Get(ctx, name, math.MaxInt64, io.Discard)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	err := c.Run(ctx, Cmd{Args: []string{"test", test, name}})
	if exit := (*ExitError)(nil); errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}

// readFiles prints, for each file, its size and a newline, or "-", and then its content. head -c bounds what a file that
// grows in between can do.
const readFiles = `for f; do
	if [ -f "$f" ] && n=$(wc -c <"$f"); then
		n=$((n)); echo "$n"; head -c "$n" "$f"
	else
		echo -
	fi
done`

// ReadFiles returns the contents of the named small files by one command. A file that is not there has no entry.
func ReadFiles(ctx context.Context, c Conn, names ...string) (map[string][]byte, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if m, ok := c.(Machine); ok {
		return getFiles(ctx, m, names)
	}
	var out bytes.Buffer
	err := c.Run(ctx, Cmd{Args: append([]string{"/bin/sh", "-c", readFiles, "sh"}, names...), Stdout: &out})
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, name := range names {
		line, err := out.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, io.ErrUnexpectedEOF)
		}
		if line == "-\n" {
			continue
		}
		n, err := strconv.Atoi(line[:len(line)-1])
		if err != nil || n < 0 || n > out.Len() {
			return nil, fmt.Errorf("read %s: unexpected answer %q", name, line)
		}
		files[name] = bytes.Clone(out.Next(n))
	}
	return files, nil
}

func getFiles(ctx context.Context, m Machine, names []string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, name := range names {
		var b bytes.Buffer
		switch err := m.Get(ctx, name, 0, &b); {
		case err == nil:
			files[name] = b.Bytes()
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return files, nil
}

// archive writes the named directories below dir to w, as one tar stream. Those that are not there it leaves out.
func archive(ctx context.Context, c Conn, dir string, names []string, w io.Writer) error {
	if m, ok := c.(Machine); ok {
		return m.Archive(ctx, dir, names, w)
	}
	args := []string{"/bin/sh", "-c", `cd "$1" && shift && tar -cf - -- "$@"`, "sh", dir}
	err := c.Run(ctx, Cmd{Args: append(args, names...), Stdout: w})
	// tar fails if a file changed while it was read, and about a directory that is not there; the rest is good.
	if exit := (*ExitError)(nil); errors.As(err, &exit) && exit.Code <= 2 {
		return nil
	}
	return err
}

// removeRun removes the directory of a run, and the directories above it up to dir that are then empty.
func removeRun(ctx context.Context, c Conn, runDir, dir string) error {
	if m, ok := c.(Machine); ok {
		return m.RemoveAll(ctx, runDir)
	}
	return c.Run(ctx, Cmd{Args: []string{"/bin/sh", "-c",
		`rm -rf "$1" && { rmdir "$2/runs" "$2" 2>/dev/null; :; }`, "sh", runDir, dir}})
}

// watchProgram prints what jobs write to the directory of events, within a second, and keeps the run's lease, for as
// long as somebody reads it: a dot every two seconds finds out. Each event is printed once; what is lost with the
// connection, the scheduler still knows.
const watchProgram = `cd "$1" && mkdir -p .events || exit 1
echo .
n=0
while :; do
	set -- .events/*
	if [ -e "$1" ]; then cat "$@" && rm -f "$@" || exit 1; fi
	if [ $((n % 4)) = 0 ]; then echo . && echo "$$ $n" >.lease || exit 1; fi
	n=$((n + 1))
	sleep 0.5 2>/dev/null || sleep 1
done`

// keepProgram makes the jobs outlive the run.
const keepProgram = `[ ! -d "$1" ] || echo keep >"$1/.lease"`

// watchRun writes what the jobs of a run say of themselves to w, until ctx ends or the connection is lost.
func watchRun(ctx context.Context, c Conn, runDir string, w io.Writer) error {
	if m, ok := c.(Machine); ok {
		return m.Watch(ctx, runDir, w)
	}
	return c.Run(ctx, Cmd{Args: []string{"/bin/sh", "-c", watchProgram, "sh", runDir}, Stdout: w, Yields: true})
}

// keepRun makes the jobs of a run outlive it.
func keepRun(ctx context.Context, c Conn, runDir string) error {
	if m, ok := c.(Machine); ok {
		return m.Put(ctx, path.Join(runDir, fileLease), 0o644, strings.NewReader("keep\n"))
	}
	return c.Run(ctx, Cmd{Args: []string{"/bin/sh", "-c", keepProgram, "sh", runDir}})
}
