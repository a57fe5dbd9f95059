package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// A conn is the connection to the cluster's login node: a runtime.Machine.
type conn struct{ *Cluster }

// Conn returns a connection to the cluster's login node. Files are in memory.
func (c *Cluster) Conn() runtime.Machine { return conn{c} }

// Run implements runtime.Conn.
func (c conn) Run(ctx context.Context, cmd runtime.Cmd) error {
	if err := c.call(ctx); err != nil {
		return err
	}
	if c.config.Exec != nil {
		if err := c.config.Exec(ctx, cmd); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	env := make(map[string]string)
	for _, arg := range cmd.Args {
		if name, value, ok := strings.Cut(arg, "="); ok {
			env[name] = value
		}
	}
	if host := env["SERVICE_HOSTNAME"]; host != "" && c.service(host+":"+env["SERVICE_PORT"]) == nil {
		return &runtime.ExitError{Args: cmd.Args, Code: 1, Stderr: "the service does not answer\n"}
	}
	return nil
}

// Put implements runtime.Conn.
func (c conn) Put(ctx context.Context, name string, _ fs.FileMode, r io.Reader) error {
	if err := c.call(ctx); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	data, err := io.ReadAll(runtime.ReadUntil(ctx, r))
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	c.lock()
	defer c.mu.Unlock()
	text := string(data)
	if dir, base := path.Split(path.Clean(name)); base == fileLease {
		if l := c.lease(dir); l.text != text {
			l.text, l.changed = text, c.time
		}
	}
	return c.memory.put(name, func() string { return text })
}

// A lease is how a run tells its jobs that it is under way.
type lease struct {
	text    string    // of its file
	changed time.Time // when it was renewed
	watches int       // that renew it all the time
}

const fileLease = ".lease"

// lease returns that of a run.
func (c *Cluster) lease(runDir string) *lease {
	runDir = path.Clean(runDir)
	if c.leases[runDir] == nil {
		c.leases[runDir] = new(lease)
	}
	return c.leases[runDir]
}

// hold renews the lease of a run until the function is called that it returns.
func (c *Cluster) hold(runDir string) (leave func()) {
	c.lock()
	defer c.mu.Unlock()
	l := c.lease(runDir)
	l.watches++
	return func() {
		c.lock()
		defer c.mu.Unlock()
		l.watches--
		l.changed = c.time
	}
}

// Get implements runtime.Conn.
func (c conn) Get(ctx context.Context, name string, from int64, w io.Writer) error {
	if err := c.call(ctx); err != nil {
		return fmt.Errorf("get %s: %w", name, err)
	}
	c.lock()
	text, err := c.memory.get(name)
	c.mu.Unlock()
	if err == nil && from < int64(len(text)) {
		_, err = io.WriteString(w, text[from:])
	}
	return err
}

// Close implements runtime.Conn.
func (c conn) Close() error { return nil }

// Host implements runtime.Machine.
func (c conn) Host(ctx context.Context) (string, string, string, error) {
	return c.config.Home, "linux", "amd64", c.call(ctx)
}

// Archive implements runtime.Machine.
func (c conn) Archive(ctx context.Context, dir string, names []string, w io.Writer) error {
	if err := c.call(ctx); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	var list []member
	c.lock()
	for _, name := range names {
		if e := c.memory.find(path.Join(dir, name)); e != nil {
			list = append(list, e.members(name)...)
		}
	}
	c.mu.Unlock()
	return writeTar(w, list)
}

// RemoveAll implements runtime.Machine.
func (c conn) RemoveAll(ctx context.Context, dir string) error {
	if err := c.call(ctx); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	c.lock()
	defer c.mu.Unlock()
	c.memory.remove(path.Clean(dir))
	return nil
}

// Watch implements runtime.Machine.
func (c conn) Watch(ctx context.Context, runDir string, w io.Writer) error {
	if err := c.call(ctx); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	if _, err := io.WriteString(w, ".\n"); err != nil {
		return err
	}
	defer c.hold(runDir)()
	for {
		lines, changed, next, err := c.unseen(path.Join(runDir, dirEvents))
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		if _, err := io.WriteString(w, lines); err != nil {
			return err
		}
		passed, stop := (<-chan time.Time)(nil), func() bool { return true }
		if next < Forever {
			passed, stop = runtime.After(c.config.Clock, next)
		}
		select {
		case <-passed:
		case <-changed:
		case <-ctx.Done():
		}
		stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// unseen takes what is in a directory of events, as one text in the order in which a shell lists files. It says in which
// time to look again.
func (c conn) unseen(dir string) (lines string, changed <-chan struct{}, next time.Duration, err error) {
	c.lock()
	defer c.mu.Unlock()
	if c.fault(Disconnected) {
		return "", nil, 0, errDisconnected
	}
	e := c.memory.dir(dir)
	if e == nil {
		return "", nil, 0, fmt.Errorf("%s is not a directory", dir)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(e.entries)) {
		if file := e.entries[name]; file.entries == nil {
			b.WriteString(file.text())
			delete(e.entries, name)
		}
	}
	next = Forever
	if len(c.events) > 0 {
		next = c.events[0].at.Sub(c.time)
	}
	return b.String(), c.changed, next, nil
}
