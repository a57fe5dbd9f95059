package storage

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aifb/aifb/runtime"
)

// Memory returns a store that is gone with the process: for runs that are only rehearsed.
func Memory() runtime.Store { return new(memory) }

type memory struct {
	mu     sync.Mutex
	recs   []runtime.Record
	closed bool
}

func (m *memory) Append(ctx context.Context, recs ...runtime.Record) error {
	if err := check(recs); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, r := range recs {
		r.Time, r.Labels, r.Data = r.Time.UTC().Truncate(time.Microsecond), maps.Clone(r.Labels), slices.Clone(r.Data)
		if len(r.Labels) == 0 {
			r.Labels = nil
		}
		m.recs = append(m.recs, r)
	}
	return nil
}

func (m *memory) Records(ctx context.Context, q runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(yield func(runtime.Record, error) bool) {
		recs, err := m.all()
		for _, r := range recs {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				break
			}
			if (q.Run == "" || q.Run == r.Run) && (q.Kind == "" || q.Kind == r.Kind) && !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(runtime.Record{}, err)
		}
	}
}

// all returns all records, by their runs.
func (m *memory) all() ([]runtime.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	recs := slices.Clone(m.recs)
	slices.SortStableFunc(recs, func(a, b runtime.Record) int { return strings.Compare(a.Run, b.Run) })
	return recs, nil
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
