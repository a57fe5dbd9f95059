package main

import (
	"cmp"
	"context"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func storeFlag() cli.Flag {
	return &cli.StringFlag{Name: "store", EnvVars: []string{"AIFB_STORE"}, DefaultText: "sqlite:$XDG_DATA_HOME/aifb/aifb.db",
		Usage: "the `STORE` where results are kept: sqlite:FILE or csv:DIR"}
}

func storeURL(c *cli.Context, cfg *config) string {
	return cmp.Or(c.String("store"), cfg.Store, storage.Default(os.Getenv))
}

// withStore opens the store of the flags and the config file for f.
func withStore(c *cli.Context, f func(ctx context.Context, cfg *config, store runtime.Store) error) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	store, err := storage.Open(c.Context, storeURL(c, cfg))
	if err != nil {
		return err
	}
	defer store.Close()
	return f(c.Context, cfg, store)
}

// withRun finds the run that the first argument names, or the last one, in the store for f.
func withRun(c *cli.Context, f func(ctx context.Context, cfg *config, st *runtime.RunState) error) error {
	return withStore(c, func(ctx context.Context, cfg *config, store runtime.Store) error {
		st, err := findRun(ctx, store, cmp.Or(c.Args().First(), "last"))
		if err != nil {
			return err
		}
		return f(ctx, cfg, st)
	})
}

// findRun folds the records of the run that id names: the whole id, the beginning of one, its last part, or "last".
func findRun(ctx context.Context, store runtime.Store, id string) (*runtime.RunState, error) {
	ids, err := runIDs(ctx, store)
	if err != nil {
		return nil, err
	}
	run, err := matchRun(ids, id)
	if err != nil {
		return nil, err
	}
	return foldRun(ctx, store, run)
}

// runIDs returns the ids of all runs, oldest first. The ids of runs that began in the same second say nothing of that.
func runIDs(ctx context.Context, store runtime.Store) (ids []string, err error) {
	var starts []runtime.Record
	for rec, err := range store.Records(ctx, runtime.Query{Kind: runtime.KindRunStarted}) {
		if err != nil {
			return nil, err
		}
		starts = append(starts, rec)
	}
	slices.SortStableFunc(starts, func(a, b runtime.Record) int { return a.Time.Compare(b.Time) })
	for _, rec := range starts {
		ids = append(ids, rec.Run)
	}
	return ids, nil
}

func foldRun(ctx context.Context, store runtime.Store, run string) (*runtime.RunState, error) {
	state := new(runtime.RunState)
	for rec, err := range store.Records(ctx, runtime.Query{Run: run}) {
		if err != nil {
			return nil, err
		}
		if err := state.Apply(rec); err != nil {
			return nil, err
		}
	}
	return state, nil
}
