// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"ovs-ipsec-offload/xfrm"
)

// block takes away every allow policy that would let out clear text: bypasses
// of pairs that want encryption now, policies of pairs that must be blocked,
// and policies whose SA is missing.
func (p *planner) block() {
	p.blockProbes()
	p.putAside()
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
		return p.outgrown(pol, pi) || pol.Tmpl == nil || pol.Dir == xfrm.Out && !p.now.sends(pol)
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
	p.retireProbes()
	p.retirePairwise()
	p.retireSAs()
}

// retireSAs takes away SAs that no policy uses any more.
func (p *planner) retireSAs() {
	wanted, before, after, changing := wantedSAs(p.in), senders(p.ob.Policies), p.now.users(), p.changing()
	for i := range p.ob.SAs {
		s := &p.ob.SAs[i]
		if p.ob.negotiated(s) {
			if p.outlived(s) {
				p.dropSA(before, s)
			}
			continue
		}
		if _, used := after[s.Reqid]; used && s.Dir == xfrm.Out {
			continue
		}
		if wanted[s.ID()] || changing[ends{s.Src, s.Dst}] || !p.outlived(s) && !p.superseded(s, before) {
			continue
		}
		p.dropSA(before, s)
	}
}

// dropSA deletes an SA; before tells whose policy sent to it at the beginning. The
// SA shares the fate of that pair: if its policy cannot be turned away, the SA has
// to stay.
func (p *planner) dropSA(before map[uint32]Pair, s *xfrm.SA) {
	pair, is := before[s.Reqid]
	if !is {
		pair = Pair{Local: s.Src, Remote: s.Dst}
	}
	p.step(Step{Phase: Retire, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: xfrm.DeleteSA, SA: s}})
}

// outlived tells whether an SA was unwanted for long enough and may go.
func (p *planner) outlived(s *xfrm.SA) bool {
	d, unwanted := p.ob.UnwantedFor[s.ID()]
	return unwanted && d >= p.ob.RetireAfter && p.usable(s.Offload.Ifindex) && !p.holdsTable(s.Offload.Ifindex, s.Dir)
}

// changing returns the addresses of pairs that have not all of their SAs yet: the
// ones before may still be in use, at the other end too.
func (p *planner) changing() map[ends]bool {
	m := map[ends]bool{}
	for i := range p.in.Pairs {
		if pi := &p.in.Pairs[i]; pi.Want == Encrypt && !p.complete(pi) {
			m[ends{pi.Local, pi.Remote}], m[ends{pi.Remote, pi.Local}] = true, true
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

// wantedSAs returns the identities of the SAs that the intent names.
func wantedSAs(in Intent) map[xfrm.SAID]bool {
	w := make(map[xfrm.SAID]bool, 2*len(in.Pairs))
	for i := range in.Pairs {
		if pi := &in.Pairs[i]; pi.Keys.Name != "" && pi.Want == Encrypt {
			rx, tx := pi.ids()
			w[rx], w[tx] = true, true
		}
	}
	return w
}
