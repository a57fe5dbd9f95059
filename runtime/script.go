package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The files of a job, in its directory.
const (
	FileScript = "script"     // what the scheduler was given
	FileStdout = "stdout"     // of the command
	FileStderr = "stderr"     // of setup, image pull and command
	FileStart  = "start.json" // a Start
	FileExit   = "exit.json"  // an Exit
	DirMetrics = "metrics"    // for what the command writes; $BENCHMARK_OUTPUT_DIR
)

// A Start is what start.json says: where the job came to run. It is there before the image is pulled.
type Start struct {
	Host    string  `json:"host"` // under which other machines of the cluster reach it
	Port    int     `json:"port"` // 0: none
	ID      string  `json:"id"`   // the scheduler's
	Attempt int     `json:"attempt"`
	Time    float64 `json:"time"` // seconds since 1970, by the node's clock
}

// An Exit is what exit.json says: how the job's command ended. It is the job's own word; a job that is killed hard
// leaves none.
type Exit struct {
	Code   int     `json:"code"`   // as a shell has it: 128+n if signal n ended the command
	Signal int     `json:"signal"` // that the job received and passed on, or 0
	Time   float64 `json:"time"`
}

// Script returns the shell program that runs the job's command and leaves the files named above. It is the same on
// every scheduler. A scheduler puts lines before it that set the shell variables host (the name under which other
// machines reach this one), id (the job's id) and attempt (0, 1, ...); it needs a POSIX shell, and no root.
func Script(j Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "dir=%s\nport=%d\n", Quote(j.Dir), max(j.Port, 0))
	b.WriteString(scriptHead)
	if j.Port == AnyPort {
		b.WriteString(scriptFreePort)
	}
	b.WriteString(`printf '{"host":"%s","port":%d,"id":"%s","attempt":%d,"time":%s}\n' ` +
		`"$host" "$port" "$id" "$attempt" "$(now)" | record start.json` + "\n")
	b.WriteString(exports(j))
	for _, m := range j.Needs.Modules {
		b.WriteString(setup("module load " + Quote(m)))
	}
	for _, line := range j.Needs.Setup {
		b.WriteString(setup(line))
	}
	if j.Image.SIF != "" {
		b.WriteString(scriptApptainer)
	}
	if j.Image.URI != "" {
		b.WriteString(scriptPull + "pull " + Quote(j.Image.URI, j.Image.SIF) + " >&2 || die " + Quote("pull "+j.Image.URI) + "\n")
	}
	if j.Needs.WorkDir != "" {
		fmt.Fprintf(&b, "cd %s || die 'no working directory'\n", Quote(j.Needs.WorkDir))
	}
	b.WriteString("set -- " + Quote(j.Args...) + "\n" + scriptRun)
	return b.String()
}

// exports gives the job its environment. An image may set variables of its own; with the prefix, ours win.
func exports(j Job) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(j.Env)) {
		value := Quote(j.Env[name])
		fmt.Fprintf(&b, "export %s=%s\n", name, value)
		if j.Image.SIF != "" {
			fmt.Fprintf(&b, "export APPTAINERENV_%s=%s\n", name, value)
		}
	}
	if j.Port != NoPort {
		b.WriteString("export SERVICE_PORT=$port APPTAINERENV_SERVICE_PORT=$port\n")
	}
	return b.String()
}

// setup runs a line of the user's in the job's own shell, so that what it sets stays; what it prints is not the
// command's output.
func setup(line string) string {
	return "{ " + line + "\n} >&2 || die " + Quote("setup: "+line) + "\n"
}

const scriptHead = `cd "$dir" || exit 1
mkdir -p metrics
exec </dev/null >stdout 2>stderr
now() { # seconds since 1970; not every date has fractions
	t=$(date +%s.%N)
	case $t in *N) date +%s ;; *) echo "$t" ;; esac
}
record() { # NAME: standard input becomes the file, whole or not at all
	cat >"$dir/$1.tmp" && mv -f "$dir/$1.tmp" "$dir/$1"
}
leave() { # CODE SIGNAL
	printf '{"code":%d,"signal":%d,"time":%s}\n' "$1" "$2" "$(now)" | record exit.json
	exit "$1"
}
die() {
	echo "aifb: $*" >&2
	leave 1 0
}
`

// scriptFreePort takes a random port below the range that Linux gives to outgoing connections, on which nothing of
// the node listens. (0A is LISTEN in /proc/net/tcp.)
const scriptFreePort = `while :; do
	port=$(($(od -An -N2 -tu2 /dev/urandom) % 12000 + 20000))
	grep -qs ":$(printf %04X "$port") [0-9A-F]*:[0-9A-F]* 0A " /proc/net/tcp /proc/net/tcp6 || break
done
`

const scriptApptainer = `command -v apptainer >/dev/null || { # before 2021 it was called singularity
	singularity=$(command -v singularity) || die 'neither apptainer nor singularity is on this node; does it need a module?'
	mkdir -p .bin && ln -sf "$singularity" .bin/apptainer && PATH=$dir/.bin:$PATH
}
`

// scriptPull pulls under a lock, so that of N jobs that need an image one pulls it. Where the file system has no
// locks, all pull, and the last whole file wins.
const scriptPull = `pull() { # URI FILE
	[ -e "$2" ] && return
	mkdir -p "${2%/*}"
	(
		if flock 9; then rm -f "$2".part.*; fi
		[ -e "$2" ] && exit
		part=$2.part.$host.$$
		apptainer pull "$part" "$1" && mv -f "$part" "$2" || { rm -f "$part"; exit 1; }
	) 9>"$2.lock"
}
`

// scriptRun waits for the command in the background, because a shell runs no trap while it waits for one in the
// foreground.
const scriptRun = `"$@" &
child=$! signal=0
trap 'signal=15; kill -TERM "$child" 2>/dev/null' TERM
trap 'signal=2; kill -TERM "$child" 2>/dev/null' INT
wait "$child"; code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
leave "$code" "$signal"
`
