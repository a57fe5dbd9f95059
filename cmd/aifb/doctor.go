package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func doctorCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what a target can do, and what is missing",
		Description: `It looks at this machine, the connection, the target's directory, its scheduler and its containers, and leaves all as it is. The
exit code is 0 if the target is usable, even if something is missing that not every recipe needs, and else 6.`,
		Flags: []cli.Flag{targetFlag(), storeFlag(), configFlag(), jsonFlag()},
		Action: atMost(0, func(c *cli.Context) error {
			ctx, done := untilLeft(c.Context)
			defer done()
			cfg, err := readConfig(c)
			if err != nil {
				return err
			}
			name := targetName(c, cfg, "")
			target, err := openTarget(cfg, name)
			if err != nil {
				return err
			}
			defer target.Conn.Close()
			d := &doctor{target: target}
			d.checkHere(ctx, c, cfg)
			d.checkTarget(ctx)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			show := d.print
			if c.Bool("json") {
				show = d.printJSON
			}
			return errors.Join(show(std.out), d.verdict())
		}),
	}
}

// A doctor collects what it finds out about a target.
type doctor struct {
	target   runtime.Target
	findings []finding
}

// A finding is one that nothing works without, or not.
type finding struct {
	runtime.Finding
	needed bool
}

// need adds a finding without which nothing works: err, or if that is nil, text.
func (d *doctor) need(name, text string, err error) {
	f := runtime.Finding{Name: name, OK: err == nil, Text: text}
	if err != nil {
		f.Text, f.Hint = err.Error(), runtime.HintOf(err)
	}
	d.findings = append(d.findings, finding{f, true})
}

// add adds findings that some recipes do without.
func (d *doctor) add(findings ...runtime.Finding) {
	for _, f := range findings {
		d.findings = append(d.findings, finding{f, false})
	}
}

// verdict is the error of a target that is not usable.
func (d *doctor) verdict() error {
	var missing []string
	for _, f := range d.findings {
		if f.needed && !f.OK {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return runtime.Faultf(runtime.FaultInfra, "", "%s is not usable: see %s", d.target.Name, strings.Join(missing, ", "))
}

func (d *doctor) print(w io.Writer) error {
	width := 0
	for _, f := range d.findings {
		width = max(width, len(f.Name))
	}
	for _, f := range d.findings {
		word := "ok"
		if !f.OK {
			word = "missing"
		}
		_, err := fmt.Fprintf(w, "%-7s  %-*s  %s\n", word, width, runtime.Printable(f.Name), runtime.Printable(f.Text))
		if err == nil && f.Hint != "" {
			_, err = fmt.Fprintf(w, "%*s  hint: %s\n", 7+2+width, "", runtime.Printable(f.Hint))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *doctor) printJSON(w io.Writer) error {
	type line struct {
		Name   string `json:"name"`
		OK     bool   `json:"ok"`
		Needed bool   `json:"needed"` // nothing works without it
		Text   string `json:"text"`
		Hint   string `json:"hint,omitempty"`
	}
	lines := []line{}
	for _, f := range d.findings {
		lines = append(lines, line{f.Name, f.OK, f.needed, f.Text, f.Hint})
	}
	return writeJSON(w, map[string]any{"version": 1, "target": d.target.Name, "usable": d.verdict() == nil, "findings": lines})
}

// checkHere looks at this machine.
func (d *doctor) checkHere(ctx context.Context, c *cli.Context, cfg *config) {
	text, err := checkStore(ctx, storeURL(c, cfg))
	d.need("store", text, err)
	config := configFile(c)
	if !isThere(config) {
		config = "there is no " + config + "; none is needed"
	}
	d.add(runtime.Finding{Name: "config", OK: true, Text: config})
	if isHere(d.target) {
		return
	}
	ssh := runtime.Finding{Name: "ssh config", OK: true, Text: filepath.Join(home(), ".ssh", "config")}
	if !isThere(ssh.Text) {
		ssh.Text = "there is none; the host's name, this user's and the default keys are used"
	}
	d.add(ssh)
}

// isHere reports whether a target is this machine.
func isHere(t runtime.Target) bool { return t.Binary != "" }

func isThere(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// checkStore reads the store, and says how many runs it has. That it can be written to, its directory tells.
func checkStore(ctx context.Context, url string) (string, error) {
	store, err := storage.Open(ctx, url)
	if err != nil {
		return "", err
	}
	defer store.Close()
	runs, err := runIDs(ctx, store)
	if err != nil {
		return "", err
	}
	if err := checkWritable(filepath.Dir(storage.Files(url))); err != nil {
		return "", runtime.Faultf(runtime.FaultInfra, "another store is named by --store", "%s: %w", url, err)
	}
	return fmt.Sprintf("%s, %d runs", url, len(runs)), nil
}

// checkWritable makes and removes a file in the directory, or where the directory would be made.
func checkWritable(dir string) error {
	for !isThere(dir) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".aifb-doctor-*")
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s cannot be written to: %w", dir, p.Err)
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkTarget looks at the target. What depends on a connection is left out if there is none.
func (d *doctor) checkTarget(ctx context.Context) {
	text, err := checkConnection(ctx, d.target)
	d.need("connection", text, err)
	if err != nil {
		return
	}
	if c, ok := d.target.Conn.(runtime.Checker); ok {
		d.add(c.Check(ctx)...)
	}
	d.checkMachine(ctx)
	if c, ok := d.target.Scheduler.(runtime.Checker); ok {
		for i, f := range c.Check(ctx) {
			d.findings = append(d.findings, finding{f, i == 0}) // the first is the scheduler itself
		}
	}
	if !slices.ContainsFunc(d.findings, func(f finding) bool { return f.Name == "apptainer" }) {
		d.add(checkApptainer(ctx, d.target.Conn))
	}
}

// checkConnection measures how long it takes to log in, and how long a command then takes.
func checkConnection(ctx context.Context, t runtime.Target) (string, error) {
	const commands = 5
	var took []time.Duration
	for range 1 + commands {
		begin := time.Now()
		if err := t.Conn.Run(ctx, runtime.Cmd{Args: []string{"true"}}); err != nil {
			return "", err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took[1:])
	text := fmt.Sprintf("a command takes %v", roundTime(took[1+commands/2]))
	if isHere(t) {
		return "none is needed; " + text, nil
	}
	return text + fmt.Sprintf(", the first, with logging in, took %v", roundTime(took[0])), nil
}

func roundTime(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// workdirProgram prints whether a directory can be made in the target's directory, or where that would be made, how many
// kilobytes are free there, and where it is.
const workdirProgram = `d=$1
while [ ! -e "$d" ]; do d=$(dirname "$d"); done
w=no
if mkdir "$d/.aifb-doctor.$$" 2>/dev/null && rmdir "$d/.aifb-doctor.$$"; then w=yes; fi
free=$(df -Pk "$d" 2>/dev/null | awk 'NR == 2 { print $4 }')
printf '\naifb-workdir\n%s\n%s\n%s\n' "$w" "${free:--}" "$d"`

// littleSpace is how much room in the target's directory is too little for an image.
const littleSpace = 2 << 30

// checkMachine looks at what machine the target is.
func (d *doctor) checkMachine(ctx context.Context) {
	userHome, goos, goarch, err := runtime.Host(ctx, d.target)
	d.need("machine", fmt.Sprintf("%s/%s, home %s", goos, goarch, userHome), err)
	if err != nil {
		return
	}
	dir := cmp.Or(d.target.Dir, "~/.aifb")
	if rest, ok := strings.CutPrefix(dir, "~/"); ok {
		dir = path.Join(userHome, rest)
	}
	text, err := checkWorkdir(ctx, d.target.Conn, dir)
	d.need("workdir", text, err)
	d.add(checkBinary(ctx, d.target, dir, goos, goarch))
}

func checkWorkdir(ctx context.Context, conn runtime.Conn, dir string) (string, error) {
	const hint = "`workdir:` of the target in the config file names another one"
	if !path.IsAbs(dir) {
		return "", runtime.Faultf(runtime.FaultUsage, hint, "%s is not absolute", dir)
	}
	out, err := runtime.Output(ctx, conn, "/bin/sh", "-c", workdirProgram, "sh", dir)
	if err != nil {
		return "", err
	}
	_, answer, _ := strings.Cut(out, "\naifb-workdir\n")
	lines := strings.Split(answer, "\n")
	if len(lines) < 3 {
		return "", runtime.Faultf(runtime.FaultInfra, "", "%s: unexpected answer %q", dir, out)
	}
	if lines[0] != "yes" {
		return "", runtime.Faultf(runtime.FaultInfra, hint, "%s cannot be written to", lines[2])
	}
	text := dir + " can be written to"
	if kb, err := strconv.ParseInt(lines[1], 10, 64); err == nil {
		free := kb << 10
		text += fmt.Sprintf(", %s free", sizeOf(&free))
		if free < littleSpace {
			text += ", which is little for images"
		}
	}
	return text, nil
}

// checkBinary looks for an aifb that runs on the target. Only recipes that mention $AIFB need it.
func checkBinary(ctx context.Context, t runtime.Target, dir, goos, goarch string) runtime.Finding {
	f := runtime.Finding{Name: "aifb"}
	text, err := stagedBinary(ctx, t, dir, goos, goarch)
	f.OK, f.Text = err == nil, text
	if err != nil {
		f.Text = "jobs cannot use $AIFB: " + err.Error()
		f.Hint = runtime.HintOf(err)
	}
	return f
}

func stagedBinary(ctx context.Context, t runtime.Target, dir, goos, goarch string) (string, error) {
	if isHere(t) {
		return t.Binary, nil
	}
	name, err := binary(goos, goarch)
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := runtime.CheckStatic(f, goos); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	staged, err := runtime.StagedDir(f)
	if err != nil {
		return "", err
	}
	remote := path.Join(dir, staged, "aifb")
	out, err := runtime.Output(ctx, t.Conn, remote, "version")
	if exit := (*runtime.ExitError)(nil); errors.As(err, &exit) && exit.Code == 127 || errors.Is(err, fs.ErrNotExist) {
		size := int64(0)
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		return fmt.Sprintf("%s, of %s, is brought there when a job needs it", name, sizeOf(&size)), nil
	}
	if err != nil {
		return "", fmt.Errorf("%s does not run: %w", remote, err)
	}
	return fmt.Sprintf("%s runs: %s", remote, strings.TrimSpace(out)), nil
}

func checkApptainer(ctx context.Context, conn runtime.Conn) runtime.Finding {
	for _, program := range []string{"apptainer", "singularity"} {
		if out, err := runtime.Output(ctx, conn, program, "--version"); err == nil {
			return runtime.Finding{Name: "apptainer", OK: true, Text: strings.TrimSpace(out)}
		}
	}
	return runtime.Finding{Name: "apptainer", Text: "neither apptainer nor singularity is on the path",
		Hint: "recipes with an image need it; if it is in a module, add `setup: [module load Apptainer]` to the target"}
}
