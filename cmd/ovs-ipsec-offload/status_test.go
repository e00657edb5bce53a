// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/plugin"
)

func TestPrintStatus(t *testing.T) {
	keyUsed := plugin.Problem{Code: "KEY_USED", Text: "key set blue was used before"}
	full := plugin.Status{
		State: plugin.Degraded,
		Host:  plugin.HostStatus{SystemID: "hv1", Kernel: "6.12.117", OVS: "3.5.0", Database: "connected"},
		Gate:  plugin.GateStatus{HWOffload: "true", Open: true, Reason: "OVS may offload flows"},
		PFs: []plugin.PFStatus{{
			Name: "pf0", Handle: "pci/0000:08:00.0", Driver: "mlx5_core", EswitchMode: "switchdev", EncapMode: "basic",
			TXTable: true, SAs: 2, Policies: 6, OffloadedFlows: 4, Notes: []string{"something to know"},
		}},
		Guards:   []plugin.GuardStatus{{Local: "10.0.0.1", Port: 4789, PF: "pf0", Stands: "hardware"}, {Local: "fd00::1", Port: 4789, Stands: "no"}},
		Problems: []plugin.Problem{{Code: "PF_DOWN", Text: "pf1 is down"}},
		Pairs: []plugin.PairStatus{
			{
				Local: "10.0.0.1", Remote: "10.0.0.2", Port: 4789, State: "encrypted", Mode: "transport", Path: "NIC", PF: "pf0",
				Ports: []string{"vx0", "vx1"}, Keys: "green", SPIIn: "0x00001234", SPIOut: "0x00005678",
				In: plugin.Traffic{Packets: 10}, Out: plugin.Traffic{Packets: 12},
			},
			{Local: "10.0.0.1", Remote: "10.0.0.3", Port: 4789, State: "blocked", Ports: []string{"vx2"}, Keys: "blue", Problem: &keyUsed},
		},
		Ports: []plugin.PortStatus{{Name: "vx0", State: "encrypted"}, {Name: "vx2", State: "blocked", Problems: []plugin.Problem{keyUsed}}},
	}
	waiting := plugin.Status{State: plugin.Waiting, Host: plugin.HostStatus{Database: "not read yet"}}
	for name, s := range map[string]plugin.Status{"full": full, "waiting": waiting} {
		var got bytes.Buffer
		if err := printStatus(&got, s); err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/status-"+name+".golden", got.String())
	}
}

func TestPrintPlan(t *testing.T) {
	var got bytes.Buffer
	for _, p := range []preview{
		{},
		{
			Steps:    []string{"ip xfrm policy add dir out …"},
			Problems: []plugin.Problem{{Code: "KEY_MISSING", Text: "no such key set"}},
			Verdict:  "I1 would be broken",
		},
	} {
		if err := printPlan(&got, p); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "testdata/plan.golden", got.String())
}

// golden compares with a file. UPDATE=1 go test writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
