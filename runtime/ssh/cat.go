package ssh

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// Where there is no SFTP, files go through commands that every POSIX system has.

// catPut writes its stdin to the temporary file $2, in the directory $1, and renames it to $3, with the permissions $4.
// The stdin ends with the mark $5: without it, the connection broke, and what is there is a part only. Nobody hears the
// complaint then: the pipe is broken too, and must not kill what is to clean up.
const catPut = `trap 'rm -f "$2"' 0
trap 'exit 129' 1; trap 'exit 130' 2; trap '' 13; trap 'exit 143' 15
if [ -d "$3" ]; then echo "$3: is a directory" >&2; exit 1; fi
mkdir -p "$1" && umask 077 && cat >"$2" || exit
if [ "$(tail -c ${#5} "$2" | tr -d '\000')" != "$5" ]; then echo "the connection broke" >&2; exit 1; fi
n=$(wc -c <"$2") && dd if=/dev/null of="$2" bs=1 seek=$((n - ${#5})) 2>/dev/null && chmod "$4" "$2" && mv -f "$2" "$3"`

func (c *Conn) putByCat(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	dir, mark := path.Dir(name), rand.Text()
	args := []string{"/bin/sh", "-c", catPut, "sh", dir, path.Join(dir, ".aifb-"+rand.Text()), name,
		strconv.FormatUint(uint64(mode.Perm()), 8), mark}
	err := c.Run(ctx, runtime.Cmd{Args: args, Stdin: io.MultiReader(r, strings.NewReader(mark))})
	return c.catError("put", name, err)
}

// The exit codes of catGet for what callers tell apart.
const (
	catMissing   = 66
	catForbidden = 77
)

// catGet writes the file $1 from its byte $2 on, which counts from one, to its stdout.
const catGet = `[ -e "$1" ] || exit 66
[ -r "$1" ] || exit 77
if [ -d "$1" ]; then echo "$1: is a directory" >&2; exit 1; fi
exec tail -c "+$2" "$1"`

func (c *Conn) getByCat(ctx context.Context, name string, from int64, w io.Writer) error {
	args := []string{"/bin/sh", "-c", catGet, "sh", name, strconv.FormatInt(from+1, 10)}
	err := c.Run(ctx, runtime.Cmd{Args: args, Stdout: w})
	return c.catError("get", name, err)
}

// catError says what failed, in the words of the command that did.
func (c *Conn) catError(what, name string, err error) error {
	exit := (*runtime.ExitError)(nil)
	if !errors.As(err, &exit) {
		return err
	}
	switch text := strings.TrimSpace(exit.Stderr); {
	case exit.Code == catMissing:
		err = fs.ErrNotExist
	case exit.Code == catForbidden:
		err = fs.ErrPermission
	case text != "":
		err = errors.New(text)
	default:
		err = fmt.Errorf("exit status %d", exit.Code)
	}
	return fmt.Errorf("ssh %s: %s %s: %w", c.name, what, name, err)
}
