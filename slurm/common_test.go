package slurm

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// printed returns what a shell makes of the words.
func printed(t *testing.T, c *commonText, words []string) []string {
	t.Helper()
	program := c.vars.String() + `printf '%s\001' ` + strings.Join(words, " ")
	cmd := exec.Command("sh")
	cmd.Stdin = strings.NewReader(program)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x01"), "\x01")
}

func TestCommonText(t *testing.T) {
	t.Parallel()
	var body strings.Builder
	for i := range 100 {
		fmt.Fprintf(&body, "line %d of what's in all of them\n", i)
	}
	all := body.String()
	texts := []string{
		all, "", all, "own\n" + all, all + "own", all[:2000] + "it's\n$HOME\\n\n" + all[2000:], all[500:] + all[:500],
		"nothing\n'in'\ncommon", all + all, "\n", "\n\n" + all[1000:1500] + "\n",
	}
	for i := range 100 { // more parts than there are variables
		texts = append(texts, all[17*i:]+fmt.Sprint(i))
	}
	var c commonText
	var words []string
	size := 0
	for _, text := range texts {
		words = append(words, c.word(text))
		size += len(text)
	}
	for i, got := range printed(t, &c, words) {
		if got != texts[i] {
			t.Errorf("%d: got %q, want %q", i, got, texts[i])
		}
	}
}

// The scripts of many jobs take little space.
func TestCommonScripts(t *testing.T) {
	t.Parallel()
	var c commonText
	words, scripts := 0, 0
	for i := range 100 {
		job := smallJob()
		job.Dir += fmt.Sprint(i)
		job.Args = append(job.Args, fmt.Sprint(i))
		script, err := Script(job)
		if err != nil {
			t.Fatal(err)
		}
		words, scripts = words+len(c.word(script)), scripts+len(script)
	}
	if total := words + c.vars.Len(); total > scripts/4 {
		t.Errorf("%d bytes of scripts take %d", scripts, total)
	}
}
