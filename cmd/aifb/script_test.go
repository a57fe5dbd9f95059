package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"aifb": main,
		"ask":  askHelper,
	})
}

const scripts = "../../testdata/script"

// TestLocal runs the program as it is used on this machine.
func TestLocal(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: scripts + "/local", Setup: cleanHome, Condition: func(cond string) (bool, error) {
		return cond == "mount" && mayMount(), nil
	}})
}

// mayMount reports whether a script can have file systems of its own.
func mayMount() bool {
	return exec.Command("unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt").Run() == nil
}

// cleanHome gives a script a home directory of its own, with nothing in it.
func cleanHome(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, "home")
	env.Setenv("HOME", home)
	env.Setenv("NO_COLOR", "1")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // with -race each process would last a second longer
	return os.Mkdir(home, 0o755)
}

// TestCluster runs the program as it is used on a cluster: the static binary, over SSH, with real Slurm.
func TestCluster(t *testing.T) {
	t.Parallel()
	config := os.Getenv("AIFB_TEST_SSH_CONFIG")
	if config == "" {
		t.Skip("the program on a real cluster: AIFB_TEST_SSH_CONFIG is not set; testdata/cluster/run sets it")
	}
	bin := staticBinary(t)
	params := testscript.Params{
		Setup: func(env *testscript.Env) error {
			if err := cleanHome(env); err != nil {
				return err
			}
			env.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+env.Getenv("PATH"))
			for _, name := range []string{"AIFB_TEST_CLUSTER", "AIFB_TEST_REDIS_SIF"} {
				env.Setenv(name, os.Getenv(name))
			}
			env.Setenv("CONFIG", config)
			data, err := os.ReadFile(config)
			if err != nil {
				return err
			}
			ssh := filepath.Join(env.WorkDir, "home", ".ssh")
			if err := os.Mkdir(ssh, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(ssh, "config"), data, 0o600)
		},
		Condition: func(cond string) (bool, error) {
			return cond == "redis" && os.Getenv("AIFB_TEST_REDIS_SIF") != "" ||
				cond == "dbd" && os.Getenv("AIFB_TEST_DBD") == "yes", nil
		},
	}
	files, err := filepath.Glob(scripts + "/cluster/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	// One after the other: a job that waits for the whole cluster would keep back the client of another script, whose
	// service keeps back that job.
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			params.Files = []string{file}
			testscript.Run(t, params)
		})
	}
}

// buildStatic builds the program as it is released.
var buildStatic = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "aifb-static-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "aifb")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", &buildError{out.String(), err}
	}
	return bin, nil
})

type buildError struct {
	out string
	err error
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + strings.TrimSpace(e.out) }

func staticBinary(t testing.TB) string {
	t.Helper()
	bin, err := buildStatic()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}
