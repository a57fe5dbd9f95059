package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/runtime/load"
	"github.com/aifb/aifb/runtime/mock"
)

func loadHTTPCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:  "http",
		Usage: "requests over HTTP/1.1 in a closed loop",
		Description: `Each of --concurrency workers sends a request, waits for the whole answer, and sends the next. What was measured is
printed, and in a job handed to the run: rps, requests, errors, latency_mean, latency_p50, latency_p99, ...`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "url", Usage: "the `URL` to ask for"},
			&cli.IntFlag{Name: "concurrency", Aliases: []string{"c"}, Value: 1, Usage: "requests under way at any time, each on a connection of its own"},
			&cli.DurationFlag{Name: "duration", Aliases: []string{"d"}, Usage: "how long to measure", DefaultText: "10s, or until --requests are answered"},
			&cli.Int64Flag{Name: "requests", Aliases: []string{"n"}, Usage: "how many to send", DefaultText: "no limit"},
			&cli.DurationFlag{Name: "warmup", Usage: "load before the measurement, not counted", DefaultText: "none"},
			&cli.StringFlag{Name: "method", Value: http.MethodGet, Usage: "the HTTP method"},
			&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "a `HEADER`, such as 'NAME: VALUE'; may be given several times"},
			&cli.StringFlag{Name: "body", Usage: "what to send; @FILE is read from a file"},
			&cli.DurationFlag{Name: "timeout", Value: load.DefaultTimeout, Usage: "of a request"},
			&cli.IntFlag{Name: "status", Usage: "the status of a success", DefaultText: "any from 200 to 299"},
			&cli.StringFlag{Name: "output", EnvVars: []string{"BENCHMARK_OUTPUT_DIR"}, Usage: "the `DIR` for " + runtime.MeasurementsFile + " and " + load.LatencyFile},
			jsonFlag(),
		},
		Action: atMost(0, func(c *cli.Context) error {
			config, err := loadConfig(c)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(c.Context)
			defer stop()
			result, err := load.Run(ctx, config)
			if result == nil {
				return err
			}
			write := result.WriteText
			if c.Bool("json") {
				write = result.WriteJSON
			}
			return errors.Join(err, write(std.out))
		}),
	}
}

func loadConfig(c *cli.Context) (load.Config, error) {
	config := load.Config{
		Request: load.Request{
			Method: c.String("method"), URL: c.String("url"), Header: make(http.Header),
			Timeout: c.Duration("timeout"), Status: c.Int("status"),
		},
		Concurrency: c.Int("concurrency"), Duration: c.Duration("duration"), Requests: c.Int64("requests"),
		Warmup: c.Duration("warmup"), Dir: c.String("output"),
	}
	if config.Request.URL == "" {
		return config, runtime.Faultf(runtime.FaultUsage, helpHint(c), "load: --url has to say what to ask for")
	}
	if config.Duration == 0 && config.Requests == 0 {
		config.Duration = 10 * time.Second
	}
	for _, h := range c.StringSlice("header") {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return config, runtime.Faultf(runtime.FaultUsage, "", "load: header %q is not of the form 'NAME: VALUE'", h)
		}
		config.Request.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	config.Request.Body = []byte(c.String("body"))
	if file, ok := strings.CutPrefix(c.String("body"), "@"); ok {
		body, err := os.ReadFile(file)
		if err != nil {
			return config, runtime.Faultf(runtime.FaultUsage, "", "load: body: %w", err)
		}
		config.Request.Body = body
	}
	return config, nil
}

func mockHTTPCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:  "http",
		Usage: "an HTTP server that answers GET / and GET /health",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "host", Usage: "the address to listen on", DefaultText: "all"},
			&cli.IntFlag{Name: "port", Usage: "the port to listen on", DefaultText: "any that is free"},
			&cli.DurationFlag{Name: "latency", Usage: "that an answer is kept back"},
			&cli.Int64Flag{Name: "size", Usage: "of the body, in `BYTES`"},
			&cli.Int64Flag{Name: "fail-every", Usage: "every `N` requests one is answered with 500"},
		},
		Action: atMost(0, func(c *cli.Context) error {
			ctx, stop := untilSignal(c.Context)
			defer stop()
			server, err := mock.Listen(ctx, mock.Config{
				Addr: fmt.Sprintf("%s:%d", c.String("host"), c.Int("port")), Latency: c.Duration("latency"),
				Size: c.Int64("size"), FailEvery: c.Int64("fail-every"),
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(std.out, "listening on %s\n", server.Addr())
			return server.Serve(ctx)
		}),
	}
}

// untilSignal returns a context that ends with Ctrl-C or SIGTERM, which is then its cause.
func untilSignal(ctx context.Context) (context.Context, func()) {
	caught, stop := catchSignals(io.Discard, "")
	ctx, done := caught.scope(ctx)
	return ctx, func() { done(); stop() }
}
