package starlib

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

// yamlLibrary is the library that comes with aifb.
var yamlLibrary = os.DirFS("../recipes")

// yamlText prints the calls that a recipe in YAML means.
func yamlText(stmts []syntax.Stmt) string { return printStmts(stmts, 0) }

// yamlFakes are builtins that do nothing, except fail for the one named failing.
func yamlFakes(failing string) starlark.StringDict {
	fakes := starlark.StringDict{}
	for _, name := range []string{"service", "client", "wait_running", "wait_done", "measurements", "print"} {
		fakes[name] = starlark.NewBuiltin(name, func(_ *starlark.Thread, b *starlark.Builtin, _ starlark.Tuple,
			_ []starlark.Tuple) (starlark.Value, error) {
			if b.Name() == failing {
				return nil, errors.New("no")
			}
			return starlark.String(b.Name()), nil
		})
	}
	return fakes
}

func yamlRun(f *syntax.File, failing string) error {
	fakes := yamlFakes(failing)
	loaded := starlark.StringDict{yamlMissing: fakes["print"]}
	for _, e := range libraryEntries(yamlLibrary) {
		loaded[e.name] = fakes["client"]
	}
	prog, err := starlark.FileProgram(f, fakes.Has)
	if err != nil {
		return err
	}
	load := func(*starlark.Thread, string) (starlark.StringDict, error) { return loaded, nil }
	globals, err := prog.Init(&starlark.Thread{Load: load}, fakes)
	if main := globals["main"]; main != nil && err == nil {
		_, err = starlark.Call(&starlark.Thread{}, main, nil, nil)
	}
	return err
}

var update = flag.Bool("update", false, "write the golden files anew")

// TestYAML turns each testdata/yaml/NAME.yaml into what NAME.star says, with the warnings of NAME.warnings.
func TestYAML(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/yaml/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal("no testdata", err)
	}
	targets := map[string]string{"command.yaml": "meluxina", "gpu.yaml": "test_target", "types.yaml": "meluxina"}
	for _, name := range names {
		base := filepath.Base(name)
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			recipe, err := parseYAML(base, yamlFile(t, name), yamlLibrary)
			if err != nil {
				t.Fatal(err)
			}
			got, stem := yamlText(recipe.File.Stmts), strings.TrimSuffix(name, ".yaml")
			if *update {
				if err := os.WriteFile(stem+".star", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(yamlFile(t, stem+".star")); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			var want []string
			if text, err := os.ReadFile(stem + ".warnings"); err == nil {
				want = strings.Split(strings.TrimSpace(string(text)), "\n")
			}
			if !slices.Equal(recipe.Warnings, want) {
				t.Errorf("warnings: got %q, want %q", recipe.Warnings, want)
			}
			if recipe.Target != targets[base] {
				t.Errorf("target: got %q, want %q", recipe.Target, targets[base])
			}
			parsed, err := new(syntax.FileOptions).Parse(base, got, 0)
			if err != nil {
				t.Fatal(err)
			}
			if again := yamlText(parsed.Stmts); again != got {
				t.Errorf("the text reads back as:\n%s", again)
			}
			if err := yamlRun(recipe.File, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

func yamlFile(t testing.TB, name string) []byte {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestYAMLPositions runs a recipe whose builtins fail, and finds the lines of the YAML in the backtrace.
func TestYAMLPositions(t *testing.T) {
	t.Parallel()
	const name = "testdata/yaml/several.yaml"
	for failing, want := range map[string]string{
		"service":      "3:5", // the item of the list
		"wait_running": "2:1", // services:
		"client":       "13:5",
		"wait_done":    "12:1", // clients:
		"measurements": "12:1",
	} {
		recipe, err := parseYAML("several.yaml", yamlFile(t, name), yamlLibrary)
		if err != nil {
			t.Fatal(err)
		}
		evalErr, ok := errors.AsType[*starlark.EvalError](yamlRun(recipe.File, failing))
		if !ok {
			t.Fatalf("%s: no EvalError", failing)
		}
		if got := evalErr.CallStack.At(1).Pos.String(); got != "several.yaml:"+want {
			t.Errorf("%s: called at %s, want %s", failing, got, want)
		}
	}
}

// TestYAMLNodePositions compares the position of every argument with the text there.
func TestYAMLNodePositions(t *testing.T) {
	t.Parallel()
	src := "service:\n  name: é\n  port: 80 # é\n  modules: [a,  b]\n  env: {K: v}\n  command: \"x\"\n"
	for _, src := range []string{src, "\ufeff" + src, strings.ReplaceAll(src, "\n", "\r\n")} {
		recipe, err := parseYAML("r.yaml", []byte(src), yamlLibrary)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		syntax.Walk(recipe.File.Stmts[0], func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.Ident:
				got = append(got, fmt.Sprintf("%s %d:%d", n.Name, n.NamePos.Line, n.NamePos.Col))
			case *syntax.Literal:
				got = append(got, fmt.Sprintf("%s %d:%d", n.Raw, n.TokenPos.Line, n.TokenPos.Col))
			}
			return true
		})
		want := `svc 1:1, service 1:1, name 2:3, "é" 2:9, port 3:3, 80 3:9, modules 4:3, "a" 4:13, "b" 4:17, ` +
			`env 5:3, "K" 5:9, "v" 5:12, command 6:3, "x" 6:12`
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
	}
}

// yamlErrors are the joined errors of parseYAML, each as "line:col: message" with its hint in parentheses.
func yamlErrors(t testing.TB, name string, err error) (texts []string) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("not joined: %v", err)
	}
	for _, err := range joined.Unwrap() {
		se, ok := errors.AsType[syntax.Error](err)
		if !ok || !strings.HasPrefix(se.Error(), name+":") {
			t.Errorf("%v has no position in %s", err, name)
		}
		if runtime.FaultOf(err) != runtime.FaultRecipe {
			t.Errorf("%v has the fault %q", err, runtime.FaultOf(err))
		}
		text := strings.TrimPrefix(se.Error(), name+":")
		if hint := runtime.HintOf(err); hint != "" {
			text += " (" + hint + ")"
		}
		texts = append(texts, text)
	}
	return texts
}

func TestYAMLErrors(t *testing.T) {
	t.Parallel()
	const head = "service: {command: x}\n"
	for name, test := range map[string]struct {
		src  string
		want []string
	}{
		// What is no YAML
		"empty":         {"", []string{"1:1: the recipe is empty"}},
		"only comments": {"# c\n", []string{"1:1: the recipe is empty"}},
		"only a marker": {"---\n", []string{"2:1: a recipe must be a map, not nothing (it has service: and client:)"}},
		"a list":        {"- a\n", []string{"1:1: a recipe must be a map, not a list (it has service: and client:)"}},
		"a scalar":      {"\nhello world\n", []string{`2:1: a recipe must be a map, not "hello world" (it has service: and client:)`}},
		"an empty map":  {"{}", []string{"1:1: there is nothing to run: no service and no client"}},
		"two documents": {head + "---\n" + head, []string{"2:1: a second YAML document begins here; a recipe is one (write a file for each)"}},
		"bad second":    {head + "---\n[", []string{"3:1: did not find expected node content"}},
		"Latin-1":       {"service:\n  name: caf\xe9\n", []string{"2:12: byte 0xe9 is not UTF-8 (save the file as UTF-8)"}},
		"UTF-16":        {"\xff\xfea\x00", []string{"1:1: byte 0xff is not UTF-8 (save the file as UTF-8)"}},
		"NUL": {"a: \x00", []string{
			"1:4: character U+0000 is not allowed (in a quoted string it can be written as an escape)"}},
		"CR": {"a: b\rc: d", []string{
			"1:5: character U+000D is not allowed (in a quoted string it can be written as an escape)"}},
		"tab": {"service:\n  name: x\n\tport: 1\n", []string{
			"3:1: found a tab character that violates indentation (YAML is indented with spaces, not tabs)"}},
		"tab first": {"service:\n\tname: x\n", []string{
			"2:1: found character that cannot start any token (YAML is indented with spaces, not tabs)"}},
		"indentation":            {"# c\nservice:\n    name: x\n  port: 1\n", []string{"4:3: did not find expected key (the keys of a map begin in the same column; a text that begins with a quote ends with it)"}},
		"nested indentation":     {"service:\n  env:\n      A: b\n    B: c\n  port: 1\n", []string{"4:5: did not find expected key (the keys of a map begin in the same column; a text that begins with a quote ends with it)"}},
		"in the first line":      {"service: @x\n", []string{"1:1: found character that cannot start any token (a text that begins with @, ` or % goes in quotes)"}},
		"colon":                  {"service:\n  command: a: b\n", []string{"2:3: mapping values are not allowed in this context (the keys of a map begin in the same column; a text with a colon and a space in it goes in quotes)"}},
		"unclosed quote":         {"service:\n  name: 'x\n  port: 1\n", []string{"2:3: found unexpected end of stream (a quote is not closed)"}},
		"unclosed list":          {"service:\n  modules: [a,\n  port: 1\n", []string{"2:3: did not find expected ',' or ']' (a bracket is not closed, or a comma is missing)"}},
		"unknown anchor":         {"service:\n  name: x\n  env: *e\n", []string{"3:8: unknown anchor 'e' referenced (an & and that name come before a value further up; a text that begins with * goes in quotes)"}},
		"depth":                  {strings.Repeat("[", 20000), []string{"1:1: exceeded max depth of 10000"}},
		"size":                   {strings.Repeat(" ", 1<<20+1), []string{"1:1: the recipe has 1048577 bytes; 1048576 are allowed"}},
		"Python":                 {"service:\n  command: !!python/object:os.system x\n", []string{`2:12: tag "!!python/object:os.system" is not supported (leave it out)`}},
		"binary":                 {"service:\n  command: !!binary aGk=\n", []string{"2:12: tag !!binary is not supported (leave it out)"}},
		"tag where unread":       {"service:\n  command: x\n  settings: {a: [!b c]}\n", []string{"3:18: tag !b is not supported (leave it out)"}},
		"duplicate":              {"service:\n  command: x\n  port: 1\n  port: 2\n", []string{"4:3: port is given twice; the first is at 3:3"}},
		"duplicate section":      {head + head, []string{"2:1: service is given twice; the first is at 1:1"}},
		"duplicate where unread": {"service:\n  command: x\n  settings: {a: 1, a: 2}\n", []string{"3:20: a is given twice; the first is at 3:14"}},
		"complex key":            {"? [a]\n: b\n", []string{"1:3: a key must be a string, not a list"}},
		"cycle":                  {"service: &a\n  command: x\n  env: *a\n", []string{"3:8: alias *a is inside what it stands for"}},
		"cycle by merge":         {"service: &a {<<: *a}\n", []string{"1:18: alias *a is inside what it stands for"}},
		"merge":                  {"service:\n  command: x\n  <<: [3]\n", []string{"3:8: << takes a map or a list of maps, not 3"}},

		// Keys
		"unknown section": {"servce: {command: x}\n", []string{"1:1: unknown key servce (did you mean service?)"}},
		"unknown key":     {"service:\n  command: x\n  partion: cpu\n", []string{"3:3: unknown key partion (did you mean partition?)"}},
		"Starlark's word": {"service:\n  command: x\n  gpus: 1\n", []string{"3:3: unknown key gpus (did you mean num_gpus?)"}},
		"no idea": {"configuration: {wholly: 1}\n" + head, []string{
			"1:17: unknown key wholly (configuration has target)"}},
		"port of a client": {"client:\n  command: x\n  port: 80\n", []string{"3:3: unknown key port (a client has service, num_clients, name, " +
			"type, settings, image, command, env, environment, partition, account, time_limit, nodes, num_gpus, gpus_per_node, " +
			"cpus_per_task, memory, constraints, exclude_nodes, volumes, modules, pre_run_commands)"}},
		"two names of one":  {"service:\n  command: x\n  env: {A: b}\n  environment: {A: c}\n", []string{"4:3: environment says the same as env; give one of them"}},
		"type":              {"service:\n  type: triton\n", []string{"2:9: there is no type triton in the library (those of a service are chroma, minio, nginx, ollama, postgres, qdrant, redis, vllm)"}},
		"type with command": {"service:\n  type: triton\n  command: x\n", []string{"2:9: there is no type triton in the library (those of a service are chroma, minio, nginx, ollama, postgres, qdrant, redis, vllm)"}},
		"misspelt type":     {"service:\n  type: rediss\n", []string{"2:9: there is no type rediss in the library (did you mean redis? those of a service are chroma, minio, nginx, ollama, postgres, qdrant, redis, vllm)"}},
		"client's type":     {head + "client: {type: mysql_stress}\n", []string{"2:16: there is no type mysql_stress in the library (did you mean minio_stress? those of a client are chroma_healthcheck, chroma_stress, minio_stress, nginx_healthcheck, ollama_smoke, ollama_stress, pgbench, postgres_smoke, postgres_stress, qdrant_stress, redis_stress, vllm_smoke, vllm_stress)"}},
		"type of the other": {"service: {type: redis_stress}\nclient: {type: redis}\n", []string{
			"1:17: redis_stress is no type of a service", "2:16: redis is no type of a client"}},
		"no service to measure": {"client:\n  type: redis_stress\n  image: redis\n", []string{"1:1: redis_stress measures a service, and there is none"}},
		"setting": {"service:\n  type: redis\n  settings: {max_memory: 4gb, port: 010}\n", []string{
			"3:14: settings: redis has no max_memory (did you mean maxmemory?)",
			"3:37: 010 may be decimal or octal (without the 0 it is decimal, with 0o octal, in quotes a string)"}},
		"setting twice": {"service:\n  type: redis\n  port: 7\n  settings: {port: 8}\n", []string{
			"4:14: settings: port says the same as port above; give one of them"}},
		"types of settings": {"params: {n: x}\nservice:\n  type: redis\n  settings: {port: abc, appendonly: maybe, maxmemory: {a: b}, args: -x}\n" +
			"client:\n  type: redis_stress\n  settings: {num_requests: 1.5, connections: '${{ n }}'}\n", []string{
			"4:20: settings: port must be a whole number, not abc",
			"4:37: settings: appendonly must be true or false, not maybe",
			"4:55: settings: maxmemory must be a single value, not a map",
			"4:69: settings: args must be a list, not -x",
			"7:28: settings: num_requests must be a whole number, not 1.5",
			"7:46: settings: connections must be a whole number, not \"${{ n }}\" (it takes a ${{ NAME }} alone, whose default is one)"}},
		"settings": {"service:\n  type: redis\n  settings: [a]\n", []string{"3:13: settings must be a map, not a list (write NAME: value)"}},

		// Parameters
		"params": {"params: [n]\n" + head, []string{"1:9: params must be a map, not a list (write NAME: default)"}},
		"names of params": {"params: {1n: 1, for: 2, print: 3, main: 4, n-m: 5}\n" + head, []string{
			"1:10: params: 1n is not a name (letters, digits and _, such as num_clients)",
			"1:17: params: for is not a name (letters, digits and _, such as num_clients)",
			"1:25: params: the name print has a meaning of its own",
			"1:35: params: the name main has a meaning of its own",
			"1:44: params: n-m is not a name (letters, digits and _, such as num_clients)"}},
		"values of params": {"params: {a: 010, b: 1e999, c: '${{ a }}'}\n" + head, []string{
			"1:13: 010 may be decimal or octal (without the 0 it is decimal, with 0o octal, in quotes a string)",
			"1:21: 1e999 is too large a number",
			"1:31: params: a default cannot refer to another parameter"}},
		"a type as a param": {"params: {redis: 1}\nservice: {type: redis, port: '${{ redis }}'}\n", []string{"1:10: params: redis is the type of a job already"}},
		"unknown reference": {"params: {clients: 1}\nservice: {command: 'a ${{ clinets }}'}\n", []string{
			"2:20: ${{ clinets }}: there is no such parameter (did you mean clients?)"}},
		"reference without params": {"service: {command: '${{ n }}'}\n", []string{
			"1:20: ${{ n }}: there is no such parameter (declare it: params: {NAME: default})"}},
		"open reference": {"params: {n: 1}\nservice: {command: '${{ n }'}\n", []string{
			"2:20: a ${{ has no }} (it is ${{ NAME }}, and NAME is one of params)"}},
		"type of a reference": {"params: {n: x, m: 1}\nservice: {command: x, num_gpus: '${{ n }}', port: '8${{ m }}'}\n" +
			"client: {command: x}\nbenchmarks: {client_delay: '${{ n }}'}\n", []string{
			"2:33: num_gpus must be a whole number (it takes a ${{ NAME }} alone, whose default is one)",
			"2:51: port must be a whole number (it takes a ${{ NAME }} alone, whose default is one)",
			"4:28: client_delay must be a number of seconds (it takes a ${{ NAME }} alone, whose default is one)"}},
		"expression": {"params: {n: 1}\nservice: {command: '${{ n * 2 }}'}\n", []string{
			`2:20: ${{ "n * 2" }}: there is no such parameter (it has n)`}},
		"nothing to do": {"service: {name: x}\n", []string{"1:1: a service needs a command, an image or a type"}},
		"no map": {"service: redis\nclient: [x]\nclients: 3\nconfiguration:\n", []string{
			"1:10: a service must be a map, not redis (its keys are below it, each in a line and further in)",
			"2:9: client is one; a list of them goes under clients",
			"3:10: clients must be a list, not 3 (each begins with a dash)",
			"4:15: configuration must be a map, not nothing (its keys are below it, each in a line and further in)"}},
		"no client": {head + "benchmarks: {num_clients: 2}\n", []string{"2:14: there is no client to start (describe it under client:)"}},
		"no maps": {"services: [5, {command: x}, [y]]\n", []string{
			"1:12: a service must be a map, not 5 (its keys are below it, each in a line and further in)", "1:29: a service must be a map, not a list (its keys are below it, each in a line and further in)"}},
		"an escape": {"service: {command: \"a \\d\"}\n", []string{"1:1: found unknown escape character (in \"...\" a backslash is written \\\\; in '...' it stands for itself)"}},
		"same name": {"services:\n  - command: x\n  - command: y\n", []string{"3:5: there are two services of the name service; the first is at 2:5 (give each a name)"}},
		"unknown service": {"service: {name: redis, command: x}\nclient: {service: [redis, rediss], command: y}\n", []string{
			"2:27: there is no service of the name rediss (did you mean redis?)"}},

		// Values
		"no value": {"service:\n  command: x\n  partition:\n  account: ''\n", []string{
			"3:3: partition has no value (leave the key out for the default)",
			"4:3: account has no value (leave the key out for the default)"}},
		"numbers": {"service:\n  command: x\n  port: abc\n  nodes: 0\n  num_gpus: -1\n  cpus_per_task: 2.5\n" +
			"client:\n  command: y\nbenchmarks: {num_clients: 0}\n", []string{
			"3:9: port must be a whole number, not abc",
			"4:10: nodes must be 1 or more, not 0",
			"5:13: num_gpus must be 0 or more, not -1",
			"6:18: cpus_per_task must be a whole number, not 2.5",
			"9:27: num_clients must be 1 or more, not 0"}},
		"more numbers": {"service:\n  command: x\n  port: 65536\n  nodes: 99999999999999999999\n  num_gpus: 0x10\n  cpus_per_task: yes\n", []string{
			"3:9: port must be 65535 at most, not 65536",
			"4:10: nodes must be 999999999 at most, not 99999999999999999999",
			"5:13: num_gpus must be a whole number, not 0x10",
			"6:18: cpus_per_task must be a whole number, not yes"}},
		"list for a number": {"service: {command: x, port: [1]}\n", []string{"1:29: port must be a single value, not a list"}},
		"map for a list":    {"service: {command: x, modules: {a: b}}\n", []string{"1:32: modules must be a list of strings, without a map"}},
		"list in a list": {"service: {command: x, modules: [a, [b], '']}\n", []string{
			"1:36: modules must be a list of strings, without a list", `1:41: modules must be a list of strings, without ""`}},
		"env": {"service: {command: x, env: [A=b]}\nclient: {command: x, env: {A: , B: [c]}}\n", []string{
			"1:28: env must be a map, not a list (write NAME: value)",
			`2:28: env: A has no value (write "" for an empty one)`,
			"2:36: env: B must be a string, not a list"}},
		"image": {"service: {image: ./redis.sif}\n", []string{
			"1:18: image: a SIF file on the target needs an absolute path (write /path/to/image.sif or ~/image.sif)"}},
		"time":      {"service: {command: x, time_limit: soon}\n", []string{"1:35: time_limit: soon is not a duration such as 01:30:00, 90m or 1h30m"}},
		"no time":   {"service: {command: x, time_limit: 00:00:00}\n", []string{"1:35: time_limit must be more than zero"}},
		"memory":    {"service: {command: x, memory: lots}\n", []string{"1:31: memory: lots is not an amount of memory such as 64G or 512M (a plain number is MiB)"}},
		"no memory": {"service: {command: x, memory: 0}\n", []string{"1:31: memory must be more than zero"}},
		"delay":     {"client: {command: x}\nbenchmarks: {client_delay: soon}\n", []string{"2:28: client_delay must be a number of seconds, a day at most, not soon"}},
		"metrics":   {"client: {command: x}\nbenchmarks: {metrics: {a: b}}\n", []string{"2:23: metrics must be a list of strings, without a map"}},
		"long value": {"service: {command: x, port: '" + strings.Repeat("x", 1000) + "'}\n", []string{
			`1:29: port must be a whole number, not "` + strings.Repeat("x", 40) + `…"`}},
		"wrong in alias": {"service:\n  command: x\n  name: &n abc\n  port: *n\n", []string{"3:9: port must be a whole number, not abc"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recipe, err := parseYAML("r.yaml", []byte(test.src), yamlLibrary)
			if err == nil {
				t.Fatalf("no error, but:\n%s", yamlText(recipe.File.Stmts))
			}
			if got := yamlErrors(t, "r.yaml", err); !slices.Equal(got, test.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestYAMLMany keeps the errors of a hostile file few.
func TestYAMLMany(t *testing.T) {
	t.Parallel()
	_, err := parseYAML("r.yaml", []byte(yamlRepeat("servic%d: x\n", 5000)), yamlLibrary)
	got := yamlErrors(t, "r.yaml", err)
	if len(got) != yamlMaxFaults || !strings.Contains(got[len(got)-1], "(and there are 4980 more errors)") {
		t.Errorf("%d errors; the last: %s", len(got), got[len(got)-1])
	}
}

// yamlRepeat formats the numbers below n.
func yamlRepeat(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestYAMLBombs expands aliases only so far.
func TestYAMLBombs(t *testing.T) {
	t.Parallel()
	merges := "service:\n  command: x\n  settings:\n    k0: &m0 {command: x}\n"
	for i := range 60 {
		merges += fmt.Sprintf("    k%d: &m%d {<<: [*m%d, *m%d]}\n", i+1, i+1, i, i)
	}
	for name, src := range map[string]string{
		"lists":  "clients:\n  - {command: x, modules: &m [" + strings.Repeat("a, ", 5000) + "]}\n" + strings.Repeat("  - {command: y, modules: *m}\n", 500),
		"maps":   "service: {command: x, env: &e {A: " + strings.Repeat("x", 100000) + "}}\nclients:\n" + strings.Repeat("  - {command: x, env: *e}\n", 100),
		"merges": merges + "client: *m60\n",
		"wide":   "service: &a {command: x}\nservices: [" + strings.Repeat("*a,", 50000) + "]\n",
		"pairs": "services:\n" + yamlRepeat("  - {name: s%d, command: x}\n", 1000) +
			"clients:\n" + strings.Repeat("  - {command: y}\n", 1000),
		"empty": "service: &a {}\nclient: &b {<<: [" + strings.Repeat("*a,", 5000) + "]}\nclients: [" + strings.Repeat("*b,", 50000) + "]\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseYAML("r.yaml", []byte(src), yamlLibrary)
			if err == nil || !strings.Contains(err.Error(), "too large") {
				t.Errorf("got %.200v", err)
			}
		})
	}
}

// FuzzYAML checks that parseYAML never panics, that every error is in the file, and that what it returns runs.
func FuzzYAML(f *testing.F) {
	names, err := filepath.Glob("testdata/yaml/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		f.Add(yamlFile(f, name))
	}
	for _, src := range []string{"service: &a {<<: *a}", "a: !!python/object:x y", "? [a]\n: b", "--- >\n x\n---\n- |\n y", "%YAML 1.1\n---\n&a *a : b",
		"# \"\"\"\\\nparams: {a: [-1, {b: .5}], c: 0x1f} # \\\"\nservice: {type: redis, settings: {args: ['${{ a }}%', y]}, port: '${{c}}${{c}}'}",
		"client: {command: '${{ n'}\nbenchmarks: {client_delay: 1e-3, metrics: a}",
		"\ufeffparams: {clients: &n 010, clients_: *n}\r\nclient: {command: \"\\0\", type: pgbench}"} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		recipe, err := parseYAML("r.yaml", src, yamlLibrary)
		if err == nil {
			text := yamlText(recipe.File.Stmts)
			if err := yamlRun(recipe.File, ""); err != nil {
				t.Error(err)
			}
			again, err := dialect().Parse("r.star", text, 0)
			if err != nil {
				t.Fatalf("%v, in\n%s", err, text)
			}
			if yamlText(again.Stmts) != text {
				t.Errorf("the text reads back as:\n%s", yamlText(again.Stmts))
			}
			return
		}
		lines := 1 + strings.Count(string(src), "\n")
		for _, text := range yamlErrors(t, "r.yaml", err) {
			var line, col int
			if _, err := fmt.Sscanf(text, "%d:%d: ", &line, &col); err != nil || line < 1 || line > lines || col < 1 {
				t.Errorf("%q is not in a file of %d lines", text, lines)
			}
		}
	})
}
