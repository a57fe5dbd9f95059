package starlib

import (
	"strings"
	"testing"
)

// help knows builtins, modules, functions, methods and values.
func TestHelpOf(t *testing.T) {
	t.Parallel()
	const recipe = `
def f(a, b = [1], *c, **d):
    """Does.

    Args:
      a: what
    """

t = measurements()
help(%s)
`
	for what, want := range map[string]string{
		"":              "  wait_done               Waits until all jobs have ended",
		"wait_done":     "wait_done(*jobs, timeout=None, queue_timeout=None, check=True)\n",
		"ready":         "ready.log(pattern) -> Ready\n",
		"ready.tcp()":   "How to see that a service answers.",
		"f":             "f(a, b=[1], *c, **d)\n\nDoes.\n",
		"t":             "  .mean()         float ",
		"t.percentile":  "percentile(p) -> float\n",
		"math.ceil":     "math.ceil(x) -> int\n",
		"json.decode":   "json.decode(x, default=None) -> any\n",
		"struct":        "struct(**fields) -> struct\n",
		"struct(x = 1)": "it has x",
		"metric.json":   "metric.json(*, source=\"stdout\", unit=\"\", **fields) -> Metric\n",
		"[]":            "it has append",
		"time.now":      "time.now() -> Time\n",
		"metric.regex":  "  pattern    str   such as (?P<rps>",
		"service":       "service(\n    name, *, port=None,",
	} {
		out, _, err := exec(t, strings.Replace(recipe, "%s", what, 1))
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("help(%s): %v\n%s\nwant %s", what, err, out, want)
		}
	}
	if _, _, err := exec(t, "help(len)\n"); err == nil {
		t.Error("help(len) is no error")
	}
}
