package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"
)

func helpCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "show help: of a command, of exit-codes, of json, or for completion in bash",
		ArgsUsage: "[COMMAND | exit-codes | json | completion]",
		Action: func(c *cli.Context) error {
			switch c.Args().First() {
			case "":
				return cli.ShowAppHelp(c)
			case "exit-codes":
				_, err := fmt.Fprint(std.out, exitCodes)
				return err
			case "json":
				_, err := fmt.Fprint(std.out, jsonErrors)
				return err
			case "completion":
				_, err := fmt.Fprint(std.out, completion)
				return err
			}
			return commandHelp(c, std)
		},
	}
}

// commandHelp shows the help of the command that the arguments name.
func commandHelp(c *cli.Context, std streams) error {
	commands := c.App.Commands
	for _, name := range c.Args().Slice() {
		i := slices.IndexFunc(commands, func(cmd *cli.Command) bool { return cmd.HasName(name) })
		if i < 0 {
			return unknown(name, commands, "aifb help lists the commands")
		}
		commands = commands[i].Subcommands
	}
	args := slices.Concat([]string{c.App.Name}, c.Args().Slice(), []string{"--help"})
	return newApp(std).RunContext(c.Context, args)
}

// completion is the text of `aifb help completion`.
const completion = `# Completion of aifb in bash:  eval "$(aifb help completion)"
_aifb() {
	local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	if [[ $2 == -* ]]; then words+=("${2/#--/-}"); elif [[ ${words[COMP_CWORD-1]} == -* ]]; then return; fi
	COMPREPLY=($(compgen -W "$("${words[@]}" ` + completionFlag + ` 2>/dev/null)" -- "$2"))
}
complete -o default -F _aifb aifb
`
