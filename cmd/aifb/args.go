package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command before its other arguments: the library takes what stands behind the first
// argument for more arguments, so that `aifb exec bench.star --keep` would not keep. After -- nothing is moved.
func flagsFirst(app *cli.App, args []string) []string {
	if n := len(args); n > 0 && args[n-1] == completionFlag {
		return args
	}
	commands, end := app.Commands, 1
	var flags []cli.Flag
	for end < len(args) {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[end]) })
		if i < 0 {
			break
		}
		flags, commands = commands[i].Flags, commands[i].Subcommands
		end++
	}
	if end == 1 {
		return args
	}
	var moved, rest []string
	tail := args[end:]
	for i := 0; i < len(tail); i++ {
		arg := tail[i]
		if arg == "--" {
			rest = append(rest, tail[i+1:]...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			rest = append(rest, arg)
			continue
		}
		if arg == "-h" || arg == "--help" {
			if arg = helpFlag(flags); arg == "--help" {
				return append(slices.Clone(args[:end]), arg)
			}
		}
		moved = append(moved, arg)
		if takesValue(flags, arg) {
			if i++; i == len(tail) {
				return slices.Concat(args[:end], moved) // the library says what is missing
			}
			moved = append(moved, tail[i])
		}
	}
	if len(rest) > 0 {
		moved = append(moved, "--")
	}
	return slices.Concat(args[:end], moved, rest)
}

// completionFlag is how a shell asks what may come next. It is the last argument.
const completionFlag = "--generate-bash-completion"

// recipeHelpFlag is the flag that --help means where a recipe has help of its own: --help itself the library keeps.
const recipeHelpFlag = "recipe-help"

func helpFlag(flags []cli.Flag) string {
	for _, f := range flags {
		if slices.Contains(f.Names(), recipeHelpFlag) {
			return "--" + recipeHelpFlag
		}
	}
	return "--help"
}

// takesValue reports whether the value of a flag is the next argument.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			doc, ok := f.(cli.DocGenerationFlag)
			return ok && doc.TakesValue()
		}
	}
	return false
}
