package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
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

// A Start is what start.json says: where the job came to run. It is there before the image is pulled, and is written
// again when the command begins, if that is later.
type Start struct {
	Host    string  `json:"host"` // under which other machines of the cluster reach it
	Port    int     `json:"port"` // 0: none
	ID      string  `json:"id"`   // the scheduler's
	Attempt int     `json:"attempt"`
	Time    float64 `json:"time"`            // seconds since 1970, by the node's clock
	Begun   float64 `json:"begun,omitempty"` // the same, of the command, if the job Prepares
}

// Prepares reports whether there is anything to do in the job before its command begins, which may take its time.
func (j *Job) Prepares() bool {
	return j.Image.URI != "" || len(j.Needs.Modules)+len(j.Needs.Setup) > 0
}

// An Exit is what exit.json says: how the job's command ended. It is the job's own word; a job that is killed hard
// leaves none.
type Exit struct {
	Code   int      `json:"code"`           // as a shell has it: 128+n if signal n ended the command
	Signal int      `json:"signal"`         // that the job received and passed on, or 0
	Time   float64  `json:"time"`           // seconds since 1970, by the node's clock
	Late   *float64 `json:"late,omitempty"` // seconds after the moment that its group had agreed on; nil: it had not
	Full   bool     `json:"full,omitempty"` // its directory took no more data when it ended, and may lack some
}

// The directories of a run, beside those of its jobs, by which the jobs and the run tell each other what happens.
const (
	dirEvents = ".events" // a file for each start and end of a job; it is there if somebody watches
	fileLease = ".lease"  // changes as long as the run is under way; "keep": the jobs may outlive it
	dirGate   = ".gate-"  // and the name of a group: its jobs wait there for each other
)

// Script returns the shell program that runs the job's command and leaves the files named above. It is the same on
// every scheduler, and for all jobs of a group. A scheduler puts lines before it that set the shell variables host (the
// name under which other machines reach this one), id (the job's id), attempt (0, 1, ...) and, for a job of a group,
// index; it needs a POSIX shell, and no root.
func Script(j Job) string {
	var b strings.Builder
	dir, name := Quote(j.Dir), Quote(j.Name)
	if j.Group != "" {
		dir, name = Quote(strings.TrimSuffix(j.Dir, fmt.Sprintf(".%d", j.Index)))+".$index", Quote(j.Group)+".$index"
	}
	fmt.Fprintf(&b, "dir=%s\nname=%s\nport=%d\n", dir, name, max(j.Port, 0))
	b.WriteString(scriptHead)
	if j.Port == AnyPort {
		b.WriteString(scriptFreePort)
	}
	b.WriteString(scriptStart)
	if j.Lease > 0 {
		fmt.Fprintf(&b, "%slease %d\n", scriptLease, int(j.Lease.Round(time.Second)/time.Second))
	}
	b.WriteString(exports(j) + sourceSecrets(j))
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
	if j.Prepares() {
		b.WriteString("start \"$(now)\"\n")
	}
	if j.Group != "" {
		fmt.Fprintf(&b, "%sbarrier \"$run\"/%s %d\n", scriptBarrier, Quote(dirGate+j.Group), j.Count)
	}
	b.WriteString("set -- " + Quote(j.Args...) + "\n" + scriptRun)
	return b.String()
}

// exports gives the job its environment. An image may set variables of its own; with the prefix, ours win. Without NO_EVAL,
// Apptainer has a shell interpret what is in them.
func exports(j Job) string {
	var b strings.Builder
	export := func(name, value string) {
		fmt.Fprintf(&b, "export %s=%s\n", name, value)
		if j.Image.SIF != "" {
			fmt.Fprintf(&b, "export APPTAINERENV_%s=%s\n", name, value)
		}
	}
	if j.Image.SIF != "" {
		b.WriteString("export APPTAINER_NO_EVAL=1\n")
	}
	export("BENCHMARK_OUTPUT_DIR", `"$dir/`+DirMetrics+`"`)
	if j.Group != "" {
		export("CLIENT_NAME", "$name")
		export("CLIENT_INDEX", "$index")
		export("CLIENT_COUNT", fmt.Sprint(j.Count))
	}
	for _, name := range slices.Sorted(maps.Keys(j.Env)) {
		export(name, Quote(j.Env[name]))
	}
	if j.Port != NoPort {
		export("SERVICE_PORT", "$port")
	}
	return b.String()
}

// setup runs a line of the user's in the job's own shell, so that what it sets stays; what it prints is not the
// command's output.
func setup(line string) string {
	return "{ " + line + "\n} >&2 || die " + Quote("setup: "+line) + "\n"
}

// scriptHead moves the files of an earlier attempt out of the way: what two of them measured is not to be mixed.
const scriptHead = `run=${dir%/*} watchdog= late=
cd "$dir" || exit 1
if [ "$attempt" -gt 0 ] && [ -e start.json ]; then
	mkdir -p "attempt-$((attempt - 1))"
	mv -f start.json exit.json stdout stderr metrics "attempt-$((attempt - 1))" 2>/dev/null
fi
mkdir -p metrics
exec </dev/null >stdout 2>stderr
now() { # seconds since 1970; not every date has fractions
	t=$(date +%s.%N)
	case $t in *N) date +%s ;; *) echo "$t" ;; esac
}
record() { # start|exit JSON: into the file of that name, whole or not at all, and to whoever watches the run
	printf '%s\n' "$2" >"$dir/$1.json.tmp" && mv -f "$dir/$1.json.tmp" "$dir/$1.json"
	[ -d "$run/.events" ] || return 0
	printf '{"job":"%s","%s":%s}\n' "${dir##*/}" "$1" "$2" >"$run/.events/.${dir##*/}.$1" &&
		mv -f "$run/.events/.${dir##*/}.$1" "$run/.events/${dir##*/}.$1"
}
leave() { # CODE SIGNAL
	[ -z "$watchdog" ] || kill "$watchdog" 2>/dev/null
	full= # a short word has room where what the command wrote had none
	{ printf '%65536s' '' >"$dir/exit.json.tmp"; } 2>/dev/null || full=true
	record exit "$(printf '{"code":%d,"signal":%d,"time":%s%s%s}' "$1" "$2" "$(now)" \
		"${late:+,\"late\":$late}" "${full:+,\"full\":$full}")"
	exit "$1"
}
die() {
	echo "aifb: $*" >&2
	leave 1 0
}
`

// scriptStart writes start.json.
const scriptStart = `started=$(now)
start() { # [BEGUN]
	record start "$(printf '{"host":"%s","port":%d,"id":"%s","attempt":%d,"time":%s%s}' \
		"$host" "$port" "$id" "$attempt" "$started" "${1:+,\"begun\":$1}")"
}
start
`

// scriptLease ends the job, as a signal of the scheduler would, if the run's lease stays as it is for too long. That is
// counted, not read from a clock: the file's time may be another machine's.
const scriptLease = `lease() { # SECONDS
	(
		left=$1 step=10 last=
		[ "$left" -ge 60 ] || step=1
		while sleep "$step"; do
			held=$(cat "$run/.lease" 2>/dev/null)
			[ "$held" != keep ] || exit
			if [ "$held" != "$last" ]; then last=$held left=$1; else left=$((left - step)); fi
			[ "$left" -gt 0 ] || break
		done
		echo "aifb: nobody has renewed the lease of $1 s; the job ends" >&2
		kill -TERM $$
	) >/dev/null &
	watchdog=$!
}
`

// scriptBarrier makes the jobs of a group start at one moment. The last of them sees when all are there, and writes
// when to start; the others wait for its word. Two minutes after its own start a job begins without the others: they may
// be waiting for its node. (Opening a file, and no test for one, is what a shared file system answers truly.)
const scriptBarrier = `barrier() { # DIRECTORY COUNT
	mkdir -p "$1" && : >>"$1/go" && : >"$1/ready.$index" || die "no directory $1"
	at= mark= tries=0
	while read -r at mark <"$1/go"; [ "$mark" != go ]; do
		if [ "$index" = $(($2 - 1)) ] && ready=$(ls "$1" | grep -c '^ready') && [ "$ready" -ge "$2" ]; then
			echo "$(echo "$(now)" | awk '{ printf "%.6f", $1 + 1 }') go" >"$1/go"
			continue
		fi
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || {
			echo "aifb: not all $2 jobs of the group run after 2 minutes; this one starts" >&2
			return
		}
		sleep 0.2 2>/dev/null || { sleep 1; tries=$((tries + 4)); }
	done
	sleep "$(echo "$at $(now)" | awk '{ s = $1 - $2; if (s < 0) s = 0; printf "%.3f", s }')"
	late=$(echo "$at $(now)" | awk '{ printf "%.6f", $2 - $1 }')
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
