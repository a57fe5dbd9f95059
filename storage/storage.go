// Package storage keeps the records of runs: in an SQLite database, which is the default, or in CSV files.
//
// Both stores refuse the same records (see check), so that what one of them holds the other can take.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aifb/aifb/runtime"
)

// busyTimeout bounds the wait for another process that writes to the same store.
const busyTimeout = 10 * time.Second

var errClosed = errors.New("the store is closed")

// Open opens the store that url names: "sqlite:PATH" or "csv:DIR", where a path may begin with ~/.
//
// A store that does not exist has no records. Its first Append makes it, and the directories above it, for this user
// only; who shares a store makes its directory first.
func Open(ctx context.Context, url string) (runtime.Store, error) {
	scheme, path, err := split(url)
	if err != nil {
		return nil, err
	}
	if scheme == "csv" {
		return openCSV(path)
	}
	return openSQLite(ctx, path)
}

// Default returns the URL of the store that is used if the user names none: aifb/aifb.db in the user's data directory,
// which is $XDG_DATA_HOME or ~/.local/share.
func Default(getenv func(string) string) string {
	data := getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // its specification wants a relative one ignored
		data = "~/.local/share"
	}
	return "sqlite:" + data + "/aifb/aifb.db"
}

// Files returns the directory beside the store where the files of jobs are kept, such as their logs. It is "" if url
// is not one that Open takes.
func Files(url string) string {
	scheme, path, err := split(url)
	if err != nil {
		return ""
	}
	if scheme == "sqlite" {
		path = filepath.Dir(path)
	}
	return filepath.Join(path, "files")
}

// split returns the scheme of url, which is a known one, and its path, which is absolute.
func split(url string) (scheme, path string, err error) {
	const forms = "a store is sqlite:PATH or csv:DIR"
	scheme, path, found := strings.Cut(url, ":")
	switch {
	case !found:
		return "", "", runtime.Faultf(runtime.FaultUsage, forms, "store %q: no kind of store is named", url)
	case scheme != "sqlite" && scheme != "csv":
		hint := runtime.DidYouMean(scheme, []string{"sqlite", "csv"})
		if hint == "" {
			hint = forms
		}
		return "", "", runtime.Faultf(runtime.FaultUsage, hint, "store %q: unknown kind %q", url, scheme)
	case path == "" || strings.ContainsRune(path, 0):
		return "", "", runtime.Faultf(runtime.FaultUsage, forms, "store %q: no path", url)
	case strings.HasPrefix(path, "//"): // whether sqlite://a/b is a/b or /a/b is not agreed upon
		return "", "", runtime.Faultf(runtime.FaultUsage, "write "+scheme+":/"+strings.TrimLeft(path, "/"),
			"store %q: a path does not begin with //", url)
	}
	path, err = absolute(path)
	if err != nil {
		return "", "", runtime.Faultf(runtime.FaultUsage, "write an absolute path", "store %q: %w", url, err)
	}
	return scheme, path, nil
}

func absolute(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		path = filepath.Join(home, rest)
	}
	return filepath.Abs(path)
}

// infra says that the named store is in trouble, with the hint that fits the system's error.
func infra(store string, err error) error {
	hint := hintElsewhere
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case runtime.HintOf(err) != "":
		hint = runtime.HintOf(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = hintFull
	case errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.ENOTSUP):
		hint = hintLocks
	case errors.Is(err, errBusy):
		hint = hintBusy
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		hint = hintWritable
	}
	return runtime.Faultf(runtime.FaultInfra, hint, "%s: %w", store, err)
}

const (
	hintElsewhere = "another store is named by --store sqlite:PATH or --store csv:DIR"
	hintFull      = "free space or quota there; " + hintElsewhere
	hintLocks     = "this file system has no file locks; " + hintElsewhere
	hintBusy      = "does a program, such as sqlite3, hold a transaction open?"
	hintWritable  = "may you write to the store and to its directory? " + hintElsewhere
)

var errBusy = fmt.Errorf("another program has been writing to it for %v", busyTimeout)
