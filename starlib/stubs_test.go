package starlib

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"
)

// pythonCheck parses files as Python, and reports the names in annotations that nothing declares.
const pythonCheck = `
import ast, builtins, sys
for path in sys.argv[1:]:
    tree = ast.parse(open(path).read(), path)
    known = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            known.update(alias.name for alias in node.names)
    if not path.endswith(".pyi"):
        continue
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            at = getattr(node, field, None)
            for name in ast.walk(at) if at else ():
                if isinstance(name, ast.Name) and name.id not in known:
                    print("%s:%d: there is no type %s" % (path, name.lineno, name.id))
`

// Stubs are Python, and declare all types that they name.
func TestStubs(t *testing.T) {
	t.Parallel()
	python, err := osexec.LookPath("python3")
	if err != nil {
		t.Skip("Python parses the stubs: there is no python3 here; .ci/run installs it")
	}
	dir := t.TempDir()
	args := []string{"-c", pythonCheck}
	for _, stub := range Stubs() {
		name := filepath.Join(dir, filepath.FromSlash(stub.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(stub.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	out, err := osexec.Command(python, args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
