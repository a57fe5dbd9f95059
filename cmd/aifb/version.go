package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is the module's version, or "(devel)", with the revision if the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return info.Main.Version
}

func versionCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:   "version",
		Usage:  "print the version",
		Action: atMost(0, func(*cli.Context) error { return printVersion(std.out) }),
	}
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "aifb %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
