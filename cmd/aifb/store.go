package main

import (
	"cmp"
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/storage"
)

func storeFlag() cli.Flag {
	return &cli.StringFlag{Name: "store", EnvVars: []string{"AIFB_STORE"}, DefaultText: "sqlite:$XDG_DATA_HOME/aifb/aifb.db",
		Usage: "where results are kept: sqlite:FILE or csv:DIR (`URL`)"}
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

// runIDs returns the ids of all runs, oldest first.
func runIDs(ctx context.Context, store runtime.Store) (ids []string, err error) {
	for rec, err := range store.Records(ctx, runtime.Query{Kind: runtime.KindRunStarted}) {
		if err != nil {
			return nil, err
		}
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
