package starlib

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// How the command line writes the values of parameters: a string as it is; a list as a,b,c, in brackets or not; a dict as
// {key: value, ...}. In lists and dicts, what has a comma or a bracket of its own may be quoted, as in Starlark.

// parseParam reads a value that is of the type of the default.
func parseParam(text string, def starlark.Value) (starlark.Value, error) {
	if !utf8.ValidString(text) {
		return nil, wrongParam(text, "UTF-8", "")
	}
	if elem, ok := element(def); ok {
		list, err := parseList(text, elem)
		if _, isTuple := def.(starlark.Tuple); isTuple && err == nil {
			return starlark.Tuple(slices.Collect(starlark.Elements(list))), nil
		}
		return list, err
	}
	switch def := def.(type) {
	case *starlark.Dict:
		return parseDict(text, def)
	case starlark.Int:
		return parseInt(text)
	case starlark.Float:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, wrongParam(text, "float", "")
		}
		return starlark.Float(f), nil
	case starlark.Bool:
		switch strings.ToLower(text) {
		case "true", "1":
			return starlark.True, nil
		case "false", "0":
			return starlark.False, nil
		}
		return nil, wrongParam(text, "True or False", "")
	case starlark.String, starlark.NoneType:
		return starlark.String(text), nil
	}
	return nil, fmt.Errorf("a %s cannot be given from outside", typeOf(def))
}

func wrongParam(text, want, hint string) error {
	err := fmt.Errorf("got %q, want %s", text, want)
	if hint != "" {
		return &runtime.Error{Hint: hint, Err: err}
	}
	return err
}

var octalLooking = regexp.MustCompile(`^[+-]?0[0-9_]+$`)

// parseInt takes 12, 1_000, 0x1f, 0o17 and 0b1, of any size. For 010 some mean ten and some eight.
func parseInt(text string) (starlark.Value, error) {
	n, ok := new(big.Int).SetString(text, 0)
	switch {
	case octalLooking.MatchString(text):
		return nil, wrongParam(text, "int", "without the 0 it is decimal, with 0o octal")
	case !ok:
		return nil, wrongParam(text, "int", "")
	}
	return starlark.MakeBigInt(n), nil
}

func parseList(text string, elem starlark.Value) (*starlark.List, error) {
	parts, err := splitParam(unbracket(text, "[]"), ',', -1)
	if err != nil {
		return nil, err
	}
	var elems []starlark.Value
	for _, part := range parts {
		v, err := parseElement(part, elem)
		if err != nil {
			return nil, err
		}
		elems = append(elems, v)
	}
	return starlark.NewList(elems), nil
}

// parseDict reads the values of a dict: each is like the default's of the same key, or else like its first.
func parseDict(text string, def *starlark.Dict) (starlark.Value, error) {
	parts, err := splitParam(unbracket(text, "{}"), ',', -1)
	if err != nil {
		return nil, err
	}
	dict := starlark.NewDict(len(parts))
	for _, part := range parts {
		pair, err := splitParam(part, ':', 2)
		if err == nil && len(pair) < 2 {
			err = wrongParam(part, "key: value", "")
		}
		if err != nil {
			return nil, err
		}
		key, err := parseElement(pair[0], starlark.String(""))
		if err != nil {
			return nil, err
		}
		value, err := parseElement(pair[1], dictElement(def, key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		dict.SetKey(key, value) // a string can be hashed
	}
	return dict, nil
}

// dictElement is what the value of a key is like.
func dictElement(def *starlark.Dict, key starlark.Value) starlark.Value {
	if v, ok, _ := def.Get(key); ok {
		return v
	}
	for _, item := range def.Items() {
		return item[1]
	}
	return starlark.String("")
}

// parseElement reads what is in a list or a dict, where a string may be quoted.
func parseElement(text string, like starlark.Value) (starlark.Value, error) {
	if !strings.HasPrefix(text, `"`) && !strings.HasPrefix(text, `'`) {
		return parseParam(text, like)
	}
	e, err := dialect().ParseExpr("", text, 0)
	l, ok := e.(*syntax.Literal)
	if err != nil || !ok || l.Token != syntax.STRING {
		return nil, wrongParam(text, "a string in quotes and nothing else", "")
	}
	switch like.(type) {
	case starlark.String, starlark.NoneType:
		return starlark.String(l.Value.(string)), nil
	}
	return nil, wrongParam(text, paramType(like), "without quotes")
}

// unbracket takes away the brackets that are around all of the text.
func unbracket(text, brackets string) string {
	text = strings.TrimSpace(text)
	if len(text) < 2 || text[0] != brackets[0] || text[len(text)-1] != brackets[1] {
		return text
	}
	if _, err := splitParam(text[1:len(text)-1], ',', 1); err != nil {
		return text // [a],[b]
	}
	return strings.TrimSpace(text[1 : len(text)-1])
}

// splitParam splits a text at each sep that is in no quotes and no brackets, into n parts at most unless n is negative.
// They have no space around them. One that is empty is an error, but for the last.
func splitParam(text string, sep byte, n int) (parts []string, err error) {
	var open []byte // brackets, each as the one that closes it
	quote, start, last := byte(0), 0, byte(',')
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
			continue
		case (c == '"' || c == '\'') && strings.IndexByte(",:[{(", last) >= 0: // in a word it is an apostrophe
			quote = c
		case strings.IndexByte("[{(", c) >= 0:
			open = append(open, map[byte]byte{'[': ']', '{': '}', '(': ')'}[c])
		case strings.IndexByte("]})", c) >= 0:
			if len(open) == 0 || open[len(open)-1] != c {
				return nil, wrongParam(text, "brackets in pairs", "a bracket of its own goes in quotes")
			}
			open = open[:len(open)-1]
		case c == sep && len(open) == 0 && len(parts) != n-1:
			part := strings.TrimSpace(text[start:i])
			if part == "" {
				return nil, wrongParam(text, fmt.Sprintf("something before each %q", sep), `"" is an empty string`)
			}
			parts, start = append(parts, part), i+1
		}
		if text[i] != ' ' {
			last = text[i]
		}
	}
	switch {
	case quote != 0:
		return nil, wrongParam(text, "quotes in pairs", "")
	case len(open) > 0:
		return nil, wrongParam(text, "brackets in pairs", "a bracket of its own goes in quotes")
	}
	if part := strings.TrimSpace(text[start:]); part != "" {
		parts = append(parts, part)
	}
	return parts, nil
}

// showParam writes a value as the command line does, so that parseParam reads the same.
func showParam(v starlark.Value) string {
	if s, ok := starlark.AsString(v); ok {
		return s
	}
	text := showElement(v)
	if _, ok := v.(starlark.Indexable); ok && !strings.HasPrefix(text, "[[") && !strings.HasPrefix(text, "[{") {
		return text[1 : len(text)-1]
	}
	return text
}

// plainElement is a string that needs no quotes in a list.
var plainElement = regexp.MustCompile(`^[^\s\pC,:"'\[\]{}()]([^\pC,:"'\[\]{}()]*[^\s\pC,:"'\[\]{}()])?(://[^\s\pC,"'\[\]{}()]*)?$`)

func showElement(v starlark.Value) string {
	var parts []string
	switch v := v.(type) {
	case starlark.String:
		if plainElement.MatchString(string(v)) {
			return string(v)
		}
		return v.String()
	case *starlark.Dict:
		for _, item := range v.Items() {
			parts = append(parts, showElement(item[0])+": "+showElement(item[1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case starlark.Indexable:
		for i := range v.Len() {
			parts = append(parts, showElement(v.Index(i)))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return v.String()
}
