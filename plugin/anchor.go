// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"maps"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

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
		if pi := &p.in.Pairs[i]; pi.Want == Clear && p.usable(pi.PF) && !p.ob.PutOff[pi.Pair] {
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
