// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// goodPF returns a PF that nothing speaks against.
func goodPF() PF {
	return PF{
		Link: Link{Ifindex: 4, Name: "pf0"}, Handle: "pci/0000:08:00.0", Driver: "mlx5_core", Up: true,
		ESPOffload: true, TCOffload: true, EswitchMode: "switchdev", EncapMode: "basic", Steering: "dmfs",
		Representors: []Link{{7, "rep0"}},
	}
}

// testFacts returns a host with one good PF, one legacy PF and addresses on
// all kinds of devices.
func testFacts() Facts {
	legacy := goodPF()
	legacy.Link, legacy.Handle, legacy.EswitchMode = Link{5, "pf1"}, "pci/0000:08:00.1", "legacy"
	addr := netip.MustParseAddr
	return Facts{
		PFs: []PF{goodPF(), legacy},
		Addrs: map[netip.Addr]Link{
			addr("10.0.0.1"): {4, "pf0"}, addr("fd00::1"): {4, "pf0"}, addr("10.0.1.1"): {5, "pf1"}, addr("10.0.2.1"): {20, "br-ex"}, addr("10.0.3.1"): {21, "bond0"},
			addr("10.0.4.1"): {22, "pf0.7"}, addr("10.0.5.1"): {23, "virbr0"}, addr("10.0.6.1"): {2, "eth0"}, addr("10.0.7.1"): {4, "pf0"},
			addr("10.0.8.1"): {1, "lo"}, addr("10.0.9.1"): {24, "team0"},
		},
		Shared: map[netip.Addr][]Link{addr("10.0.7.1"): {{4, "pf0"}, {5, "pf1"}}},
		Kinds:  map[int]string{20: "openvswitch", 21: "bond", 22: "vlan", 23: "bridge", 24: "team"},
	}
}

func TestPFOf(t *testing.T) {
	tests := []struct {
		name, local, dev string
		code             string
		says             []string
	}{
		{name: "owner", local: "10.0.0.1"},
		{name: "owner IPv6", local: "fd00::1"},
		{name: "owner and demanded", local: "10.0.0.1", dev: "pf0"},
		{name: "demanded device unknown", local: "10.0.0.1", dev: "eth0", code: "NIC_DEV", says: []string{"eth0", "pf0, pf1", "ipsec_dev"}},
		{name: "demanded another PF", local: "10.0.0.1", dev: "pf1", code: "NIC_DEV_ADDR", says: []string{"10.0.0.1", "pf0", "pf1"}},
		{name: "no address", code: "NIC_ADDR_NONE", says: []string{"local_ip"}},
		{name: "not on this host", local: "10.9.9.9", code: "NIC_ADDR_ABSENT", says: []string{"10.9.9.9", "`ip address add 10.9.9.9/LEN dev PF`"}},
		{name: "on two PFs", local: "10.0.7.1", code: "NIC_ADDR_SHARED", says: []string{"pf0, pf1"}},
		{name: "internal port", local: "10.0.2.1", code: "NIC_ADDR_OVS", says: []string{"br-ex", "internal port"}},
		{name: "bond", local: "10.0.3.1", code: "NIC_ADDR_BOND", says: []string{"bond0"}},
		{name: "team", local: "10.0.9.1", code: "NIC_ADDR_BOND", says: []string{"team0"}},
		{name: "VLAN", local: "10.0.4.1", code: "NIC_ADDR_VLAN", says: []string{"pf0.7"}},
		{name: "bridge", local: "10.0.5.1", code: "NIC_ADDR_BRIDGE", says: []string{"virbr0"}},
		{name: "other NIC", local: "10.0.6.1", code: "NIC_ADDR_DEV", says: []string{"eth0"}},
		{name: "loopback", local: "10.0.8.1", code: "NIC_ADDR_DEV", says: []string{"lo"}},
		{name: "PF that is refused", local: "10.0.1.1", code: "NIC_ESWITCH_LEGACY", says: []string{"pf1", "`devlink dev eswitch set pci/0000:08:00.1 mode switchdev`"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var local netip.Addr
			if tt.local != "" {
				local = netip.MustParseAddr(tt.local)
			}
			pf, refusal := PFOf(testFacts(), local, tt.dev)
			if tt.code == "" {
				if refusal != nil {
					t.Fatalf("refused: %+v", *refusal)
				}
				if diff := cmp.Diff(goodPF(), pf); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			wantRefusal(t, refusal, tt.code, tt.says...)
		})
	}
}

func wantRefusal(t *testing.T, got *Refusal, code string, says ...string) {
	t.Helper()
	if got == nil {
		t.Fatalf("not refused, want %s", code)
	}
	if got.Code != code {
		t.Errorf("code %s, want %s (%s)", got.Code, code, got.Text)
	}
	for _, s := range says {
		if !strings.Contains(got.Text, s) {
			t.Errorf("text %q does not say %q", got.Text, s)
		}
	}
}

func TestPFRefusals(t *testing.T) {
	tests := []struct {
		code  string
		spoil func(*PF)
		says  []string
	}{
		{"NIC_PF_OVS", func(p *PF) { p.Master = "ovs-system" }, []string{"`ovs-vsctl del-port pf0`"}},
		{"NIC_PF_OVS", func(p *PF) { p.OVSPort = true }, []string{"`ovs-vsctl del-port pf0`"}},
		{"NIC_PF_SLAVE", func(p *PF) { p.Master = "bond0" }, []string{"bond0", "`ip link set pf0 nomaster`"}},
		{"NIC_MULTIPORT", func(p *PF) { p.Multiport = true }, []string{"`devlink dev param set pci/0000:08:00.0 name esw_multiport value false cmode runtime`"}},
		{"NIC_ESWITCH_LEGACY", func(p *PF) { p.EswitchMode = "legacy" }, []string{"`devlink dev eswitch set pci/0000:08:00.0 mode switchdev`"}},
		{"NIC_ESWITCH_MODE", func(p *PF) { p.EswitchMode = "switchdev_inactive" }, []string{"switchdev_inactive"}},
		{"NIC_ESWITCH_UNKNOWN", func(p *PF) { p.EswitchMode = "" }, []string{"root"}},
		{"NIC_STEERING", func(p *PF) { p.Steering = "smfs" }, []string{"smfs", "`devlink dev param set pci/0000:08:00.0 name flow_steering_mode value dmfs cmode runtime`", "mode legacy"}},
		{"NIC_VF_IPSEC", func(p *PF) { p.VFIPsec = []string{"pci/0000:08:00.0/1", "pci/0000:08:00.0/2"} }, []string{"pci/0000:08:00.0/1, pci/0000:08:00.0/2", "ipsec_packet disable"}},
		{"NIC_ESP_OFF", func(p *PF) { p.ESPOffload = false }, []string{"esp-hw-offload"}},
		{"NIC_DOWN", func(p *PF) { p.Up = false }, []string{"`ip link set pf0 up`"}},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			f := testFacts()
			tt.spoil(&f.PFs[0])
			rs := f.PFs[0].Refusals()
			if len(rs) != 1 {
				t.Fatalf("%d refusals, want 1: %+v", len(rs), rs)
			}
			wantRefusal(t, &rs[0], tt.code, tt.says...)
			_, refusal := PFOf(f, netip.MustParseAddr("10.0.0.1"), "")
			if diff := cmp.Diff(&rs[0], refusal); diff != "" {
				t.Errorf("PFOf (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPFWithoutSteeringParameterIsTaken(t *testing.T) {
	pf := goodPF()
	pf.Steering = ""
	if rs := pf.Refusals(); len(rs) != 0 {
		t.Errorf("refused: %+v", rs)
	}
}

// A PF is refused exactly when something speaks against it, and then PFOf gives
// no PF at all.
func TestPFOfProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := testFacts()
		p := &f.PFs[0]
		p.Master = rapid.SampledFrom([]string{"", "", "", "ovs-system", "bond0"}).Draw(t, "master")
		p.Multiport = rapid.Float64().Draw(t, "multiport") < 0.1
		p.EswitchMode = rapid.SampledFrom([]string{"switchdev", "switchdev", "legacy", "switchdev_inactive", ""}).Draw(t, "eswitch")
		p.Steering = rapid.SampledFrom([]string{"dmfs", "dmfs", "", "smfs", "hmfs"}).Draw(t, "steering")
		p.ESPOffload = rapid.Float64().Draw(t, "esp") > 0.1
		p.Up = rapid.Float64().Draw(t, "up") > 0.1
		want := p.Master == "" && !p.Multiport && p.EswitchMode == "switchdev" && (p.Steering == "dmfs" || p.Steering == "") && p.ESPOffload && p.Up
		got, refusal := PFOf(f, netip.MustParseAddr("10.0.0.1"), "")
		switch {
		case want != (refusal == nil):
			t.Fatalf("%+v: refusal %+v, want one: %v", *p, refusal, !want)
		case refusal != nil && (got.Name != "" || refusal.Code == "" || refusal.Text == ""):
			t.Fatalf("refusal %+v comes with %+v", *refusal, got)
		}
	})
}

func TestTunnelMode(t *testing.T) {
	pf := goodPF()
	wantRefusal(t, pf.TunnelMode(), "NIC_TUNNEL_ENCAP", "tunnel mode needs encap-mode none", "`devlink dev eswitch set pci/0000:08:00.0 encap-mode none`")
	pf.EncapMode = "none"
	if r := pf.TunnelMode(); r != nil {
		t.Errorf("refused: %+v", *r)
	}
}

func TestNotes(t *testing.T) {
	pf := goodPF()
	if ns := pf.Notes(); len(ns) != 0 {
		t.Errorf("notes on a PF as it should be: %+v", ns)
	}
	pf.EncapMode, pf.TCOffload, pf.RXPolicyAfterDecrypt = "none", false, true
	var codes []string
	for _, n := range pf.Notes() {
		codes = append(codes, n.Code)
	}
	if diff := cmp.Diff([]string{"NIC_ENCAP_NONE", "NIC_TC_OFF", "NIC_RX_CLEAR"}, codes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRuleDevs(t *testing.T) {
	f := Facts{TunnelDevs: []int{30, 9}, IndirectDevs: []int{12, 30}}
	pf := goodPF()
	pf.Representors = []Link{{8, "rep1"}, {7, "rep0"}}
	if diff := cmp.Diff([]int{4, 7, 8, 9, 12, 30}, f.RuleDevs(pf)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{30, 9}, f.TunnelDevs); diff != "" {
		t.Errorf("the facts were changed (-want +got):\n%s", diff)
	}
}

func BenchmarkPFOf(b *testing.B) {
	f, local := testFacts(), netip.MustParseAddr("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := PFOf(f, local, ""); refusal != nil {
			b.Fatal(refusal.Text)
		}
	}
}
