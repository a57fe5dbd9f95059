package slurm

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aifb/aifb/runtime"
)

// ends are the words that say that a job has ended.
const ends = `COMPLETED|FAILED|CANCELLED( by [^\x1f\n]*)?|TIMEOUT|DEADLINE|OUT_OF_MEMORY|PREEMPTED|NODE_FAIL|BOOT_FAIL`

// checkStatus checks what a parser made of something. Only a word that says so, in the place of the job's state, ends it.
func checkStatus(t *testing.T, out, id string, st runtime.Status, saysEnd string) {
	t.Helper()
	if ended := st.State == runtime.Ended; ended != (st.Outcome != "") {
		t.Errorf("%q: job %s: %+v", out, id, st)
	} else if ended && !regexp.MustCompile(saysEnd).MatchString(out) {
		t.Errorf("%q ends job %s: %+v", out, id, st)
	}
	if st.Outcome == runtime.Completed && st.Exited && st.Code != 0 || st.Code < 0 || st.Code > 255 || st.Attempt < 0 {
		t.Errorf("%q: job %s: %+v", out, id, st)
	}
	if !utf8.ValidString(st.Reason) || !utf8.ValidString(st.Node) || strings.ContainsAny(st.Node, " /;$`'\"") {
		t.Errorf("%q: job %s: %+v", out, id, st)
	}
}

func FuzzSqueue(f *testing.F) {
	for _, out := range captured(f, "squeue") {
		f.Add(out)
	}
	f.Add(record("7", "RUNNING", "0:0", "0", "1", "2", "n[1-2]", "None"))
	f.Add("CLUSTER: x\n" + record("7_1", "CANCELLED", "0:15", "3", "1", "2", "n[1-2]", "a\x1fb\nc"))
	f.Add(record("7", "COMPLETED", "9999999999999999999", "-1", "-1", "x", "[[[", ""))
	f.Fuzz(func(t *testing.T, out string) {
		for id, st := range parseSqueue(out, new(skips)) {
			if !isID(id) {
				t.Errorf("%q: an id %q", out, id)
			}
			checkStatus(t, out, id, st, `(^|\s|\x1e)`+id+`\s*\x1f\s*(`+ends+`)\s*\x1f`)
		}
	})
}

func FuzzSacct(f *testing.F) {
	for _, out := range captured(f, "sacct") {
		f.Add(out)
	}
	f.Add(row("7", "CANCELLED by 1", "0:15", "1", "2", "n[1-2]", "3"))
	f.Add(row("7", "NODE_FAIL", "0:0", "1", "2", "n1", "3", "0") + row("7", "RUNNING", "0:0", "1", "2", "n1", "4", "1"))
	f.Add(row("100_7", "COMPLETED", "300:300", "-1", "x", "]", ""))
	f.Fuzz(func(t *testing.T, out string) {
		for id, st := range parseSacct(out, new(skips)) {
			if !isID(id) {
				t.Errorf("%q: an id %q", out, id)
			}
			checkStatus(t, out, id, st, `(?m)^\s*`+id+`\s*\x1f\s*(`+ends+`)\s*\x1f`)
		}
		found := found{sacct: make(map[runtime.JobID]runtime.Status)}
		found.readSacct(chunk{numbers: []string{"7"}}, answer{reply: reply{0, out}, ok: true})
		for id := range found.sacct {
			if id != "7" {
				t.Errorf("%q: a status of %s, which was not asked for", out, id)
			}
		}
	})
}

func FuzzScontrol(f *testing.F) {
	for _, out := range captured(f, "scontrol") {
		_, record, _ := strings.Cut(out, "\n")
		record, _, _ = strings.Cut(record, "\n== ")
		f.Add(record, value(record, "JobId"))
	}
	f.Add("JobId=7 JobName=x\n   JobState=FAILED Reason=None Dependency=(null)\n   Requeue=1 Restarts=0 ExitCode=3:0\n", "7")
	f.Add("JobId=8 ArrayJobId=7 ArrayTaskId=1 JobName=x\n   JobState=RUNNING Reason=a Dependency= Dependency=(null)\n", "7_1")
	f.Add("slurm_load_jobs error: Invalid job id specified\n", "7")
	f.Fuzz(func(t *testing.T, out, id string) {
		if st, ok := parseScontrol(out, id); ok {
			checkStatus(t, out, id, st, `(?m)^(   )?JobState=(`+ends+`)(\s|$)`)
			if job, _, _ := strings.Cut(id, "_"); !strings.Contains(out, "Id="+job) {
				t.Errorf("%q: a status of job %q, which it does not mention", out, id)
			}
		}
	})
}

func FuzzExplain(f *testing.F) {
	for version, out := range captured(f, "squeue.own") {
		f.Add(out, captured(f, "squeue.queue")[version])
	}
	f.Add(strings.Join([]string{"7", "PENDING", "10", "cpu,gpu", "100", "Priority", terminator}, separator), "8_[1-3]\x1f11\x1fcpu\x1f\x1e")
	f.Add(strings.Join([]string{"7", "REQUEUE_HOLD", "0", "cpu", "N/A", "a, b\x1fc", terminator}, separator), "9_[1-5:0%3,7-1]\x1f11\x1fcpu\x1f\x1e")
	f.Add("", "7+1\x1f18446744073709551615\x1fcpu\x1f\x1e8_[0-4294967295]\x1f1\x1fcpu\x1f\x1e")
	f.Fuzz(func(t *testing.T, own, queue string) {
		queues := parseQueue(queue, new(skips))
		for id, w := range parseOwn(own, []string{"7", "8_1"}, new(skips)) {
			q := w.queued(queues)
			if id != "7" && id != "8_1" || q.Text == "" || q.Ahead < -1 || !utf8.ValidString(q.Text) {
				t.Errorf("%q, %q: job %s: %+v", own, queue, id, q)
			}
			if strings.ContainsAny(q.Text, "\n\x00\x1b") {
				t.Errorf("%q: the text %q", own, q.Text)
			}
		}
	})
}

func FuzzReplies(f *testing.F) {
	f.Add("motd\n\nM begin a\n\nM end 0\nnoise\n\nM begin b\nM\nM end 1\n")
	f.Fuzz(func(t *testing.T, out string) {
		for key, r := range parseReplies(out, "M") {
			if !strings.Contains(out, "\nM begin "+key+"\n"+r.out+"\nM end ") && !strings.HasPrefix(out, "M begin ") {
				t.Errorf("%q: a reply %q: %+v", out, key, r)
			}
		}
		parseID(out)
		parseConfig(out)
	})
}
