package runtime

import (
	"context"
	"iter"
)

// Adopt takes over the run that the records tell of, and whose process has ended, in order to end it: Close follows. It
// asks the target once what became of the jobs, and submits nothing. A job that nobody knows any more is lost.
func (s *Session) Adopt(ctx context.Context, recs iter.Seq2[Record, error]) error {
	if err := s.read(recs); err != nil {
		return err
	}
	if err := s.recallSecrets(); err != nil {
		s.warn("what the jobs printed may show a secret: %v", err)
	}
	if len(s.state.Jobs) == 0 && !s.state.touched {
		return nil
	}
	if _, err := s.open(ctx); err != nil || len(s.state.Jobs) == 0 {
		return err
	}
	w := s.newWatcher()
	w.poll(ctx)
	if w.failing {
		return Faultf(FaultInfra, "", "run %s: its jobs on %s cannot be looked after", s.Run, s.Target.Name)
	}
	if len(w.missing) > 0 {
		if err := s.pause(ctx, findGrace); err != nil {
			return err
		}
		for token := range w.missing {
			w.missing[token] = s.now().Add(-lostAfter) // its process was not there to wait for it
		}
		w.poll(ctx)
	}
	s.watch()
	return nil
}

// read folds the records of the run.
func (s *Session) read(recs iter.Seq2[Record, error]) error {
	s.init()
	for rec, err := range recs {
		if err != nil {
			return err
		}
		if err := s.state.Apply(rec); err != nil {
			return err
		}
	}
	for _, j := range s.state.Jobs {
		if j.Collected != nil && j.Collected.Left { // by now they can perhaps be brought here
			j.Collected = nil
		}
	}
	s.Start = s.state.Start
	return nil
}
