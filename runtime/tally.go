package runtime

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tallyEvery is how often a run stores what its scheduler has asked the cluster. What has come since is stored when it
// ends.
const tallyEvery = 5 * time.Minute

// add adds the calls of a later time.
func (t Tally) add(later Tally) Tally {
	t.Calls += later.Calls
	t.Skipped += later.Skipped
	if t.First == "" {
		t.First = later.First
	}
	return t
}

// since returns what was counted after an earlier time.
func (t Tally) since(earlier Tally) Tally {
	t.Calls -= earlier.Calls
	if t.Skipped -= earlier.Skipped; t.Skipped == 0 {
		t.First = ""
	}
	return t
}

// Tallies says what was counted, such as "3 sbatch, 12 squeue (1 line skipped)".
func Tallies(tallies map[string]Tally) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[name]
		part := fmt.Sprintf("%d %s", t.Calls, name)
		switch {
		case t.Skipped == 1:
			part += " (1 line skipped)"
		case t.Skipped > 1:
			part += fmt.Sprintf(" (%d lines skipped)", t.Skipped)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// counted returns what the session's scheduler has counted.
func (s *Session) counted() map[string]Tally {
	if c, ok := s.Target.Scheduler.(Counter); ok {
		return c.Tallies()
	}
	return nil
}

// tally warns of the first line of each command that was not understood, and stores what was counted if it is time, or
// at last.
func (s *Session) tally(ctx context.Context, last bool) {
	now := s.counted()
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if t := now[name]; t.Skipped > 0 && s.skipped(name) {
			s.warn("%s of %s printed a line that is not understood, and was skipped: %s", name, s.Target.Name,
				Printable(t.First))
		}
	}
	if news := s.untold(now, last); len(news) > 0 {
		s.store(ctx, event(KindCalls, "", news))
	}
}

// untold returns what of the counts is to be stored.
func (s *Session) untold(now map[string]Tally, last bool) map[string]Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !last && s.since(s.talliedAt) < tallyEvery {
		return nil
	}
	news := make(map[string]Tally)
	for name, t := range now {
		if t = t.since(s.tallied[name]); t != (Tally{}) {
			news[name] = t
		}
	}
	s.tallied, s.talliedAt = now, s.now()
	return news
}

// skipped reports whether it is news that lines of a command were skipped.
func (s *Session) skipped(command string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warned[command] {
		return false
	}
	s.warned[command] = true
	return true
}
