package local

import (
	"context"
	"fmt"
	"os"
	"os/user"
	goruntime "runtime"
	"strconv"

	"github.com/aifb/aifb/runtime"
)

// List implements runtime.Lister. In the queue are the jobs of aifb that run; the only node is this machine, in the
// partition local; and there are no accounts.
func (s *Scheduler) List(ctx context.Context, l runtime.Listing) ([][]string, error) {
	switch l.Table {
	case runtime.TableQueue:
		return s.listQueue(ctx)
	case runtime.TableNodes:
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return [][]string{{"local", "up", "", "1", "idle", strconv.Itoa(goruntime.NumCPU()), "", "", "", host}}, nil
	}
	return nil, runtime.Faultf(runtime.FaultRun, "aifb runs and aifb show have the jobs of earlier runs",
		"this machine keeps no accounts of jobs; run it on a cluster with -t")
}

func (s *Scheduler) listQueue(ctx context.Context) (rows [][]string, err error) {
	found, err := s.Find(ctx, "")
	if err != nil {
		return nil, err
	}
	who := fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	for _, f := range found {
		rows = append(rows, []string{string(f.ID), f.Token, who, "", "local", "", "RUNNING", "", "1", host, "", "", "", ""})
	}
	return rows, nil
}
