package sim

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/aifb/aifb/runtime"
)

// A Store is a runtime.Store in memory. Its zero value is empty.
type Store struct {
	mu   sync.Mutex
	recs []runtime.Record
}

// Append implements runtime.Store.
func (s *Store) Append(ctx context.Context, recs ...runtime.Record) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recs = append(s.recs, recs...)
	return nil
}

// Records implements runtime.Store.
func (s *Store) Records(ctx context.Context, q runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(yield func(runtime.Record, error) bool) {
		s.mu.Lock()
		recs := slices.Clone(s.recs)
		s.mu.Unlock()
		slices.SortStableFunc(recs, func(a, b runtime.Record) int { return strings.Compare(a.Run, b.Run) })
		for _, r := range recs {
			if ctx.Err() != nil {
				yield(runtime.Record{}, context.Cause(ctx))
				return
			}
			if (q.Run == "" || q.Run == r.Run) && (q.Kind == "" || q.Kind == r.Kind) && !yield(r, nil) {
				return
			}
		}
	}
}

// Close implements runtime.Store.
func (s *Store) Close() error { return nil }
