// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// Want is how a pair's traffic is to be treated.
type Want uint8

// The treatments. There is no "maybe": what cannot be encrypted is blocked.
const (
	Encrypt Want = iota + 1
	Blocked      // asked for IPsec, but cannot have it
	Clear        // no port of the pair asks for IPsec
)

// PairIntent is what one pair is to get, and why.
type PairIntent struct {
	Pair
	Bare    bool // its PF knows no priorities
	Want    Want
	PF      int // ifindex; 0: no PF can carry it
	Mode    xfrm.Mode
	Keys    KeySet
	Ports   []string // names of its ports, sorted
	Asked   string   // name of the key set that its ports ask for
	Problem *Problem // why it is blocked
}

// ids returns the identities of the pair's inbound and outbound SAs.
func (pi *PairIntent) ids() (rx, tx xfrm.SAID) {
	return xfrm.SAID{Dst: pi.Local, SPI: pi.Keys.InSPI}, xfrm.SAID{Dst: pi.Remote, SPI: pi.Keys.OutSPI}
}

// PortIntent is what one tunnel port is to get.
type PortIntent struct {
	Name     string
	Pair     Pair   // zero when the port has no pair of its own
	Outlet   Outlet // then
	Problems []Problem
	Reported map[string]string
}

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
	return cmp.Or(in.Names[pf], fmt.Sprintf("if%d", pf))
}

// Settings are the operator's choices that bear on intent and plan.
type Settings struct {
	GateAuto   bool     // set hw-offload when the operator left it unset
	GuardAuto  bool     // guard every address of a capable PF from the start
	GuardPorts []uint16 // UDP ports of the automatic guards
	Unguarded  bool     // use NICs in which no guard can stand
	// Retrofit is what to do with flows that are in hardware before the tables:
	// nothing, what the operator says by `repair`, or take them out.
	Retrofit Retrofit
	// DrainForSAs lets flows be taken out of hardware for SAs where the kernel
	// takes none beside them.
	DrainForSAs bool
	BlockLeaks  bool // block a pair that leaked
}

// Retrofit is a choice of the operator; see Settings.
type Retrofit string

// The choices.
const (
	RetrofitNever Retrofit = "never"
	RetrofitAsk   Retrofit = "ask"
	RetrofitAuto  Retrofit = "auto"
)

// KeyResult is what the key store says about one name.
type KeyResult struct {
	Set     KeySet
	Problem *Problem
}

// Input is all that BuildIntent looks at.
type Input struct {
	Snapshot ovsdb.Snapshot
	Facts    devlink.Facts
	Sources  map[netip.Addr]netip.Addr // remote to local address, for ports without local_ip
	Keys     map[string]KeyResult
	Settings Settings
	// Consent tells that the operator has asked for the retrofit; Parked that
	// nothing of ours may be in a NIC.
	Consent, Parked bool
	// Installed finds our SAs that stand in the kernel; Spent tells which
	// outbound keys were installed once already.
	Installed func(xfrm.SAID) (*xfrm.SA, bool)
	Spent     func(xfrm.Fingerprint) bool
	// Poor holds the PFs that have shown to have no policy priorities.
	Poor map[int]bool
	// Guarded holds the VTEPs that have a guard now, with its PF (0: in the
	// host's stack only). A guard is never taken away, nor out of its NIC.
	Guarded map[VTEP]int
	// Strangers are others who may work on the same pairs.
	Strangers Strangers
	// Leaked holds the pairs that stay blocked since they leaked.
	Leaked map[Pair]LeakBlock
}

// BuildIntent says what the host is to hold. It is pure and total: whatever is
// wrong with a port ends as that port's problem, never as an error.
func BuildIntent(in Input) Intent {
	b := builder{Input: in, groups: map[Pair]*group{}, guards: map[VTEP]int{}, asked: map[VTEP]bool{}, auto: map[VTEP]bool{}, loose: map[VTEP]bool{}, keyOwner: map[string]Pair{},
		keys: map[xfrm.Fingerprint]Pair{}, spis: map[xfrm.SAID]Pair{}}
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
	b.poor()
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
	ports    []PortIntent
	lost     []*ovsdb.Tunnel // ask for IPsec but have no pair
	flows    []*ovsdb.Tunnel // plain ports whose flows choose the addresses
	guards   map[VTEP]int    // to the PF's ifindex
	asked    map[VTEP]bool   // by a tunnel that is there now
	auto     map[VTEP]bool   // by guard: auto
	loose    map[VTEP]bool   // by a tunnel that has no pair
	keyOwner map[string]Pair
	// owner tells which pair has a key or an SPI; two key sets may hold the same.
	keys map[xfrm.Fingerprint]Pair
	spis map[xfrm.SAID]Pair
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
	if b.Poor[pf.Ifindex] {
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

// pairs decides what each pair gets, in the order of the pairs.
func (b *builder) pairs() {
	all := make([]Pair, 0, len(b.groups))
	for p := range b.groups {
		all = append(all, p)
	}
	slices.SortFunc(all, Pair.Compare)
	for _, p := range b.claimFirst(all) {
		g := b.groups[p]
		if len(g.secure) == 0 {
			b.clear(p, g)
			continue
		}
		b.secure(p, g)
	}
	slices.SortFunc(b.out.Pairs, func(x, y PairIntent) int { return x.Pair.Compare(y.Pair) })
	for _, t := range b.lost {
		b.ports = append(b.ports, PortIntent{Name: t.Name, Outlet: b.outlet(t), Problems: problemsOf(t, noPair(t)), Reported: t.Reported})
	}
	for _, t := range b.flows {
		b.blockedFlow(t)
	}
}

// claimFirst puts pairs whose SAs stand in the kernel in front, so that a key
// set that two pairs name stays with the pair that has it.
func (b *builder) claimFirst(all []Pair) []Pair {
	rank := func(p Pair) int {
		for _, t := range b.groups[p].secure {
			if k, is := b.Keys[t.Keys]; is && k.Problem == nil && b.stands(p, k.Set) {
				return 0
			}
		}
		return 1
	}
	ranks := make(map[Pair]int, len(all))
	for _, p := range all {
		ranks[p] = rank(p)
	}
	slices.SortStableFunc(all, func(x, y Pair) int { return ranks[x] - ranks[y] })
	return all
}

// stands tells whether the outbound SA of set is installed for p.
func (b *builder) stands(p Pair, set KeySet) bool {
	s, is := b.Installed(xfrm.SAID{Dst: p.Remote, SPI: set.OutSPI})
	return is && s.Src == p.Local && holds(s, set.OutPrint)
}

// holds tells whether s can be the SA with key f. A kernel under lockdown shows
// no keys; the SPI, 32 random bits, must do there.
func holds(s *xfrm.SA, f xfrm.Fingerprint) bool {
	return s.KeyPrint == f || s.KeyPrint == xfrm.Fingerprint{}
}

// clear gives a plain pair a bypass where a guard stands.
func (b *builder) clear(p Pair, g *group) {
	pf, guarded := b.guards[p.VTEP()]
	if !guarded {
		return
	}
	b.out.Pairs = append(b.out.Pairs, PairIntent{Pair: p, Want: Clear, PF: pf, Ports: names(g.plain)})
}

// blockedFlow names a plain flow-based port that a guard stops.
func (b *builder) blockedFlow(t *ovsdb.Tunnel) {
	for _, v := range slices.SortedFunc(maps.Keys(b.guards), VTEP.Compare) {
		if b.flowOf(t, v) {
			b.ports = append(b.ports, PortIntent{Name: t.Name, Outlet: Outlet{VTEPs: []VTEP{v}, Plain: true}, Reported: t.Reported, Problems: []Problem{{"PLAIN_FLOW",
				"port chooses its peers by flow and asks for no encryption, beside encrypted tunnels of " + v.String() +
					": its traffic is blocked; give it another VTEP or dst_port"}}})
			return
		}
	}
}

// secure decides about a pair of which at least one port asks for IPsec.
func (b *builder) secure(p Pair, g *group) {
	pi := PairIntent{Pair: p, Want: Blocked, PF: b.exit(p.VTEP()), Ports: names(append(slices.Clone(g.secure), g.plain...))}
	lead := b.lead(p, g.secure)
	for _, t := range g.secure {
		var own []Problem
		if t != lead && lead != nil && (t.Keys != lead.Keys || t.Mode != lead.Mode || t.Dev != lead.Dev) {
			own = append(own, Problem{"PAIR_CONFLICT", fmt.Sprintf(
				"port shares %s with port %s but asks for other ipsec options: the pair follows %s; make them equal", p, lead.Name, lead.Name)})
		}
		b.ports = append(b.ports, PortIntent{Name: t.Name, Pair: p, Problems: append(problemsOf(t, nil), own...), Reported: t.Reported})
	}
	leader := g.secure[0].Name
	pi.Asked = g.secure[0].Keys
	if lead != nil {
		leader, pi.Asked = lead.Name, lead.Keys
	}
	for _, t := range g.plain {
		b.ports = append(b.ports, PortIntent{Name: t.Name, Pair: p, Reported: t.Reported, Problems: []Problem{{"PAIR_CONFLICT",
			fmt.Sprintf("port asks for no encryption but shares %s with port %s, which does: it is treated like %s", p, leader, leader)}}})
	}
	if lead == nil {
		pi.Problem = first(problemsOf(g.secure[0], nil))
	} else {
		pi.Problem = b.fill(&pi, lead)
		if l, is := b.Leaked[p]; is && l.Keys == lead.Keys && pi.Problem == nil {
			pi.Problem = &l.Problem
		}
	}
	if pi.Problem == nil {
		pi.Want = Encrypt
	}
	pi.Bare = b.out.Unguarded[pi.PF]
	b.out.Pairs = append(b.out.Pairs, pi)
}

// lead returns the port whose options the pair follows: the valid one whose
// keys are installed, else the first valid one by name; nil when none is valid.
func (b *builder) lead(p Pair, ts []*ovsdb.Tunnel) *ovsdb.Tunnel {
	var lead *ovsdb.Tunnel
	for _, t := range ts {
		if len(t.Problems) > 0 {
			continue
		}
		if k, is := b.Keys[t.Keys]; is && k.Problem == nil && b.stands(p, k.Set) {
			return t
		}
		if lead == nil {
			lead = t
		}
	}
	return lead
}

// fill completes a pair's intent from its leading port, or says why it cannot.
func (b *builder) fill(pi *PairIntent, t *ovsdb.Tunnel) *Problem {
	pf, refusal := devlink.PFOf(b.Facts, pi.Local, t.Dev)
	if refusal != nil {
		return &Problem{refusal.Code, refusal.Text}
	}
	pi.PF = pf.Ifindex
	if p := b.refusePoor(pf.Ifindex, pf.Name); p != nil {
		return p
	}
	if t.Mode == ovsdb.Tunneled {
		pi.Mode = xfrm.Tunnel
		if refusal := pf.TunnelMode(); refusal != nil {
			return &Problem{refusal.Code, refusal.Text}
		}
	}
	k, is := b.Keys[t.Keys]
	if !is {
		return &Problem{"KEY_MISSING", "key set " + t.Keys + " was not looked up yet"}
	}
	if k.Problem != nil {
		return k.Problem
	}
	// What stands of ours goes on: taking it away would help nobody.
	if p := b.Strangers.Of(pi.Pair); p != nil && !b.stands(pi.Pair, k.Set) {
		return p
	}
	return b.claim(pi, k.Set)
}

// claim takes a key set for the pair, unless it is another pair's or spent.
func (b *builder) claim(pi *PairIntent, set KeySet) *Problem {
	if owner, is := b.keyOwner[set.Name]; is && owner != pi.Pair {
		return &Problem{"KEY_SHARED", fmt.Sprintf("key set %s is in use for %s: every pair needs keys of its own: %s", set.Name, owner, set.Renew)}
	}
	ids := [2]xfrm.SAID{{Dst: pi.Remote, SPI: set.OutSPI}, {Dst: pi.Local, SPI: set.InSPI}}
	for i, f := range [2]xfrm.Fingerprint{set.OutPrint, set.InPrint} {
		for _, owner := range []Pair{b.keys[f], b.spis[ids[i]]} {
			if (owner != Pair{}) && owner != pi.Pair {
				return &Problem{"KEY_SHARED", fmt.Sprintf("key set %s has a key or an SPI of %s: every pair needs keys of its own: %s", set.Name, owner, set.Renew)}
			}
		}
	}
	pi.Keys = set
	if s, is := b.Installed(xfrm.SAID{Dst: pi.Remote, SPI: set.OutSPI}); is {
		if s.Src != pi.Local || !holds(s, set.OutPrint) || s.Offload.Ifindex != pi.PF || s.Mode != pi.Mode {
			return &Problem{"SA_MISMATCH", fmt.Sprintf("an SA with SPI 0x%08x to %s stands in the kernel and is not the one of key set %s: new keys are needed: %s",
				set.OutSPI, pi.Remote, set.Name, set.Renew)}
		}
	} else if b.Spent(set.OutPrint) {
		return &Problem{"KEY_USED", fmt.Sprintf("the outbound key of set %s was installed before and its SA is gone (reboot, flush or removal); "+
			"sending with it again would repeat nonces, so the pair stays blocked until it has new keys: %s", set.Name, set.Renew)}
	}
	if s, is := b.Installed(ids[1]); is && (s.Src != pi.Remote || !holds(s, set.InPrint) || s.Offload.Ifindex != pi.PF || s.Mode != pi.Mode) {
		return &Problem{"SA_MISMATCH", fmt.Sprintf("an SA with SPI 0x%08x to %s stands in the kernel and is not the one of key set %s: new keys are needed: %s",
			set.InSPI, pi.Local, set.Name, set.Renew)}
	}
	b.keyOwner[set.Name] = pi.Pair
	b.keys[set.OutPrint], b.keys[set.InPrint] = pi.Pair, pi.Pair
	b.spis[ids[0]], b.spis[ids[1]] = pi.Pair, pi.Pair
	return nil
}

// list puts guards and ports into their order.
func (b *builder) list() {
	b.out.Names = make(map[int]string, len(b.Facts.PFs))
	for i := range b.Facts.PFs {
		b.out.Names[b.Facts.PFs[i].Ifindex] = b.Facts.PFs[i].Name
	}
	for v, pf := range b.guards {
		b.out.Guards = append(b.out.Guards, GuardIntent{VTEP: v, PF: pf, Exposed: b.asked[v] && b.onSwitch(v, pf), Idle: !b.asked[v] && !b.auto[v]})
	}
	slices.SortFunc(b.out.Guards, func(x, y GuardIntent) int { return x.VTEP.Compare(y.VTEP) })
	slices.SortFunc(b.ports, func(x, y PortIntent) int { return strings.Compare(x.Name, y.Name) })
	b.out.Ports = b.ports
}

// problemsOf gives the refusals that stand in the row itself, and then p.
func problemsOf(t *ovsdb.Tunnel, p *Problem) []Problem {
	var ps []Problem
	for _, q := range t.Problems {
		ps = append(ps, Problem{q.Code, q.Text})
	}
	if p != nil && len(ps) == 0 {
		ps = append(ps, *p)
	}
	return ps
}

func noPair(t *ovsdb.Tunnel) *Problem {
	return &Problem{"NO_ROUTE", fmt.Sprintf("there is no route to remote_ip %s, so the local VTEP is not known: set local_ip or add the route", t.Remote)}
}

func first(ps []Problem) *Problem {
	if len(ps) == 0 {
		return &Problem{"OPT_INVALID", "port is not valid"}
	}
	return &ps[0]
}

func names(ts []*ovsdb.Tunnel) []string {
	ns := make([]string, len(ts))
	for i, t := range ts {
		ns[i] = t.Name
	}
	slices.Sort(ns)
	return ns
}
