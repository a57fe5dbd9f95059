package starlib

import (
	"strings"
	"testing"
)

// A function that calls itself has itself in a variable if it is within another. That must not be followed for ever.
func TestFreezeFunctionsThatCallThemselves(t *testing.T) {
	t.Parallel()
	const counter = "def make():\n    def count(n):\n        return 1 + count(n - 1) if n else 0\n    return count\ncount = make()\n"
	for _, test := range []struct{ recipe, want string }{
		{counter + "print(count(3))\n", "3"},
		{counter + "def main():\n    print(parallel(count, [1, 2]))\n", "[1, 2]"},
		{counter + "s = struct(count = count)\nxs = [2]\ndef main():\n    print(parallel(lambda n: s.count(n) + xs[0], [1, 2]))\n", "[3, 4]"},
		{counter + "s = struct(count = count)\nxs = [2]\ndef main():\n    parallel(lambda n: s.count(n) + xs[0], [1, 2])\n    xs.append(3)\n",
			"cannot append to frozen list"},
		{"def main():\n    def f(n):\n        return parallel(f, [n - 1]) if n else 0\n    print(parallel(f, [2]))\n", "[[[0]]]"},
		{"def main():\n    def even(n):\n        return odd(n - 1) if n else True\n    def odd(n):\n        return even(n - 1) if n else False\n" +
			"    print(parallel(even, [1, 2]))\n", "[False, True]"},
		{"def make(n):\n    def f(n):\n        return f(n - 1) if n else 7\n    return f\ndef main():\n" +
			"    print([f(2) for f in parallel(make, [1, 2])])\n", "[7, 7]"},
		{"def main():\n    def f(n):\n        return f(n - 1) if n else 0\n    parallel(lambda x: x, [[f]])\n",
			"it would share a list with a function that calls itself"},
		{counter + "xs = [count]\nprint(xs[0](2))\n", "2"},
		{"xs = []\ndef f():\n    return xs\nxs.append(f)\ndef main():\n    print(len(parallel(lambda x: x(), [f])))\n", "1"},
		{"def main():\n    xs = []\n    xs.append(lambda: xs)\n    print(len(parallel(lambda x: x(), xs)))\n", "1"},
	} {
		out, rendered, _ := exec(t, test.recipe)
		if !strings.Contains(out+rendered, test.want) {
			t.Errorf("%s\n%s%s; want %s", test.recipe, out, rendered, test.want)
		}
	}
}
