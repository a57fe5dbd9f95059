package sim

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/aifb/aifb/runtime"
)

// List implements runtime.Lister. There is one partition, sim, and one user.
func (c *Cluster) List(ctx context.Context, l runtime.Listing) ([][]string, error) {
	if err := c.query(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", l.Table, err)
	}
	c.lock()
	defer c.mu.Unlock()
	if l.Table == runtime.TableNodes {
		return c.listNodes(), nil
	}
	if l.Table == runtime.TableAccounts && c.config.NoAccounting {
		return nil, runtime.Faultf(runtime.FaultInfra, "squeue() has the jobs that wait or run", "sacct: sim keeps no accounts of jobs")
	}
	var rows [][]string
	for _, j := range c.order {
		over := j.state == ended
		switch {
		case j.state == travels, over && l.Table == runtime.TableQueue, over && c.time.Sub(j.ended) > l.Since:
			continue
		}
		rows = append(rows, c.listJob(l.Table, j))
	}
	return rows, nil
}

func (c *Cluster) listNodes() (rows [][]string) {
	for _, n := range c.nodes {
		state := "idle"
		switch {
		case n.down:
			state = "down"
		case n.free == 0:
			state = "allocated"
		case n.free < c.config.Cores:
			state = "mixed"
		}
		rows = append(rows, []string{"sim", "up", "", "1", state, strconv.Itoa(c.config.Cores), "", "", "", n.name})
	}
	return rows
}

// listJob is a job's row of the queue or of the accounts.
func (c *Cluster) listJob(table runtime.TableName, j *job) []string {
	st := runtime.Status{State: j.state.public(), Outcome: j.outcome}
	nodes, cores := c.shape(&j.Needs)
	word := strings.ToUpper(string(st.State))
	if j.state == ended {
		word = stateWords[j.outcome]
	}
	var start, end time.Time
	var nodeList, exit string
	elapsed := time.Duration(0)
	if a := j.attempt(); a != nil && st.State != runtime.Pending {
		start, end, nodeList = a.Start, a.End, strings.Join(a.Nodes, ",")
		if end.IsZero() {
			elapsed = c.time.Sub(start)
		} else {
			elapsed = end.Sub(start)
		}
		if a.Exited {
			exit = strconv.Itoa(a.Code)
		}
	}
	whole := func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return runtime.FormatTime(c.local(t))
	}
	row := []string{string(j.id), j.Token, path.Base(c.config.Home), j.Needs.Account, "sim", j.Needs.QOS, word}
	if table == runtime.TableQueue {
		reason := ""
		if st.State == runtime.Pending {
			reason = c.waits(j)
		}
		return append(row, reason, strconv.Itoa(nodes), nodeList, whole(elapsed), whole(j.Limit), stamp(j.submitted), stamp(start))
	}
	return append(row, exit, strconv.Itoa(nodes), strconv.Itoa(nodes*cores), nodeList, whole(elapsed), whole(j.Limit),
		stamp(j.submitted), stamp(start), stamp(end))
}

// stateWords are Slurm's words for how a job ended.
var stateWords = map[runtime.Outcome]string{
	runtime.Completed: "COMPLETED", runtime.Failed: "FAILED", runtime.TimedOut: "TIMEOUT", runtime.OutOfMemory: "OUT_OF_MEMORY",
	runtime.Cancelled: "CANCELLED", runtime.Preempted: "PREEMPTED", runtime.NodeFailure: "NODE_FAIL", runtime.Lost: "UNKNOWN",
}
