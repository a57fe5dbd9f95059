package slurm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

const (
	// cancelChunk is how many jobs one scancel cancels: more at once keep slurmctld from its other users.
	cancelChunk = 100

	// cancelTries is how often one is tried while slurmctld does not answer. To cancel a job twice does no harm.
	cancelTries = 5
)

// alreadyEnded are the errors that say that there is nothing to cancel.
var alreadyEnded = []string{"Invalid job id", "already completing or completed"}

// Cancel implements runtime.Scheduler. When it returns, Slurm has been told; it may take KillWait, by default 30
// seconds, until the last process is gone.
func (s *Scheduler) Cancel(ctx context.Context, ids ...runtime.JobID) error {
	clusters := byCluster(ids)
	var commands []string
	for _, cluster := range slices.Sorted(maps.Keys(clusters)) {
		for chunk := range slices.Chunk(compress(clusters[cluster]), cancelChunk) {
			commands = append(commands, calls{}.command(cluster, append([]string{"scancel"}, chunk...)...))
		}
	}
	var err error
	for try := 0; len(commands) > 0; try++ {
		if try == cancelTries {
			return fmt.Errorf("cancel: %w", err)
		}
		if try > 0 {
			if e := runtime.Pause(ctx, time.Second<<(try-1)); e != nil {
				return fmt.Errorf("cancel: %w", e)
			}
		}
		commands, err = s.cancel(ctx, commands)
		if err != nil && (ctx.Err() != nil || runtime.ClassOf(err) == runtime.Permanent) {
			return fmt.Errorf("cancel: %w", err)
		}
	}
	return nil
}

// cancel runs the commands, and returns those that failed and the first one's error.
func (s *Scheduler) cancel(ctx context.Context, commands []string) (failed []string, err error) {
	program := queryHead
	for i, c := range commands {
		program += fmt.Sprintf("try %d %s\n", i, c)
	}
	replies, err := s.ask(ctx, queryLimit+time.Duration(len(commands))*time.Second, program, calls{"scancel": len(commands)})
	if err != nil {
		return commands, err
	}
	for i, c := range commands {
		r, ok := replies[fmt.Sprint(i)]
		if r.out = cancelErrors(r.out); r.out == "" && r.code != 127 && !killed(r.code) {
			r.code = 0
		}
		if e := s.check("scancel", r, ok); e != nil {
			failed = append(failed, c)
			if err == nil || runtime.ClassOf(e) == runtime.Permanent {
				err = e
			}
		}
	}
	return failed, err
}

// cancelErrors leaves out what scancel says of jobs that have ended.
func cancelErrors(out string) string {
	var left strings.Builder
	for line := range strings.Lines(out) {
		ended := func(text string) bool { return strings.Contains(line, text) }
		if strings.TrimSpace(line) != "" && !slices.ContainsFunc(alreadyEnded, ended) {
			left.WriteString(line)
		}
	}
	return left.String()
}
