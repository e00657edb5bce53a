// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	physical = unix.DEVLINK_PORT_FLAVOUR_PHYSICAL
	pcivf    = unix.DEVLINK_PORT_FLAVOUR_PCI_VF
	pci0     = "pci/0000:08:00.0"
	pci1     = "pci/0000:08:00.1"
	aux0     = "auxiliary/mlx5_core.eth.0"
	aux1     = "auxiliary/mlx5_core.eth.1"
)

// mlx5Host is a host with a card of two ports, as Linux 6.12 shows it: uplinks
// on auxiliary instances, eswitches and representors on the PCI functions, one
// switch ID for the whole card.
func mlx5Host() observed {
	nicLink := func(ifindex int, name, bus string) link {
		return link{Link: Link{ifindex, name}, up: true, switchID: 77, bus: bus}
	}
	return observed{
		kernel: Kernel{Major: 6, Minor: 12, Patch: 107},
		links: []link{
			{Link: Link{1, "lo"}, up: true},
			{Link: Link{2, "eno1"}, up: true, bus: "pci/0000:01:00.0"},
			nicLink(4, "p0", pci0), nicLink(5, "p1", pci1),
			nicLink(11, "p0_1", pci0), nicLink(10, "p0_0", pci0), nicLink(12, "p1_0", pci1),
			{Link: Link{20, "ovs-system"}, kind: "openvswitch"}, {Link: Link{21, "br-int"}, kind: "openvswitch", master: 20},
			{Link: Link{23, "vxlan_sys_4789"}, kind: "vxlan", master: 20, port: 4789}, {Link: Link{22, "genev_sys_6081"}, kind: "geneve"},
			{Link: Link{25, "flannel.1"}, kind: "vxlan", port: 8472}, {Link: Link{24, "vx0"}, kind: "vxlan", port: 4789},
			{Link: Link{26, "p0.7"}, kind: "vlan", parent: 4}, {Link: Link{27, "eno1.7"}, kind: "vlan", parent: 2},
			{Link: Link{28, "mv0"}, kind: "macvlan", parent: 5}, {Link: Link{29, "gre7"}, kind: "gretap"},
		},
		addrs: []addr{
			{1, netip.MustParseAddr("127.0.0.1")}, {4, netip.MustParseAddr("10.0.0.1")}, {4, netip.MustParseAddr("fd00::1")},
			{4, netip.MustParseAddr("fe80::1")}, {5, netip.MustParseAddr("fe80::1")},
			{5, netip.MustParseAddr("::ffff:10.0.1.1")},
			{5, netip.MustParseAddr("10.0.9.9")}, {1, netip.MustParseAddr("10.0.9.9")}, {1, netip.MustParseAddr("10.0.9.9")},
			{99, netip.MustParseAddr("10.0.8.8")},
		},
		ports: []port{
			{handle: aux0, index: 65535, flavour: physical, ifindex: 4, netdev: "p0"},
			{handle: aux1, index: 65535, flavour: physical, ifindex: 5, netdev: "p1"},
			{handle: pci0, index: 1, flavour: pcivf, ifindex: 10, netdev: "p0_0"},
			{handle: pci0, index: 2, flavour: pcivf, ifindex: 11, netdev: "p0_1", ipsec: true},
			{handle: pci0, index: 3, flavour: pcivf, ipsec: true},
			{handle: pci1, index: 1, flavour: pcivf, ifindex: 12, netdev: "p1_0"},
			{handle: "auxiliary/mlx5_core.eth.2", index: 131072, flavour: unix.DEVLINK_PORT_FLAVOUR_VIRTUAL, ifindex: 2, netdev: "eno1"},
		},
		eswitches: map[string]eswitch{pci0: {"switchdev", "basic"}, pci1: {"legacy", "none"}},
		params:    map[string]params{pci0: {"dmfs", false}, pci1: {"smfs", true}},
		nics:      map[int]nic{4: {"mlx5_core", true, true, false}, 5: {"mlx5_core", false, false, false}},
	}
}

func TestAssemble(t *testing.T) {
	addr := netip.MustParseAddr
	want := Facts{
		Kernel: Kernel{Major: 6, Minor: 12, Patch: 107},
		PFs: []PF{
			{
				Link: Link{4, "p0"}, Handle: pci0, Driver: "mlx5_core", Up: true, ESPOffload: true, TCOffload: true,
				EswitchMode: "switchdev", EncapMode: "basic", Steering: "dmfs",
				VFIPsec: []string{pci0 + "/2", pci0 + "/3"}, Representors: []Link{{10, "p0_0"}, {11, "p0_1"}},
			},
			{
				Link: Link{5, "p1"}, Handle: pci1, Driver: "mlx5_core", Up: true,
				EswitchMode: "legacy", EncapMode: "none", Steering: "smfs", Multiport: true, Representors: []Link{{12, "p1_0"}},
			},
		},
		Addrs: map[netip.Addr]Link{
			addr("127.0.0.1"): {1, "lo"}, addr("10.0.0.1"): {4, "p0"}, addr("fd00::1"): {4, "p0"}, addr("fe80::1%p0"): {4, "p0"}, addr("fe80::1%p1"): {5, "p1"},
			addr("10.0.1.1"): {5, "p1"}, addr("10.0.9.9"): {1, "lo"},
		},
		Shared: map[netip.Addr][]Link{addr("10.0.9.9"): {{1, "lo"}, {5, "p1"}}},
		Kinds: map[int]string{
			20: "openvswitch", 21: "openvswitch", 22: "geneve", 23: "vxlan", 24: "vxlan", 25: "vxlan", 26: "vlan", 27: "vlan", 28: "macvlan", 29: "gretap",
		},
		ForeignVXLAN: []VXLANLink{{Link{24, "vx0"}, 4789}, {Link{25, "flannel.1"}, 8472}},
		TunnelDevs:   []int{22, 23},
		IndirectDevs: []int{20, 21, 24, 25, 26, 28, 29},
	}
	if diff := cmp.Diff(want, assemble(mlx5Host()), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAssemblePFs(t *testing.T) {
	tests := []struct {
		name   string
		change func(*observed)
		want   func([]PF) bool
	}{
		{"uplink port on the instance of the eswitch (before 6.5, and other drivers)", func(o *observed) { o.ports[0].handle = pci0 },
			func(ps []PF) bool {
				return len(ps) == 2 && ps[0].Handle == pci0 && ps[0].EswitchMode == "switchdev" && len(ps[0].Representors) == 2
			}},
		{"no eswitch and no IPsec offload", func(o *observed) { delete(o.eswitches, pci1) },
			func(ps []PF) bool { return len(ps) == 1 && ps[0].Name == "p0" }},
		{"IPsec offload, eswitch mode not told", func(o *observed) { delete(o.eswitches, pci0) },
			func(ps []PF) bool { return len(ps) == 2 && ps[0].Handle == pci0 && ps[0].EswitchMode == "" }},
		{"netdev in another namespace, its ifindex means another device here", func(o *observed) { o.ports[0].ifindex = 2 },
			func(ps []PF) bool { return len(ps) == 1 && ps[0].Name == "p1" }},
		{"netdev gone", func(o *observed) { o.ports[0].ifindex = 99 },
			func(ps []PF) bool { return len(ps) == 1 }},
		{"down and in a bridge of Open vSwitch", func(o *observed) { o.links[2].up, o.links[2].master = false, 20 },
			func(ps []PF) bool { return !ps[0].Up && ps[0].Master == "ovs-system" }},
		{"representor without a devlink port belongs to every PF of its switch", func(o *observed) { o.ports = append(o.ports[:2:2], o.ports[5:]...) },
			func(ps []PF) bool { return len(ps[0].Representors) == 2 && len(ps[1].Representors) == 3 }},
		{"counter of 6.15", func(o *observed) { o.nics[4] = nic{driver: "other", esp: true, afterDecrypt: true} },
			func(ps []PF) bool { return ps[0].RXPolicyAfterDecrypt && !ps[1].RXPolicyAfterDecrypt }},
		{"mlx5 on 6.15", func(o *observed) { o.kernel = Kernel{Major: 6, Minor: 15}; o.nics[5] = nic{driver: "other", esp: true} },
			func(ps []PF) bool { return ps[0].RXPolicyAfterDecrypt && !ps[1].RXPolicyAfterDecrypt }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := mlx5Host()
			tt.change(&o)
			if got := assemble(o).PFs; !tt.want(got) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestAssembleNothing(t *testing.T) {
	f := assemble(observed{})
	if len(f.PFs)+len(f.Addrs)+len(f.TunnelDevs)+len(f.IndirectDevs) != 0 {
		t.Errorf("facts out of nothing: %+v", f)
	}
}
