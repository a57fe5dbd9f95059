package slurm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// separator is between the fields of what squeue and sacct print: no name and no reason has it.
const separator = "\x1f"

// squeueFormat asks squeue for the fields that parseSqueue expects, each with its width. The older -o has no exit code,
// without which every job that failed would have to be looked up once more.
var squeueFormat = strings.Join([]string{"JobArrayID:24", "State:24", "exit_code:12", "StartTime:16", "EndTime:16",
	"NodeList:128", "Reason:128"}, separator+",") + separator

// sacctFormat are the same fields, and when each attempt of a job was submitted.
const sacctFormat = "JobIDRaw,State,ExitCode,Start,End,NodeList,Reason,Submit"

// sacctStart is how far back sacct looks for a job: numbers are used again.
const sacctStart = "now-30days"

// noAccounting is what sacct says on a cluster that keeps no accounts.
const noAccounting = "accounting storage is disabled"

// Status implements runtime.Scheduler. It asks squeue for the user's jobs, all of them, because that is one cheap
// request however many there are. Accounting is asked only for jobs that squeue does not know, as it forgets a job
// minutes after its end.
func (s *Scheduler) Status(ctx context.Context, ids ...runtime.JobID) (map[runtime.JobID]runtime.Status, error) {
	known := make(map[runtime.JobID]runtime.Status)
	wanted := byCluster(ids)
	if len(wanted) == 0 {
		return known, nil
	}
	if err := s.query(ctx, wanted, known, "squeue", squeueArgs, parseSqueue); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	missing := make(map[string][]string)
	for cluster, numbers := range wanted {
		for _, number := range numbers {
			if _, ok := known[jobID(number, cluster)]; !ok {
				missing[cluster] = append(missing[cluster], number)
			}
		}
	}
	if len(missing) == 0 || s.accountless.Load() {
		return known, nil
	}
	if err := s.query(ctx, missing, known, "sacct", sacctArgs, parseSacct); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return known, nil
}

func squeueArgs([]string) []string {
	return []string{"squeue", "--me", "-t", "all", "-h", "-r", "-O", squeueFormat}
}

// sacctArgs asks for allocations, not steps, with one line for each attempt.
func sacctArgs(numbers []string) []string {
	return []string{"sacct", "-X", "-D", "-P", "-n", "--delimiter=" + separator, "--starttime=" + sacctStart,
		"-o", sacctFormat, "-j", strings.Join(numbers, ",")}
}

// query runs a command once per cluster, and adds what it knows of the wanted jobs to known.
func (s *Scheduler) query(ctx context.Context, wanted map[string][]string, known map[runtime.JobID]runtime.Status,
	program string, args func(numbers []string) []string, parse func(out string) map[string]runtime.Status,
) error {
	clusters := slices.Sorted(maps.Keys(wanted))
	text := queryHead
	for i, cluster := range clusters {
		text += fmt.Sprintf("try %d %s\n", i, command(cluster, args(wanted[cluster])...))
	}
	replies, err := s.ask(ctx, queryLimit, text)
	if err != nil {
		return err
	}
	for i, cluster := range clusters {
		r, ok := replies[fmt.Sprint(i)]
		if program == "sacct" && ok && (r.code == 127 || r.code != 0 && strings.Contains(r.out, noAccounting)) {
			s.accountless.Store(true)
			continue
		}
		if err := s.check(program, r, ok); err != nil {
			return err
		}
		statuses := parse(r.out)
		for _, number := range wanted[cluster] {
			if status, ok := statuses[number]; ok {
				known[jobID(number, cluster)] = status
			}
		}
	}
	return nil
}
