package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/load"
	"github.com/aifb/aifb/runtime/mock"
)

func loadCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:         "load",
		Usage:        "generate load; it runs on the compute nodes, as $AIFB load",
		Subcommands:  []*cli.Command{loadHTTPCommand(std)},
		Action:       unknownSubcommand,
		OnUsageError: usageError,
	}
}
