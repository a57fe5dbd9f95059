package main

import (
	"errors"

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

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if e := (*shownError)(nil); errors.As(err, &e) {
		return exitCode(e.first)
	}
	if e := (*interrupted)(nil); errors.As(err, &e) {
		return 128 + int(e.signal)
	}
	if e := (*starlib.Exit)(nil); errors.As(err, &e) {
		return e.Code
	}
	if e := (*starlib.Internal)(nil); errors.As(err, &e) {
		return 70
	}
	switch runtime.FaultOf(err) {
	case runtime.FaultUsage:
		return 2
	case runtime.FaultRecipe:
		return 3
	case runtime.FaultRun:
		return 4
	case runtime.FaultThreshold:
		return 5
	case runtime.FaultInfra:
		return 6
	case runtime.FaultTimeout:
		return 7
	}
	return 1
}
