package starlib

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// libraryPrefix is before the names of the library's files.
const libraryPrefix = "@aifb//"

// stdin is the recipe that is read from there. What it loads is relative to the current directory.
const stdin = "/dev/stdin"

// A loader reads files, each once. What a file loads is relative to it; "//x" is relative to the root of the project, and
// nothing outside of that can be loaded; "@aifb//x" is of the library.
//
// The root is the nearest directory with a .git at or above that of the recipe; if there is none, that of the recipe.
type loader struct {
	dir     string // of the recipe, as the user named it
	root    string // of the project
	below   string // from root to dir, in slashes
	library fs.FS
	known   func(name string) bool // a name is predeclared
	tests   bool                   // the recipe is a file of tests, which knows more names
	files   map[fileID]*file       // nil: it could not be read, which was reported
	open    []fileID               // the files that are being read, each loaded by the one before
}

// A fileID is a file of the project or of the library, with the path below its root, in slashes.
type fileID struct {
	library bool
	path    string
}

// A file is a file that has been read.
type file struct {
	name     string // as positions have it
	text     []byte
	syntax   *syntax.File
	program  *starlark.Program
	target   string   // of YAML
	warnings []string // of YAML
	kept     bool     // a REPL does not read it anew
}

// newLoader returns the loader for the recipe of that name, and which file that is.
func newLoader(name string, library fs.FS) (*loader, fileID) {
	l := &loader{dir: filepath.Dir(name), library: library, known: predeclared().Has, files: make(map[fileID]*file)}
	if name == stdin {
		l.dir = "."
	}
	if p, ok := strings.CutPrefix(name, libraryPrefix); ok {
		l.dir = "."
		l.root, l.below = projectRoot(l.dir)
		return l, fileID{true, path.Clean(p)}
	}
	l.root, l.below = projectRoot(l.dir)
	return l, l.sibling(filepath.Base(name))
}

// projectRoot returns the root of the project that dir is in, and the path from there to dir.
func projectRoot(dir string) (root, below string) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return dir, "." // that it does not exist is seen when the recipe is read
	}
	for at := abs; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			below, _ := filepath.Rel(at, abs)
			return at, filepath.ToSlash(below)
		}
		if at == filepath.Dir(at) {
			return dir, "."
		}
	}
}

// name is what positions call a file: the path under which the user finds it.
func (l *loader) name(id fileID) string {
	if id.library {
		return libraryPrefix + id.path
	}
	rel, err := filepath.Rel(filepath.FromSlash(l.below), filepath.FromSlash(id.path))
	if err != nil {
		return id.path
	}
	return filepath.Join(l.dir, rel)
}

// fileID is the file of that name. One that was not read, such as the REPL, is in the recipe's directory.
func (l *loader) fileID(name string) fileID {
	for id, f := range l.files {
		if f != nil && f.name == name {
			return id
		}
	}
	return l.sibling("-")
}

// sibling is a file in the recipe's directory.
func (l *loader) sibling(name string) fileID { return fileID{path: path.Join(l.below, name)} }

// readEntry reads the text of the recipe itself, which may be a link to anywhere.
func (l *loader) readEntry(name string, id fileID) ([]byte, error) {
	if id.library {
		text, err := l.readText(id)
		if err != nil {
			return nil, runtime.Faultf(runtime.FaultUsage, l.hint(name), "%s: %w", name, err)
		}
		return text, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, runtime.Faultf(runtime.FaultUsage, l.hint(name), "%s: %w", name, plainFileError(err))
	}
	return text, nil
}

// hint says what might be meant by a recipe that does not exist.
func (l *loader) hint(name string) string {
	var names []string
	entries, _ := os.ReadDir(l.dir) // a directory that cannot be read has nothing to suggest
	for _, e := range entries {
		names = append(names, filepath.Join(l.dir, e.Name()))
	}
	for _, n := range l.libraryNames() {
		if path.Base(n) == path.Base(name) || path.Base(n) == path.Base(name)+".star" {
			return "did you mean " + n + "?"
		}
		names = append(names, n)
	}
	if slices.Contains(names, name+".star") {
		return "did you mean " + name + ".star?"
	}
	hint := runtime.DidYouMean(name, names)
	if s := runtime.Suggest(path.Base(name), libraryFiles(l.library)); hint == "" && s != "" {
		hint = "did you mean " + libraryPrefix + s + "?"
	}
	if hint == "" && strings.HasPrefix(name, libraryPrefix) {
		hint = "the library has\n" + strings.TrimSuffix(LibraryIndex(l.library), "\n")
	}
	return hint
}

func (l *loader) libraryNames() (names []string) {
	for _, n := range libraryFiles(l.library) {
		names = append(names, libraryPrefix+n)
	}
	return names
}

// readText reads a file of the project or of the library. No link leads out of either.
func (l *loader) readText(id fileID) ([]byte, error) {
	if id.library {
		if !fs.ValidPath(id.path) {
			return nil, errors.New("not in the library")
		}
		text, err := fs.ReadFile(l.library, id.path)
		return text, plainFileError(err)
	}
	root, err := os.OpenRoot(l.root)
	if err != nil {
		return nil, plainFileError(err)
	}
	defer root.Close()
	name := filepath.FromSlash(id.path)
	if info, err := root.Stat(name); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file") // to open a pipe waits for who writes to it
	}
	text, err := root.ReadFile(name)
	return text, plainFileError(err)
}

// plainFileError leaves out the operation and the path, which the caller's text has.
func plainFileError(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// load returns the file that one file loads as module.
func (l *loader) load(from fileID, module string) (*file, []*SourceError) {
	id, err := l.resolve(from, module)
	if err != nil {
		return nil, []*SourceError{recipeError(runtime.HintOf(err), err)}
	}
	if i := slices.Index(l.open, id); i >= 0 {
		var chain []string
		for _, id := range append(l.open[i:len(l.open):len(l.open)], id) {
			chain = append(chain, l.name(id))
		}
		return nil, []*SourceError{recipeError("", fmt.Errorf("load: a cycle: %s", strings.Join(chain, " → ")))}
	}
	if f, ok := l.files[id]; ok {
		return f, nil
	}
	text, err := l.readText(id)
	if err != nil {
		l.files[id] = nil
		if l.name(id) != module {
			err = fmt.Errorf("%s: %w", l.name(id), err)
		}
		return nil, []*SourceError{recipeError(l.loadHint(id, err), fmt.Errorf("load %s: %w", module, err))}
	}
	return l.parse(id, text)
}

// resolve says which file is meant by the module that a file loads.
func (l *loader) resolve(from fileID, module string) (fileID, error) {
	id := from
	switch {
	case strings.HasPrefix(module, libraryPrefix):
		id = fileID{true, path.Clean(module[len(libraryPrefix):])}
	case strings.HasPrefix(module, "@"):
		return id, fmt.Errorf("load %s: there is only %s", module, libraryPrefix)
	case strings.HasPrefix(module, "//"):
		id.path = path.Clean(module[2:])
	default:
		id.path = path.Join(path.Dir(from.path), module)
	}
	switch {
	case path.IsAbs(module) && !strings.HasPrefix(module, "//") || !fs.ValidPath(id.path):
		err := fmt.Errorf("load %s: it is not below the root of the project, or of the library", module)
		return id, &runtime.Error{Hint: l.rootHint(id), Err: err}
	case path.Ext(id.path) != ".star":
		err := fmt.Errorf("load %s: not a .star file", module)
		if named := (fileID{id.library, id.path + ".star"}); path.Ext(id.path) == "" && l.exists(named) {
			return id, &runtime.Error{Hint: "did you mean " + module + ".star?", Err: err}
		}
		return id, err
	}
	return id, nil
}

func (l *loader) exists(id fileID) bool {
	_, err := l.readText(id)
	return err == nil
}

// rootHint says what the root is, below which files can be loaded.
func (l *loader) rootHint(id fileID) string {
	if id.library {
		return "the library has " + strings.Join(l.libraryNames(), ", ")
	}
	return "the root is " + l.root + ": the nearest directory with a .git, or else that of the recipe"
}

// loadHint says what might be meant by a file that is not there.
func (l *loader) loadHint(id fileID, err error) string {
	if !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if id.library {
		return cmp.Or(runtime.DidYouMean(l.name(id), l.libraryNames()), l.rootHint(id))
	}
	var names []string
	entries, _ := os.ReadDir(filepath.Dir(l.name(id)))
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".star" {
			names = append(names, filepath.Join(filepath.Dir(l.name(id)), e.Name()))
		}
	}
	return runtime.DidYouMean(l.name(id), names)
}

// parse makes a file of its text, and reads what it loads.
func (l *loader) parse(id fileID, text []byte) (*file, []*SourceError) {
	f := &file{name: l.name(id), text: text}
	l.files[id] = f
	if err := f.parse(l.library); err != nil {
		return nil, l.compileErrors(f, err)
	}
	l.open = append(l.open, id)
	defer func() { l.open = l.open[:len(l.open)-1] }()
	var errs []*SourceError
	program, err := starlark.FileProgram(f.syntax, l.knownIn(f))
	if err != nil {
		errs = l.compileErrors(f, err)
	}
	f.program = program
	for _, stmt := range f.syntax.Stmts {
		if load, ok := stmt.(*syntax.LoadStmt); ok {
			errs = append(errs, l.checkLoad(id, load)...)
		}
	}
	slices.SortStableFunc(errs, compareErrors)
	return f, errs
}

// knownIn returns which names are predeclared in a file.
func (l *loader) knownIn(f *file) func(string) bool {
	if !l.tests || !isTestFile(f.name) {
		return l.known
	}
	return func(name string) bool { return name == "assert" || name == "fake" || l.known(name) }
}

// isYAML reports whether the statements of the file are made of YAML, and so not as the user wrote them: their nodes say where
// they begin, and not how long they are.
func (f *file) isYAML() bool {
	ext := filepath.Ext(f.name)
	return ext == ".yaml" || ext == ".yml"
}

// parse turns the text into statements.
func (f *file) parse(library fs.FS) (err error) {
	if !f.isYAML() {
		f.text = bytes.TrimPrefix(f.text, []byte("\ufeff")) // editors of Windows put it there
		if err := f.checkText(); err != nil {
			return err
		}
		f.syntax, err = dialect().Parse(f.name, f.text, 0)
		return err
	}
	y, err := parseYAML(f.name, f.text, library)
	if err != nil {
		return err
	}
	f.syntax, f.target, f.warnings = y.File, y.Target, y.Warnings
	f.syntax.Options = dialect()
	return nil
}

// checkText finds what is no text. Starlark takes a zero byte for the end of the file.
func (f *file) checkText() error {
	for i := 0; i < len(f.text); {
		r, size := utf8.DecodeRune(f.text[i:])
		if r == 0 || r == utf8.RuneError && size == 1 {
			return syntax.Error{Pos: f.at(i), Msg: fmt.Sprintf("byte %#02x is not UTF-8 text", f.text[i])}
		}
		i += size
	}
	return nil
}

// at returns the position of a byte of the text.
func (f *file) at(offset int) syntax.Position {
	before := f.text[:offset]
	line := bytes.Count(before, []byte("\n")) + 1
	col := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return syntax.MakePosition(&f.name, int32(line), int32(col))
}

// checkLoad reads what a statement loads, and checks that the names are there.
func (l *loader) checkLoad(from fileID, stmt *syntax.LoadStmt) []*SourceError {
	f, errs := l.load(from, stmt.ModuleName())
	for _, err := range errs {
		err.Frames = append(err.Frames, l.frame(stmt.Module.TokenPos, ""))
	}
	if f == nil || len(errs) > 0 || f.syntax == nil || f.syntax.Module == nil {
		return errs
	}
	var names []string
	for _, global := range f.syntax.Module.(*resolve.Module).Globals {
		names = append(names, global.First.Name)
	}
	for i, from := range stmt.From {
		if slices.Contains(names, from.Name) {
			continue
		}
		err := recipeError(runtime.DidYouMean(from.Name, names), fmt.Errorf("load: %s has no %s", f.name, from.Name))
		err.Frames = []Frame{l.frame(stmt.From[i].NamePos, "")}
		errs = append(errs, err)
	}
	return errs
}

// findMain returns the function main, the last one if there are several, or nil.
func (f *file) findMain() (main *syntax.DefStmt) {
	for _, stmt := range f.syntax.Stmts {
		if def, ok := stmt.(*syntax.DefStmt); ok && def.Name.Name == "main" {
			main = def
		}
	}
	return main
}

// universe returns the names that every file knows, sorted.
func universe() []string {
	return slices.Sorted(maps.Keys(starlark.Universe))
}

// compareErrors orders the errors of a file by their place there, which of one in a file that it loads is the load.
func compareErrors(a, b *SourceError) int {
	if len(a.Frames) == 0 || len(b.Frames) == 0 {
		return 0
	}
	p, q := a.Frames[len(a.Frames)-1].Pos, b.Frames[len(b.Frames)-1].Pos
	return cmp.Or(cmp.Compare(p.Line, q.Line), cmp.Compare(p.Col, q.Col))
}
