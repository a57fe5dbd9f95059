package starlib

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.starlark.net/syntax"
	"go.yaml.in/yaml/v3"

	"github.com/aifb/aifb/runtime"
)

// What a YAML file may cost.
const (
	yamlMaxSize   = 1 << 20 // bytes of the file
	yamlMaxCost   = 4 << 20 // of what is left once aliases are expanded, which can be without limit
	yamlNodeCost  = 32      // beside a cost of one for each byte
	yamlMaxFaults = 20      // that are shown
)

// A yamlParser reads YAML and collects what is wrong with it.
type yamlParser struct {
	file     string
	what     string // it is
	rootHint string // what its map has
	lines    int    // of the file
	library  fs.FS
	entries  []libraryEntry // of the library, once they were asked for
	types    []yamlType     // that were named
	params   []yamlParam
	doc      string // what the comment at the head of the file says
	faults   []yamlFault
	hidden   int // faults beyond yamlMaxFaults
	warnings []string
	cost     int
}

// A yamlFault is one thing that is wrong with a file.
type yamlFault struct {
	syntax.Error
	hint string
}

// A yamlField is a key and its value, which is no alias.
type yamlField struct{ key, value *yaml.Node }

var yamlWholeNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// at is where n is in the file. (parse puts one line before the first, and a value that is left out at the end of the
// file may be one line after the last.)
func (p *yamlParser) at(n *yaml.Node) syntax.Position {
	return p.pos(min(max(n.Line-1, 1), p.lines), max(n.Column, 1))
}

func (p *yamlParser) pos(line, col int) syntax.Position {
	return syntax.MakePosition(&p.file, int32(line), int32(col))
}

// lineCol is where n is, for a message that already names the file.
func (p *yamlParser) lineCol(n *yaml.Node) string {
	pos := p.at(n)
	return fmt.Sprintf("%d:%d", pos.Line, pos.Col)
}

func (p *yamlParser) errorf(at *yaml.Node, hint, format string, args ...any) {
	p.errorAt(p.at(at), hint, format, args...)
}

func (p *yamlParser) errorAt(pos syntax.Position, hint, format string, args ...any) {
	if len(p.faults) == yamlMaxFaults {
		p.hidden++
		return
	}
	p.faults = append(p.faults, yamlFault{syntax.Error{Pos: pos, Msg: fmt.Sprintf(format, args...)}, hint})
}

func (p *yamlParser) warnf(at *yaml.Node, format string, args ...any) {
	p.warnings = append(p.warnings, p.at(at).String()+": "+fmt.Sprintf(format, args...))
}

// sorted returns what was reported, in the order of the file.
func (p *yamlParser) sorted() []yamlFault {
	slices.SortStableFunc(p.faults, func(a, b yamlFault) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	if p.hidden > 0 {
		p.faults[len(p.faults)-1].Msg += fmt.Sprintf(" (and there are %d more errors)", p.hidden)
	}
	return p.faults
}

// err joins what was reported.
func (p *yamlParser) err() error {
	var errs []error
	for _, f := range p.sorted() {
		errs = append(errs, &runtime.Error{Fault: runtime.FaultRecipe, Hint: f.hint, Err: f.Error})
	}
	return errors.Join(errs...)
}

// placed is what err joins, with the lines of the text.
func (p *yamlParser) placed(text []byte, fault runtime.Fault) (errs []error) {
	l := &loader{files: map[fileID]*file{{}: {name: p.file, text: text}}}
	for _, f := range p.sorted() {
		errs = append(errs, &SourceError{Frames: []Frame{l.frame(f.Pos, "")},
			Err: &runtime.Error{Fault: fault, Hint: f.hint, Err: errors.New(f.Msg)}})
	}
	return errs
}

// suggest is the hint for a misspelt word. It is only made if it will be shown.
func (p *yamlParser) suggest(word string, candidates iter.Seq[string]) string {
	if len(p.faults) == yamlMaxFaults || len(word) > 64 {
		return ""
	}
	return runtime.DidYouMean(word, slices.Sorted(candidates))
}

// parse returns the map that src is, or nil.
func (p *yamlParser) parse(src []byte) *yaml.Node {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	if !p.checkText(src) {
		return nil
	}
	p.lines = 1 + bytes.Count(src, []byte("\n"))
	// The parser leaves out the line of an error in the first line, so that line is ours.
	d := yaml.NewDecoder(io.MultiReader(strings.NewReader("\n"), bytes.NewReader(src)))
	var doc, next yaml.Node
	err := d.Decode(&doc)
	if err == io.EOF {
		p.errorAt(p.pos(1, 1), "", "the %s is empty", p.what)
		return nil
	}
	if err == nil {
		err = d.Decode(&next)
	}
	switch {
	case err == nil:
		p.errorf(&next, "write a file for each", "a second YAML document begins here; a %s is one", p.what)
		return nil
	case err != io.EOF:
		p.syntaxError(src, err)
		return nil
	}
	root := doc.Content[0]
	p.doc = uncomment(doc.HeadComment)
	if len(root.Content) > 0 && p.doc == "" {
		p.doc = uncomment(root.Content[0].HeadComment)
	}
	if root.Kind != yaml.MappingNode {
		p.errorf(root, p.rootHint, "a %s must be a map, not %s", p.what, yamlDescribe(root))
		return nil
	}
	return root
}

// checkText reports what no YAML file has. What else YAML takes for the end of a line is refused, because an editor
// does not count it as one.
func (p *yamlParser) checkText(src []byte) bool {
	if len(src) > yamlMaxSize {
		p.errorAt(p.pos(1, 1), "", "the %s has %d bytes; %d are allowed", p.what, len(src), yamlMaxSize)
		return false
	}
	line, col := 1, 1
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		switch {
		case r == utf8.RuneError && size <= 1:
			p.errorAt(p.pos(line, col), "save the file as UTF-8", "byte %#x is not UTF-8", src[i])
			return false
		case r == '\r' && !bytes.HasPrefix(src[i+1:], []byte("\n")), r < ' ' && !strings.ContainsRune("\t\n\r", r),
			r >= 0x7f && r <= 0x9f, r == '\u2028', r == '\u2029', r == '\ufffe', r == '\uffff', r == '\ufeff':
			p.errorAt(p.pos(line, col), "in a quoted string it can be written as an escape", "character %U is not allowed", r)
			return false
		}
		col++
		if r == '\n' {
			line, col = line+1, 1
		}
		i += size
	}
	return true
}

var (
	yamlProblem       = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	yamlParserProblem = regexp.MustCompile(
		`^(did not find expected (<|node|'-'|key|',')|found (undefined|duplicate|incompatible))`)
	yamlBlockProblem = regexp.MustCompile(`^did not find expected ('-'|key)`)
	yamlTab          = regexp.MustCompile(`^ *\t`)
)

// syntaxError reports an error of the YAML parser in a line put before src. Its line numbers have to be put right.
func (p *yamlParser) syntaxError(src []byte, err error) {
	lines := strings.SplitAfter(string(src), "\n")
	line, msg := yamlProblemLine(err)
	line = max(line, 1)
	if anchor, ok := strings.CutPrefix(msg, "unknown anchor '"); ok { // it is without a line
		before, _, _ := strings.Cut(string(src), "*"+strings.TrimSuffix(anchor, "' referenced"))
		line = 1 + strings.Count(before, "\n")
		column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
		p.errorAt(p.pos(line, column), "an & and that name come before a value further up; a text that begins with * goes in quotes", "%s", msg)
		return
	}
	switch {
	case !yamlParserProblem.MatchString(msg): // the tokenizer's lines count from 1, the parser's from 0
		line = max(line-1, 1)
	case yamlBlockProblem.MatchString(msg) && line <= len(lines):
		// This is where the map or list begins. Of one that begins in the first line, it would be where it goes wrong.
		rest := strings.Join(lines[line-1:], "")
		if more, same := yamlProblemLine(yaml.Unmarshal([]byte(rest), new(yaml.Node))); same == msg {
			line += more
		}
	}
	line = min(line, len(lines))
	if strings.Contains(msg, "tab character") { // it names the line where the value begins
		for line < len(lines) && !yamlTab.MatchString(lines[line-1]) {
			line++
		}
	}
	hint := yamlHint(msg)
	if yamlTab.MatchString(lines[line-1]) {
		hint = "YAML is indented with spaces, not tabs"
	}
	text := strings.TrimLeft(lines[line-1], " ")
	p.errorAt(p.pos(line, len(lines[line-1])-len(text)+1), hint, "%s", msg)
}

// yamlHint says what is mostly meant by an error of the YAML parser.
func yamlHint(msg string) string {
	for _, h := range []struct{ text, hint string }{
		{"mapping values are not allowed", "the keys of a map begin in the same column; a text with a colon and a space in it goes in quotes"},
		{"did not find expected key", "the keys of a map begin in the same column; a text that begins with a quote ends with it"},
		{"did not find expected '-'", "the items of a list begin in the same column"},
		{"did not find expected ','", "a bracket is not closed, or a comma is missing"},
		{"could not find expected ':'", "a line is KEY: value, or - and an item of a list"},
		{"cannot start any token", "a text that begins with @, ` or % goes in quotes"},
		{"unexpected end of stream", "a quote is not closed"},
		{"escape", "in \"...\" a backslash is written \\\\; in '...' it stands for itself"},
	} {
		if strings.Contains(msg, h.text) {
			return h.hint
		}
	}
	return ""
}

// yamlProblemLine takes an error of the YAML parser apart. The line is 0 if it has none.
func yamlProblemLine(err error) (line int, msg string) {
	if err == nil {
		return 0, ""
	}
	m := yamlProblem.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, err.Error()
	}
	line, _ = strconv.Atoi(m[1])
	return line, m[2]
}

// check reports what is wrong anywhere in the tree. It returns false if an alias is inside what it stands for, because
// then the tree has no end.
func (p *yamlParser) check(n *yaml.Node, open map[*yaml.Node]bool) bool {
	if n.Kind == yaml.AliasNode {
		if open[n.Alias] {
			p.errorf(n, "", "alias *%s is inside what it stands for", yamlShort(n.Value))
		}
		return !open[n.Alias]
	}
	if n.Style&yaml.TaggedStyle != 0 && !slices.Contains(yamlTags, n.Tag) {
		p.errorf(n, "leave it out", "tag %s is not supported", yamlShort(n.Tag))
	}
	if n.Kind == yaml.MappingNode {
		p.checkKeys(n)
	}
	open[n] = true
	finite := true
	for _, c := range n.Content {
		finite = p.check(c, open) && finite
	}
	delete(open, n)
	return finite
}

var yamlTags = []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq"}

func (p *yamlParser) checkKeys(n *yaml.Node) {
	seen := map[string]*yaml.Node{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			p.errorf(key, "", "a key must be a string, not %s", yamlDescribe(key))
			continue
		}
		if first := seen[key.Value]; first != nil {
			p.errorf(key, "", "%s is given twice; the first is at %s", yamlShort(key.Value), p.lineCol(first))
			continue
		}
		seen[key.Value] = key
	}
}

// spend counts n against what a file may cost, and reports once that it is too much.
func (p *yamlParser) spend(n *yaml.Node) bool {
	before := p.cost
	p.cost += yamlNodeCost + len(n.Value)
	if before <= yamlMaxCost && p.cost > yamlMaxCost {
		p.errorf(n, "", "the %s is too large with its aliases expanded", p.what)
	}
	return p.cost <= yamlMaxCost
}

// unalias returns what an alias stands for, and any other node as it is.
func unalias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// A yamlMap is what a map has, with what it takes over by << after its own.
type yamlMap []yamlField

func (m yamlMap) get(key string) (yamlField, bool) {
	for _, f := range m {
		if f.key.Value == key {
			return f, true
		}
	}
	return yamlField{}, false
}

// known returns the map n, of which what is a description. Keys that are not known are reported and left out. It is
// nil if n is no map.
func (p *yamlParser) known(n *yaml.Node, what string, keys []yamlKey) yamlMap {
	if n.Kind != yaml.MappingNode {
		p.errorf(n, "its keys are below it, each in a line and further in", "%s must be a map, not %s", what, yamlDescribe(n))
		return nil
	}
	m := yamlMap{}
	for _, f := range p.fields(n) {
		if slices.ContainsFunc(keys, func(k yamlKey) bool { return k.name == f.key.Value }) {
			m = append(m, f)
		} else {
			p.errorf(f.key, p.suggestKey(f.key.Value, what, keys), "unknown key %s", yamlShort(f.key.Value))
		}
	}
	return m
}

// suggestKey also knows what a key of YAML is called in Starlark.
func (p *yamlParser) suggestKey(word, what string, keys []yamlKey) string {
	var names []string
	for _, k := range keys {
		if k.param == word {
			return "did you mean " + k.name + "?"
		}
		names = append(names, k.name)
	}
	return cmp.Or(p.suggest(word, slices.Values(names)), what+" has "+strings.Join(names, ", "))
}

// fields returns the pairs of the map n: its own, then those of << that it has not.
func (p *yamlParser) fields(n *yaml.Node) (fields []yamlField) {
	var merged []yamlField
	seen := map[string]bool{}
	add := func(f yamlField) {
		if !seen[f.key.Value] {
			seen[f.key.Value] = true
			fields = append(fields, f)
		}
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], unalias(n.Content[i+1])
		if !p.spend(key) || !p.spend(value) {
			break
		}
		switch {
		case key.Kind != yaml.ScalarNode: // reported by checkKeys
		case key.Tag == "!!merge":
			merged = append(merged, p.merge(value)...)
		default:
			add(yamlField{key, value})
		}
	}
	for _, f := range merged {
		add(f)
	}
	return fields
}

// merge returns the pairs that << takes over. Of a list of maps, an earlier one wins.
func (p *yamlParser) merge(n *yaml.Node) (fields []yamlField) {
	sources := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		sources = p.items(n)
	}
	for _, m := range sources {
		if m.Kind != yaml.MappingNode {
			p.errorf(m, "", "<< takes a map or a list of maps, not %s", yamlDescribe(m))
			continue
		}
		fields = append(fields, p.fields(m)...)
	}
	return fields
}

// items returns what the list n has, without aliases.
func (p *yamlParser) items(n *yaml.Node) (items []*yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		return nil
	}
	for _, c := range n.Content {
		if c = unalias(c); !p.spend(c) {
			break
		}
		items = append(items, c)
	}
	return items
}

// text returns the literal text of a scalar.
func (p *yamlParser) text(f yamlField) (string, bool) {
	switch {
	case f.value.Kind != yaml.ScalarNode:
		p.errorf(f.value, "", "%s must be a single value, not %s", f.key.Value, yamlDescribe(f.value))
	case yamlIsNull(f.value), f.value.Value == "":
		p.errorf(f.key, "leave the key out for the default", "%s has no value", f.key.Value)
	default:
		return f.value.Value, true
	}
	return "", false
}

// texts returns the scalars of a list. A single scalar is a list of one, and no value is an empty list.
func (p *yamlParser) texts(f yamlField) (texts []*yaml.Node) {
	items := []*yaml.Node{f.value}
	switch {
	case yamlIsNull(f.value):
		return nil
	case f.value.Kind == yaml.SequenceNode:
		items = p.items(f.value)
	}
	for _, n := range items {
		if n.Kind != yaml.ScalarNode || yamlIsNull(n) || n.Value == "" {
			p.errorf(n, "", "%s must be a list of strings, without %s", f.key.Value, yamlDescribe(n))
			continue
		}
		texts = append(texts, n)
	}
	return texts
}

func yamlIsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// yamlDescribe names a value that is not what it should be.
func yamlDescribe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case yamlIsNull(n):
		return "nothing"
	}
	return yamlShort(n.Value)
}

// yamlShort returns s for a message: as it is if it is a word, or else quoted, and not at length.
func yamlShort(s string) string {
	if yamlShortWord.MatchString(s) {
		return s
	}
	if r := []rune(s); len(r) > 40 {
		s = string(r[:40]) + "…"
	}
	return strconv.Quote(s)
}

var yamlShortWord = regexp.MustCompile(`^[A-Za-z0-9_.!/-]{1,40}$`)
