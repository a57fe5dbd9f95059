package starlib

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

type commandArgs struct {
	line    string
	check   bool
	timeout time.Duration
}

type copyArgs struct{ from, to string }

type readArgs struct{ path string }

// fileBuiltins act on the target's login node, and on files of both sides.
func fileBuiltins() []*Builtin {
	from := func(a *copyArgs) any { return filled{&a.from} }
	to := func(a *copyArgs) any { return &a.to }
	return []*Builtin{
		define(Builtin{Name: "run", Returns: "struct", acts: true,
			Doc: "Runs a short command on the target's login node, in the directory for the files of the run: struct(stdout, stderr, exit_code). What takes long is a job()."},
			commandArgs{check: true, timeout: runtime.DefaultCommand}, []argument[commandArgs]{
				arg("command", "a line for /bin/sh, which may print up to 1 MiB", func(a *commandArgs) any { return &a.line }).required(),
				arg("check", "False: an exit code other than 0 is no error", func(a *commandArgs) any { return &a.check }).keyword(),
				arg("timeout", "how long it may take", func(a *commandArgs) any { return &a.timeout }).keyword(),
			},
			func(c *call, a *commandArgs) (starlark.Value, error) {
				r, err := c.session.Command(c.ctx, runtime.Command{Line: a.line, Timeout: a.timeout, NoCheck: !a.check, Deed: c.deed()})
				if err != nil {
					return nil, err
				}
				return commandResult(r), nil
			}),
		define(Builtin{Name: "upload", Returns: "str", acts: true,
			Doc: "Copies a file or directory of this machine to the target, and returns its absolute name there."},
			copyArgs{}, []argument[copyArgs]{
				arg("local", "its name here, relative to where aifb was started", from).required(),
				arg("remote", "its name there, relative to the directory for the files of the run; x/ is in the directory x; if not given, as here", to),
			},
			func(c *call, a *copyArgs) (starlark.Value, error) {
				name, err := c.session.Upload(c.ctx, c.deed(), a.from, a.to)
				return starlark.String(name), err
			}),
		define(Builtin{Name: "download", Returns: "str", acts: true,
			Doc: "Copies a file or directory of the target to this machine, and returns its name here."},
			copyArgs{}, []argument[copyArgs]{
				arg("remote", "its name there, relative to the directory for the files of the run", from).required(),
				arg("local", "its name here, or the directory for it; if not given, as there", to),
			},
			func(c *call, a *copyArgs) (starlark.Value, error) {
				name, err := c.session.Download(c.ctx, c.deed(), a.from, a.to)
				return starlark.String(name), err
			}),
		define(Builtin{Name: "read", Returns: "str", Doc: "The text of a file on this machine, of up to 16 MiB of UTF-8."},
			readArgs{}, []argument[readArgs]{
				arg("path", "relative to the file that calls it; //x is relative to the recipe", func(a *readArgs) any { return filled{&a.path} }).required(),
			},
			func(c *call, a *readArgs) (starlark.Value, error) {
				d := c.deed()
				text, err := c.readFile(a.path)
				if err != nil {
					return nil, err
				}
				return starlark.String(text), c.session.Input(c.ctx, d, a.path, text)
			}),
	}
}

func commandResult(r runtime.CommandResult) starlark.Value {
	s := newStruct(starlark.StringDict{
		"stdout": starlark.String(r.Stdout), "stderr": starlark.String(r.Stderr), "exit_code": starlark.MakeInt(r.Code),
	})
	s.Freeze()
	return s
}

// maxRead bounds what read returns, in bytes.
const maxRead = 16 << 20

// readFile reads a text for the file of the recipe that calls it.
func (c *call) readFile(name string) ([]byte, error) {
	from := c.caller()
	var f io.ReadCloser
	var err error
	shown := name
	if from.library && !path.IsAbs(name) {
		shown = libraryPrefix + path.Join(path.Dir(from.path), name)
		f, err = c.loader.library.Open(strings.TrimPrefix(shown, libraryPrefix))
	} else {
		shown = c.loader.dataPath(from, name)
		f, err = os.Open(shown)
	}
	if err != nil {
		return nil, readError(shown, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRead+1))
	switch {
	case err != nil:
		return nil, readError(shown, err)
	case len(text) > maxRead:
		return nil, runtime.Faultf(runtime.FaultRun, "upload() takes files of any size to the target", "%s has more than %d MiB", shown, maxRead>>20)
	case !utf8.Valid(text):
		return nil, runtime.Faultf(runtime.FaultRun, "upload() takes files of any kind to the target", "%s is no text: it is not in UTF-8", shown)
	}
	return text, nil
}

func readError(name string, err error) error {
	return runtime.Faultf(runtime.FaultRun, "names are relative to the file that calls read()", "%s: %w", name, plainFileError(err))
}

// caller is the file that has the call.
func (c *call) caller() fileID {
	stack := c.thread.CallStack()
	for i := range stack {
		if name := stack.At(i).Pos.Filename(); name != "<builtin>" {
			return c.loader.fileID(name)
		}
	}
	return fileID{}
}

// dataPath is where a file that is not of the library finds the one of that name.
func (l *loader) dataPath(from fileID, name string) string {
	switch {
	case strings.HasPrefix(name, "//"):
		return filepath.Join(l.dir, filepath.FromSlash(name[2:]))
	case filepath.IsAbs(name):
		return filepath.Clean(name)
	}
	return filepath.Join(l.dir, filepath.FromSlash(path.Dir(from.path)), filepath.FromSlash(name))
}
