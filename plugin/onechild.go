// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// A pair may have one child SA for both directions (ipsec_children=one): half as many
// SAs in the NIC. Overlay packets have a random source port and the overlay's
// destination port, whichever way they go, so such a child is for all UDP between the
// two hosts, and so are the policies that the IKE daemon makes for it.

// narrowed returns a policy that an IKE daemon made for all UDP between two hosts as
// if it were for the overlay's port alone, and true; the policy as it is and false when it
// is another one. Of what such a policy does only that is this program's business.
func narrowed(p xfrm.Policy, ports map[uint16]bool) (xfrm.Policy, bool) {
	if p.Sel.Proto != udp || p.Sel.SrcPort != 0 || p.Sel.DstPort != 0 || p.Tmpl == nil {
		return p, false
	}
	q := p
	for port := range ports {
		q.Sel.DstPort = port
		if negotiatedPolicy(&q) {
			return q, true
		}
	}
	return p, false
}

// narrow replaces the policies that narrowed knows, and returns what they really match.
// Where another policy has the very place, as after the options of a pair changed, they
// stay as they are: aside tells which, and of which pair they are.
func narrow(policies []xfrm.Policy, ports map[uint16]bool) (wide map[place]xfrm.Selector, aside map[int]Pair) {
	wide, aside = map[place]xfrm.Selector{}, map[int]Pair{}
	type policy struct {
		i int
		q xfrm.Policy
	}
	var found []policy
	for i := range policies {
		if q, is := narrowed(policies[i], ports); is {
			found = append(found, policy{i, q})
		}
	}
	if len(found) == 0 {
		return wide, aside
	}
	taken := make(map[place]bool, len(policies))
	for i := range policies {
		taken[placeOf(&policies[i])] = true
	}
	for _, f := range found {
		at := placeOf(&f.q)
		if taken[at] {
			aside[f.i], _ = pairOf(&f.q)
			continue
		}
		taken[at], wide[at], policies[f.i] = true, policies[f.i].Sel, f.q
	}
	return wide, aside
}

// Aside is a policy that an IKE daemon made for all UDP between the hosts of a pair, in
// front of another policy of that pair.
type Aside struct {
	Pair   Pair
	Policy xfrm.Policy
}

// putAside takes such policies away that nobody wants, or that have no SA: until then
// they decide, and without an SA they let clear text out. Under them is the pair's own
// policy, or its guard. While a NIC cannot be touched, what serves in it stays.
func (p *planner) putAside() {
	for i := range p.ob.Aside {
		a := &p.ob.Aside[i]
		serves := a.Policy.Dir != xfrm.Out || p.now.sends(&a.Policy)
		if serves && (p.wantsOneChild(a.Pair) || !p.usable(a.Policy.Offload.Ifindex)) {
			continue
		}
		p.step(Step{Phase: Block, Verb: Change, Pair: a.Pair, Aside: true, Op: xfrm.Op{Kind: xfrm.DeletePolicy, Policy: &a.Policy}})
	}
}

// wantsOneChild tells whether a pair is to have one child SA.
func (p *planner) wantsOneChild(pair Pair) bool {
	pi := p.wanted[pair]
	return pi != nil && pi.Want == Negotiate && pi.IKE.OneChild
}

// outgrown tells whether a policy is that of the one child SA of a pair that is to have
// other SAs. It would stay in front of theirs for ever if its IKE daemon is gone.
func (p *planner) outgrown(pol *xfrm.Policy, pi *PairIntent) bool {
	_, wide := p.ob.Wide[placeOf(pol)]
	return wide && (pi.Want == Encrypt || pi.Want == Negotiate && !pi.IKE.OneChild)
}

// crowded says why a pair has no place beside another one between the same two hosts:
// one of them is to have one child SA for both directions, which takes all UDP there.
// What stands goes before what was added.
func (b *builder) crowded(p Pair, t *ovsdb.Tunnel) *Problem {
	if t.IKE.OneChild && b.ids.small {
		return problem("IKE_ONE_CHILD", "ipsec_children=one: this host's IKE daemon is libreswan, with which a pair has a child SA for each direction: "+
			"leave the option out at both ends, or use strongSwan")
	}
	first, lead := p, t
	shared := t.IKE.OneChild
	for _, other := range b.between[ends{p.Local, p.Remote}] {
		l := b.lead(other, b.groups[other].secure)
		if other == p || l == nil {
			continue
		}
		shared = shared || l.IKE.OneChild
		if b.before(other, l, first, lead) {
			first, lead = other, l
		}
	}
	if !shared || first == p || !lead.IKE.OneChild && !t.IKE.OneChild {
		return nil
	}
	return problem("IKE_ONE_CHILD", "ipsec_children=one takes all UDP from %s to %s, and port %s there has another dst_port: "+
		"give both one dst_port, or leave ipsec_children out", p.Local, p.Remote, lead.Name)
}

// before tells which of two pairs between the same hosts keeps its place.
func (b *builder) before(p Pair, t *ovsdb.Tunnel, q Pair, u *ovsdb.Tunnel) bool {
	_, stands := b.Carried[p]
	_, other := b.Carried[q]
	switch {
	case stands != other:
		return stands
	case t.IKE.OneChild != u.IKE.OneChild:
		return t.IKE.OneChild
	}
	return p.Compare(q) < 0
}
