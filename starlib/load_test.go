package starlib

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aifb/aifb/runtime"
)

// TestLoad loads files of a project, whose root has a .git, from a recipe in one of its directories.
func TestLoad(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"secret.star": "x = 1\n", "p/.git": "gitdir: elsewhere\n",
		"p/sub/r.star": "load(\"a.star\", \"a\")\nload(\"../lib/up.star\", \"up\")\nload(\"@aifb//lib.star\", \"boom\")\nprint(a(), up, boom)\n",
		"p/sub/a.star": "load(\"//b/b.star\", \"b\")\ndef a():\n    return b + 1\n",
		"p/b/b.star":   "load(\"c.star\", \"c\")\nb = c + 40\n", "p/b/c.star": "c = 1\n", "p/lib/up.star": "up = \"up\"\n",

		"p/sub/cycle.star": "\nload(\"c2.star\", \"x\")\n", "p/sub/c2.star": "x = 1\nload(\"c3.star\", \"y\")\n", "p/sub/c3.star": "load(\"cycle.star\", \"z\")\ny = 1\n",
		"p/sub/self.star":    "load(\"self.star\", \"x\")\n",
		"p/sub/out.star":     "load(\"../../secret.star\", \"x\")\n",
		"p/sub/rootout.star": "load(\"//../secret.star\", \"x\")\n",
		"p/sub/abs.star":     "load(\"/etc/x.star\", \"x\")\n",
		"p/sub/libout.star":  "load(\"@aifb//../secret.star\", \"x\")\n",
		"p/sub/at.star":      "load(\"@other//x.star\", \"x\")\n",
		"p/sub/link.star":    "load(\"linked.star\", \"x\")\n",
		"p/sub/linkdir.star": "load(\"//linkeddir/secret.star\", \"x\")\n",
		"p/sub/missing.star": "load(\"//lib/upp.star\", \"up\")\nload(\"@aifb//lbi.star\", \"boom\")\n",
		"p/sub/dir.star":     "load(\"//lib.star\", \"x\")\n", "p/lib.star/x": "",
		"p/sub/yaml.star": "load(\"x.yaml\", \"x\")\n",
		"p/sub/name.star": "load(\"//lib/up.star\", \"Up\")\n",
		"p/sub/acts.star": "load(\"act.star\", \"x\")\n", "p/sub/act.star": "def f():\n    return service(\"s\", command = \"true\")\n\nx = f()\n",
		"p/sub/waits.star": "load(\"wait.star\", \"x\")\n", "p/sub/wait.star": "x = 1\nexport_csv(\"x.csv\")\n",
		"p/sub/bad.star": "load(\"//lib/bad.star\", \"x\")\n", "p/lib/bad.star": "x = undefnd\n",
		"p/sub/fails.star": "load(\"//lib/fails.star\", \"x\")\n", "p/lib/fails.star": "def f():\n    return 1 // 0\n\nx = f()\n",
	})
	for name, to := range map[string]string{"p/sub/linked.star": "../../secret.star", "p/linkeddir": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root := "  hint: the root is p: the nearest directory with a .git, or else that of the recipe\n"
	for name, want := range map[string]string{
		"r.star": "42 up <function boom>\n",
		"cycle.star": "error: load: a cycle: p/sub/cycle.star → p/sub/c2.star → p/sub/c3.star → p/sub/cycle.star\n" +
			"  --> p/sub/c3.star:1:6\n     1 | load(\"cycle.star\", \"z\")\n       |      ^^^^^^^^^^^^\n" +
			"  --> p/sub/c2.star:2:6\n  --> p/sub/cycle.star:2:6\n",
		"self.star": "error: load: a cycle: p/sub/self.star → p/sub/self.star\n" +
			"  --> p/sub/self.star:1:6\n     1 | load(\"self.star\", \"x\")\n       |      ^^^^^^^^^^^\n",
		"out.star": "error: load ../../secret.star: it is not below the root of the project, or of the library\n" +
			"  --> p/sub/out.star:1:6\n     1 | load(\"../../secret.star\", \"x\")\n       |      ^^^^^^^^^^^^^^^^^^^\n" + root,
		"rootout.star": "error: load //../secret.star: it is not below the root of the project, or of the library\n" +
			"  --> p/sub/rootout.star:1:6\n     1 | load(\"//../secret.star\", \"x\")\n       |      ^^^^^^^^^^^^^^^^^^\n" + root,
		"abs.star": "error: load /etc/x.star: it is not below the root of the project, or of the library\n" +
			"  --> p/sub/abs.star:1:6\n     1 | load(\"/etc/x.star\", \"x\")\n       |      ^^^^^^^^^^^^^\n" + root,
		"libout.star": "error: load @aifb//../secret.star: it is not below the root of the project, or of the library\n" +
			"  --> p/sub/libout.star:1:6\n     1 | load(\"@aifb//../secret.star\", \"x\")\n       |      ^^^^^^^^^^^^^^^^^^^^^^^\n  hint: the library has @aifb//lib.star\n",
		"at.star": "error: load @other//x.star: there is only @aifb//\n" +
			"  --> p/sub/at.star:1:6\n     1 | load(\"@other//x.star\", \"x\")\n       |      ^^^^^^^^^^^^^^^^\n",
		"link.star": "error: load linked.star: p/sub/linked.star: path escapes from parent\n" +
			"  --> p/sub/link.star:1:6\n     1 | load(\"linked.star\", \"x\")\n       |      ^^^^^^^^^^^^^\n",
		"linkdir.star": "error: load //linkeddir/secret.star: p/linkeddir/secret.star: path escapes from parent\n" +
			"  --> p/sub/linkdir.star:1:6\n     1 | load(\"//linkeddir/secret.star\", \"x\")\n       |      ^^^^^^^^^^^^^^^^^^^^^^^^^\n",
		"missing.star": "error: load //lib/upp.star: p/lib/upp.star: no such file or directory\n" +
			"  --> p/sub/missing.star:1:6\n     1 | load(\"//lib/upp.star\", \"up\")\n       |      ^^^^^^^^^^^^^^^^\n  hint: did you mean p/lib/up.star?\n" +
			"error: load @aifb//lbi.star: file does not exist\n" +
			"  --> p/sub/missing.star:2:6\n     2 | load(\"@aifb//lbi.star\", \"boom\")\n       |      ^^^^^^^^^^^^^^^^^\n  hint: did you mean @aifb//lib.star?\n",
		"dir.star": "error: load //lib.star: p/lib.star: is a directory\n" +
			"  --> p/sub/dir.star:1:6\n     1 | load(\"//lib.star\", \"x\")\n       |      ^^^^^^^^^^^^\n",
		"yaml.star": "error: load x.yaml: not a .star file\n" +
			"  --> p/sub/yaml.star:1:6\n     1 | load(\"x.yaml\", \"x\")\n       |      ^^^^^^^^\n",
		"name.star": "error: load: p/lib/up.star has no Up\n" +
			"  --> p/sub/name.star:1:24\n     1 | load(\"//lib/up.star\", \"Up\")\n       |                        ^^\n  hint: did you mean up?\n",
		"acts.star": "error: service: not in a file that is loaded; call it from a function\n" +
			"  --> p/sub/act.star:2:12 in f\n     2 |     return service(\"s\", command = \"true\")\n       |            ^^^^^^^\n" +
			"  --> p/sub/act.star:4:5\n  --> p/sub/acts.star:1:1\n",
		"waits.star": "error: export_csv: not in a file that is loaded; call it from a function\n" +
			"  --> p/sub/wait.star:2:1\n     2 | export_csv(\"x.csv\")\n       | ^^^^^^^^^^\n  --> p/sub/waits.star:1:1\n",
		"bad.star": "error: undefined: undefnd\n  --> p/lib/bad.star:1:5\n     1 | x = undefnd\n       |     ^^^^^^^\n  --> p/sub/bad.star:1:6\n",
		"fails.star": "error: floored division by zero\n  --> p/lib/fails.star:2:14 in f\n     2 |     return 1 // 0\n       |              ^\n" +
			"  --> p/lib/fails.star:4:5\n  --> p/sub/fails.star:1:1\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r, err := Read(filepath.Join(dir, "p/sub", name), library)
			if err == nil {
				err = r.Exec(t.Context(), new(runtime.Session), Env{Stdout: &out}, nil)
			}
			if err != nil {
				FormatError(&out, err, Style{})
			}
			got := strings.ReplaceAll(out.String(), dir+string(filepath.Separator), "")
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Without a .git, the root is the directory of the recipe: nothing above it can be loaded.
func TestLoadWithoutProject(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"r.star": "load(\"//lib/a.star\", \"a\")\nprint(a)\n", "lib/a.star": "load(\"../b.star\", \"b\")\na = b\n", "b.star": "b = 3\n",
		"sub/up.star": "load(\"../b.star\", \"b\")\n"})
	if root, below := projectRoot(dir); root != dir || below != "." {
		t.Skipf("load: the temporary directory is in a project: %s", root)
	}
	var out bytes.Buffer
	r, err := Read(filepath.Join(dir, "r.star"), library)
	if err == nil {
		err = r.Exec(t.Context(), new(runtime.Session), Env{Stdout: &out}, nil)
	}
	if err != nil || out.String() != "3\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, err := Read(filepath.Join(dir, "sub", "up.star"), library); err == nil || !strings.Contains(err.Error(), "not below the root") {
		t.Errorf("above the recipe: %v", err)
	}
}

// In a REPL, a file that could not be loaded is read again.
func TestLoadAgain(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"a.star": "x = undefnd\n"})
	l, _ := newLoader(filepath.Join(dir, "repl"), library)
	r := newREPL(newRun(new(runtime.Session), Env{}, l))
	eval := func(text string) error {
		return r.Eval(t.Context(), func() ([]byte, error) { return []byte(text), nil })
	}
	if err := eval("load(\"a.star\", \"x\")\n"); err == nil {
		t.Error("it was loaded")
	}
	if err := eval("load(\"b.star\", \"x\")\n"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("what is not there: %v", err)
	}
	for _, name := range []string{"a.star", "b.star"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x = 1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := eval("load(\"" + name + "\", \"x\")\n"); err != nil {
			t.Errorf("%s, mended: %v", name, err)
		}
	}
}

// What is no text is said to be none: Starlark would take it for the end of the file, or make other characters of it.
func TestText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\ufeffprint(1)\n":              "1\n",
		"print(1)\r\nprint(2)\r\n":      "1\n2\n",
		"":                              "",
		"print(1)\nx = \"é\x00\"\n":     "error: byte 0x00 is not UTF-8 text\n  --> r.star:2:7\n     2 | x = \"é·\"\n       |       ^\n  hint: save the file as UTF-8\n",
		"# \xe9t\xe9\n":                 "error: byte 0xe9 is not UTF-8 text\n  --> r.star:1:3\n     1 | # \uFFFDt\uFFFD\n       |   ^\n  hint: save the file as UTF-8\n",
		"load(\"r\", \"x\")\n":          "error: load r: not a .star file\n  --> r.star:1:6\n     1 | load(\"r\", \"x\")\n       |      ^^^\n  hint: did you mean r.star?\n",
		"load(\"@aifb//lib\", \"x\")\n": "error: load @aifb//lib: not a .star file\n  --> r.star:1:6\n     1 | load(\"@aifb//lib\", \"x\")\n       |      ^^^^^^^^^^^^\n  hint: did you mean @aifb//lib.star?\n",
		"def main(x = 1):\n    pass\ndef main(y = 2):\n    print(y)\n": "2\n",
	} {
		out, rendered, _ := exec(t, text)
		if out+rendered != want {
			t.Errorf("%q\n%s%s; want\n%s", text, out, rendered, want)
		}
	}
	if out, _, err := exec(t, "def main(x = 1):\n    pass\ndef main(y = 2):\n    print(y)\n", "y=3"); out != "3\n" {
		t.Errorf("of two mains: %q, %v", out, err)
	}
}

// To open a pipe would wait for who writes to it.
func TestLoadPipe(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"r.star": "load(\"pipe.star\", \"x\")\n"})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.star"), 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := Read(filepath.Join(dir, "r.star"), library); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}
