package sim

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// memory is a file system. The lock of its cluster guards it.
type memory struct{ root *entry }

// An entry is a directory or a file.
type entry struct {
	entries map[string]*entry // of a directory; nil: it is a file
	text    func() string     // of a file
}

func newMemory() *memory { return &memory{root: newDir()} }

func newDir() *entry { return &entry{entries: make(map[string]*entry)} }

func split(name string) []string {
	return strings.FieldsFunc(path.Clean("/"+name), func(r rune) bool { return r == '/' })
}

// find returns an entry, or nil.
func (m *memory) find(name string) *entry {
	e := m.root
	for _, word := range split(name) {
		if e = e.entries[word]; e == nil {
			return nil
		}
	}
	return e
}

// dir returns a directory, which it makes if there is none. It is nil where a file is in the way.
func (m *memory) dir(name string) *entry {
	e := m.root
	for _, word := range split(name) {
		if e.entries == nil {
			return nil
		}
		next := e.entries[word]
		if next == nil {
			next = newDir()
			e.entries[word] = next
		}
		e = next
	}
	if e.entries == nil {
		return nil
	}
	return e
}

// put makes a file, or replaces it.
func (m *memory) put(name string, text func() string) error {
	dir, base := path.Split(path.Clean(name))
	parent := m.dir(dir)
	if parent == nil {
		return fmt.Errorf("put %s: %w", name, errors.New("not a directory"))
	}
	if old := parent.entries[base]; old != nil && old.entries != nil {
		return fmt.Errorf("put %s: %w", name, errors.New("is a directory"))
	}
	parent.entries[base] = &entry{text: text}
	return nil
}

// Write implements Files. A job cannot do what the file system does not let it do.
func (m *memory) Write(name, text string) { m.put(name, func() string { return text }) }

// Exists implements Files.
func (m *memory) Exists(name string) bool { return m.find(name) != nil }

// Rename implements Files.
func (m *memory) Rename(from, to string) {
	if e := m.find(from); e != nil {
		if dir := m.dir(path.Dir(to)); dir != nil {
			m.remove(from)
			dir.entries[path.Base(to)] = e
		}
	}
}

// remove removes a file or a directory, if it is there.
func (m *memory) remove(name string) {
	if parent := m.find(path.Dir(name)); parent != nil {
		delete(parent.entries, path.Base(name))
	}
}

// get returns the content of a file.
func (m *memory) get(name string) (string, error) {
	e := m.find(name)
	switch {
	case e == nil:
		return "", fmt.Errorf("get %s: %w", name, fs.ErrNotExist)
	case e.entries != nil:
		return "", fmt.Errorf("get %s: %w", name, errors.New("is a directory"))
	}
	return e.text(), nil
}

// A member is a file or directory of an archive.
type member struct {
	name string // of a directory with a slash
	text func() string
}

// members lists an entry and all below it, the directory before what is in it.
func (e *entry) members(name string) []member {
	if e.entries == nil {
		return []member{{name, e.text}}
	}
	list := []member{{name: name + "/"}}
	for _, base := range slices.Sorted(maps.Keys(e.entries)) {
		list = append(list, e.entries[base].members(path.Join(name, base))...)
	}
	return list
}

// writeTar writes an archive.
func writeTar(w io.Writer, members []member) error {
	t := tar.NewWriter(w)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: tar.TypeDir, Mode: 0o755}
		text := ""
		if m.text != nil {
			text = m.text()
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, 0o644, int64(len(text))
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(t, text); err != nil {
			return err
		}
	}
	return t.Close()
}
