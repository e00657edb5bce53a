// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// A card without policy priorities (mlx5 without MLX5_IPSEC_CAP_PRIO) takes
// policies of priority 0 only, and which of two that match wins is not
// specified. So no guard can lie under a pair's policy. What can stand is one
// policy for each pair and direction, since those of different pairs never match
// the same packet: a block, whose place the allow policy takes and gives back.
// It stops what is known; what goes to a peer that no port names yet is not
// stopped. A pair of addresses that is never routed holds the tables.

// anchorEnds are the addresses of anchors. Packets of loopback addresses are on
// no wire (RFC 1122, section 3.2.1.3), so no tunnel can have them.
func anchorEnds() (local, remote netip.Addr) {
	return netip.AddrFrom4([4]byte{127, 111, 118, 1}), netip.AddrFrom4([4]byte{127, 111, 118, 2})
}

// anchorPair returns the pair whose blocks hold the tables of a PF. The kernel
// takes a selector once, whatever the device: the port makes it the PF's own.
func anchorPair(pf int) Pair {
	l, r := anchorEnds()
	return Pair{Local: l, Remote: r, Port: uint16(pf)}
}

func isAnchor(p Pair) bool {
	l, r := anchorEnds()
	return p.Local == l && p.Remote == r
}

// pairBlock returns the policy of a pair that is not let through on a card
// without priorities. Its priority, 0, says not whose it is, so it has a
// template: the card looks at none of a block (tx_add_policy in
// en_accel/ipsec_fs.c), and its reqid follows from the selector.
func pairBlock(p Pair, pf int, d xfrm.Dir) *xfrm.Policy {
	sel := p.selector(d)
	return &xfrm.Policy{Dir: d, Sel: sel, Action: xfrm.Block, Offload: onPF(pf),
		Tmpl: &xfrm.Template{Src: sel.Src.Addr(), Dst: sel.Dst.Addr(), Reqid: blockMark(sel)}}
}

func blockMark(s xfrm.Selector) uint32 {
	return reqidOf(xfrm.SAID{Dst: s.Dst.Addr(), SPI: uint32(s.DstPort)}, s.Src.Addr(), 0)
}

// oursNoPriority tells whether a policy of priority 0 is ours: it is in a NIC, for a
// pair, and its reqid is that of its selector, or lies in our range and it sends
// between the addresses of the selector.
func oursNoPriority(p *xfrm.Policy) bool {
	if p.Priority != 0 || p.Exotic || p.Tmpl == nil || p.Offload.Ifindex == 0 || p.Sel.Proto != udp || p.Sel.DstPort == 0 || p.Sel.SrcPort != 0 {
		return false
	}
	if p.Dir == xfrm.Fwd || !p.Sel.Src.IsSingleIP() || !p.Sel.Dst.IsSingleIP() || p.Tmpl.Src != p.Sel.Src.Addr() || p.Tmpl.Dst != p.Sel.Dst.Addr() {
		return false
	}
	if p.Action == xfrm.Block {
		return p.Tmpl.Reqid == blockMark(p.Sel)
	}
	return p.Tmpl.Reqid&^reqidMask == reqidFirst
}

// noPriorities notes the PFs that have no priorities, and what follows for the host.
func (b *builder) noPriorities() {
	b.out.Unguarded = map[int]bool{}
	for i := range b.Facts.PFs {
		pf := &b.Facts.PFs[i]
		if !b.NoPriority[pf.Ifindex] || len(pf.Refusals()) > 0 {
			continue
		}
		b.out.Unguarded[pf.Ifindex] = true
		if b.Settings.Unguarded {
			b.out.Problems = append(b.out.Problems, *problem("NIC_UNGUARDED", "%s has no policy priorities, so no guard stands in it (unguarded=allow): "+
				"each pair that asks for IPsec is encrypted or blocked by a policy of its own, but clear text to a peer that no port names, or not yet, "+
				"is not stopped in the NIC: update its firmware", pf.Name))
		}
	}
}

// exit returns the PF that a VTEP's traffic leaves by, 0 when none can be told.
func (b *builder) exit(v VTEP) int {
	if pf := b.guards[v]; pf != 0 {
		return pf
	}
	for pf := range b.out.Unguarded {
		if b.Facts.Addrs[v.Local].Ifindex == pf && len(b.Facts.Shared[v.Local]) < 2 {
			return pf
		}
	}
	return 0
}

// refuseNoPriority returns why a pair cannot be encrypted on a card without
// priorities, or nil when the operator says that it may.
func (b *builder) refuseNoPriority(pf int, name string, t *ovsdb.Tunnel) *Problem {
	switch {
	case !b.out.Unguarded[pf]:
		return nil
	case t.Auth.Method != "":
		return problem("NIC_NO_PRIORITY", "%s has no policy priorities, and IKE daemons make no policy without one: update its firmware, or use ipsec_keys", name)
	case b.Settings.Unguarded:
		return nil
	}
	return problem("NIC_NO_PRIORITY", "%s has no policy priorities, so no guard can stand in it and clear text can slip out when a tunnel is added: "+
		"update its firmware, or set unguarded: allow to encrypt all the same", name)
}

// accepted tells whether the operator accepts that a VTEP is not guarded in the
// NIC that has its address.
func (b *builder) accepted(v VTEP, pf int) bool {
	return b.Settings.Unguarded && b.out.Unguarded[pf] && b.Facts.Addrs[v.Local].Ifindex == pf && !b.loose[v]
}

// pairwise stands up what takes the place of guards in NICs without priorities:
// what holds the tables, and a block of each pair whose traffic nothing serves.
func (p *planner) pairwise() {
	for _, pf := range slices.Sorted(maps.Keys(p.in.Unguarded)) {
		for _, d := range []xfrm.Dir{xfrm.Out, xfrm.In} {
			if p.usable(pf) {
				p.ensure(Anchor, Pair{}, pairBlock(anchorPair(pf), pf, d), true)
			}
		}
	}
	for i := range p.in.Pairs {
		pi := &p.in.Pairs[i]
		if pi.Want == Clear || !p.in.Unguarded[pi.PF] || !p.usable(pi.PF) {
			continue
		}
		for _, d := range []xfrm.Dir{xfrm.Out, xfrm.In} {
			if !p.serves(pi, d) {
				p.ensure(Anchor, pi.Pair, pairBlock(pi.Pair, pi.PF, d), false)
			}
		}
	}
}

// tablesHeld tells whether what holds the tables of a PF without priorities stands.
func (v *view) tablesHeld(pf int) bool {
	for _, d := range []xfrm.Dir{xfrm.Out, xfrm.In} {
		p, is := v.policies[place{d, anchorPair(pf).selector(d)}]
		if !is || p.Offload.Ifindex != pf {
			return false
		}
	}
	return true
}

// serves tells whether the policy that stands does for a pair what it asks for.
// Inbound, an allow policy is in place only where the NIC looks after decryption.
func (p *planner) serves(pi *PairIntent, d xfrm.Dir) bool {
	own, is := p.now.policies[place{d, pi.selector(d)}]
	if !is || pi.Want != Encrypt && pi.Want != Standing || own.Action != xfrm.Allow || own.Tmpl == nil || own.Offload.Ifindex != pi.PF {
		return false
	}
	if d == xfrm.In {
		return p.in.AfterDecrypt[pi.PF]
	}
	return p.now.sends(own)
}

// shut puts a block in the place of a policy, if no step before has.
func (p *planner) shut(ph Phase, pair Pair, pol *xfrm.Policy) {
	now, is := p.now.policies[placeOf(pol)]
	if is && now.Action != xfrm.Block && p.usable(pol.Offload.Ifindex) {
		p.ensure(ph, pair, pairBlock(pair, pol.Offload.Ifindex, pol.Dir), false)
	}
}

// retirePairwise takes back the policies of pairs that nobody wants: first they
// block, and when the flows had time to go so does the block.
func (p *planner) retirePairwise() {
	for i := range p.ob.Policies {
		pol := &p.ob.Policies[i]
		pair, is := pairOf(pol)
		if !is || isAnchor(pair) || !p.in.Unguarded[pol.Offload.Ifindex] || p.wanted[pair] != nil {
			continue
		}
		if pol.Action == xfrm.Allow {
			p.shut(Retire, pair, pol)
			continue
		}
		d, idle := p.ob.IdleFor[placeOf(pol)]
		if idle && d >= p.ob.RetireAfter && p.usable(pol.Offload.Ifindex) && !p.holdsTable(pol.Offload.Ifindex, pol.Dir) {
			p.remove(Retire, pair, pol)
		}
	}
}

// idleBlocks notes how long the blocks of pairs stand that nobody wants.
func (d *Daemon) idleBlocks(s *scene) {
	now, seen := d.cfg.Now(), map[place]time.Time{}
	wanted := make(map[Pair]bool, len(s.intent.Pairs))
	for i := range s.intent.Pairs {
		wanted[s.intent.Pairs[i].Pair] = true
	}
	s.observed.IdleFor = map[place]time.Duration{}
	for i := range s.observed.Policies {
		p := &s.observed.Policies[i]
		pair, is := pairOf(p)
		if !is || p.Action != xfrm.Block || wanted[pair] || isAnchor(pair) {
			continue
		}
		since, known := d.idle[placeOf(p)]
		if !known {
			since = now
		}
		seen[placeOf(p)], s.observed.IdleFor[placeOf(p)] = since, now.Sub(since)
	}
	if !s.peeked {
		d.idle = seen
	}
}

// adrift returns a NIC without priorities whose tables nothing holds, or 0.
func (m *model) adrift() int {
	for pf := range m.in.Unguarded {
		if !m.stuck[pf] && !m.tablesHeld(pf) {
			return pf
		}
	}
	return 0
}

// freed tells whether a block is taken from a pair that nobody wants any more,
// where no guard can lie under it.
func (m *model) freed(pair Pair, p *xfrm.Policy) bool {
	return p.Action == xfrm.Block && m.in.Unguarded[p.Offload.Ifindex] && m.pairs[pair] == nil && m.ob.IdleFor[placeOf(p)] >= m.ob.RetireAfter
}

// learnNoPriority notes the NICs that refused a policy for its priority and forgives
// that: the next plan does without. It tells whether there were any.
func (d *Daemon) learnNoPriority(s *scene, out *Outcome) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := map[int]bool{}
	for pair, op := range out.Refused {
		err := out.Failed[pair]
		if pair == (Pair{}) {
			err = out.Host
		}
		i := slices.IndexFunc(s.facts.PFs, func(p devlink.PF) bool { return p.Ifindex == deviceOf(op) })
		if i < 0 || xfrm.CodeOf(err) != xfrm.CodeNoPriority {
			continue
		}
		c := d.cardOf(&s.facts.PFs[i])
		if c.noPriority && !fresh[deviceOf(op)] {
			continue
		}
		c.noPriority, fresh[deviceOf(op)] = true, true
		if pair == (Pair{}) {
			out.Host = nil
		}
		delete(out.Failed, pair)
	}
	return len(fresh) > 0
}

// withoutPriorities returns the PFs that have shown to have no priorities.
func (d *Daemon) withoutPriorities(s *scene) map[int]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	poor := map[int]bool{}
	for i := range s.facts.PFs {
		if d.cardOf(&s.facts.PFs[i]).noPriority {
			poor[s.facts.PFs[i].Ifindex] = true
		}
	}
	return poor
}
