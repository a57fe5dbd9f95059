package main

import (
	"errors"
	"fmt"
	goruntime "runtime"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

// exitCodes is the text of `aifb help exit-codes`.
const exitCodes = `Exit codes of aifb:

    0  ok
    1  unexpected
    2  usage: the command line or the config file
    3  invalid recipe: syntax, names, types
    4  the recipe failed: fail(), a runtime error, a job that failed or that the cluster refused
    5  a threshold was not met
    6  infrastructure: SSH, Slurm, the store
    7  time-out: a queue_timeout, a timeout, or --timeout
   70  internal error; please report it
  130  interrupted by Ctrl-C
  143  terminated by SIGTERM
  129  the terminal was lost (SIGHUP)
  141  nobody read the output any more (SIGPIPE)

10 to 63 are the recipe's own: exit(code).
`

// jsonErrors is the text of `aifb help json`.
const jsonErrors = `With --json, what a command prints on stdout is one JSON object with a "version"; it is 1 until something that is
there is taken away or changes its meaning. What goes wrong is in it too, and on stderr as text:

    {"version": 1, "exit": 3, "errors": [{"kind": "invalid recipe", "message": "undefined: servce",
      "hint": "did you mean service?", "frames": [{"file": "r.star", "line": 1, "col": 1}]}]}

  exit      the exit code, see aifb help exit-codes
  errors    all that went wrong; [] if nothing did
  kind      usage, invalid recipe, recipe failed, threshold, infrastructure, timeout, interrupted, exit, internal or
            unexpected
  message   what went wrong, without its place
  hint      what to do about it, if something is known
  frames    where in the recipe, the innermost call first: file, line, col, func (if it is in one), and skipped: how
            many frames after it are left out

exec and resume have also run, results (the measurements) and unmet (the thresholds of expect(), each with message and
pos); they are missing if there was no run, such as where the recipe does not parse.
`

// classify is the one place where an error becomes an exit code, and a word for it.
func classify(err error) (code int, kind string) {
	if err == nil {
		return 0, "ok"
	}
	if e := (*shownError)(nil); errors.As(err, &e) {
		return classify(e.first)
	}
	if e := (*interrupted)(nil); errors.As(err, &e) {
		return 128 + int(e.signal), "interrupted"
	}
	if e := (*starlib.Exit)(nil); errors.As(err, &e) {
		return e.Code, "exit"
	}
	if e := (*runtime.Internal)(nil); errors.As(err, &e) {
		return 70, "internal"
	}
	fault := runtime.FaultOf(err)
	switch fault {
	case runtime.FaultUsage:
		code = 2
	case runtime.FaultRecipe:
		code = 3
	case runtime.FaultRun:
		code = 4
	case runtime.FaultThreshold:
		code = 5
	case runtime.FaultInfra:
		code = 6
	case runtime.FaultTimeout:
		code = 7
	default:
		return 1, "unexpected"
	}
	return code, string(fault)
}

func exitCode(err error) int {
	code, _ := classify(err)
	return code
}

// A commandError is the error of a command, with those of its flags that say how to show it.
type commandError struct {
	err           error
	verbose, json bool
}

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

func withFlags(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		err := action(c)
		if err == nil {
			return nil
		}
		return &commandError{err, c.Bool("verbose"), c.Bool("json")}
	}
}

// reportError shows the error that ended the program. What wants JSON gets it, unless it has got some already.
func reportError(std streams, err error, asJSON bool) {
	style := starlib.Style{Colour: wantsColour(std.err)}
	if e := (*commandError)(nil); errors.As(err, &e) {
		err, style.Verbose, asJSON = e.err, e.verbose, e.json
	}
	if asJSON && std.out.unused() {
		writeJSON(std.out, failed{Version: 1, Exit: exitCode(err), Errors: describeErrors(err)})
	}
	starlib.FormatError(std.err, err, style)
	if e := (*runtime.Internal)(nil); errors.As(err, &e) {
		fmt.Fprintf(std.err, "  aifb %s on %s/%s, %s\n", version(), goruntime.GOOS, goruntime.GOARCH, goruntime.Version())
	}
}

// failed is the form of --json where a command fails before it has an outcome.
type failed struct {
	Version int         `json:"version"`
	Exit    int         `json:"exit"`
	Errors  []jsonError `json:"errors"`
}

type jsonError struct {
	Kind    string      `json:"kind"`
	Message string      `json:"message"`
	Hint    string      `json:"hint,omitempty"`
	Frames  []jsonFrame `json:"frames"`
}

type jsonFrame struct {
	File    string `json:"file"`
	Line    int32  `json:"line"`
	Col     int32  `json:"col"`
	Func    string `json:"func,omitempty"`
	Skipped int    `json:"skipped,omitempty"` // frames after it
}

// describeErrors returns the JSON form of all that err is a join of.
func describeErrors(err error) []jsonError {
	all := []jsonError{}
	for _, err := range starlib.Split(err) {
		_, kind := classify(err)
		e := jsonError{Kind: kind, Message: starlib.Message(err), Hint: starlib.Hint(err), Frames: []jsonFrame{}}
		if located := (*starlib.SourceError)(nil); errors.As(err, &located) {
			for _, f := range located.Frames {
				e.Frames = append(e.Frames, jsonFrame{f.Pos.Filename(), f.Pos.Line, f.Pos.Col, f.Func, f.Skipped})
			}
		}
		all = append(all, e)
	}
	return all
}
