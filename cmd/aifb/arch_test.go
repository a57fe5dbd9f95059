package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/aifb/aifb"

// A rule says what the packages below from may import of the module and of the libraries that only some may know.
type rule struct {
	from string
	may  []string // prefixes
	why  string
}

// rules is the architecture: the first one that fits a package counts.
var rules = []rule{
	{module + "/cmd/aifb", []string{module, "go.starlark.net"}, ""},
	{module + "/starlib", []string{module + "/runtime", "go.starlark.net"}, "the language binds to the contract; what is behind it is wired by cmd/aifb"},
	{module + "/slurm", []string{module + "/runtime"}, "a scheduler works over any Conn; it does not know which"},
	{module + "/storage", []string{module + "/runtime", "modernc.org/sqlite"}, "only storage knows a database driver"},
	{module + "/recipes", nil, "recipes are data"},
	{module + "/runtime/ssh", []string{module + "/runtime", "golang.org/x/crypto", "github.com/pkg/sftp"}, "only runtime/ssh knows SSH"},
	{module + "/runtime/runtimetest", []string{module + "/runtime", module + "/runtime/sim"}, "the suites know the contract, and the cluster that they script"},
	{module + "/runtime/", []string{module + "/runtime"}, "the parts below runtime do not know each other"},
	{module + "/runtime", nil, "the contract imports the standard library only"},
	{module + "/testdata", nil, "tools of the tests stand alone"},
}

// guarded are the imports that need a rule; other libraries are free, but for package runtime itself.
var guarded = []string{module, "go.starlark.net", "modernc.org/sqlite", "golang.org/x/crypto", "github.com/pkg/sftp"}

func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		for _, imported := range words[1:] {
			if err := check(words[0], imported); err != nil {
				t.Error(err)
			}
		}
	}
}

// check says why pkg may not import imported, if it may not.
func check(pkg, imported string) error {
	i := slices.IndexFunc(rules, func(r rule) bool { return strings.HasPrefix(pkg, r.from) })
	if i < 0 {
		return fmt.Errorf("%s: no rule says what it may import", pkg)
	}
	r := rules[i]
	host, _, _ := strings.Cut(imported, "/")
	if pkg == module+"/runtime" && strings.Contains(host, ".") {
		return fmt.Errorf("%s imports %s: %s", pkg, imported, r.why)
	}
	below := func(prefix string) bool { return imported == prefix || strings.HasPrefix(imported, prefix+"/") }
	if !slices.ContainsFunc(guarded, below) {
		return nil
	}
	for _, may := range r.may {
		// Package runtime is open to those that may know it; the packages below it are not.
		if imported == may || may != module+"/runtime" && below(may) {
			return nil
		}
	}
	return fmt.Errorf("%s imports %s: %s", pkg, imported, r.why)
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to string
		ok       bool
	}{
		{"/starlib", "/runtime", true}, {"/starlib", "/slurm", false}, {"/starlib", "/runtime/local", false},
		{"/slurm", "/runtime/ssh", false}, {"/runtime", "/storage", false}, {"/runtime/load", "/runtime", true},
		{"/runtime/load", "/runtime/mock", false}, {"/storage", "/runtime", true}, {"/cmd/aifb", "/runtime/ssh", true},
	} {
		if err := check(module+test.from, module+test.to); (err == nil) != test.ok {
			t.Errorf("%s → %s: %v", test.from, test.to, err)
		}
	}
	if check(module+"/runtime", "github.com/google/go-cmp/cmp") == nil || check(module+"/slurm", "go.starlark.net/starlark") == nil {
		t.Error("a library that is reserved may be imported")
	}
}
