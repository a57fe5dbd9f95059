package slurm

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

// An sbatch that is frozen, and left alone by its connection, makes no job when it thaws after another was submitted.
func TestFrozen(t *testing.T) {
	const sbatch = `if first; then sleep 2; fi; submit`
	virtually(t, sbatch, func(t *testing.T, f *fake) {
		var frozen *exec.Cmd
		f.fault = func(run int32, cmd *runtime.Cmd, p *exec.Cmd) error {
			if run > 1 {
				return nil
			}
			program, err := io.ReadAll(cmd.Stdin)
			if err != nil {
				return err
			}
			limit := fmt.Sprintf(" -s KILL %d", int(sbatchLimit.Seconds()))
			if !strings.Contains(string(program), limit) {
				t.Error("sbatch may take as long as it likes")
			}
			frozen = exec.Command(p.Path, p.Args[1:]...)
			frozen.Env = p.Env
			frozen.Stdin = strings.NewReader(strings.ReplaceAll(string(program), limit, " -s KILL 1"))
			if err := frozen.Start(); err != nil {
				return err
			}
			for f.read("calls") == "" { // sbatch was called
				if err := exec.Command("sleep", "0.01").Run(); err != nil {
					return err
				}
			}
			return errBroken
		}
		start := time.Now()
		f.submit(f.job("a"))
		if took := time.Since(start); took < overAfter {
			t.Errorf("another job was submitted after %v", took)
		}
		if err := frozen.Wait(); err != nil {
			t.Error(err)
		}
		if err := exec.Command("sleep", "3").Run(); err != nil { // longer than what sbatch runs would
			t.Error(err)
		}
		if got := f.jobs(); got != "aifb-a\n" {
			t.Errorf("there are the jobs %q", got)
		}
	})
}
