package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// A Deed is a call of a recipe that acts, as its run remembers it. When the recipe is run again, for a run that was
// interrupted, the deed with the same Key is not done again: it returns what it returned.
type Deed struct {
	Key  string `json:"key"`            // which of the recipe's deeds it is: its thread, and its number there
	Pos  string `json:"pos,omitempty"`  // the file, line and column of the call, for people
	Call string `json:"call,omitempty"` // the call, such as client(name = "c"), for people
	Hash string `json:"hash,omitempty"` // of all that it was given

	Result json.RawMessage `json:"result,omitempty"` // what it returned, if that is for the record to say
	Late   *late           `json:"late,omitempty"`   // it was not done in time, and the recipe may have gone on from there
}

// A late is the error of a deed that was not done in time. Other errors are not stored: they are found again by what the
// run knows of its jobs, or the deed is done again.
type late struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

func (l *late) error() error {
	if l == nil {
		return nil
	}
	return Faultf(FaultTimeout, l.Hint, "%s", l.Text)
}

// lateness stores that a deed failed, if it was for the lack of time, and returns its error.
func (s *Session) lateness(ctx context.Context, d Deed, err error) error {
	if d.Key == "" || FaultOf(err) != FaultTimeout || ctx.Err() != nil {
		return err
	}
	d.Late = &late{s.Redact(err.Error()), HintOf(err)}
	return errors.Join(err, s.append(ctx, event(KindDeed, "", d)))
}

// describe completes a deed with what it was given.
func (d Deed) describe(builtin, name string, given any) Deed {
	data, err := json.Marshal(given)
	if err != nil {
		panic("runtime: " + err.Error()) // it is one of this package's own types, of plain values
	}
	sum := sha256.Sum256(append([]byte(builtin+"\x00"), data...))
	d.Call, d.Hash = builtin+"()", hex.EncodeToString(sum[:12])
	if name != "" {
		d.Call = fmt.Sprintf("%s(name = %q)", builtin, name)
	}
	return d
}

// remember adds a deed to those of the run.
func (s *RunState) remember(d Deed) {
	if d.Key == "" {
		return
	}
	delete(s.begun, d.Key)
	if s.deeds == nil {
		s.deeds = make(map[string]Deed)
	}
	s.deeds[d.Key] = d
}

// done reports whether the deed was done before this process resumed the run. If it was not done in time, or if the recipe
// now does something else there, that is an error: what followed would not be the same run.
func (s *Session) done(d Deed) (bool, error) {
	before, done, err := s.recall(d)
	if err == nil {
		err = before.Late.error()
	}
	return done, err
}

// recall is done, and returns the deed as it was done before.
func (s *Session) recall(d Deed) (before Deed, done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, ok := s.before[d.Key]
	if d.Key == "" || !ok {
		return Deed{}, false, nil
	}
	if before.Hash != d.Hash {
		now := "now it does " + d.Call
		if d.Call == before.Call {
			now = "now with other arguments"
		}
		return Deed{}, false, Faultf(FaultRecipe, "undo the change, or run the recipe anew with aifb exec",
			"the recipe has diverged from run %s: there it did %s at %s, %s", s.Run, before.Call, before.Pos, now)
	}
	delete(s.before, d.Key)
	return before, true, nil
}

// perform does a deed and stores what it returned, unless it was done before the run was resumed: then it returns what it
// returned then. A deed that failed is not stored, and is done again, unless it was not done in time.
func perform[T any](ctx context.Context, s *Session, d Deed, do func() (T, error)) (result T, err error) {
	before, done, err := s.recall(d)
	if err != nil {
		return result, err
	}
	if done && before.Late != nil {
		return result, before.Late.error()
	}
	if done {
		if err := json.Unmarshal(before.Result, &result); err != nil {
			return result, Faultf(FaultInfra, "", "run %s: what %s at %s returned: %w", s.Run, before.Call, before.Pos, err)
		}
		return result, nil
	}
	if result, err = do(); err != nil || d.Key == "" {
		return result, s.lateness(ctx, d, err)
	}
	if d.Result, err = json.Marshal(result); err != nil {
		return result, err
	}
	return result, s.append(ctx, event(KindDeed, "", d))
}

// begin stores that a deed is about to change something on the target. If it had begun before the run was resumed and its
// end is not known, it may have been done already, and is done again.
func (s *Session) begin(ctx context.Context, d Deed) error {
	var again bool
	s.view(func(st *RunState) { again = d.Key != "" && st.begun[d.Key] })
	if again {
		s.warn("%s at %s had begun when the run was interrupted; it is done again", d.Call, d.Pos)
	}
	return s.append(ctx, event(KindDeedBegun, "", d))
}

// Forgotten returns the calls that the run had done before it was resumed, and that the recipe has not made this time.
func (s *Session) Forgotten() (calls []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.before {
		calls = append(calls, d.Call+" at "+d.Pos)
	}
	slices.Sort(calls)
	return calls
}
