package runtime

import (
	"bytes"
	"context"
	"io"
)

// Output runs a command and returns what it printed.
func Output(ctx context.Context, c Conn, args ...string) (string, error) {
	var out bytes.Buffer
	err := c.Run(ctx, Cmd{Args: args, Stdout: &out})
	return out.String(), err
}

// A Machine is a Conn to a machine that has no shell, because it is simulated. What a session does on other machines by
// shell programs (see machine.go), it asks such a one for.
type Machine interface {
	Conn

	// Host returns the user's home directory, and the operating system and the architecture as GOOS and GOARCH name
	// them.
	Host(ctx context.Context) (home, os, arch string, err error)

	// Archive writes the named directories below dir to w, as one tar stream with names relative to dir. Those that
	// are not there it leaves out.
	Archive(ctx context.Context, dir string, names []string, w io.Writer) error

	// RemoveAll removes a directory and all that is below it. That there is none is no error.
	RemoveAll(ctx context.Context, dir string) error

	// Watch writes to w a line with a dot, then the lines by which the jobs below a run's directory say that they
	// started and ended: at once those that nobody has seen yet, and each further one when it comes. It returns when
	// ctx ends, with its cause, or when the connection is lost. As long as it runs, the lease of the run's jobs does.
	Watch(ctx context.Context, runDir string, w io.Writer) error
}
