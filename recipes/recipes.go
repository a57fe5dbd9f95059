// Package recipes holds the recipes that come with aifb. Recipes load them as "@aifb//NAME.star", and
// `aifb exec @aifb//NAME.star` runs them.
package recipes

//go:generate sh -c "go run ../cmd/aifb doc --format markdown >REFERENCE.md"

import "embed"

// FS is the library: the .star files of this directory.
//
//go:embed *.star
var FS embed.FS
