package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/aifb/aifb/runtime"
)

// sqliteID is the application_id of our databases: "aifb".
const sqliteID = 0x61696662

// sqliteSchema has the steps from each version of the schema to the next. A database's user_version counts the steps
// that it has taken. It is meant to be read by people with SQL, also by those of an old sqlite3: no STRICT.
//
// Events and measurements share one sequence, which is the order in which they were appended.
var sqliteSchema = [...]string{`
CREATE TABLE events (
	seq    INTEGER PRIMARY KEY,
	run    TEXT NOT NULL,
	time   TEXT NOT NULL, -- 2026-11-23T14:15:02.000000Z
	kind   TEXT NOT NULL, -- run_started, job_submitted, ...
	source TEXT NOT NULL, -- the job; empty: the run itself
	data   TEXT           -- a JSON object, or NULL
);
CREATE INDEX events_run ON events (run);
CREATE INDEX events_kind ON events (kind, run);
CREATE TABLE measurements (
	seq    INTEGER PRIMARY KEY,
	run    TEXT NOT NULL,
	time   TEXT NOT NULL,
	source TEXT NOT NULL,
	metric TEXT NOT NULL,
	value  REAL NOT NULL,
	unit   TEXT NOT NULL,
	labels TEXT NOT NULL  -- a JSON object of strings: labels ->> 'clients'
);
CREATE INDEX measurements_run ON measurements (run);
`}

const (
	sqliteIdentify = `SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
		FROM pragma_application_id, pragma_user_version`
	sqliteLast = `SELECT coalesce(max(seq), 0)
		FROM (SELECT max(seq) AS seq FROM events UNION ALL SELECT max(seq) FROM measurements)`
	sqliteEvent       = `INSERT INTO events (seq, run, time, kind, source, data) VALUES (?, ?, ?, ?, ?, ?)`
	sqliteMeasurement = `INSERT INTO measurements (seq, run, time, source, metric, value, unit, labels)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
	sqliteEvents = `SELECT seq, run, time, kind, source, data, '', 0.0, '', '{}'
		FROM events WHERE `
	sqliteMeasurements = `SELECT seq, run, time, 'measurement', source, NULL, metric, value, unit, labels
		FROM measurements WHERE `
)

// A sqliteStore is a Store in one SQLite database.
type sqliteStore struct {
	path    string
	isLocal func(dir string) bool

	writing sync.Mutex // held by the one Append of this process that is under way
	mu      sync.Mutex // guards what follows
	db      *sql.DB    // nil: not opened yet
	closed  bool
}

func openSQLite(ctx context.Context, path string) (runtime.Store, error) {
	s := &sqliteStore{path: path, isLocal: isLocal}
	if _, err := s.open(ctx, false); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *sqliteStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	return s.fault(err)
}

// open returns the database. If there is none, it makes one, or, if not told to create, returns nil.
func (s *sqliteStore) open(ctx context.Context, create bool) (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, s.fault(errClosed)
	}
	if s.db != nil {
		return s.db, nil
	}
	exists, err := s.exists()
	if err != nil {
		return nil, s.fault(err)
	}
	if !exists {
		if !create {
			return nil, nil
		}
		if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
			return nil, s.fault(err)
		}
	}
	db, err := sql.Open("sqlite", s.dsn())
	if err != nil {
		return nil, s.fault(err)
	}
	ready, err := s.prepare(ctx, db, create)
	if err != nil || !ready {
		db.Close()
		return nil, s.fault(err)
	}
	s.db = db
	return db, nil
}

func (s *sqliteStore) exists() (bool, error) {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir():
		return false, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return false, errors.New("is not a regular file")
	}
	return true, nil
}

// dsn says how each connection is made. Only with synchronous=EXTRA a commit stays when the power fails, whatever the
// journal, and on macOS with fullfsync.
//
// Readers and writers of a write-ahead log share memory, so that a database on a network file system, which a home
// directory may well be, must not have one. It is turned into one with a rollback journal if it came from elsewhere.
func (s *sqliteStore) dsn() string {
	u := url.URL{Scheme: "file", Path: s.path, OmitHost: true}
	q := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_synchronous":  {"EXTRA"},
		"_pragma":       {"fullfsync(1)"},
		"_txlock":       {"immediate"},
		"_error_rc":     {"1"}, // otherwise, misleading words are added to some errors
	}
	if !s.isLocal(filepath.Dir(s.path)) {
		q.Set("_journal_mode", "DELETE")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// prepare checks that db is ours and brings it to the newest schema. It returns false for an empty file if it is not
// to create anything: another process may just be making the store.
func (s *sqliteStore) prepare(ctx context.Context, db *sql.DB, create bool) (bool, error) {
	version, err := s.version(ctx, db)
	if err != nil || version == len(sqliteSchema) || version == 0 && !create {
		return version > 0, err
	}
	if version == 0 && s.isLocal(filepath.Dir(s.path)) {
		if err := writeAheadLog(ctx, db); err != nil {
			return false, err
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	if version, err = s.version(ctx, tx); err != nil { // another process may have been quicker
		return false, err
	}
	for _, step := range sqliteSchema[version:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return false, err
		}
	}
	mark := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", sqliteID, len(sqliteSchema))
	if _, err := tx.ExecContext(ctx, mark); err != nil {
		return false, err
	}
	return true, tx.Commit()
}

// A queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version returns the version of the schema, or 0 if the database is empty.
func (s *sqliteStore) version(ctx context.Context, db queryer) (int, error) {
	var id, version, objects int
	err := db.QueryRowContext(ctx, sqliteIdentify).Scan(&id, &version, &objects)
	switch {
	case err != nil:
		return 0, err
	case id == 0 && version == 0 && objects == 0:
		return 0, nil
	case id != sqliteID || version < 1:
		return 0, errors.New("is a database of another program")
	case version > len(sqliteSchema):
		return 0, runtime.Faultf("", "use a newer aifb, or another store",
			"was written by a newer aifb: its schema is version %d, this one knows %d", version, len(sqliteSchema))
	}
	return version, nil
}

// writeAheadLog gives a new database a write-ahead log: its readers and its writer do not wait for each other. SQLite
// does not wait for a lock here, so that two processes that make the same store could be in each other's way.
func writeAheadLog(ctx context.Context, db *sql.DB) error {
	for deadline := time.Now().Add(busyTimeout); ; {
		_, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		if code(err) != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *sqliteStore) Append(ctx context.Context, recs ...runtime.Record) error {
	if err := check(recs); err != nil || len(recs) == 0 {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	db, err := s.open(ctx, true)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return s.fault(err)
	}
	defer tx.Rollback()
	if err := insert(ctx, tx, recs); err != nil {
		return s.fault(err)
	}
	return s.fault(tx.Commit())
}

func insert(ctx context.Context, tx *sql.Tx, recs []runtime.Record) error {
	var seq int64
	if err := tx.QueryRowContext(ctx, sqliteLast).Scan(&seq); err != nil {
		return err
	}
	event, err := tx.PrepareContext(ctx, sqliteEvent)
	if err != nil {
		return err
	}
	defer event.Close()
	measurement, err := tx.PrepareContext(ctx, sqliteMeasurement)
	if err != nil {
		return err
	}
	defer measurement.Close()
	for _, r := range recs {
		seq++
		if r.Kind == runtime.KindMeasurement {
			_, err = measurement.ExecContext(ctx, seq, r.Run, formatTime(r.Time), r.Source, r.Metric, r.Value, r.Unit,
				formatLabels(r.Labels))
		} else {
			data := sql.NullString{String: compact(r.Data), Valid: r.Data != nil}
			_, err = event.ExecContext(ctx, seq, r.Run, formatTime(r.Time), string(r.Kind), r.Source, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A sqliteRow is a record and its place in the order of all.
type sqliteRow struct {
	runtime.Record
	seq int64
}

// A sqlitePage is a part of the answer to a query: what follows seq in run, or, if next is set, what is in the runs
// after it. Either is a seek in an index.
type sqlitePage struct {
	runtime.Query
	run  string
	seq  int64
	next bool
	last int64 // the end of what was there when the query began
}

const sqlitePageRows = 1000

// Records reads pages, and yields while it holds neither a lock nor a snapshot: however slow its caller is, it delays
// no Append and no checkpoint.
func (s *sqliteStore) Records(ctx context.Context, q runtime.Query) iter.Seq2[runtime.Record, error] {
	return func(yield func(runtime.Record, error) bool) {
		db, err := s.open(ctx, false)
		if db == nil {
			if err != nil {
				yield(runtime.Record{}, err)
			}
			return
		}
		p := sqlitePage{Query: q, run: q.Run, next: q.Run == ""}
		if err := db.QueryRowContext(ctx, sqliteLast).Scan(&p.last); err != nil {
			yield(runtime.Record{}, s.fault(err))
			return
		}
		for {
			rows, err := s.read(ctx, p)
			if err != nil {
				yield(runtime.Record{}, err)
				return
			}
			for _, r := range rows {
				if !yield(r.Record, nil) {
					return
				}
			}
			switch {
			case len(rows) == sqlitePageRows:
				p.run, p.seq, p.next = rows[len(rows)-1].Run, rows[len(rows)-1].seq, false
			case p.next || q.Run != "":
				return
			default:
				p.next = true
			}
		}
	}
}

// statement returns the query that reads p, and its arguments.
func (p sqlitePage) statement() (query string, args []any) {
	where, place := "run = ? AND seq > ? AND seq <= ?", []any{p.run, p.seq, p.last}
	if p.next {
		where, place = "run > ? AND seq <= ?", []any{p.run, p.last}
	}
	switch p.Kind {
	case runtime.KindMeasurement:
		query, args = sqliteMeasurements+where, place
	case "":
		query, args = sqliteEvents+where+" UNION ALL "+sqliteMeasurements+where, append(place, place...)
	default:
		query, args = sqliteEvents+where+" AND kind = ?", append(place, string(p.Kind))
	}
	return query + " ORDER BY run, seq LIMIT ?", append(args, sqlitePageRows)
}

func (s *sqliteStore) read(ctx context.Context, p sqlitePage) ([]sqliteRow, error) {
	db, err := s.open(ctx, false)
	if db == nil {
		return nil, err
	}
	query, args := p.statement()
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.fault(err)
	}
	defer rows.Close()
	var page []sqliteRow
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, s.fault(err)
		}
		page = append(page, r)
	}
	return page, s.fault(rows.Err())
}

func scan(rows *sql.Rows) (r sqliteRow, err error) {
	var at, labels string
	var data sql.NullString
	err = rows.Scan(&r.seq, &r.Run, &at, &r.Kind, &r.Source, &data, &r.Metric, &r.Value, &r.Unit, &labels)
	if err != nil {
		return r, err
	}
	if r.Time, err = parseTime(at); err != nil {
		return r, fmt.Errorf("seq %d: %w", r.seq, err)
	}
	if r.Labels, err = parseLabels(labels); err != nil {
		return r, fmt.Errorf("seq %d: %w", r.seq, err)
	}
	if data.Valid {
		r.Data = json.RawMessage(data.String)
	}
	return r, nil
}

// code returns the primary result code of an error of SQLite, or 0.
func code(err error) int {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return sqlite3.SQLITE_OK
}

// fault says which store err is about and what can be done.
func (s *sqliteStore) fault(err error) error {
	name := "sqlite:" + s.path
	hint := ""
	switch code(err) {
	case sqlite3.SQLITE_OK:
		return infra(name, err)
	case sqlite3.SQLITE_NOTADB:
		hint = hintElsewhere
	case sqlite3.SQLITE_CORRUPT:
		hint = "sqlite3's .recover may save what is in it; " + hintElsewhere
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		hint = hintBusy
	case sqlite3.SQLITE_FULL:
		hint = hintFull
	case sqlite3.SQLITE_PROTOCOL:
		hint = hintLocks
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		hint = hintWritable
	case sqlite3.SQLITE_IOERR: // this is also what is left of a quota that is used up, and of locks that are missing
		hint = "is a quota used up, or has the file system no file locks? " + hintElsewhere
	}
	return runtime.Faultf(runtime.FaultInfra, hint, "%s: %w", name, err)
}
