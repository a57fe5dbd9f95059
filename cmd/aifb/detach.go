package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
	"github.com/aifb/aifb/storage"
)

// outputFile is in the directory for a run's files on this machine: what a run in the background prints. No job has a name
// that begins with a dot.
const outputFile = ".output.log"

// asRunFlag is the flag of exec by which a process in the background is told which run it is. Whoever started it waits at
// the other end of the file descriptor begunFD until the run has begun.
const (
	asRunFlag = "as-run"
	begunFD   = 3
	begun     = "begun"
)

// detach runs the recipe of this command line in the background, in a session of its own, which no terminal ends. It
// returns once the run has begun, or with what kept it from that.
func detach(c *cli.Context, std streams, cfg *config) error {
	url := storeURL(c, cfg)
	store, err := storage.Open(c.Context, url) // a store that is of no use is said here, and not in its files
	if err != nil {
		return err
	}
	store.Close()
	run := runtime.NewRunID(time.Now(), rand.Reader)
	dir := filepath.Join(storage.Files(url), run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, outputFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, done := untilSignal(c.Context)
	defer done()
	if err := startDetached(ctx, run, log); err != nil {
		log.Seek(0, io.SeekStart)
		io.Copy(std.err, log)
		os.Remove(log.Name())
		os.Remove(dir) // if there is nothing else in it
		return err
	}
	if c.Bool("json") {
		return writeJSON(std.out, detached{1, run, log.Name()})
	}
	fmt.Fprintf(std.err, `run %[1]s has begun, in the background
  how far it is:         aifb status --watch %[1]s
  what its jobs print:   aifb logs -f %[1]s
  what it prints itself: tail -f %[2]s
  to end it:             aifb stop %[1]s
`, run, log.Name())
	_, err = fmt.Fprintln(std.out, run)
	return err
}

// detached is the form of exec --detach --json.
type detached struct {
	Version int    `json:"version"`
	Run     string `json:"run"`
	Output  string `json:"output"`
}

// startDetached starts this command line again as the run, which prints to log, and waits until it has begun.
func startDetached(ctx context.Context, run string, log *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	hear, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer hear.Close()
	cmd := &exec.Cmd{Path: self, Args: slices.Concat(os.Args[:2], []string{"--" + asRunFlag, run}, os.Args[2:]),
		Stdout: log, Stderr: log, ExtraFiles: []*os.File{tell}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	err = cmd.Start()
	tell.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if said, _ := io.ReadAll(hear); bytes.Equal(said, []byte(begun)) {
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return &shownError{"the run did not begin, as shown above", cmp.Or(ended(cmd.ProcessState), err)}
}

// ended is the exit code of a process as an error, nil if there is none.
func ended(state *os.ProcessState) error {
	if code := state.ExitCode(); code > 0 {
		return &starlib.Exit{Code: code}
	}
	return nil
}

// checkDetach refuses what a run in the background cannot do.
func checkDetach(c *cli.Context, recipe string) error {
	switch {
	case c.IsSet(asRunFlag) && !runForm.MatchString(c.String(asRunFlag)):
		return runtime.Faultf(runtime.FaultUsage, "", "%q is not the id of a run", c.String(asRunFlag))
	case c.Bool("detach") && c.Bool("interactive"):
		return runtime.Faultf(runtime.FaultUsage, "", "--detach and --interactive exclude each other")
	case c.Bool("detach") && recipe == "-":
		return runtime.Faultf(runtime.FaultUsage, "write it to a file", "a recipe from stdin cannot run in the background")
	}
	return nil
}

// announce says to whoever started this process in the background that its run has begun, after the target has been
// reached: nobody would be there to be asked for a password later.
func announce(ctx context.Context, conn runtime.Conn) error {
	syscall.CloseOnExec(begunFD)
	starter := os.NewFile(begunFD, "starter")
	defer starter.Close()
	if err := conn.Run(ctx, runtime.Cmd{Args: []string{"true"}}); err != nil {
		hint := cmp.Or(runtime.HintOf(err), "a run in the background cannot ask for a password; the ssh-agent can hold a key")
		return &runtime.Error{Hint: hint, Err: err}
	}
	starter.WriteString(begun) // if nobody waits for it any more, it runs all the same
	return nil
}
