package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
	"github.com/aifb/aifb/storage"
)

func execCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run a recipe",
		ArgsUsage: "RECIPE [name=value ...]",
		Description: `RECIPE is a .star or .yaml file, one of those that come with aifb, such as @aifb//quickstart.star, or - for what is read
from stdin. Its parameters are given as name=value; a list as name=1,2,4. aifb exec RECIPE --help shows them. Those that
are not given so are taken from the environment, where AIFB_PARAM_NAME is name, and then from the file of --params.

When the recipe ends, or fails, or is interrupted, the jobs that it started are cancelled, and their logs and metrics
are brought to this machine. Everything is kept in the store: aifb show prints what was measured, aifb export writes it
as CSV, aifb logs prints what the jobs printed. Exit codes: aifb help exit-codes.

   aifb exec @aifb//quickstart.star concurrency=1,8
   aifb exec -t meluxina --timeout 2h bench.star`,
		Flags: []cli.Flag{
			targetFlag(), storeFlag(), configFlag(), paramsFlag(),
			boolFlag("keep", "leave jobs and their files on the target when the recipe ends"),
			&cli.DurationFlag{Name: "timeout", Usage: "end the run after `DURATION`, such as 90m", DefaultText: "none"},
			boolFlag("detach", "run in the background, also after you log out; print the id of the run"),
			boolFlag("interactive", "stay at the prompt of aifb repl afterwards, with what the recipe defined and started", "i"),
			boolFlag("json", "print the outcome and the measurements as JSON; what the recipe prints goes to stderr"),
			boolFlag("verbose", "say more on stderr", "v"),
			&cli.BoolFlag{Name: recipeHelpFlag, Hidden: true},
			&cli.StringFlag{Name: asRunFlag, Hidden: true},
		},
		Action: func(c *cli.Context) error { return execRecipe(c, std) },
	}
}

// stdin is the recipe that - means.
const stdin = "/dev/stdin"

func execRecipe(c *cli.Context, std streams) error {
	name := c.Args().First()
	if name == "" && c.Bool(recipeHelpFlag) {
		return cli.ShowSubcommandHelp(c)
	}
	if name == "" {
		return runtime.Faultf(runtime.FaultUsage, helpHint(c), "there is no recipe to run")
	}
	timeout := c.Duration("timeout")
	if timeout < 0 || timeout == 0 && c.IsSet("timeout") {
		return runtime.Faultf(runtime.FaultUsage, "", "--timeout %v is no time to run in", timeout)
	}
	if c.Bool("interactive") && (c.Bool("json") || name == "-") {
		return runtime.Faultf(runtime.FaultUsage, "", "--interactive needs stdin and stdout for the prompt")
	}
	if err := checkDetach(c, name); err != nil {
		return err
	}
	recipe, start, err := readRecipe(c, std, name)
	if recipe == nil {
		return err
	}
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	if c.Bool("detach") && !c.IsSet(asRunFlag) {
		return detach(c, std, cfg)
	}
	start.Target = targetName(c, cfg, recipe.Target())
	start.Dir, _ = os.Getwd() // without one, names of files had better be absolute
	return withSession(c, std, cfg, start, "", func(ctx context.Context, s *runtime.Session, caught *signals) error {
		env := recipeEnv(c, std, s)
		if c.IsSet(asRunFlag) {
			if err := announce(ctx, s.Target.Conn); err != nil {
				return err
			}
		}
		if !c.Bool("interactive") {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			return recipe.Exec(ctx, s, env, start.Args)
		}
		repl := recipe.REPL(s, env)
		return converse(ctx, c, std, cfg.person, repl, s, caught, func(ctx context.Context) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			return repl.Run(ctx, recipe, start.Args)
		})
	})
}

// withTimeout bounds a recipe by --timeout; 0 does not.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, timeout,
		runtime.Faultf(runtime.FaultTimeout, "", "the run did not end within --timeout %v", timeout))
}

// recipeEnv is what a recipe has of this process. With --json, stdout is for the outcome.
func recipeEnv(c *cli.Context, std streams, s *runtime.Session) starlib.Env {
	env := starlib.Env{Stdout: std.out, Warn: s.Warn}
	if c.Bool("json") {
		env.Stdout = std.err
	}
	return env
}

// withSession runs f in a session of its own, and closes it whatever happens. The session is a new run, or goes on with
// the one named.
func withSession(c *cli.Context, std streams, cfg *config, start runtime.RunStart, run string, f func(context.Context, *runtime.Session, *signals) error) error {
	target, err := openTarget(cfg, start.Target)
	if err != nil {
		return err
	}
	defer target.Conn.Close()
	url := storeURL(c, cfg)
	store, err := storage.Open(c.Context, url)
	if err != nil {
		return err
	}
	defer store.Close()
	start.Version = version()
	p := newProgress(std.err, c.Bool("verbose"))
	s := &runtime.Session{
		Run: cmp.Or(run, c.String(asRunFlag), runtime.NewRunID(time.Now(), rand.Reader)), Start: start, Target: target, Store: store, Files: storage.Files(url),
		Binary: binary, Notify: p.record, Warn: p.warn, Tell: func(text string) { p.say("%s", text) },
	}
	caught, stop := catchSignals(std.err, "left without waiting; this stops what may still run: aifb stop "+s.Run)
	defer stop()
	for _, o := range []*output{std.out, std.err} {
		o.onUnread(func() { caught.handle(&interrupted{syscall.SIGPIPE}) })
	}
	unlock, err := begin(c.Context, s, run != "")
	if err != nil {
		return err
	}
	defer unlock()
	ctx, done := caught.scope(c.Context)
	defer done()
	defer context.AfterFunc(ctx, func() { p.say("%v: stopping the run; Ctrl-C leaves at once", context.Cause(ctx)) })()
	err = func() (err error) {
		defer runtime.Rescue("aifb", &err) // its jobs are cancelled all the same
		return f(ctx, s, caught)
	}()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause // whatever the recipe made of it
	}
	end := closeSession(s, p, err, c.Bool("keep"))
	if err == nil {
		err = end
	} else if end != nil {
		p.warn(end.Error())
	}
	if c.Bool("json") {
		if failed := printJSON(std.out, s, err); err == nil {
			err = failed
		}
	}
	p.summary(s, c.Bool("keep"))
	return err
}

// begin begins the run of a session, or goes on with it, and makes it this process's until unlock.
func begin(ctx context.Context, s *runtime.Session, resume bool) (unlock func(), err error) {
	if !resume {
		if err := s.Open(ctx); err != nil { // before anything else is written
			return nil, err
		}
		return lockRun(s.Files, s.Run)
	}
	if unlock, err = lockRun(s.Files, s.Run); err != nil {
		return nil, err
	}
	s.Tell("run " + s.Run + " on " + s.Target.Name + " goes on")
	if err := s.Reopen(ctx, s.Store.Records(ctx, runtime.Query{Run: s.Run})); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// closeSession stops what still runs. Its time is its own: the run's may be over.
func closeSession(s *runtime.Session, p *progress, err error, keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	p.closing.Store(true)
	stopped, err := s.Close(ctx, err, keep)
	if len(stopped) > 0 {
		p.say("stopped %s", strings.Join(stopped, ", "))
	}
	return err
}

// outcome is the form of exec --json.
type outcome struct {
	Version int             `json:"version"`
	Run     string          `json:"run"`
	Exit    int             `json:"exit"`
	Errors  []jsonError     `json:"errors"`
	Unmet   []jsonUnmet     `json:"unmet"`
	Results json.RawMessage `json:"results"`
}

// jsonUnmet is a threshold that was not met.
type jsonUnmet struct {
	Message string `json:"message"`
	Pos     string `json:"pos"`
}

func describeUnmet(unmet []runtime.Unmet) []jsonUnmet {
	all := []jsonUnmet{}
	for _, u := range unmet {
		all = append(all, jsonUnmet{u.Message, u.Deed.Pos})
	}
	return all
}

func printJSON(w io.Writer, s *runtime.Session, err error) error {
	var results strings.Builder
	if err := runtime.WriteJSON(&results, s.Measurements(runtime.Where{})); err != nil {
		return err
	}
	return writeJSON(w, outcome{Version: 1, Run: s.Run, Exit: exitCode(err), Errors: describeErrors(err),
		Unmet: describeUnmet(s.Unmet()), Results: json.RawMessage(results.String())})
}
