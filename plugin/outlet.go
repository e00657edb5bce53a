// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"net/netip"
	"slices"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// Outlet is where the traffic of a port without a pair can leave the host: only a
// guard stops it there.
type Outlet struct {
	VTEPs []VTEP // every one that it may send from
	Mute  bool   // Open vSwitch has no tunnel or no route for it: nothing goes out now
	Plain bool   // the port asks for no IPsec
}

// outlet tells where a port that asks for IPsec and has no pair can send from. A
// port whose tunnels have no UDP port (GRE) has no VTEP: no policy that a NIC
// takes can stop them.
func (b *builder) outlet(t *ovsdb.Tunnel) Outlet {
	var as []netip.Addr
	switch {
	case t.DstPort == 0:
		return Outlet{}
	case t.Local.IsValid():
		as = []netip.Addr{t.Local}
	case t.ByFlow:
		// The routes choose among all addresses of the host.
		as = slices.DeleteFunc(slices.Collect(maps.Keys(b.Facts.Addrs)), func(a netip.Addr) bool { return !a.IsGlobalUnicast() })
	default:
		as = b.locals()
	}
	o := Outlet{Mute: !t.ByFlow}
	for _, a := range as {
		o.VTEPs = append(o.VTEPs, VTEP{a, t.DstPort})
	}
	slices.SortFunc(o.VTEPs, VTEP.Compare)
	return o
}

// loose says in a word what becomes of the traffic of a port without a pair.
func (b *statusMaker) loose(o Outlet) string {
	open := slices.ContainsFunc(o.VTEPs, func(v VTEP) bool { return !b.stopped(v) })
	switch {
	case !open && (o.Mute || len(o.VTEPs) > 0):
		return StateBlocked
	case o.Plain:
		return StateClear
	}
	return StateInvalid
}

// stopped tells whether a guard stops what leaves from a VTEP.
func (b *statusMaker) stopped(v VTEP) bool {
	i, is := slices.BinarySearchFunc(b.intent.Guards, v, func(g GuardIntent, v VTEP) int { return g.VTEP.Compare(v) })
	return is && b.now.guardStands(b.intent.Guards[i], xfrm.Out) && !(b.intent.Guards[i].Exposed && b.offloads())
}

// offloads tells whether flows may get into hardware now.
func (b *statusMaker) offloads() bool { return b.observed.GateOpen && b.observed.Holding == "" }
