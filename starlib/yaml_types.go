package starlib

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.starlark.net/syntax"
)

// A LibraryFile is a file of the library.
type LibraryFile struct {
	Name string `json:"name"` // by which it is loaded and run: "@aifb//redis.star"
	Doc  string `json:"doc"`  // what it is for, in a line
}

// LibraryFiles returns the files of the library, by name.
func LibraryFiles(library fs.FS) (files []LibraryFile) {
	for _, name := range libraryFiles(library) {
		file := LibraryFile{Name: libraryPrefix + name}
		text, _ := fs.ReadFile(library, name) // whoever loads it is told
		if f, err := dialect().Parse(file.Name, text, 0); err == nil {
			file.Doc = summary(docstring(f.Stmts))
		}
		files = append(files, file)
	}
	return files
}

// libraryFiles returns the names of the files in the library, but for its tests.
func libraryFiles(library fs.FS) []string {
	names, _ := fs.Glob(library, "*.star") // the pattern is good
	return slices.DeleteFunc(names, isTestFile)
}

// LibraryIndex is a line for each file of the library.
func LibraryIndex(library fs.FS) string {
	files, width := LibraryFiles(library), 0
	for _, f := range files {
		width = max(width, len(f.Name))
	}
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, f.Name, f.Doc)
	}
	return b.String()
}

// A libraryEntry is a function of the library that YAML calls by the type of a service or client. In NAME.star it is
// called NAME, or begins with NAME_. That of a client takes the service as its first parameter.
type libraryEntry struct {
	module string // "@aifb//redis.star"
	name   string
	client bool
	params []mainParam
}

// libraryEntries returns the entries of the library, by name. A file with errors has none: whoever loads it is told.
func libraryEntries(library fs.FS) (entries []libraryEntry) {
	for _, file := range libraryFiles(library) {
		text, err := fs.ReadFile(library, file)
		if err != nil {
			continue
		}
		f, err := dialect().Parse(libraryPrefix+file, text, 0)
		if err != nil {
			continue
		}
		stem := strings.TrimSuffix(path.Base(file), ".star")
		for _, stmt := range f.Stmts {
			def, ok := stmt.(*syntax.DefStmt)
			if !ok || def.Name.Name != stem && !strings.HasPrefix(def.Name.Name, stem+"_") {
				continue
			}
			e := libraryEntry{module: libraryPrefix + file, name: def.Name.Name, params: mainParams(def)}
			e.client = len(e.params) > 0 && e.params[0].Name == "service"
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b libraryEntry) int { return strings.Compare(a.name, b.name) })
	return entries
}

// param returns the parameter of that name, or nil.
func (e *libraryEntry) param(name string) *mainParam {
	for i := range e.params {
		if e.params[i].Name == name {
			return &e.params[i]
		}
	}
	return nil
}
