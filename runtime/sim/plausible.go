package sim

import (
	"encoding/json"
	"maps"
	"path"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/aifb/aifb/runtime"
)

// Plausible returns what a job does of which nothing is known but what is expected of it: a service prints what shows
// that it is ready, and every metric that is named measures 1.
func Plausible(in runtime.Intent) Behaviour {
	lines := make(map[string][]string) // by the source of a metric
	if in.Ready.Kind == "log" {
		lines[runtime.FileStdout] = []string{example(in.Ready.Pattern)}
	}
	for _, m := range in.Metrics {
		lines[m.Source] = append(lines[m.Source], measured(m))
	}
	b := Behaviour{Body: in.Ready.Contains, Status: in.Ready.Status, Files: make(map[string]string)}
	for source, lines := range lines {
		switch text := strings.Join(lines, "\n"); source {
		case runtime.FileStdout:
			b.Stdout = text
		case runtime.FileStderr:
			b.Stderr = text
		default:
			b.Files[path.Join(runtime.DirMetrics, source)] = text
		}
	}
	return b
}

// measured returns a text from which a metric reads 1 for each of its names.
func measured(m runtime.Metric) string {
	names := slices.Sorted(maps.Values(m.Fields)) // of columns, or paths
	if len(names) == 0 {
		names = []string{"value"}
	}
	switch m.Kind {
	case "regex":
		return example(m.Pattern)
	case "json":
		var doc any
		for _, name := range names {
			doc = with(doc, strings.Split(name, "."))
		}
		text, _ := json.Marshal(doc) // of maps, lists and numbers
		return string(text)
	}
	return strings.Join(names, ",") + "\n" + strings.Repeat(",1", len(names))[1:]
}

// with returns a JSON document in which also the path leads to a 1.
func with(doc any, path []string) any {
	if len(path) == 0 {
		return 1
	}
	if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < 1000 {
		list, _ := doc.([]any)
		for len(list) <= i {
			list = append(list, nil)
		}
		list[i] = with(list[i], path[1:])
		return list
	}
	object, _ := doc.(map[string]any)
	if object == nil {
		object = make(map[string]any)
	}
	object[path[0]] = with(object[path[0]], path[1:])
	return object
}

// example returns a text that matches a regular expression, with 1 wherever there may be one; "" if it does not know any.
func example(pattern string) string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	var b strings.Builder
	write(&b, re.Simplify())
	return b.String()
}

func write(b *strings.Builder, re *syntax.Regexp) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) > 0 {
			b.WriteRune(oneOf(re.Rune))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('1')
	case syntax.OpCapture, syntax.OpPlus, syntax.OpStar, syntax.OpAlternate:
		write(b, re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			write(b, sub)
		}
	}
}

// oneOf returns a character of a class, which is a list of ranges.
func oneOf(class []rune) rune {
	for i := 0; i+1 < len(class); i += 2 {
		if class[i] <= '1' && '1' <= class[i+1] {
			return '1'
		}
	}
	return class[0]
}
