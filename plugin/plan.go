// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// MakePlan returns the steps from what stands to what is wanted, in the only
// safe order. It is pure, total and deterministic; a plan made from the result
// of a plan is empty (I8).
func MakePlan(in Intent, ob Observed) Plan {
	p := planner{in: in, ob: ob, now: newView(&ob), held: ob.Holding != "", flows: maps.Clone(ob.Flows), reqids: map[uint32]bool{}, wanted: make(map[Pair]*PairIntent, len(in.Pairs))}
	p.plan.Problems = slices.Clone(in.Problems)
	p.plan.Stuck, p.plan.Kept, p.plan.Deferred = map[int]bool{}, map[VTEP]bool{}, map[Pair]*Problem{}
	for i := range in.Pairs {
		p.wanted[in.Pairs[i].Pair] = &in.Pairs[i]
		if in.Pairs[i].Want == Encrypt && in.Pairs[i].PF != 0 && p.now.fateOf(in.Pairs[i].Pair, in.Pairs[i].PF) == encrypted {
			p.plan.Encrypted++
		}
	}
	for i := range ob.SAs {
		p.reqids[ob.SAs[i].Reqid] = true
	}
	p.hold()
	p.remake()
	p.anchor()
	p.pairwise()
	p.block()
	if in.Parked {
		p.unload()
		return p.plan
	}
	p.accept()
	p.send()
	p.free()
	p.release()
	p.retire()
	return p.plan
}

type planner struct {
	in     Intent
	ob     Observed
	now    *view       // what stands once the steps so far are carried out
	flows  map[int]int // in hardware then
	open   bool        // flows may be offloaded then
	held   bool        // flows are held back then
	wanted map[Pair]*PairIntent
	reqids map[uint32]bool // taken
	sends  []sender
	plan   Plan
}

// sender is a pair that gets or has its two SAs.
type sender struct {
	pi      *PairIntent
	in, out *xfrm.SA
}

// step appends a step and notes what it leads to.
func (p *planner) step(s Step) {
	p.plan.Steps = append(p.plan.Steps, s)
	switch {
	case s.Verb == OpenGate:
		p.open = true
	case s.Verb == HoldFlows:
		p.held, p.open = true, false
		for _, pf := range s.Drain.PFs {
			p.flows[pf] = 0
		}
	case s.Verb == FreeFlows:
		p.held, p.open = false, p.ob.GateOpen
	case s.Verb == Change:
		p.now.change(s.Op)
	}
}

func (p *planner) change(ph Phase, pair Pair, kind xfrm.OpKind, pol *xfrm.Policy) {
	p.step(Step{Phase: ph, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: kind, Policy: pol}})
}

// usable tells whether a pair's PF may be touched.
func (p *planner) usable(pf int) bool { return !p.plan.Stuck[pf] }

// anchored is a bypass or a guard that has to stand.
type anchored struct {
	pair Pair // zero for a guard
	pol  *xfrm.Policy
}

// anchor stands up bypasses and then guards. A bypass comes first, so that a
// plain tunnel is not interrupted by the guard beside it. What is added comes
// before what moves from one NIC to another, so that the tables of the other
// are held by then.
func (p *planner) anchor() {
	all := p.anchors()
	for _, fresh := range []bool{true, false} {
		if p.in.Parked && !fresh {
			break // they leave the NIC last
		}
		for _, a := range all {
			now, is := p.now.policies[placeOf(a.pol)]
			switch {
			case fresh == is:
			case is && now.Offload != a.pol.Offload && p.holdsTable(now.Offload.Ifindex, now.Dir):
				if v, is := vtepOf(a.pol); is {
					p.plan.Kept[v] = true
				}
				p.plan.Problems = append(p.plan.Problems, Problem{"GUARD_HELD", fmt.Sprintf(
					"policy %s %s > %s belongs on another device now, and stays: it is all that keeps a table of %s while flows may be offloaded there; "+
						"stop ovs-vswitchd, delete its tunnel devices and start it again", a.pol.Dir, a.pol.Sel.Src, a.pol.Sel.Dst, p.in.name(now.Offload.Ifindex))})
			default:
				p.ensure(Anchor, a.pair, a.pol, a.pair == Pair{})
			}
		}
	}
}

// anchors returns the bypasses and guards of PFs that may be touched.
func (p *planner) anchors() (all []anchored) {
	for i := range p.in.Pairs {
		if pi := &p.in.Pairs[i]; pi.Want == Clear && p.usable(pi.PF) && !p.ob.Held[pi.Pair] {
			all = append(all, anchored{pi.Pair, bypass(pi, xfrm.Out)}, anchored{pi.Pair, bypass(pi, xfrm.In)})
		}
	}
	for _, g := range p.in.Guards {
		if p.usable(g.PF) {
			all = append(all, anchored{pol: guard(g, xfrm.Out)}, anchored{pol: guard(g, xfrm.In)})
		}
	}
	return all
}

// remake lets the NIC make a table anew: every policy of ours in it moves to the
// host's stack and back, each move make before break, so that host traffic stays
// blocked throughout. Only while nothing is in hardware and nothing may come. A
// table that an SA holds stays: what is wrong is then the other one.
func (p *planner) remake() {
	for _, pf := range slices.Sorted(maps.Keys(p.ob.Remake)) {
		var stale []xfrm.Dir
		for _, d := range []xfrm.Dir{xfrm.Out, xfrm.In} {
			if p.canRemake(pf, d) {
				stale = append(stale, d)
			}
		}
		if len(stale) == 0 {
			p.plan.Problems = append(p.plan.Problems, Problem{"TABLES_STALE", fmt.Sprintf(
				"the IPsec tables of %s were made in another encap-mode and allow no tunnel mode, and they are in use: "+
					"stop ovs-vswitchd, remove its tunnel devices and the other tunnels' ports, and start it again", p.in.name(pf))})
		}
		for _, d := range stale {
			p.move(pf, d, func(pol *xfrm.Policy) { pol.Offload = xfrm.Offload{} })
			p.move(pf, d, func(*xfrm.Policy) {})
		}
	}
}

// canRemake tells whether nothing but our guards and bypasses holds the table of
// pf in direction d, and no flow is or may get into hardware.
func (p *planner) canRemake(pf int, d xfrm.Dir) bool {
	if p.in.Unguarded[pf] || p.open || p.flows[pf] > 0 || p.ob.Foreign[pf] != (Refs{}) || !p.usable(pf) {
		return false
	}
	held := slices.ContainsFunc(p.ob.SAs, func(s xfrm.SA) bool { return s.Offload.Ifindex == pf && s.Dir == d })
	return !held && !slices.ContainsFunc(p.ob.Policies, func(pol xfrm.Policy) bool {
		return pol.Offload.Ifindex == pf && pol.Dir == d && pol.Tmpl != nil
	})
}

// move replaces every policy of ours on pf in direction d by a changed copy. A
// bypass that nobody wants any more goes instead.
func (p *planner) move(pf int, d xfrm.Dir, change func(*xfrm.Policy)) {
	for i := range p.ob.Policies {
		if p.ob.Policies[i].Offload.Ifindex != pf || p.ob.Policies[i].Dir != d {
			continue
		}
		pol := p.ob.Policies[i]
		pair, isPair := pairOf(&pol)
		if pi := p.wanted[pair]; isPair && (pi == nil || pi.Want != Clear) {
			p.remove(Anchor, pair, &p.ob.Policies[i])
			continue
		}
		change(&pol)
		p.step(Step{Phase: Anchor, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: xfrm.UpdatePolicy, Policy: &pol}, Guard: !isPair})
	}
}

// remove takes a policy away, if no step before has.
func (p *planner) remove(ph Phase, pair Pair, pol *xfrm.Policy) {
	if _, is := p.now.policies[placeOf(pol)]; is {
		p.change(ph, pair, xfrm.DeletePolicy, pol)
	}
}

// ensure adds pol, or puts it in the place of what stands there.
func (p *planner) ensure(ph Phase, pair Pair, pol *xfrm.Policy, isGuard bool) {
	kind := xfrm.AddPolicy
	if now, is := p.now.policies[placeOf(pol)]; is {
		if samePolicy(now, pol) {
			return
		}
		kind = xfrm.UpdatePolicy
	}
	p.step(Step{Phase: ph, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: kind, Policy: pol}, Guard: isGuard})
}

// block takes away every allow policy that would let out clear text: bypasses
// of pairs that want encryption now, policies of pairs that must be blocked,
// and policies whose SA is missing.
func (p *planner) block() {
	for i := range p.ob.Policies {
		pol := &p.ob.Policies[i]
		if pol.Action != xfrm.Allow {
			continue
		}
		pair, is := pairOf(pol)
		if !is {
			continue
		}
		pi := p.wanted[pair]
		if p.in.Unguarded[pol.Offload.Ifindex] {
			if p.mustGo(pol, pi) {
				p.shut(Block, pair, pol)
			}
			continue
		}
		if !p.mustGo(pol, pi) || !p.covered(pol) || p.holdsTable(pol.Offload.Ifindex, pol.Dir) || !p.usable(pol.Offload.Ifindex) && !p.leaky(pol) {
			continue
		}
		p.remove(Block, pair, pol)
	}
}

func (p *planner) mustGo(pol *xfrm.Policy, pi *PairIntent) bool {
	if pi == nil {
		return pol.Tmpl != nil && pol.Dir == xfrm.Out && !p.now.sends(pol)
	}
	switch pi.Want {
	case Clear:
		return false // anchor has updated it
	case Blocked:
		return true
	default:
		return pol.Tmpl == nil || pol.Dir == xfrm.Out && !p.now.sends(pol)
	}
}

// leaky tells whether an allow policy only lets out clear text, so that it may
// go even where nothing can be put under it.
func (p *planner) leaky(pol *xfrm.Policy) bool {
	return pol.Dir == xfrm.Out && (pol.Tmpl == nil || !p.now.sends(pol))
}

// covered tells whether a guard lies under an outbound policy, in the NIC that
// the pair belongs to, or that the policy of a pair nobody wants is in. Where none
// does nothing is won by taking the policy away, and the host's stack, which
// drops packets for want of an SA, would send them.
func (p *planner) covered(pol *xfrm.Policy) bool {
	pair, is := pairOf(pol)
	if !is || pol.Dir != xfrm.Out {
		return true
	}
	pf := pol.Offload.Ifindex
	if pi := p.wanted[pair]; pi != nil {
		pf = pi.PF
	}
	g, is := p.now.policies[place{xfrm.Out, pair.VTEP().selector(xfrm.Out)}]
	return is && g.Action == xfrm.Block && (pf == 0 || g.Offload.Ifindex == pf)
}

// holdsTable tells whether one object is all that keeps a table while flows may
// be offloaded: without the table they would go out in clear text.
func (p *planner) holdsTable(pf int, d xfrm.Dir) bool {
	r := p.now.refs[pf]
	return p.open && pf != 0 && (d == xfrm.Out && r.TX == 1 || d != xfrm.Out && r.RX == 1)
}

// accept installs inbound SAs, and behind them the inbound policies where the
// NIC looks at policies after decryption. Where it looks before, an inbound
// allow policy would only let clear text from the peer's address past the guard.
func (p *planner) accept() {
	for i := range p.in.Pairs {
		pi := &p.in.Pairs[i]
		if pi.Want != Encrypt || p.ob.Held[pi.Pair] || p.plan.Deferred[pi.Pair] != nil || !p.usable(pi.PF) {
			continue
		}
		s := sender{pi: pi, in: p.sa(pi, xfrm.In), out: p.sa(pi, xfrm.Out)}
		if s.in == nil || s.out == nil {
			p.plan.Problems = append(p.plan.Problems, Problem{"REQID_TAKEN", fmt.Sprintf(
				"%s stays blocked: every reqid that could be its own is in use; new keys have others", pi.Pair)})
			continue
		}
		p.sends = append(p.sends, s)
		if _, is := p.now.sas[s.in.ID()]; !is {
			p.addSA(Accept, pi, s.in)
		}
	}
	for _, s := range p.sends {
		if p.in.AfterDecrypt[s.pi.PF] {
			p.ensure(Accept, s.pi.Pair, allow(s.pi, s.in, xfrm.In), false)
		}
	}
}

// send reserves outbound keys, installs outbound SAs and then lets traffic use them.
func (p *planner) send() {
	var fresh []sender
	for _, s := range p.sends {
		if _, is := p.now.sas[s.out.ID()]; !is {
			fresh = append(fresh, s)
		}
	}
	for _, s := range p.sends {
		// A standing SA whose key the ledger does not know comes from a host
		// that lost its ledger: from now on it is known.
		if !p.ob.Spent(s.pi.Keys.OutPrint) {
			p.step(Step{Phase: Send, Verb: Reserve, Pair: s.pi.Pair, Keys: s.pi.Keys})
		}
	}
	for _, s := range fresh {
		p.addSA(Send, s.pi, s.out)
	}
	for _, s := range p.sends {
		p.ensure(Send, s.pi.Pair, allow(s.pi, s.out, xfrm.Out), false)
	}
}

func (p *planner) addSA(ph Phase, pi *PairIntent, s *xfrm.SA) {
	p.step(Step{Phase: ph, Verb: Change, Pair: pi.Pair, Op: xfrm.Op{Kind: xfrm.AddSA, SA: s}, Keys: pi.Keys})
}

// release opens the gate when it was left to us, tables stand on every PF in
// use and there is something encrypted to offload.
func (p *planner) release() {
	if p.in.OpenGate && len(p.plan.Stuck) == 0 && len(p.sends) > 0 && !p.exposed() && !p.unready() {
		p.step(Step{Phase: Release, Verb: OpenGate})
	}
}

// exposed tells whether flows could get into a NIC that cannot guard them, and
// says whose.
func (p *planner) exposed() bool {
	for _, g := range p.in.Guards {
		if g.Exposed {
			p.plan.Problems = append(p.plan.Problems, Problem{"GATE_HELD", fmt.Sprintf(
				"OVS is kept from offloading: flows of %s would get into a NIC that cannot guard it, and leave in clear text; mend what its ports say, or remove them", g.VTEP)})
			return true
		}
	}
	return false
}

// retire takes away what nobody wants: allow policy first, then SAs, once they
// were unwanted for long enough. Guards stay: they hold the tables.
func (p *planner) retire() {
	for i := range p.ob.Policies {
		pol := &p.ob.Policies[i]
		pair, is := pairOf(pol)
		if is && p.idle(pol, p.wanted[pair]) && p.covered(pol) && p.usable(pol.Offload.Ifindex) && !p.holdsTable(pol.Offload.Ifindex, pol.Dir) {
			p.remove(Retire, pair, pol)
		}
	}
	p.retirePairwise()
	wanted, before, after, changing := WantedSAs(p.in), users(p.ob.Policies), p.now.users(), p.changing()
	for i := range p.ob.SAs {
		s := &p.ob.SAs[i]
		_, used := after[s.Reqid]
		if d, is := p.ob.UnwantedFor[s.ID()]; !is || d < p.ob.RetireAfter || wanted[s.ID()] || used && s.Dir == xfrm.Out || changing[[2]netip.Addr{s.Src, s.Dst}] ||
			!p.usable(s.Offload.Ifindex) || p.holdsTable(s.Offload.Ifindex, s.Dir) {
			continue
		}
		// The SA shares the fate of the pair whose policy is turned away from it:
		// if that fails, the SA has to stay.
		pair, is := before[s.Reqid]
		if !is {
			pair = Pair{Local: s.Src, Remote: s.Dst}
		}
		p.step(Step{Phase: Retire, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: xfrm.DeleteSA, SA: s}})
	}
}

// changing returns the addresses of pairs that have not all of their SAs yet: the
// ones before may still be in use, at the other end too.
func (p *planner) changing() map[[2]netip.Addr]bool {
	m := map[[2]netip.Addr]bool{}
	for i := range p.in.Pairs {
		if pi := &p.in.Pairs[i]; pi.Want == Encrypt && !p.complete(pi) {
			m[[2]netip.Addr{pi.Local, pi.Remote}], m[[2]netip.Addr{pi.Remote, pi.Local}] = true, true
		}
	}
	return m
}

// idle tells whether an allow policy serves nobody and was not blocked already.
func (p *planner) idle(pol *xfrm.Policy, pi *PairIntent) bool {
	if pol.Action != xfrm.Allow || p.mustGo(pol, pi) {
		return false
	}
	if pi == nil {
		return true
	}
	return pi.Want == Encrypt && pol.Dir == xfrm.In && !p.in.AfterDecrypt[pi.PF] && p.usable(pi.PF)
}

// WantedSAs returns the identities of the SAs that the intent names.
func WantedSAs(in Intent) map[xfrm.SAID]bool {
	w := make(map[xfrm.SAID]bool, 2*len(in.Pairs))
	for i := range in.Pairs {
		if pi := &in.Pairs[i]; pi.Keys.Name != "" && pi.Want == Encrypt {
			rx, tx := pi.ids()
			w[rx], w[tx] = true, true
		}
	}
	return w
}

// sa returns the pair's SA of direction d: the one that stands, or a new one
// with a reqid that nobody has. It returns nil when no reqid is free.
func (p *planner) sa(pi *PairIntent, d xfrm.Dir) *xfrm.SA {
	s := &xfrm.SA{Src: pi.Local, Dst: pi.Remote, SPI: pi.Keys.OutSPI, Mode: pi.Mode, Dir: d, ESN: true,
		Offload: xfrm.Offload{Ifindex: pi.PF, Packet: true}}
	if d == xfrm.In {
		s.Src, s.Dst, s.SPI, s.Window = pi.Remote, pi.Local, pi.Keys.InSPI, replayWindow
	}
	if now, is := p.now.sas[s.ID()]; is {
		return now
	}
	for n := range reqidTries {
		if r := reqidOf(s.ID(), s.Src, n); !p.reqids[r] {
			p.reqids[r], s.Reqid = true, r
			return s
		}
	}
	return nil
}

// replayWindow is the widest that mlx5 takes: hardware queues reorder.
const replayWindow = 256
