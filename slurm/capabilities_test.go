package slurm

import (
	"testing"
	"time"

	"github.com/aifb/aifb/runtime"
)

const showConfig = `Configuration data as of 2026-11-24T20:41:09
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = aifb
MaxArraySize            = 20001
MaxJobCount             = 200000
MinJobAge               = 300 sec
SLURM_VERSION           = 22.05.8
NEXT_JOB_ID             = 1

Slurmctld(primary) at login is UP
`

func TestCapabilities(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{"scontrol": prints(showConfig), "squeue": "true", "sacct": "true"})
	want := capabilities{version: "22.05.8", cluster: "aifb", accounting: true, minJobAge: 5 * time.Minute,
		maxArraySize: 20001, maxJobCount: 200000, squeue: true, sacct: true, scontrol: true}
	for range 2 {
		if got, err := f.capabilities(t.Context()); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	if f.runs.Load() != 1 || f.calls("scontrol") != 1 {
		t.Errorf("%d round trips, %d calls of scontrol", f.runs.Load(), f.calls("scontrol"))
	}
}

func TestCapabilitiesWithout(t *testing.T) {
	tests := []struct {
		name     string
		commands map[string]string
		want     capabilities
	}{
		{"scontrol", map[string]string{"squeue": "true", "sacct": "true"},
			capabilities{squeue: true, sacct: true, accounting: true}},
		{"accounting", map[string]string{"scontrol": "echo 'AccountingStorageType = (null)'", "sacct": "true"},
			capabilities{scontrol: true, sacct: true}},
		{"accounting, before 23.11", map[string]string{"scontrol": "echo 'AccountingStorageType   = accounting_storage/none'"},
			capabilities{scontrol: true}},
		{"anything", map[string]string{}, capabilities{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, test.commands)
			if got, err := f.capabilities(t.Context()); err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

// A probe that failed says nothing, and is repeated.
func TestCapabilitiesError(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"scontrol": "[ -e up ] || { echo x >up; echo slurm_load_ctl_conf error: Socket timed out >&2; exit 1; }; " + prints(showConfig),
	})
	if got, err := f.capabilities(t.Context()); err == nil || got != (capabilities{}) || runtime.FaultOf(err) != runtime.FaultInfra {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := f.capabilities(t.Context()); err != nil || got.cluster != "aifb" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestIsAccountless(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		r    reply
		want bool
	}{
		{reply{1, "Slurm accounting storage is disabled"}, true},
		{reply{127, "sh: sacct: not found"}, true},
		{reply{0, ""}, false},
		{reply{1, "sacct: error: Problem talking to the database: Connection refused"}, false},
	} {
		if got := isAccountless(test.r); got != test.want {
			t.Errorf("%+v: got %v", test.r, got)
		}
	}
}
