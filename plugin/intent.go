// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"slices"
	"strings"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// PortIntent is what one tunnel port is to get.
type PortIntent struct {
	Name     string
	Pair     Pair   // zero when the port has no pair of its own
	Outlet   Outlet // then
	Problems []Problem
	Reported map[string]string
}

// Intent is what the host is to hold.
type Intent struct {
	Guards   []GuardIntent // sorted by VTEP
	Pairs    []PairIntent  // sorted by pair
	Ports    []PortIntent  // ports that ask for IPsec or are refused, sorted by name
	Problems []Problem     // of host scope
	// Names holds the names of the PFs, by ifindex.
	Names map[int]string
	// AfterDecrypt holds the PFs whose inbound policies see only decrypted packets.
	AfterDecrypt map[int]bool
	// Unguarded holds the PFs without policy priorities: policies of the pairs
	// stand in them, and no guards.
	Unguarded map[int]bool
	// Named holds the keys of every set that a port names, whatever keeps the
	// port from using it now: their SAs are not taken away.
	Named map[xfrm.Fingerprint]bool
	// OpenGate tells that hw-offload was left to us and is not set yet.
	OpenGate bool
	// Retrofit tells that flows which were there before the tables may be taken
	// out of hardware; Ask that the operator has only to say so.
	Retrofit, Ask bool
	// DrainForSAs tells that flows may be taken out of hardware for SAs; Repair
	// that they may be for whatever they are in the way of.
	DrainForSAs, Repair bool
	// Parked tells that nothing of ours may be in a NIC.
	Parked bool
}

// name returns the name of a PF for the operator.
func (in *Intent) name(pf int) string {
	return pfNames(in.Names).of(pf)
}

// BuildIntent says what the host is to hold. It is pure and total: whatever is
// wrong with a port ends as that port's problem, never as an error.
func BuildIntent(in Input) Intent {
	b := newBuilder(in)
	b.out.AfterDecrypt = map[int]bool{}
	for _, pf := range in.Facts.PFs {
		if pf.RXPolicyAfterDecrypt {
			b.out.AfterDecrypt[pf.Ifindex] = true
		}
	}
	b.out.Named = make(map[xfrm.Fingerprint]bool, 2*len(in.Keys))
	for _, k := range in.Keys {
		if k.Set.Name != "" {
			b.out.Named[k.Set.InPrint], b.out.Named[k.Set.OutPrint] = true, true
		}
	}
	b.noPriorities()
	for i := range in.Snapshot.Tunnels {
		b.assign(&in.Snapshot.Tunnels[i])
	}
	b.guardTunnels()
	b.foreign()
	b.guardAddresses()
	b.pairs()
	b.list()
	b.out.OpenGate = in.Settings.GateAuto && in.Snapshot.Host.HWOffload == "" && !in.Parked
	b.out.Retrofit = in.Consent || in.Settings.Retrofit == RetrofitAuto
	b.out.Ask, b.out.Repair = in.Settings.Retrofit == RetrofitAsk, in.Consent
	b.out.DrainForSAs = in.Consent || in.Settings.DrainForSAs
	if in.Parked {
		park(&b.out)
	}
	return b.out
}

// group is the ports of one pair while the intent is being built.
type group struct {
	secure, plain []*ovsdb.Tunnel
}

type builder struct {
	Input
	out      Intent
	groups   map[Pair]*group
	between  map[ends][]Pair // those that ask for IPsec, in their order
	ports    []PortIntent
	lost     []*ovsdb.Tunnel // ask for IPsec but have no pair
	flows    []*ovsdb.Tunnel // plain ports whose flows choose the addresses
	guards   map[VTEP]int    // to the PF's ifindex
	asked    map[VTEP]bool   // by a tunnel that is there now
	auto     map[VTEP]bool   // by guard: auto
	loose    map[VTEP]bool   // by a tunnel that has no pair
	keyOwner map[string]Pair
	// keys and spis tell which pair has a key or an SPI; two key sets may hold the same.
	keys map[xfrm.Fingerprint]Pair
	spis map[xfrm.SAID]Pair
	// reqids tells which pair has a reqid of IKE's.
	reqids map[uint32]Pair
}

func newBuilder(in Input) *builder {
	return &builder{Input: in, groups: map[Pair]*group{},
		guards: map[VTEP]int{}, asked: map[VTEP]bool{}, auto: map[VTEP]bool{}, loose: map[VTEP]bool{},
		keyOwner: map[string]Pair{}, keys: map[xfrm.Fingerprint]Pair{}, spis: map[xfrm.SAID]Pair{}, reqids: map[uint32]Pair{}}
}

// assign puts a tunnel into its pair's group, or says why it has none.
func (b *builder) assign(t *ovsdb.Tunnel) {
	local := t.Local
	if !local.IsValid() && t.Remote.IsValid() {
		local = b.Sources[t.Remote]
	}
	paired := !t.ByFlow && t.Remote.IsValid() && local.IsValid() && t.DstPort != 0
	switch {
	case paired:
		b.group(Pair{local, t.Remote, t.DstPort}).add(t)
	case t.IPsec:
		b.lost = append(b.lost, t)
	case t.ByFlow:
		b.flows = append(b.flows, t)
	}
}

func (b *builder) group(p Pair) *group {
	g := b.groups[p]
	if g == nil {
		g = &group{}
		b.groups[p] = g
	}
	return g
}

func (g *group) add(t *ovsdb.Tunnel) {
	if t.IPsec {
		g.secure = append(g.secure, t)
	} else {
		g.plain = append(g.plain, t)
	}
}

// list puts guards and ports into their order.
func (b *builder) list() {
	b.out.Names = pfNamesOf(b.Facts)
	for v, pf := range b.guards {
		b.out.Guards = append(b.out.Guards, GuardIntent{VTEP: v, PF: pf, Exposed: b.asked[v] && b.onSwitch(v, pf), Idle: !b.asked[v] && !b.auto[v]})
	}
	slices.SortFunc(b.out.Guards, func(x, y GuardIntent) int { return x.VTEP.Compare(y.VTEP) })
	slices.SortFunc(b.ports, func(x, y PortIntent) int { return strings.Compare(x.Name, y.Name) })
	b.out.Ports = b.ports
}
