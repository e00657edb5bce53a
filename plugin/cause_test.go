// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// TestCause gives one answer of the driver, and the evidence for each of its reasons.
func TestCause(t *testing.T) {
	inSA, outSA := xfrm.Op{Kind: xfrm.AddSA, SA: &xfrm.SA{Dir: xfrm.In}}, xfrm.Op{Kind: xfrm.AddSA, SA: &xfrm.SA{Dir: xfrm.Out}}
	guard := xfrm.Op{Kind: xfrm.AddPolicy, Policy: &xfrm.Policy{Dir: xfrm.Out, Action: xfrm.Block}}
	both := plugin.Refs{RX: 5, TX: 5}
	tests := []struct {
		name string
		op   xfrm.Op
		ev   plugin.Evidence
		code string
		says string
	}{
		{"a VF, before all else", inSA, plugin.Evidence{Mode: "switchdev", VFs: []string{"pci/0000:08:00.0/1"}, OnPF: 1, Flows: 9}, "NIC_VF_IPSEC", "pci/0000:08:00.0/1"},
		{"filters on the PF", guard, plugin.Evidence{PF: "pf7", Mode: "switchdev", OnPF: 2, Flows: 9, Held: both}, "NIC_BUSY_FILTER", "pf7 refuses IPsec since 2 filters"},
		{"flows before the tables", guard, plugin.Evidence{Mode: "switchdev", Flows: 9, Holder: "rep3"}, "NIC_BUSY_FLOWS", "9 are, most of them on rep3"},
		{"flows before one table", outSA, plugin.Evidence{Mode: "switchdev", Flows: 9, Holder: "rep3", Held: plugin.Refs{RX: 1}}, "NIC_BUSY_FLOWS", "rep3"},
		{"strict, outbound", outSA, plugin.Evidence{Mode: "switchdev", Flows: 9, Holder: "rep3", Held: both}, "NIC_BUSY_STRICT", "9 are"},
		{"strict, inbound", inSA, plugin.Evidence{Mode: "switchdev", Flows: 9, Held: both, Strict: plugin.StrictYes}, "NIC_BUSY_STRICT", "9 are"},
		{"no ids, flows", inSA, plugin.Evidence{Mode: "switchdev", Flows: 9, Held: both, Inbound: 2047, Strict: plugin.StrictNo}, "NIC_SA_LIMIT", "2047"},
		{"no ids, no flows", inSA, plugin.Evidence{Mode: "switchdev", Held: both, Inbound: 3}, "NIC_SA_LIMIT", "3"},
		{"ids or strict, unknown", inSA, plugin.Evidence{Mode: "switchdev", Flows: 9, Held: both}, "", ""},
		{"mode under change", guard, plugin.Evidence{Mode: "legacy"}, "NIC_BUSY_MODE", "legacy now"},
		{"mode not readable", guard, plugin.Evidence{}, "NIC_BUSY_MODE", "not readable"},
		{"gone meanwhile", guard, plugin.Evidence{Mode: "switchdev"}, "NIC_BUSY_MODE", "for a moment"},
		{"a policy, tables stand", guard, plugin.Evidence{Mode: "switchdev", Held: both}, "", ""},
		{"an outbound SA, tables stand, no flows", outSA, plugin.Evidence{Mode: "switchdev", Held: both}, "", ""},
	}
	busy := &xfrm.OpError{Kind: xfrm.AddSA, Errno: unix.EBUSY, Ext: "mlx5_core: Device failed to offload this state"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := plugin.Cause(test.op, busy, test.ev)
			if p == nil {
				p = &plugin.Problem{}
			}
			if p.Code != test.code || !strings.Contains(p.Text, test.says) {
				t.Errorf("%q %q, want %q and %q", p.Code, p.Text, test.code, test.says)
			}
			if p := plugin.Cause(test.op, unix.ENOMEM, test.ev); p != nil {
				t.Errorf("%v explains another error", p)
			}
		})
	}
}

// TestCauseAgreesWithTheNIC lets a NIC refuse what does not fit it, which it notes
// in its own log. The daemon has to come to the same conclusion by looking.
func TestCauseAgreesWithTheNIC(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(*rig)
		code    string
		log     string // empty: the daemon looks before it tries anything
	}{
		{"filters on the PF", func(r *rig) {
			if _, n, err := r.AddRule(fakenic.Rule{Dev: 4}); n != 1 || err != nil {
				t.Fatalf("the rule is on %d NICs: %v", n, err)
			}
		}, "NIC_BUSY_FILTER", ""},
		{"flows on a representor", func(r *rig) {
			if _, n, err := r.AddRule(fakenic.Rule{Dev: 104}); n != 1 || err != nil {
				t.Fatalf("the rule is on %d NICs: %v", n, err)
			}
		}, "FLOWS_FIRST", ""},
		{"a limit, while flows are offloaded", func(r *rig) {
			r.PF("pf0").Set(func(k *fakenic.Knobs) { k.MaxRXSA = 1 })
			r.Keys.Make("other")
			r.OVS.SetPort(secure("vx1", "10.0.0.1", "10.0.0.3", "other"))
			if err := r.settle(); err != nil { // opens the gate
				t.Fatal(err)
			}
		}, "NIC_SA_LIMIT", "no free RX SA id"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := standardRig()
			test.prepare(r)
			r.Keys.Make("ab")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
			if err := r.settle(); err != nil {
				t.Fatal(err)
			}
			if text := r.statusText(); !strings.Contains(text, " "+test.code+": ") {
				t.Errorf("%s is not named:\n%s", test.code, text)
			}
			if log := strings.Join(r.PF("pf0").Log(), "\n"); !strings.Contains(log, test.log) {
				t.Errorf("the NIC refuses for another reason:\n%s", log)
			}
			if set, err := r.Keys.Lookup("ab"); err != nil || r.Ledger.Used(set.OutPrint) {
				t.Errorf("the key of a refused pair counts as used (%v)", err)
			}
		})
	}
}

// TestTransientRefusals counts the tries of an operation that finds the eswitch
// locked, and the time between them.
func TestTransientRefusals(t *testing.T) {
	for _, test := range []struct {
		name  string
		races int
		waits []time.Duration
		fails bool
	}{
		{"none", 0, nil, false},
		{"once", 1, []time.Duration{3 * time.Millisecond}, false},
		{"to the last try", 5, []time.Duration{3, 6, 12, 24, 48}, false},
		{"too often", 6, []time.Duration{3, 6, 12, 24, 48}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := standardRig()
			var waits []time.Duration
			r.cfg.Pause = func(_ context.Context, d time.Duration) { waits = append(waits, d) }
			r.Faults.Set(fakenic.Fault{Nth: 0, Errno: unix.EINVAL, Text: "mlx5_core: Device failed to offload this policy", Times: test.races})
			if test.races == 0 {
				r.Faults.Set()
			}
			guard := plugin.Step{Phase: plugin.Anchor, Verb: plugin.Change, Guard: true, Op: xfrm.Op{Kind: xfrm.AddPolicy, Policy: guardPolicy()}}
			out := plugin.Apply(t.Context(), r.cfg, plugin.Plan{Steps: []plugin.Step{guard}}, nil)
			for i, d := range test.waits {
				if d < time.Millisecond {
					test.waits[i] = d * time.Millisecond
				}
			}
			if diff := cmp.Diff(test.waits, waits); diff != "" {
				t.Errorf("waits (-want +got):\n%s", diff)
			}
			if (out.Host != nil) != test.fails {
				t.Errorf("the step ends with %v", out.Host)
			}
		})
	}
}

func guardPolicy() *xfrm.Policy {
	return &xfrm.Policy{Dir: xfrm.Out, Priority: plugin.PriorityGuard, Action: xfrm.Block, Offload: xfrm.Offload{Ifindex: 4, Packet: true},
		Sel: xfrm.Selector{Src: prefix("10.0.0.1/32"), Dst: prefix("0.0.0.0/0"), Proto: 17, DstPort: 4789}}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
