package runtimetest

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/sim"
)

var deedClauses = []clause{
	{name: "list", check: checkList,
		rule: "a Lister has a job that runs in its queue under its token, and at least one node; every row fits the columns"},
	{name: "secrets", check: checkSecrets, needs: realJobs,
		rule: "a job gets its secrets from a file beside its directory, which it removes; without that it fails, and says why"},
	{name: "secrets again", check: checkSecretsAgain, needs: realJobs,
		rule: "a job that may run again keeps the file of its secrets until its command has ended"},
}

func checkList(t *schedulerTest) {
	lister, ok := t.Scheduler.(runtime.Lister)
	if !ok {
		t.Skip("tables of the cluster: this scheduler has none")
	}
	job := t.job("j", "sleep", "600")
	t.behave("j", sim.Behaviour{Run: sim.Forever})
	id := t.submit(job)[0]
	t.waitFor("the start of the job", func() bool { return t.status(id).State == runtime.Running })
	for _, where := range []map[string][]string{nil, {"user": {runtime.Me}}, {"name": {job.Token}, "state": {"RUNNING"}}} {
		row := t.listed(lister, runtime.Listing{Table: runtime.TableQueue, Where: where}, job.Token)
		if row == nil || row["state"] != "RUNNING" || row["user"] == "" || row["node_list"] == "" {
			t.Errorf("where %v: the row of %s is %v", where, id, row)
		}
	}
	if row := t.listed(lister, runtime.Listing{Table: runtime.TableNodes}, ""); row == nil || row["partition"] == "" || row["state"] == "" {
		t.Errorf("a row of the nodes is %v", row)
	}
	accounts := runtime.Listing{Table: runtime.TableAccounts, Since: time.Hour}
	if _, err := lister.List(t.Context(), accounts); err != nil {
		t.Logf("no accounts: %v", err)
		return
	}
	t.waitFor("the account of the job", func() bool { return t.listed(lister, accounts, job.Token) != nil })
}

// listed returns the row of a table, by column, with that name, or the first one if the name is empty.
func (t *schedulerTest) listed(lister runtime.Lister, l runtime.Listing, name string) map[string]string {
	t.Helper()
	rows, err := lister.List(t.Context(), l)
	if err == nil {
		err = l.Table.Check(rows)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		cells := make(map[string]string)
		for i, c := range l.Table.Columns() {
			cells[c.Name] = row[i]
		}
		if name == "" || cells["name"] == name {
			return cells
		}
	}
	return nil
}

// secretFile is where a job finds its secrets.
func secretFile(job runtime.Job) string {
	return path.Join(path.Dir(job.Dir), ".secrets", path.Base(job.Dir))
}

// putSecrets does what a session does before it submits a job that has secrets.
func (t *schedulerTest) putSecrets(job runtime.Job, text string) {
	t.Helper()
	err := t.Conn.Run(t.Context(), runtime.Cmd{Args: []string{"sh", "-c", `umask 077; mkdir -p "${1%/*}" && cat >"$1"`, "sh", secretFile(job)},
		Stdin: strings.NewReader(text)})
	if err != nil {
		t.Fatal(err)
	}
}

func checkSecrets(t *schedulerTest) {
	const show = `printf "<%s>" "$TOKEN"; ls ../.secrets`
	job, without := t.job("with", "sh", "-c", show), t.job("without", "sh", "-c", show)
	job.Secrets = map[string]string{"TOKEN": "X"}
	without.Secrets = job.Secrets
	const value = "it's \"$HOME\"\n\\x"
	text := "export TOKEN=" + runtime.Quote(value) + "\n"
	t.putSecrets(job, text)
	ids := t.submit(job, without)
	if st := t.ended(ids[0]); st.Outcome != runtime.Completed {
		t.Errorf("it %v: %s", st, t.read(job, runtime.FileStderr))
	}
	if got, want := t.read(job, runtime.FileStdout), "<"+value+">"; got != want {
		t.Errorf("it has printed %q, want %q", got, want)
	}
	if script := t.read(job, runtime.FileScript); strings.Contains(script, "HOME\"") || !strings.Contains(script, ".secrets") {
		t.Errorf("the script:\n%s", script)
	}
	if st := t.ended(ids[1]); st.Outcome != runtime.Failed {
		t.Errorf("without its secrets, it %v", st)
	}
	if got := t.read(without, runtime.FileStderr); !strings.Contains(got, "secrets are not there") {
		t.Errorf("without its secrets, it says %q", got)
	}
}

func checkSecretsAgain(t *schedulerTest) {
	job := t.job("j", "sh", "-c", `printf "<%s>" "$TOKEN"; ls ../.secrets`)
	job.Secrets, job.Needs.Requeue = map[string]string{"TOKEN": "X"}, true
	t.putSecrets(job, "export TOKEN=v\n")
	t.ended(t.submit(job)[0])
	if got := t.read(job, runtime.FileStdout); got != "<v>j\n" {
		t.Errorf("while it ran there was %q", got)
	}
	other := t.job("k", "ls", path.Dir(secretFile(job)))
	t.ended(t.submit(other)[0])
	if got := t.read(other, runtime.FileStdout); slices.Contains(strings.Fields(got), "j") {
		t.Errorf("afterwards there is %q", got)
	}
}
