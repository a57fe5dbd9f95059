package slurm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// cancelChunk is how many jobs one scancel cancels: more at once keep slurmctld from its other users.
const cancelChunk = 100

// alreadyEnded are the errors that say that there is nothing to cancel.
var alreadyEnded = []string{"Invalid job id", "already completing or completed"}

// Cancel implements runtime.Scheduler. When it returns, Slurm has been told; it may take KillWait, by default 30
// seconds, until the last process is gone.
func (s *Scheduler) Cancel(ctx context.Context, ids ...runtime.JobID) error {
	clusters := byCluster(ids)
	if len(clusters) == 0 {
		return nil
	}
	program, keys := queryHead, 0
	for _, cluster := range slices.Sorted(maps.Keys(clusters)) {
		for chunk := range slices.Chunk(clusters[cluster], cancelChunk) {
			args := append([]string{"scancel"}, chunk...)
			program += fmt.Sprintf("try %d %s\n", keys, command(cluster, args...))
			keys++
		}
	}
	replies, err := s.ask(ctx, queryLimit, program)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	for key := range keys {
		r, ok := replies[fmt.Sprint(key)]
		if r.out = cancelErrors(r.out); r.out == "" && r.code != 127 {
			r.code = 0
		}
		if err := s.check("scancel", r, ok); err != nil {
			return err
		}
	}
	return nil
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
