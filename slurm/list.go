package slurm

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aifb/aifb/runtime"
)

// Formats of the tables. What anybody may choose, a job's name, is the last field but one of squeue, before the reason,
// and the last of sacct.
var (
	// listQueue asks for no %C: for the cores of a job, squeue has slurmctld send all that it knows of every job.
	listQueue    = strings.Join([]string{"%i", "%u", "%a", "%P", "%q", "%T", "%D", "%N", "%M", "%l", "%V", "%S", "%r", "%j"}, separator)
	listNodes    = strings.Join([]string{"%P", "%a", "%l", "%D", "%T", "%c", "%m", "%G", "%f", "%N"}, separator)
	listAccounts = "JobID,User,Account,Partition,QOS,State,ExitCode,NNodes,AllocCPUS,NodeList,ElapsedRaw,TimelimitRaw,Submit,Start,End,JobName"
)

// List implements runtime.Lister. It asks one command. What Where says it tells the command too, where that understands
// it, so that the answer is short.
func (s *Scheduler) List(ctx context.Context, l runtime.Listing) ([][]string, error) {
	program := string(l.Table)
	end := terminator + rand.Text() // which nobody can have in the name of a job
	replies, err := s.ask(ctx, queryLimit, queryHead+askShell+"ask list "+listCommand(l, end)+"\n", calls{program: 1})
	if err != nil {
		return nil, err
	}
	a := answerOf(replies, "list")
	if l.Table == runtime.TableAccounts && a.ok && isAccountless(reply{a.code, a.out + a.errs}) {
		return nil, runtime.Faultf(runtime.FaultInfra, "squeue() has the jobs that wait or run",
			"%s keeps no accounts of jobs", s.name)
	}
	if err := s.failed(program, a); err != nil {
		return nil, err
	}
	if l.Table == runtime.TableAccounts && a.out == "" && strings.Contains(a.errs, "error:") { // it exits with 0 all the same
		return nil, s.failed(program, answer{reply: reply{1, a.out}, errs: a.errs, ok: true})
	}
	var rows [][]string
	var skipped skips
	switch l.Table {
	case runtime.TableQueue:
		rows, skipped = parseListedJobs(a.out, end)
	case runtime.TableAccounts:
		rows, skipped = parseListedAccounts(a.out)
	default:
		rows, skipped = parseListedNodes(a.out, end)
	}
	s.meter.skip(program, skipped)
	return rows, nil
}

// listCommand returns the words of the shell that print a table.
func listCommand(l runtime.Listing, end string) string {
	var args []string
	selectable := []string{"user", "partition", "name"}
	switch l.Table {
	case runtime.TableQueue:
		args = []string{"squeue", "-h", "-o", listQueue + separator + end}
	case runtime.TableAccounts:
		args = []string{"sacct", "-X", "-P", "-n", "--delimiter=" + separator, "-o", listAccounts,
			fmt.Sprintf("--starttime=now-%dminutes", int(l.Since/time.Minute)+1)}
	default:
		args, selectable = []string{"sinfo", "-h", "-e", "-o", listNodes + separator + end}, []string{"partition"}
	}
	for _, column := range selectable {
		if option := selection(l, column); option != "" {
			args = append(args, option)
		}
	}
	return runtime.Quote(args...)
}

// selection returns the option that selects by a column, or "" if there is none for what is wanted.
func selection(l runtime.Listing, column string) string {
	values := l.Where[column]
	switch {
	case len(values) == 0 || slices.ContainsFunc(values, func(v string) bool { return v == "" || strings.ContainsAny(v, ",\x00") }):
		return ""
	case column != "user" || !slices.Contains(values, runtime.Me):
		return "--" + column + "=" + strings.Join(values, ",")
	case l.Table == runtime.TableQueue && len(values) == 1:
		return "--me"
	}
	return "" // sacct has no others than the user's
}

// tidy cleans the cells of a record. What was printed before the record, and is in front of its first cell, is skipped.
func tidy(cells []string, skipped *skips) {
	first := lastLine(cells[0])
	skipped.add(strings.TrimSuffix(cells[0], first))
	cells[0] = first
	for i := range cells {
		cells[i] = clean(cells[i])
	}
}

// parseListedJobs reads records of listQueue. One that it does not understand it skips.
func parseListedJobs(out, end string) (rows [][]string, skipped skips) {
	for record := range strings.SplitSeq(out, end) {
		f := strings.Split(record, separator)
		if len(f) < 15 { // the last is empty
			skipped.add(record)
			continue
		}
		tidy(f, &skipped)
		if !isListedID(f[0]) {
			skipped.add(record)
			continue
		}
		started := formatEpoch(f[11])
		if f[5] == "PENDING" && stuck(f[12]) {
			started = ""
		}
		rows = append(rows, []string{f[0], clean(strings.Join(f[13:len(f)-1], " ")), f[1], known(f[2]), f[3], known(f[4]), f[5],
			strings.TrimPrefix(f[12], "None"), number(f[6]), known(f[7]), seconds(f[8]), seconds(f[9]), formatEpoch(f[10]), started})
	}
	return rows, skipped
}

// parseListedAccounts reads lines of listAccounts.
func parseListedAccounts(out string) (rows [][]string, skipped skips) {
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), separator)
		if len(f) < 16 {
			skipped.add(line)
			continue
		}
		tidy(f, &skipped)
		if !isListedID(f[0]) {
			skipped.add(line)
			continue
		}
		state, _, _ := strings.Cut(f[5], " by ")
		exit := ""
		if code, signal := exitCode(f[6]); code >= 0 && signal == 0 && f[14] != "Unknown" {
			exit = strconv.Itoa(code)
		}
		limit := ""
		if minutes, err := strconv.ParseUint(f[11], 10, 32); err == nil { // else "Partition_Limit" or "UNLIMITED"
			limit = strconv.FormatUint(minutes*60, 10)
		}
		nodes := f[9]
		if nodes == "None assigned" {
			nodes = ""
		}
		rows = append(rows, []string{f[0], clean(strings.Join(f[15:], " ")), f[1], f[2], f[3], known(f[4]), state, exit, number(f[7]),
			number(f[8]), nodes, number(f[10]), limit, formatEpoch(f[12]), formatEpoch(f[13]), formatEpoch(f[14])})
	}
	return rows, skipped
}

// parseListedNodes reads records of listNodes.
func parseListedNodes(out, end string) (rows [][]string, skipped skips) {
	for record := range strings.SplitSeq(out, end) {
		f := strings.Split(record, separator)
		if len(f) != 11 {
			skipped.add(record)
			continue
		}
		tidy(f, &skipped)
		if f[0] == "" {
			skipped.add(record)
			continue
		}
		rows = append(rows, []string{strings.TrimSuffix(f[0], "*"), f[1], seconds(f[2]), number(f[3]), f[4], number(f[5]),
			number(f[6]), known(f[7]), known(f[8]), known(f[9])})
	}
	return rows, skipped
}

// isListedID reports whether s is the number of a job, of tasks that wait (7_[1-3,9%2]), or of a part of a heterogeneous
// job (7+1).
func isListedID(s string) bool {
	first, rest, _ := strings.Cut(s, "_")
	first, _, _ = strings.Cut(first, "+")
	return isJob(first) && !strings.ContainsFunc(rest, unicode.IsSpace)
}

// known returns what a command says of something, or "" if it says that it does not know.
func known(s string) string {
	if s == "(null)" || s == "N/A" || s == "n/a" {
		return ""
	}
	return s
}

// number returns a number that a command printed, or "". With a "+" behind it, it is the least of several.
func number(s string) string {
	s = strings.TrimSuffix(s, "+")
	if _, err := strconv.ParseUint(s, 10, 63); err != nil {
		return ""
	}
	return s
}

// seconds reads a time such as 1-02:03:04, 2:03:04, 3:04 or, of a limit, UNLIMITED, infinite and NOT_SET.
func seconds(s string) string {
	days, clock, hasDays := strings.Cut(s, "-")
	if !hasDays {
		days, clock = "0", s
	}
	total, err := strconv.ParseUint(days, 10, 20)
	if err != nil || !strings.Contains(clock, ":") {
		return ""
	}
	parts := strings.Split(clock, ":")
	if len(parts) > 3 {
		return ""
	}
	total *= 24 * 3600
	for i, unit := range []uint64{1, 60, 3600}[:len(parts)] {
		n, err := strconv.ParseUint(parts[len(parts)-1-i], 10, 20)
		if err != nil {
			return ""
		}
		total += n * unit
	}
	return strconv.FormatUint(total, 10)
}

// formatEpoch writes a time that SLURM_TIME_FORMAT=%s made.
func formatEpoch(s string) string { return runtime.FormatTime(epoch(cmp.Or(s, "0"))) }
