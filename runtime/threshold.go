package runtime

import (
	"context"
	"slices"
)

// An Unmet is a threshold that a run has not met.
type Unmet struct {
	Deed    Deed   `json:"deed"`
	Message string `json:"message"`
}

// Expect remembers that a threshold was not met, unless it was met. A run that was resumed does not forget one.
func (s *Session) Expect(ctx context.Context, d Deed, met bool, message string) error {
	d = d.describe("expect", "", nil) // what was measured may be in the message, and differ
	if done, err := s.done(d); done || err != nil || met {
		return err
	}
	return s.append(ctx, event(KindUnmet, "", Unmet{d, message}))
}

// Unmet returns the thresholds that the run has not met so far.
func (s *Session) Unmet() (unmet []Unmet) {
	s.view(func(st *RunState) { unmet = slices.Clone(st.Unmet) })
	return unmet
}

// applyUnmet adds a threshold that was not met.
func (s *RunState) applyUnmet(rec Record) error {
	var u Unmet
	if err := s.decode(rec, &u); err != nil {
		return err
	}
	s.remember(u.Deed)
	s.Unmet = append(s.Unmet, u)
	return nil
}
