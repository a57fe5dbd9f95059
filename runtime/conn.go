package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
)

// Output runs a command and returns what it printed.
func Output(ctx context.Context, c Conn, args ...string) (string, error) {
	var out bytes.Buffer
	err := c.Run(ctx, Cmd{Args: args, Stdout: &out})
	return out.String(), err
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
