package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"
)

func helpCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "show help: of a command, of config, of exit-codes, of json, or for completion in bash",
		ArgsUsage: "[COMMAND | config | exit-codes | json | completion]",
		Action: func(c *cli.Context) error {
			switch c.Args().First() {
			case "":
				return cli.ShowAppHelp(c)
			case "config":
				_, err := fmt.Fprint(std.out, configHelp)
				return err
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

// configHelp is the text of `aifb help config`.
const configHelp = `The config file is $XDG_CONFIG_HOME/aifb/config.yaml, else ~/.config/aifb/config.yaml, or what --config or AIFB_CONFIG
names. None is needed: a host of ~/.ssh/config is a target as it is. What all your jobs need on a target goes there:

    target: meluxina                # what -t is when it is not given
    store: sqlite:~/bench/runs.db   # what --store is when it is not given
    targets:
      meluxina:
        ssh: login.lxp.lu           # a host of ~/.ssh/config, or user@host:port; without it, this machine
        scheduler: slurm            # slurm or local; without it slurm, if there is ssh
        workdir: /scratch/u100/aifb # all that aifb writes there is below; default ~/.aifb
        setup: [module load Apptainer]   # lines of shell before the command of each job
        defaults:                   # of jobs that say nothing else
          account: p200981
          partition: cpu
          qos: default
          time: 30m

The other defaults are constraint, mem (4G), nodes, tasks, cpus, gpus, modules, binds and extra (options of sbatch); the
last three are lists. ssh: openssh, or openssh:HOST, has the system's own ssh log in. aifb doctor -t TARGET tries it out.
`

// completion is the text of `aifb help completion`.
const completion = `# Completion of aifb in bash:  eval "$(aifb help completion)"
_aifb() {
	local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	if [[ $2 == -* ]]; then words+=("${2/#--/-}"); elif [[ ${words[COMP_CWORD-1]} == -* ]]; then return; fi
	COMPREPLY=($(compgen -W "$("${words[@]}" ` + completionFlag + ` 2>/dev/null)" -- "$2"))
}
complete -o default -F _aifb aifb
`
