package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// How a session remembers what happens, and waits for it.

// append stores records and applies them to the state. If the store fails, they are applied all the same: what runs has
// to be stopped, and for that it has to be known.
func (s *Session) append(ctx context.Context, recs ...Record) error {
	if len(recs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stamp(recs)
	err := s.persist(ctx, recs)
	if err != nil && s.broken == nil {
		return err // no store takes them
	}
	if applied := s.apply(recs); applied != nil {
		return applied
	}
	return err
}

func (s *Session) stamp(recs []Record) {
	now := s.now().UTC().Truncate(time.Microsecond)
	for i := range recs {
		recs[i].Run, recs[i].Time = s.Run, now
	}
}

// persist stores records, also if the run is being cancelled: it happened. The caller holds mu.
func (s *Session) persist(ctx context.Context, recs []Record) error {
	if s.broken == nil {
		err := s.Store.Append(context.WithoutCancel(ctx), recs...)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("store: %w", err)
		if FaultOf(err) == FaultRun {
			return err
		}
		s.broken = err
		s.wakeAll()
	}
	s.unsaved = append(s.unsaved, recs...)
	return s.broken
}

// save gives a store that failed another chance to take what has happened since.
func (s *Session) save(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil && s.Store.Append(ctx, s.unsaved...) == nil {
		s.broken, s.unsaved = nil, nil
	}
}

// apply adds records to the state, and tells those who wait for it to change. The caller holds mu.
func (s *Session) apply(recs []Record) error {
	for _, rec := range recs {
		if err := s.state.Apply(rec); err != nil {
			return err
		}
		if s.Notify != nil && s.broken == nil {
			s.Notify(rec, &s.state)
		}
		if j := s.state.Job(rec.Source); rec.Kind == KindJobStatus && j != nil && j.Status.State == Ended {
			s.freed = true
		}
	}
	if s.freed && s.submitNow != nil {
		notify(s.submitNow)
	}
	s.wakeAll()
	return nil
}

// wakeAll makes those who wait look again. The caller holds mu.
func (s *Session) wakeAll() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// event makes a record with data, which is one of this package's own types and can always be encoded.
func event(kind Kind, source string, data any) Record {
	rec := Record{Kind: kind, Source: source}
	if data != nil {
		rec.Data, _ = json.Marshal(data)
	}
	return rec
}

// view calls f with the state, which f must not keep.
func (s *Session) view(f func(*RunState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.state)
}

// await returns nil once done says so. It asks again whenever the state changes. If the store fails it waits only while
// the run is being closed.
func (s *Session) await(ctx context.Context, done func(*RunState) (bool, error)) error {
	return s.awaitAnyway(ctx, func(st *RunState) (bool, error) {
		ok, err := done(st)
		if !ok && err == nil && !s.closing {
			err = s.broken
		}
		return ok, err
	})
}

// look asks whether what is waited for is there. If not, changed is closed when the state has changed.
func (s *Session) look(done func(*RunState) (bool, error)) (ok bool, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok, err = done(&s.state)
	return ok, s.changed, err
}

// awaitAnyway is await for those who work until the run is closed, also if the store fails.
func (s *Session) awaitAnyway(ctx context.Context, done func(*RunState) (bool, error)) error {
	for {
		ok, changed, err := s.look(done)
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
