// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
)

// GuardIntent is a VTEP whose overlay traffic is blocked unless a pair's own
// policy says otherwise. Without a PF the guard stands in the host's stack only.
type GuardIntent struct {
	VTEP
	PF int
	// Exposed tells that flows of tunnels that ask for IPsec can get into a NIC
	// where no guard can stand: the gate must not be opened for them.
	Exposed bool
	// Idle tells that neither a tunnel nor a setting asks for the guard any
	// more: it stays until the next boot.
	Idle bool
}

// guardTunnels asks for a guard at every VTEP that a port with ipsec options uses.
func (b *builder) guardTunnels() {
	anywhere := map[uint16]bool{} // ports whose sender's address the routes or flows choose
	wild := map[uint16]bool{}     // those of tunnels without a pair among them
	for p, g := range b.groups {
		for _, t := range g.secure {
			b.ask(p.VTEP())
			anywhere[t.DstPort] = anywhere[t.DstPort] || !t.Local.IsValid()
		}
	}
	for _, t := range b.lost {
		if t.Local.IsValid() {
			b.ask(VTEP{t.Local, t.DstPort})
			b.loose[VTEP{t.Local, t.DstPort}] = true
		}
		wild[t.DstPort] = wild[t.DstPort] || !t.Local.IsValid()
		anywhere[t.DstPort] = anywhere[t.DstPort] || !t.Local.IsValid()
	}
	for port, is := range anywhere {
		for _, a := range b.locals() {
			if is {
				b.ask(VTEP{a, port})
				b.loose[VTEP{a, port}] = b.loose[VTEP{a, port}] || wild[port]
			}
		}
	}
	for v := range b.Guarded {
		b.guard(v)
	}
}

// ask asks for a guard on behalf of a tunnel that is there now.
func (b *builder) ask(v VTEP) {
	if v.Port != 0 {
		b.guard(v)
		b.asked[v] = true
	}
}

// locals returns the addresses that a port without local_ip may send from: all
// that are on a PF.
func (b *builder) locals() (as []netip.Addr) {
	for a := range b.Facts.Addrs {
		if _, refusal := devlink.PFOf(b.Facts, a, ""); refusal == nil && a.IsGlobalUnicast() {
			as = append(as, a)
		}
	}
	return as
}

// onSwitch tells whether flows of a VTEP's tunnels can get into another NIC than
// the one that guards it: its address is on a PF with an eswitch that cannot
// encrypt, on what enslaves one, or on a VLAN or an OVS port, which may lie over one.
func (b *builder) onSwitch(v VTEP, guarding int) bool {
	l := b.Facts.Addrs[v.Local]
	return slices.ContainsFunc(b.Facts.PFs, func(p devlink.PF) bool {
		return p.EswitchMode == "switchdev" && p.Ifindex != guarding && !b.accepted(v, p.Ifindex) && (p.Ifindex == l.Ifindex || p.Master != "" && p.Master == l.Name ||
			l.Name == "lo" || len(b.Facts.Shared[v.Local]) > 1 || slices.Contains(b.Facts.IndirectDevs, l.Ifindex))
	})
}

// guard asks for a guard at v, in the NIC that has the address, whatever device
// a port names.
func (b *builder) guard(v VTEP) {
	if b.guards[v] != 0 {
		return
	}
	pf, refusal := devlink.PFOf(b.Facts, v.Local, "")
	if refusal != nil {
		pf.Ifindex = cmp.Or(b.standing(v), b.onlyPF())
	}
	if b.NoPriority[pf.Ifindex] {
		pf.Ifindex = 0
	}
	b.guards[v] = pf.Ifindex
}

// onlyPF returns the host's PF when it has just one that can hold a guard. What a
// VTEP on the loopback device, on several devices or on a bond sends can get into
// a NIC by a flow nevertheless, and then it is this one. Of several none can be
// told to be it, and the kernel takes a selector only once.
func (b *builder) onlyPF() int {
	pf := 0
	for i := range b.Facts.PFs {
		if b.Facts.PFs[i].EswitchMode != "switchdev" {
			continue
		}
		if pf != 0 || len(b.Facts.PFs[i].Refusals()) > 0 {
			return 0
		}
		pf = b.Facts.PFs[i].Ifindex
	}
	return pf
}

// standing returns the PF that holds the guard of v now, if it still exists.
func (b *builder) standing(v VTEP) int {
	now := b.Guarded[v]
	if slices.ContainsFunc(b.Facts.PFs, func(p devlink.PF) bool { return p.Ifindex == now }) {
		return now
	}
	return 0
}

// foreign names the VXLAN devices that are not Open vSwitch's and may be cut by
// a guard: there is no bypass for peers that nobody tells us of.
func (b *builder) foreign() {
	for _, l := range b.Facts.ForeignVXLAN {
		for _, v := range slices.SortedFunc(maps.Keys(b.guards), VTEP.Compare) {
			if v.Port == l.Port {
				b.out.Problems = append(b.out.Problems, Problem{"FOREIGN_VXLAN", fmt.Sprintf(
					"VXLAN device %s is not Open vSwitch's and shares %s with tunnels that ask for IPsec: what it sends from or to that address is blocked; give it another UDP port", l.Name, v)})
			}
		}
	}
}

// guardAddresses asks for a guard at every address of a capable PF, so that the
// first tunnel of a host finds one already standing.
func (b *builder) guardAddresses() {
	if !b.Settings.GuardAuto {
		return
	}
	for a := range b.Facts.Addrs {
		if !a.IsGlobalUnicast() {
			continue
		}
		if _, refusal := devlink.PFOf(b.Facts, a, ""); refusal != nil {
			continue
		}
		for _, port := range b.Settings.GuardPorts {
			v := VTEP{a, port}
			if b.wouldCut(v) {
				continue
			}
			b.auto[v] = true
			if _, is := b.guards[v]; !is {
				b.guard(v)
			}
		}
	}
}

// wouldCut tells whether an automatic guard at v would stop traffic that has
// nothing to do with us and that no bypass can be written for.
func (b *builder) wouldCut(v VTEP) bool {
	for _, l := range b.Facts.ForeignVXLAN {
		if l.Port == v.Port {
			return true
		}
	}
	return slices.ContainsFunc(b.flows, func(t *ovsdb.Tunnel) bool { return b.flowOf(t, v) })
}

func (b *builder) flowOf(t *ovsdb.Tunnel, v VTEP) bool {
	return t.DstPort == v.Port && (!t.Local.IsValid() || t.Local == v.Local)
}
