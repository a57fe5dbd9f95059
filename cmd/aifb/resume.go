package main

import (
	"context"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/aifb/aifb/recipes"
	"github.com/aifb/aifb/runtime"
	"github.com/aifb/aifb/starlib"
)

func resumeCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "go on with a run whose aifb was killed",
		ArgsUsage: "RUN",
		Description: `The recipe is run again, with the parameters of the run. What it had done already is not done again: the jobs that were
started are those that the recipe gets, whether they are to be submitted, wait, run or have ended. If the recipe has
changed such that it does other things than before, that is an error at the place where it differs.`,
		Flags: []cli.Flag{storeFlag(), configFlag(),
			boolFlag("keep", "leave jobs and their files on the target when the recipe ends"),
			boolFlag("json", "print the outcome and the measurements as JSON; what the recipe prints goes to stderr"),
			boolFlag("verbose", "say more on stderr", "v")},
		Action: atMost(1, func(c *cli.Context) error { return resumeRun(c, std) }),
	}
}

func resumeRun(c *cli.Context, std streams) error {
	if c.Args().First() == "" {
		return runtime.Faultf(runtime.FaultUsage, "aifb runs lists them", "which run is to go on?")
	}
	var st *runtime.RunState
	var cfg *config
	err := withRun(c, func(_ context.Context, conf *config, state *runtime.RunState) error {
		st, cfg = state, conf
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case st.End != nil:
		return runtime.Faultf(runtime.FaultUsage, "aifb show "+st.Run, "run %s has ended; there is nothing to go on with", st.Run)
	case st.Start.SHA256 == "" || st.Start.Recipe == stdin:
		return runtime.Faultf(runtime.FaultUsage, "aifb stop "+st.Run, "run %s has no recipe that can be read again", st.Run)
	}
	if st.Start.Dir != "" && os.Chdir(st.Start.Dir) != nil {
		return runtime.Faultf(runtime.FaultUsage, "", "run %s: its directory %s is not there any more", st.Run, st.Start.Dir)
	}
	recipe, err := starlib.Read(st.Start.Recipe, recipes.FS)
	if err != nil {
		return err
	}
	return withSession(c, std, cfg, st.Start, st.Run, func(ctx context.Context, s *runtime.Session, _ *signals) error {
		if sum := recipe.SHA256(); sum != st.Start.SHA256 {
			s.Warn("the recipe has changed since run " + st.Run + " began")
		}
		err := recipe.Exec(ctx, s, recipeEnv(c, std, s), st.Start.Args)
		if err != nil && runtime.FaultOf(err) != runtime.FaultThreshold {
			return err
		}
		if calls := s.Forgotten(); len(calls) > 0 {
			return runtime.Faultf(runtime.FaultRecipe, "undo the change, or run the recipe anew with aifb exec",
				"the recipe has diverged from run %s: it no longer does %s", s.Run, strings.Join(calls, ", "))
		}
		return err
	})
}
