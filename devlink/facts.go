// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"net/netip"
	"slices"
)

// Facts is what the kernel says about this host, at one moment.
type Facts struct {
	Kernel Kernel
	PFs    []PF // sorted by ifindex
	// Addrs maps every address of the host to the link that holds it.
	// Link-local addresses carry the link's name as their zone.
	Addrs map[netip.Addr]Link
	// Shared lists the links of each address that stands on more than one;
	// Addrs then holds the one with the smallest ifindex.
	Shared map[netip.Addr][]Link
	// Kinds maps the ifindex of a software device to its kind: "bond",
	// "vlan", "bridge", "openvswitch" (IFLA_INFO_KIND). NICs have none.
	Kinds map[int]string
	// ForeignVXLAN lists VXLAN devices that are not Open vSwitch's.
	ForeignVXLAN []VXLANLink
	// TunnelDevs lists the ifindexes of Open vSwitch's tunnel devices
	// (vxlan_sys_4789 and the like); their rules are offloaded by every PF.
	TunnelDevs []int
	// IndirectDevs lists the ifindexes of the other devices whose rules a PF
	// may take without being their device (flow_indr_dev_register): foreign
	// tunnels, Open vSwitch's internal ports, VLANs and macvlans on a PF.
	IndirectDevs []int
}

// RuleDevs returns the ifindexes of all devices whose TC rules can end up in
// the eswitch of pf, sorted: pf, its representors, tunnels and other indirect
// devices (mlx5e_rep_check_indr_block_supported in en/rep/tc.c).
func (f Facts) RuleDevs(pf PF) []int {
	devs := append([]int{pf.Ifindex}, f.TunnelDevs...)
	devs = append(devs, f.IndirectDevs...)
	for _, r := range pf.Representors {
		devs = append(devs, r.Ifindex)
	}
	slices.Sort(devs)
	return slices.Compact(devs)
}

// Kernel is a Linux version; Release is the text of uname -r.
type Kernel struct {
	Major, Minor, Patch int
	Release             string
}

// Link is a network device by index and name.
type Link struct {
	Ifindex int
	Name    string
}

// VXLANLink is a VXLAN device and its UDP port.
type VXLANLink struct {
	Link
	Port uint16
}

// PF is the uplink netdev of a NIC with an eswitch.
type PF struct {
	Link
	Handle string // of its devlink instance, as "pci/0000:08:00.0"
	Driver string
	Up     bool   // administratively up
	Master string // name of the device that enslaves it ("ovs-system", a bond), or ""
	// OVSPort tells that Open vSwitch's database has it as a port. The kernel
	// shows that only once ovs-vswitchd runs; a Reader leaves it false.
	OVSPort bool

	ESPOffload bool // ethtool feature esp-hw-offload
	TCOffload  bool // ethtool feature hw-tc-offload

	EswitchMode string // "legacy", "switchdev", "switchdev_inactive"; "" when unknown
	EncapMode   string // "none", "basic"; "" when unknown
	Steering    string // driver parameter flow_steering_mode; "" when the driver has none
	Multiport   bool   // driver parameter esw_multiport

	// RXPolicyAfterDecrypt tells that inbound policies see only decrypted
	// packets (mlx5 from Linux 6.15), so no policy can stop clear text from
	// the wire. Found by the counter ipsec_rx_drop_mismatch_sa_sel.
	RXPolicyAfterDecrypt bool

	VFIPsec      []string // devlink ports whose function has ipsec_packet or ipsec_crypto enabled
	Representors []Link   // netdevs of the same eswitch, without the PF itself
}
