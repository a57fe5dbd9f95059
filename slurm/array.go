package slurm

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// arrayChunk is how many jobs of a group go into one job array. Slurm's own limit is on the highest index, by default
// 1000. A power of ten makes an index of the group out of the array's by writing digits before it, as --output needs.
const arrayChunk = 1000

// chunkWithin returns the largest chunk whose indices Slurm takes, or 1: it takes no arrays.
func chunkWithin(maxArraySize int) int {
	chunk := arrayChunk
	for chunk > 1 && chunk > maxArraySize {
		chunk /= 10
	}
	return chunk
}

// groupOf returns what the jobs of a group have in common: the token and the directory without the index.
func groupOf(job runtime.Job) (token, dir string) {
	suffix := fmt.Sprintf(".%d", job.Index)
	return strings.TrimSuffix(job.Token, suffix), strings.TrimSuffix(job.Dir, suffix)
}

var offsetForm = regexp.MustCompile(`\+[0-9]{1,9}$`)

// arrayName returns the name of the array whose task 0 is the job with the index offset of a group.
func arrayName(group string, offset int) string {
	if offset > 0 || offsetForm.MatchString(group) {
		return fmt.Sprintf("%s+%d", group, offset)
	}
	return group
}

// taskToken returns the token of a task of an array, of which the array's name is known.
func taskToken(name string, task int) string {
	if at := offsetForm.FindStringIndex(name); at != nil {
		offset, _ := strconv.Atoi(name[at[0]+1:])
		name, task = name[:at[0]], task+offset
	}
	return fmt.Sprintf("%s.%d", name, task)
}

// arrayOutput returns the pattern by which Slurm finds each task's own file for what it prints.
func arrayOutput(dir string, offset, chunk int) string {
	index := "%a"
	if offset > 0 {
		index = fmt.Sprintf("%d%%%da", offset/chunk, len(strconv.Itoa(chunk))-1)
	}
	return strings.ReplaceAll(dir, "%", "%%") + "." + index + "/" + FileOutput
}

// maxTask is above what any cluster is configured for: whoever writes a list of more tasks means no good.
const maxTask = 4_000_000

// formatTasks writes ascending numbers as Slurm does: 0-3,7.
func formatTasks(tasks []int) string {
	var b strings.Builder
	for i := 0; i < len(tasks); i++ {
		first := i
		for i+1 < len(tasks) && tasks[i+1] == tasks[i]+1 {
			i++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(tasks[first]))
		if i > first {
			b.WriteString("-" + strconv.Itoa(tasks[i]))
		}
	}
	return b.String()
}

// A taskSet is a list of the tasks of an array, as Slurm writes it.
type taskSet []taskRange

type taskRange struct{ first, last, step int }

// parseTasks reads lists such as 0-3,7 and 0-98:2,[5,6]%10. Where Slurm left off (1,3,...), all that follows may be
// there. What is no such list is empty.
func parseTasks(s string) taskSet {
	s, _, _ = strings.Cut(s, "%") // how many may run at once
	var set taskSet
	for part := range strings.SplitSeq(strings.Trim(s, "[]"), ",") {
		if part == "..." && len(set) > 0 {
			return append(set, taskRange{set[len(set)-1].last + 1, math.MaxInt, 1})
		}
		span, stepText, stepped := strings.Cut(part, ":")
		from, to, ranged := strings.Cut(span, "-")
		if !ranged {
			to = from
		}
		r := taskRange{taskNumber(from), taskNumber(to), 1}
		if stepped {
			r.step = taskNumber(stepText)
		}
		if r.first < 0 || r.last < r.first || r.step < 1 {
			return nil
		}
		set = append(set, r)
	}
	return set
}

// taskNumber reads a number, or returns -1.
func taskNumber(s string) int {
	n, err := strconv.Atoi(s)
	if !isNumber(s) || err != nil || n > maxTask {
		return -1
	}
	return n
}

func (s taskSet) has(task int) bool {
	return slices.ContainsFunc(s, func(r taskRange) bool {
		return r.first <= task && task <= r.last && (task-r.first)%r.step == 0
	})
}

// overlaps reports whether a task may be in both.
func (s taskSet) overlaps(other taskSet) bool {
	return slices.ContainsFunc(s, func(a taskRange) bool {
		return slices.ContainsFunc(other, func(b taskRange) bool { return a.first <= b.last && b.first <= a.last })
	})
}

// compress writes the tasks of each array among the numbers of jobs as one: 100_0, 100_1 is 100_[0-1]. Each is then one
// request to slurmctld.
func compress(numbers []string) []string {
	tasks := make(map[string][]int)
	var out []string
	for _, number := range numbers {
		array, task, ok := strings.Cut(number, "_")
		if !ok {
			out = append(out, number)
			continue
		}
		if tasks[array] == nil {
			out = append(out, array+"_")
		}
		tasks[array] = append(tasks[array], taskNumber(task))
	}
	for i, number := range out {
		if array, ok := strings.CutSuffix(number, "_"); ok {
			all := tasks[array]
			slices.Sort(all)
			out[i] = number + "[" + formatTasks(slices.Compact(all)) + "]"
		}
	}
	return out
}
