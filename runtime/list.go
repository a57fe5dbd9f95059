package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Column is a column of a table of a cluster.
type Column struct {
	Name   string
	Number bool // its cells are whole numbers
}

// Columns returns the columns of a table. Times are in UTC, as in 2006-01-02T15:04:05Z; elapsed and time_limit are in
// seconds, and there is no time_limit where there is no limit.
func (t TableName) Columns() []Column {
	text := func(name string) Column { return Column{Name: name} }
	number := func(name string) Column { return Column{Name: name, Number: true} }
	job := []Column{text("job_id"), text("name"), text("user"), text("account"), text("partition"), text("qos"), text("state")}
	switch t {
	case TableQueue:
		return append(job, text("reason"), number("nodes"), text("node_list"), number("elapsed"), number("time_limit"),
			text("submitted"), text("started"))
	case TableAccounts:
		return append(job, number("exit_code"), number("nodes"), number("cpus"), text("node_list"), number("elapsed"),
			number("time_limit"), text("submitted"), text("started"), text("ended"))
	}
	return []Column{text("partition"), text("available"), number("time_limit"), number("nodes"), text("state"), number("cpus"),
		number("memory_mb"), text("gres"), text("features"), text("node_list")}
}

// A Table is rows of cells.
type Table struct {
	Name TableName  `json:"name"`
	Rows [][]string `json:"rows"` // as Columns has them; "" is not known
}

// FormatTime writes a time as a cell of a table.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// defaultSince is how far back a list of accounts goes that does not say.
const defaultSince = 24 * time.Hour

// List asks the scheduler for a table of its cluster. A recipe that asks in a loop is slowed down.
func (s *Session) List(ctx context.Context, d Deed, l Listing) (Table, error) {
	if err := l.validate(); err != nil {
		return Table{}, err
	}
	return perform(ctx, s, d.describe(string(l.Table), "", l), func() (Table, error) {
		lister, ok := s.Target.Scheduler.(Lister)
		if !ok {
			return Table{}, Faultf(FaultRun, "", "%s has no such table", s.Target.Name)
		}
		if err := s.awaitBudget(ctx); err != nil {
			return Table{}, err
		}
		if l.Since == 0 {
			l.Since = defaultSince
		}
		rows, err := lister.List(ctx, l)
		return Table{l.Table, l.filter(rows)}, err
	})
}

// awaitBudget waits until the recipe may ask the scheduler something.
func (s *Session) awaitBudget(ctx context.Context) error {
	for {
		s.mu.Lock()
		ok := s.lists.take(s.now())
		s.mu.Unlock()
		if ok {
			return nil
		}
		if err := s.pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

func (l Listing) validate() error {
	var names []string
	for _, c := range l.Table.Columns() {
		names = append(names, c.Name)
	}
	for column := range l.Where {
		if !slices.Contains(names, column) {
			hint := DidYouMean(column, names)
			if hint == "" {
				hint = "the columns are " + strings.Join(names, ", ")
			}
			return Faultf(FaultRecipe, hint, "there is no column %s", column)
		}
	}
	return nil
}

// filter returns the rows that Where selects. A state may be written in small letters.
func (l Listing) filter(rows [][]string) [][]string {
	selected := [][]string{}
	for _, row := range rows {
		if l.selects(row) {
			selected = append(selected, row)
		}
	}
	return selected
}

func (l Listing) selects(row []string) bool {
	for i, c := range l.Table.Columns() {
		wanted, ok := l.Where[c.Name]
		if !ok || c.Name == "user" && slices.Contains(wanted, Me) {
			continue
		}
		fits := func(value string) bool {
			return value == row[i] || c.Name == "state" && strings.EqualFold(value, row[i])
		}
		if !slices.ContainsFunc(wanted, fits) {
			return false
		}
	}
	return true
}

// Me is what a Listing calls the user.
const Me = "me"

// Check reports whether rows are what a Lister may return for the table: all of as many cells as there are columns, of
// one line, and with numbers where there are to be some.
func (t TableName) Check(rows [][]string) error {
	columns := t.Columns()
	for _, row := range rows {
		if len(row) != len(columns) {
			return fmt.Errorf("%s: a row of %d cells, not %d: %q", t, len(row), len(columns), row)
		}
		for i, cell := range row {
			notNumber := cell != "" && strings.Trim(cell, "0123456789") != ""
			if columns[i].Number && notNumber || strings.ContainsFunc(cell, isControl) {
				return fmt.Errorf("%s: %s is %q", t, columns[i].Name, cell)
			}
		}
	}
	return nil
}
