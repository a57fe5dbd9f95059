package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/local"
	"github.com/aifb/aifb/runtime/ssh"
	"github.com/aifb/aifb/slurm"
)

func targetFlag() cli.Flag {
	return &cli.StringFlag{Name: "target", Aliases: []string{"t"}, EnvVars: []string{"AIFB_TARGET"},
		Usage: "where jobs go: local, a `TARGET` of the config file, or a host of the OpenSSH config", DefaultText: "local"}
}

// targetName decides which target is meant: -t, AIFB_TARGET, the recipe, the config file, local.
func targetName(c *cli.Context, cfg *config, recipe string) string {
	return cmp.Or(c.String("target"), recipe, cfg.Target, "local")
}

// openTarget wires a target. Nothing is contacted before the first deed.
func openTarget(cfg *config, name string) (runtime.Target, error) {
	t := runtime.Target{Name: name}
	tc, known := cfg.Targets[name]
	if !known && name != "local" {
		tc.SSH = name
	}
	var err error
	if t.Defaults, err = tc.resources(); err != nil {
		return t, runtime.Faultf(runtime.FaultUsage, "", "config: target %s: %w", name, err)
	}
	t.Dir = tc.WorkDir
	if tc.SSH == "" {
		t.Conn = local.Conn{}
		if t.Binary, err = os.Executable(); err != nil {
			return t, err
		}
	} else {
		var similar []string
		if !known { // then it may be a misspelt target
			similar = append(slices.Sorted(maps.Keys(cfg.Targets)), "local")
		}
		t.Conn = sshConn(cfg.person, tc.SSH, name, similar)
	}
	return t, setScheduler(&t, tc)
}

// sshConn connects to a host, or by the system's ssh to the alias in "openssh:ALIAS", which is the target's name if it is
// left away. Similar are names that may have been meant in place of the host's.
func sshConn(p *person, host, target string, similar []string) runtime.Conn {
	if alias, ok := strings.CutPrefix(host+":", "openssh:"); ok {
		alias = cmp.Or(strings.TrimSuffix(alias, ":"), target)
		if p == nil {
			return ssh.NewOpenSSH(alias, "", nil)
		}
		return ssh.NewOpenSSH(alias, "", p.lend)
	}
	c := ssh.New(host, "")
	c.Similar = similar
	if p != nil {
		c.Ask = p.ask
	}
	return c
}

func setScheduler(t *runtime.Target, tc targetConfig) error {
	fallback := "local"
	if tc.SSH != "" {
		fallback = "slurm"
	}
	switch kind := cmp.Or(tc.Scheduler, fallback); {
	case kind == "slurm":
		t.Scheduler = slurm.New(t.Conn, t.Name)
		t.PollMin, t.PollMax, t.Watch = time.Second, 15*time.Second, true
	case kind == "local" && tc.SSH == "":
		scheduler := local.NewScheduler()
		scheduler.Below = localDir(t.Dir)
		t.Scheduler = scheduler
		t.PollMin, t.PollMax = 20*time.Millisecond, 500*time.Millisecond
	case kind == "local":
		return runtime.Faultf(runtime.FaultUsage, "", "config: target %s: scheduler local works on this machine only", t.Name)
	default:
		return runtime.Faultf(runtime.FaultUsage, "there are slurm and local", "config: target %s: unknown scheduler %q", t.Name, kind)
	}
	return nil
}

// localDir is the directory of a target that is this machine.
func localDir(workdir string) string {
	if rest, ok := strings.CutPrefix(cmp.Or(workdir, "~/.aifb"), "~/"); ok {
		return filepath.Join(home(), rest)
	}
	return workdir
}

// binary finds an aifb for the operating system and architecture of a target: this one, or one that the user built and
// put beside it or into the data directory.
func binary(goos, goarch string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if goos == goruntime.GOOS && goarch == goruntime.GOARCH {
		return self, nil
	}
	name := fmt.Sprintf("aifb-%s-%s", goos, goarch)
	dirs := binaryDirs(self)
	for _, dir := range dirs {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	hint := fmt.Sprintf("CGO_ENABLED=0 GOOS=%s GOARCH=%s go build -o %s ./cmd/aifb", goos, goarch, filepath.Join(dirs[1], name))
	return "", runtime.Faultf(runtime.FaultUsage, hint, "the target is %s/%s, this aifb is %s/%s", goos, goarch, goruntime.GOOS, goruntime.GOARCH)
}

// binaryDirs are where the user may have put an aifb for other machines.
func binaryDirs(self string) []string {
	return []string{filepath.Dir(self), filepath.Join(dataDir(), "bin")}
}

func dataDir() string { return filepath.Join(xdg("XDG_DATA_HOME", ".local/share"), "aifb") }
