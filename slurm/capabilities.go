package slurm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// capabilities are what a cluster can do. What it does not say is zero.
type capabilities struct {
	version      string // of Slurm, such as "22.05.8"
	cluster      string // its name
	accounting   bool   // there is a database behind sacct
	hidesJobs    bool   // of other users
	minJobAge    time.Duration
	maxArraySize int // the highest index of a job array is one less
	maxJobCount  int

	squeue, sacct, scontrol bool // the commands that are there
}

// probeProgram asks for the capabilities.
const probeProgram = `try config scontrol show config
reply commands 0 "$(for c in squeue sacct scontrol; do command -v $c >/dev/null && echo $c; done)"
`

func probeCalls() calls { return calls{"scontrol": 1} }

// capabilities returns what the cluster can do. The cluster is asked once.
func (s *Scheduler) capabilities(ctx context.Context) (capabilities, error) {
	if known := s.known.Load(); known != nil {
		return *known, nil
	}
	replies, err := s.ask(ctx, queryLimit, queryHead+probeProgram, probeCalls())
	if err != nil {
		return capabilities{}, fmt.Errorf("probe: %w", err)
	}
	if err := s.learn(replies); err != nil {
		return capabilities{}, fmt.Errorf("probe: %w", err)
	}
	return *s.known.Load(), nil
}

// Remembers implements runtime.Forgetful: without accounting, a cluster knows of a job for MinJobAge after its end.
func (s *Scheduler) Remembers() time.Duration {
	if known := s.known.Load(); known != nil && !known.accounting {
		return known.minJobAge
	}
	return 0
}

// learn keeps what probeProgram replied. It may be a part of any program that asks something else.
func (s *Scheduler) learn(replies map[string]reply) error {
	config, ok := replies["config"]
	commands, ok2 := replies["commands"]
	if err := s.check("scontrol", config, ok && ok2); err != nil && config.code != 127 {
		return err
	}
	c := parseConfig(config.out)
	for _, name := range strings.Fields(commands.out) {
		switch name {
		case "squeue":
			c.squeue = true
		case "sacct":
			c.sacct = true
		case "scontrol":
			c.scontrol = true
		}
	}
	if !c.scontrol { // then it is sacct that says whether there are accounts
		c.accounting = c.sacct
	}
	s.known.Store(&c)
	return nil
}

// parseConfig reads what `scontrol show config` prints.
func parseConfig(out string) (c capabilities) {
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		number, _ := strconv.Atoi(strings.TrimSuffix(value, " sec"))
		switch strings.TrimSpace(key) {
		case "SLURM_VERSION":
			c.version = value
		case "ClusterName":
			c.cluster = value
		case "AccountingStorageType": // "(null)" since 23.11, "accounting_storage/none" before
			c.accounting = value == "accounting_storage/slurmdbd"
		case "PrivateData":
			c.hidesJobs = slices.Contains(strings.Split(value, ","), "jobs")
		case "MinJobAge":
			c.minJobAge = time.Duration(number) * time.Second
		case "MaxArraySize":
			c.maxArraySize = number
		case "MaxJobCount":
			c.maxJobCount = number
		}
	}
	return c
}

// isAccountless reports whether sacct says that the cluster keeps no accounts. That is a fact, and no error.
func isAccountless(r reply) bool {
	return r.code == 127 || r.code != 0 && strings.Contains(strings.ToLower(r.out), "accounting storage is disabled")
}
