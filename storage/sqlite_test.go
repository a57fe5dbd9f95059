package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/runtimetest"
)

// TestSQLiteNetwork runs the suite with the journal that a network file system gets.
func TestSQLiteNetwork(t *testing.T) {
	runtimetest.TestStore(t, func(t *testing.T, dir string) runtime.Store {
		return &sqliteStore{path: filepath.Join(dir, "aifb.db"), isLocal: never}
	})
}

func never(string) bool { return false }

// plain opens the database as another program would.
func plain(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func journal(t *testing.T, path string) (mode string) {
	t.Helper()
	db := plain(t, path)
	if err := errors.Join(db.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode), db.Close()); err != nil {
		t.Fatal(err)
	}
	return mode
}

// TestSQLiteMoved has a store that was made on a local file system and is then on a network file system.
func TestSQLiteMoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aifb.db")
	for i, local := range []bool{true, false, true} {
		s := &sqliteStore{path: path, isLocal: func(string) bool { return local }}
		if err := errors.Join(s.Append(t.Context(), sample(testRun, 2)...), s.Close()); err != nil {
			t.Fatal(err)
		}
		if got, want := journal(t, path), []string{"wal", "delete", "delete"}[i]; got != want {
			t.Errorf("local=%v: the journal is %s, want %s", local, got, want)
		}
	}
	if recs, err := read(t.Context(), open(t, "sqlite:"+path), runtime.Query{}); err != nil || len(recs) != 6 {
		t.Errorf("%d records, want 6; %v", len(recs), err)
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	if isLocal(filepath.Join(t.TempDir(), "missing")) {
		t.Error("a directory that is not there is on a local file system")
	}
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("a file system of an unknown kind: there is no /proc")
	}
	if isLocal("/proc") {
		t.Error("a file system of an unknown kind is a local one")
	}
}

// TestSQLiteForeign opens databases that this program cannot use, to read and to write.
func TestSQLiteForeign(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		statements []string
		want, hint string
	}{
		{"tables", []string{"CREATE TABLE t (x)"}, "is a database of another program", "--store"},
		{"version", []string{"PRAGMA user_version = 1"}, "is a database of another program", "--store"},
		{"id", []string{"PRAGMA application_id = 7"}, "is a database of another program", "--store"},
		{"newer", []string{fmt.Sprintf("PRAGMA application_id = %d", sqliteID), "PRAGMA user_version = 99"},
			"newer aifb: its schema is version 99", "use a newer aifb"},
	} {
		path := filepath.Join(t.TempDir(), test.name+".db")
		execute(t, plain(t, path), test.statements...)
		_, err := Open(t.Context(), "sqlite:"+path)
		wantError(t, test.name, err, runtime.FaultInfra, "sqlite:"+path+": ", test.hint)
		wantError(t, test.name, err, runtime.FaultInfra, test.want, test.hint)
	}
}

// TestSQLiteEmpty has an empty file, as another process leaves it that is just making the store.
func TestSQLiteEmpty(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aifb.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, "sqlite:"+path)
	if recs, err := read(t.Context(), s, runtime.Query{}); err != nil || len(recs) != 0 {
		t.Errorf("%d records, %v", len(recs), err)
	}
	if err := open(t, "sqlite:"+path).Append(t.Context(), sample(testRun, 2)...); err != nil {
		t.Fatal(err)
	}
	if recs, err := read(t.Context(), s, runtime.Query{}); err != nil || len(recs) != 2 {
		t.Errorf("%d records, want 2; %v", len(recs), err)
	}
}

// wantBlocked appends to a store that another program holds, until the context ends.
func wantBlocked(t *testing.T, s runtime.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	before, err := read(t.Context(), s, runtime.Query{})
	if err != nil {
		t.Errorf("reading what another program holds: %v", err)
	}
	if err := s.Append(ctx, sample(testRun, 3)...); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Append to what another program holds: %v", err)
	}
	if after, err := read(t.Context(), s, runtime.Query{}); err != nil || len(after) != len(before) {
		t.Errorf("then there are %d records, want %d; %v", len(after), len(before), err)
	}
}

// TestSQLiteBusy appends while another program writes: first to an empty database, then to the store.
func TestSQLiteBusy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aifb.db")
	s, db := open(t, "sqlite:"+path), plain(t, path)
	db.SetMaxOpenConns(1)
	for range 2 {
		execute(t, db, "BEGIN IMMEDIATE")
		wantBlocked(t, s)
		execute(t, db, "ROLLBACK")
		if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
			t.Error(err)
		}
	}
}

// TestSQLiteSnapshot appends while it reads several pages: they are those that were there at first.
func TestSQLiteSnapshot(t *testing.T) {
	t.Parallel()
	const n = sqlitePageRows + 1
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "aifb.db"))
	if err := s.Append(t.Context(), sample(testRun, n)...); err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, err := range s.Records(t.Context(), runtime.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got++; got == 1 {
			err := errors.Join(s.Append(t.Context(), sample(testRun, n)...), s.Append(t.Context(), sample("later", 1)...))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if got != n {
		t.Errorf("%d records, want the %d that were there", got, n)
	}
}

// TestSQLiteFaults checks the hint of errors that SQLite reports.
func TestSQLiteFaults(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aifb.db")
	s := open(t, "sqlite:"+path).(*sqliteStore)
	if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
		t.Fatal(err)
	}
	db := plain(t, path)
	db.SetMaxOpenConns(1)
	execute(t, db, "PRAGMA max_page_count = 1", "PRAGMA query_only = 1")
	_, err := db.ExecContext(t.Context(), "DELETE FROM events")
	wantError(t, "read only", s.fault(err), runtime.FaultInfra, "readonly", "may you write")
	execute(t, db, "PRAGMA query_only = 0")
	_, err = db.ExecContext(t.Context(), "INSERT INTO events VALUES (2, 'r', '', 'e', '', hex(zeroblob(1000000)))")
	wantError(t, "full", s.fault(err), runtime.FaultInfra, "full", "free space")
	if s.fault(nil) != nil || s.fault(context.Canceled) != context.Canceled {
		t.Error("no fault, or one of the context's, is one of the store")
	}
}

// TestSQLiteDiskFull appends with a limit of the size of files, which is as good as a full disk.
func TestSQLiteDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aifb.db")
	s := open(t, "sqlite:"+path)
	if err := s.Append(t.Context(), sample(testRun, 1)...); err != nil {
		t.Fatal(err)
	}
	limitFiles(t, 256<<10)
	err := s.Append(t.Context(), sample(testRun, 5000)...)
	wantError(t, "beyond the limit", err, runtime.FaultInfra, path, "quota")
	if err := s.Append(t.Context(), sample(testRun, 2)...); err != nil {
		t.Error(err)
	}
	if recs, err := read(t.Context(), s, runtime.Query{}); err != nil || len(recs) != 3 {
		t.Errorf("%d records, want 3; %v", len(recs), err)
	}
}

// TestSQLiteQuery is what users ask of the database.
func TestSQLiteQuery(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aifb.db")
	if err := open(t, "sqlite:"+path).Append(t.Context(), sample(testRun, 5)...); err != nil {
		t.Fatal(err)
	}
	var day, clients, recipe string
	var mean float64
	row := plain(t, path).QueryRowContext(t.Context(), `
		SELECT date(m.time), m.labels ->> 'clients', avg(m.value), e.data ->> 'recipe'
		FROM measurements m JOIN events e ON e.run = m.run AND e.kind = 'run_started' AND e.seq < m.seq
		WHERE m.metric = 'rps' GROUP BY 1, 2`)
	if err := row.Scan(&day, &clients, &mean, &recipe); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(day, clients, mean, recipe); got != "2026-11-2382.5redis.star" {
		t.Errorf("the answer is %s", got)
	}
}

// TestSQLitePlan checks that each query is a seek in an index, and that nothing is sorted.
func TestSQLitePlan(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aifb.db")
	if err := open(t, "sqlite:"+path).Append(t.Context(), sample(testRun, 1)...); err != nil {
		t.Fatal(err)
	}
	db := plain(t, path)
	for _, kind := range []runtime.Kind{"", "run_started", runtime.KindMeasurement} {
		for _, next := range []bool{false, true} {
			query, args := sqlitePage{Query: runtime.Query{Kind: kind}, next: next}.statement()
			for _, step := range plan(t, db, query, args) {
				if step.scans() {
					t.Errorf("kind %q, next run %v: %s", kind, next, step)
				}
			}
		}
	}
}

// A planStep is a line of EXPLAIN QUERY PLAN.
type planStep string

func (s planStep) scans() bool {
	return strings.HasPrefix(string(s), "SCAN") || strings.Contains(string(s), "TEMP B-TREE")
}

func plan(t *testing.T, db *sql.DB, query string, args []any) (steps []planStep) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step planStep
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil || len(steps) == 0 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	return steps
}
