package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func gcCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "gc",
		Usage:     "clean up a target: jobs and files that earlier runs left there",
		ArgsUsage: "[RUN ...]",
		Description: `It lists the jobs on the target that are called aifb-RUN-..., and the files in the target's workdir, and asks before it
ends and removes what belongs to runs, or the RUNs named, that have ended or were left behind. The files of a run that is
in the store are brought to this machine first. Runs that are under way on this machine are left alone. So are, without
--all, those that were kept by --keep, and those of which this machine knows nothing: they may be under way on another
one, or in another store.`,
		Flags: []cli.Flag{targetFlag(), storeFlag(), configFlag(), jsonFlag(),
			boolFlag("yes", "do not ask", "y"),
			boolFlag("dry-run", "only list; so it is without a terminal to ask on, unless --yes is given", "n"),
			boolFlag("all", "also runs that were kept, and those that are not in the store"),
			&cli.DurationFlag{Name: "older", Usage: "only runs that began longer than `DURATION` ago, such as 48h", DefaultText: "any"},
			boolFlag("bin", "also remove copies of other versions of aifb"),
			boolFlag("images", "also remove container images")},
		Action: func(c *cli.Context) error {
			if c.Duration("older") < 0 {
				return runtime.Faultf(runtime.FaultUsage, "", "--older %v is not in the past", c.Duration("older"))
			}
			for _, id := range c.Args().Slice() {
				if !runForm.MatchString(id) {
					return runtime.Faultf(runtime.FaultUsage, "aifb runs lists them", "%q is no whole id of a run", id)
				}
			}
			ctx, done := untilSignal(c.Context)
			defer done()
			return withStore(c, func(_ context.Context, cfg *config, store runtime.Store) error {
				target, err := openTarget(cfg, targetName(c, cfg, ""))
				if err != nil {
					return err
				}
				defer target.Conn.Close()
				g := gc{ender: ender{std: std, cfg: cfg, store: store, files: storage.Files(storeURL(c, cfg))}, target: target,
					all: c.Bool("all"), bin: c.Bool("bin"), images: c.Bool("images"), older: c.Duration("older"),
					only: c.Args().Slice()}
				if err := g.survey(ctx); err != nil {
					return err
				}
				return g.run(ctx, c.Bool("json"), c.Bool("yes"), c.Bool("dry-run"))
			})
		},
	}
}

// A gc cleans up a target.
type gc struct {
	ender
	target           runtime.Target
	all, bin, images bool
	older            time.Duration
	only             []string // the ids of runs; empty: all

	left    leavings
	busy    bool            // there are runs that may use what all share
	current map[string]bool // the copies of aifb that this machine brings there
}

// leavings are what earlier runs left on a target. It is the JSON form of `aifb gc`.
type leavings struct {
	Version int         `json:"version"`
	Target  string      `json:"target"`
	Dir     string      `json:"dir"`
	Runs    []*leftRun  `json:"runs"`
	Bin     []*leftFile `json:"bin"`
	Images  []*leftFile `json:"images"`
	Removed bool        `json:"removed"` // what is marked to be
}

// A leftRun is what a run left.
type leftRun struct {
	Run    string    `json:"run"`
	State  string    `json:"state"`            // of a run of the store; else runUnknown or runElsewhere
	Target string    `json:"target,omitempty"` // that the store has it on
	Kept   bool      `json:"kept"`             // by --keep
	Began  time.Time `json:"began"`
	Jobs   []leftJob `json:"jobs"`
	Bytes  *int64    `json:"bytes"` // null: it has no files there
	Remove bool      `json:"remove"`

	found []runtime.Found
}

// States of a run that are none of the store's.
const (
	runUnknown   = "unknown"   // not in the store
	runElsewhere = "elsewhere" // its process is on another machine
)

type leftJob struct {
	Name  string         `json:"name"`
	ID    runtime.JobID  `json:"id"`
	State runtime.Status `json:"status"`
}

// A leftFile is an image or a copy of aifb.
type leftFile struct {
	Name   string `json:"name"` // below the target's directory
	Bytes  int64  `json:"bytes"`
	Remove bool   `json:"remove"`
}

// survey finds out what there is.
func (g *gc) survey(ctx context.Context) error {
	g.left = leavings{Version: 1, Target: g.target.Name, Runs: []*leftRun{}, Bin: []*leftFile{}, Images: []*leftFile{}}
	found, err := findJobs(ctx, g.target, jobPrefix)
	if err != nil {
		return err
	}
	dir, files, err := listFiles(ctx, g.target)
	if err != nil {
		return err
	}
	g.left.Dir = dir
	runs := make(map[string]*leftRun)
	for _, f := range found {
		run, name, ok := splitToken(f.Token)
		if !ok || !g.isMeant(run) {
			continue // not one of ours, for all we know
		}
		r := g.leftRun(runs, run)
		r.found = append(r.found, f)
		r.Jobs = append(r.Jobs, leftJob{name, f.ID, f.Status})
	}
	for _, f := range files {
		switch kind, name, _ := strings.Cut(f.Name, "/"); {
		case kind == "runs" && runForm.MatchString(name) && g.isMeant(name):
			r := g.leftRun(runs, name)
			r.Bytes, r.Kept = &f.Bytes, f.kept
		case kind == "bin":
			g.left.Bin = append(g.left.Bin, &leftFile{Name: f.Name, Bytes: f.Bytes})
		case kind == "images" && !strings.HasSuffix(name, ".lock"):
			g.left.Images = append(g.left.Images, &leftFile{Name: f.Name, Bytes: f.Bytes})
		}
	}
	return g.choose(ctx)
}

// isMeant reports whether a run is one of those that are named, if any are.
func (g *gc) isMeant(run string) bool { return len(g.only) == 0 || slices.Contains(g.only, run) }

// leftRun returns the run of that id, which it adds if need be.
func (g *gc) leftRun(runs map[string]*leftRun, id string) *leftRun {
	r := runs[id]
	if r == nil {
		r = &leftRun{Run: id, Jobs: []leftJob{}}
		r.Began, _ = time.Parse("20060102-150405", id[:15])
		runs[id] = r
		g.left.Runs = append(g.left.Runs, r)
	}
	return r
}

// splitToken returns the run and the job that a token names.
func splitToken(token string) (run, job string, ok bool) {
	rest, ok := strings.CutPrefix(token, jobPrefix)
	const id = len("20060102-150405-abcd")
	if !ok || len(rest) < id+2 || rest[id] != '-' || !runForm.MatchString(rest[:id]) {
		return "", "", false
	}
	return rest[:id], rest[id+1:], true
}

// choose decides what is to be removed.
func (g *gc) choose(ctx context.Context) error {
	stored, err := runIDs(ctx, g.store)
	if err != nil {
		return err
	}
	slices.SortFunc(g.left.Runs, func(a, b *leftRun) int { return strings.Compare(a.Run, b.Run) })
	for _, r := range g.left.Runs {
		if slices.Contains(stored, r.Run) {
			st, err := foldRun(ctx, g.store, r.Run)
			if err != nil {
				return err
			}
			r.Target = st.Start.Target
			r.State, _ = stateOf(st, g.files)
		} else {
			r.State = runUnknown
		}
		if pid, alive := runOwner(g.files, r.Run); alive {
			r.State = runRunning
			if pid == 0 {
				r.State = runElsewhere
			}
		}
		r.Remove = g.mayRemove(r) && time.Since(r.Began) >= g.older
	}
	return g.chooseShared(stored)
}

// mayRemove reports whether a run is one that may be removed, however old it is.
func (g *gc) mayRemove(r *leftRun) bool {
	switch {
	case r.State == runRunning, r.Target != "" && r.Target != g.target.Name:
		return false
	case r.State == runElsewhere, r.State == runUnknown, r.Kept:
		return g.all
	}
	return true
}

// chooseShared decides about what runs share: none of it is removed while a run may use it.
func (g *gc) chooseShared(stored []string) error {
	for _, r := range g.left.Runs {
		g.busy = g.busy || !r.Remove && (len(r.Jobs) > 0 || !g.mayRemove(r))
	}
	g.busy = g.busy || len(g.only) > 0 // what the others do is not known
	for _, run := range stored {       // one may have nothing there yet
		_, alive := runOwner(g.files, run)
		g.busy = g.busy || alive
	}
	var err error
	if len(g.left.Bin) > 0 {
		g.current, err = stagedDirs()
	}
	for _, f := range g.left.Bin {
		f.Remove = g.bin && !g.busy && !g.current[f.Name]
	}
	for _, f := range g.left.Images {
		f.Remove = g.images && !g.busy
	}
	return err
}

// stagedDirs returns where on a target the copies of those aifb are that this machine has.
func stagedDirs() (map[string]bool, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	names := []string{self}
	for _, dir := range binaryDirs(self) {
		others, _ := filepath.Glob(filepath.Join(dir, "aifb-*-*"))
		names = append(names, others...)
	}
	dirs := make(map[string]bool)
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		dir, err := runtime.StagedDir(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		dirs[dir] = true
	}
	return dirs, nil
}

// run shows what there is, and removes what is to be removed if the user agrees.
func (g *gc) run(ctx context.Context, asJSON, yes, dryRun bool) error {
	if !asJSON {
		if err := g.show(); err != nil {
			return err
		}
	}
	agreed, err := g.agreed(ctx, asJSON, yes, dryRun)
	if err == nil && agreed {
		err = g.remove(ctx)
		g.left.Removed = err == nil
	}
	if asJSON {
		return errors.Join(err, writeJSON(g.std.out, g.left))
	}
	return err
}

// removable reports whether there is anything to remove.
func (g *gc) removable() bool {
	isFile := func(f *leftFile) bool { return f.Remove }
	return slices.ContainsFunc(g.left.Runs, func(r *leftRun) bool { return r.Remove }) ||
		slices.ContainsFunc(g.left.Bin, isFile) || slices.ContainsFunc(g.left.Images, isFile)
}

func (g *gc) agreed(ctx context.Context, asJSON, yes, dryRun bool) (bool, error) {
	switch {
	case !g.removable():
		_, err := fmt.Fprintf(g.std.err, "nothing is to be cleaned up on %s\n", g.target.Name)
		return false, err
	case dryRun:
		return false, nil
	case yes:
		return true, nil
	case asJSON || !isTerminal(g.std.in) || !isTerminal(g.std.err):
		_, err := fmt.Fprintln(g.std.err, "nothing was removed: there is no terminal to ask on; --yes removes it")
		return false, err
	}
	return ask(ctx, g.std, "Remove it?")
}

// ask asks a person. What is not yes is no.
func ask(ctx context.Context, std streams, question string) (bool, error) {
	fmt.Fprint(std.err, question+" [y/N] ")
	answer, err := readLine(ctx, pipe{bufio.NewReader(std.in)}, true)
	if err != nil && err != io.EOF {
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// show prints what there is, and what becomes of it.
func (g *gc) show() error {
	if n := len(g.left.Runs); n > 0 {
		rows := make([][]string, n)
		for i, r := range g.left.Runs {
			rows[i] = []string{r.Run, r.describe(), fmt.Sprint(len(r.Jobs)), sizeOf(r.Bytes), g.fate(r)}
		}
		if err := runtime.WriteTable(g.std.out, []string{"run", "state", "jobs", "files", ""}, rows); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, f := range g.left.Bin {
		rows = append(rows, []string{f.Name, sizeOf(&f.Bytes), g.fateOf(f, "--bin", g.bin)})
	}
	for _, f := range g.left.Images {
		rows = append(rows, []string{f.Name, sizeOf(&f.Bytes), g.fateOf(f, "--images", g.images)})
	}
	if len(rows) == 0 {
		return nil
	}
	if len(g.left.Runs) > 0 {
		fmt.Fprintln(g.std.out)
	}
	return runtime.WriteTable(g.std.out, []string{"shared by runs", "size", ""}, rows)
}

func (r *leftRun) describe() string {
	switch {
	case r.State == runLeft:
		return "left behind"
	case r.Kept:
		return r.State + ", kept"
	}
	return r.State
}

// fate says what becomes of a run.
func (g *gc) fate(r *leftRun) string {
	switch {
	case r.Remove && len(r.Jobs) > 0:
		return "to be stopped and removed"
	case r.Remove:
		return "to be removed"
	case r.State == runRunning:
		return "is under way"
	case r.Target != "" && r.Target != g.target.Name:
		return "only with -t " + r.Target
	case time.Since(r.Began) < g.older:
		return "is younger than --older"
	}
	return "only with --all"
}

// fateOf says what becomes of something that runs share.
func (g *gc) fateOf(f *leftFile, flag string, given bool) string {
	switch {
	case f.Remove:
		return "to be removed"
	case g.current[f.Name]:
		return "is this version"
	case !given:
		return "only with " + flag
	}
	return "may be in use"
}

// sizeOf writes a number of bytes for a person.
func sizeOf(bytes *int64) string {
	if bytes == nil {
		return "-"
	}
	n, unit := float64(*bytes), "kB"
	for n /= 1000; n >= 1000 && unit != "GB"; n /= 1000 {
		unit = map[string]string{"kB": "MB", "MB": "GB"}[unit]
	}
	return fmt.Sprintf("%.0f %s", n, unit)
}

// remove ends and removes what is to be. An error about one run does not keep the others.
func (g *gc) remove(ctx context.Context) error {
	var errs []error
	var names []string
	for _, r := range g.left.Runs {
		if !r.Remove {
			continue
		}
		if err := g.removeRun(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", r.Run, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		names = append(names, "runs/"+r.Run)
	}
	for _, f := range slices.Concat(g.left.Bin, g.left.Images) {
		if f.Remove && len(errs) == 0 {
			names = append(names, f.Name)
		}
	}
	errs = append(errs, removeFiles(ctx, g.target, names...))
	return errors.Join(errs...)
}

// removeRun ends a run's jobs. Of one of the store the files are brought here first.
func (g *gc) removeRun(ctx context.Context, r *leftRun) error {
	var stopped []string
	known := r.Target != ""
	if known {
		var err error
		if stopped, err = g.end(ctx, g.target, r.Run); err != nil {
			return err
		}
	}
	if err := endJobs(ctx, g.target, r.found); err != nil {
		return err
	}
	if !known {
		for _, j := range r.Jobs {
			stopped = append(stopped, j.Name)
		}
	}
	if len(stopped) == 0 {
		_, err := fmt.Fprintf(g.std.err, "run %s: removed\n", r.Run)
		return err
	}
	return g.report(r.Run, stopped)
}

// gcHead goes to the target's directory, which is $1.
const gcHead = `dir=$1
shift
case $dir in
'') dir=$HOME/.aifb ;;
'~/'*) dir=$HOME/${dir#'~/'} ;;
/*) ;;
*) echo "workdir $dir is not absolute" >&2; exit 1 ;;
esac
`

// listProgram prints the target's directory and what is in it, each as a JSON object. What has no plain name is none of
// ours.
const listProgram = gcHead + `printf '\naifb-dir %s\n' "$dir"
cd "$dir" 2>/dev/null || exit 0
for f in runs/* bin/* images/*; do
	[ -e "$f" ] || continue
	case ${f#*/} in *[!A-Za-z0-9._-]*) continue ;; esac
	kept=false
	if read -r lease <"$f/.lease" && [ "$lease" = keep ]; then kept=true; fi
	size=$(du -sk "$f" | { read -r n rest; echo "${n:-0}"; })
	printf '{"name":"%s","kb":%d,"kept":%s}\n' "$f" "$size" "$kept"
done 2>/dev/null`

// A targetFile is a file or directory of the target's directory.
type targetFile struct {
	Name  string
	Bytes int64
	kept  bool
}

// listFiles returns the target's directory and what is in it: directories of runs, copies of aifb, and images.
func listFiles(ctx context.Context, target runtime.Target) (dir string, files []targetFile, err error) {
	out, err := runtime.Output(ctx, target.Conn, "/bin/sh", "-c", listProgram, "sh", target.Dir)
	if err != nil {
		return "", nil, fmt.Errorf("list files: %w", err)
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "aifb-dir "); ok {
			dir = strings.TrimSuffix(rest, "\n")
		}
		var f struct {
			Name string
			KB   int64
			Kept bool
		}
		if json.Unmarshal([]byte(line), &f) == nil && f.Name != "" {
			files = append(files, targetFile{f.Name, f.KB << 10, f.Kept})
		}
	}
	if dir == "" {
		return "", nil, runtime.Faultf(runtime.FaultInfra, "is there a POSIX shell, and is $HOME set?", "list files: unexpected answer %q", out)
	}
	return dir, files, nil
}

// removeProgram removes files of the target's directory, and the directories that are then empty.
const removeProgram = gcHead + `cd "$dir" 2>/dev/null || exit 0
for f; do rm -rf "./$f" "./$f.lock" || exit 1; done
rmdir runs bin images "$dir" 2>/dev/null
exit 0`

// removeFiles removes files by their names in the target's directory.
func removeFiles(ctx context.Context, target runtime.Target, names ...string) error {
	for some := range slices.Chunk(names, 500) {
		err := target.Conn.Run(ctx, runtime.Cmd{Args: append([]string{"/bin/sh", "-c", removeProgram, "sh", target.Dir}, some...)})
		if err != nil {
			return fmt.Errorf("remove files: %w", err)
		}
	}
	return nil
}
