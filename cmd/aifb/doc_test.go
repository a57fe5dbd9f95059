package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The reference is what the program prints.
func TestReference(t *testing.T) {
	t.Parallel()
	var want bytes.Buffer
	if err := languageDoc(&want, "", "markdown"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../recipes/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.String(), string(got)); d != "" {
		t.Errorf("recipes/REFERENCE.md is stale; go generate ./recipes writes it anew:\n%s", d)
	}
}
