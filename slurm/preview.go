package slurm

import "github.com/aifb/aifb/runtime"

// A Preview is what one sbatch would be given.
type Preview struct {
	Tokens []string // of the jobs that it would submit
	Args   []string // of sbatch
	Script string
	Err    error // why the jobs would not be submitted; then there is one, and no script
}

// Previews returns what Submit would do with the jobs, on a cluster of which nothing is known, without doing it.
func Previews(jobs ...runtime.Job) (all []Preview) {
	sub := &submission{Scheduler: New(nil, "")}
	sub.add(jobs)
	for _, t := range sub.tasks {
		if t.state == settled {
			all = append(all, Preview{Tokens: []string{t.job.Token}, Err: t.err})
		}
	}
	for _, b := range sub.batches() {
		_, _, args := b.args(arrayChunk)
		p := Preview{Args: append([]string{"--parsable"}, args...), Script: b.tasks[0].script}
		for _, t := range b.tasks {
			p.Tokens = append(p.Tokens, t.job.Token)
		}
		all = append(all, p)
	}
	return all
}
