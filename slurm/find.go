package slurm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// findProgram asks for the numbers and names of the user's jobs, those that squeue still has and those of the last day.
var findProgram = queryHead + "export SLURM_BITSTR_LEN=0\n" +
	"try squeue " + runtime.Quote("squeue", "--me", "-a", "-h", "-r", "-t", "all", "-o", "%i"+separator+"%j") + "\n" +
	"try sacct " + runtime.Quote("sacct", "-X", "-P", "-n", "--delimiter="+separator, "-o", "JobID,JobName",
	"--starttime=now-1days") + "\n"

// Find implements runtime.Finder.
func (s *Scheduler) Find(ctx context.Context, prefix string) ([]runtime.Found, error) {
	replies, err := s.ask(ctx, queryLimit, findProgram, calls{"squeue": 1, "sacct": 1})
	if err != nil {
		return nil, fmt.Errorf("find jobs: %w", err)
	}
	r, ok := replies["squeue"]
	if err := s.check("squeue", r, ok); err != nil {
		return nil, fmt.Errorf("find jobs: %w", err)
	}
	// What has not ended is in squeue: of sacct's answer, what there is will do.
	tokens := make(map[runtime.JobID]string)
	for _, name := range []string{"squeue", "sacct"} {
		if r := replies[name]; r.code == 0 {
			var skipped skips
			parseTokens(r.out, tokens, &skipped)
			s.meter.skip(name, skipped)
		}
	}
	var found []runtime.Found
	var ids []runtime.JobID
	for id, token := range tokens {
		if strings.HasPrefix(token, prefix) {
			found = append(found, runtime.Found{Token: token, ID: id})
			ids = append(ids, id)
		}
	}
	known, err := s.Status(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("find jobs: %w", err)
	}
	for i := range found {
		found[i].Status = known[found[i].ID]
	}
	slices.SortFunc(found, func(a, b runtime.Found) int { return strings.Compare(a.Token, b.Token) })
	return found, nil
}

// parseTokens reads lines of a number and a name into tokens.
func parseTokens(out string, tokens map[runtime.JobID]string, skipped *skips) {
	for line := range strings.Lines(out) {
		id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), separator)
		if !ok {
			skipped.add(line)
			continue
		}
		number, ok := skipped.id(id)
		if !ok {
			continue
		}
		if _, task, ok := strings.Cut(number, "_"); ok {
			name = taskToken(name, taskNumber(task))
		}
		tokens[runtime.JobID(number)] = name
	}
}
