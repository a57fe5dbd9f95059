package runtime

import "context"

// A Partitioner is a Scheduler whose jobs go to partitions.
type Partitioner interface {
	// Partitions returns the names of the partitions that there are, sorted. Without an answer there are none.
	Partitions(ctx context.Context) []string
}

// Partitions returns the names of the target's partitions, as far as it has any and answers.
func (s *Session) Partitions(ctx context.Context) []string {
	if p, ok := s.Target.Scheduler.(Partitioner); ok {
		return p.Partitions(ctx)
	}
	return nil
}

// Refused waits until a job was refused that neither a wait nor Refused has reported, and returns the error of that. Or
// else it is why ctx ended.
func (s *Session) Refused(ctx context.Context) error {
	return s.await(ctx, func(st *RunState) (bool, error) {
		for _, j := range st.Jobs {
			if j.Refused != nil && !s.told[j.Job.Name] {
				s.told[j.Job.Name] = true
				return true, refusedError(j)
			}
		}
		return false, nil
	})
}

// Unended returns the states of the jobs that have not ended, in the order of their start.
func (s *Session) Unended() (jobs []JobState) {
	s.view(func(st *RunState) {
		for _, j := range st.Jobs {
			if !j.Over() {
				jobs = append(jobs, *j)
			}
		}
	})
	return jobs
}
