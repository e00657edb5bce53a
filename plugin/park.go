// SPDX-License-Identifier: Apache-2.0

package plugin

import "ovs-ipsec-offload/xfrm"

// park turns an intent into that of a parked host: what asks for IPsec is
// blocked, and everything stands in the host's stack only, so that the NIC may
// be reset, updated or switched to another mode.
func park(in *Intent) {
	in.Parked, in.Unguarded = true, nil
	for i := range in.Guards {
		in.Guards[i].PF, in.Guards[i].Exposed = 0, false
	}
	for i := range in.Pairs {
		pi := &in.Pairs[i]
		pi.PF, pi.NoPriority = 0, false
		if pi.Want.encrypts() || pi.Problem != nil && pi.Problem.Code == "KEY_USED" {
			pi.Want = Blocked
			pi.Problem = &Problem{"PARKED", "the host is parked: what asks for IPsec is blocked until `ovs-ipsec-offload unpark`; one-shot key sets have to be replaced by new ones then"}
		}
	}
}

// unload takes everything of ours out of the NICs of a parked host: SAs first,
// guards last, each of which goes on standing in the host's stack.
func (p *planner) unload() {
	before := senders(p.ob.Policies)
	for i := range p.ob.SAs {
		if s := &p.ob.SAs[i]; s.Offload.Ifindex != 0 {
			p.dropSA(before, s)
		}
	}
	for _, guards := range []bool{false, true} {
		for i := range p.ob.Policies {
			pol := &p.ob.Policies[i]
			if _, isPair := pairOf(pol); isPair != guards && pol.Offload.Ifindex != 0 && p.now.policies[placeOf(pol)] == pol {
				p.unloadPolicy(pol)
			}
		}
	}
}

// unloadPolicy moves a guard or a bypass to the host's stack; anything else goes.
func (p *planner) unloadPolicy(pol *xfrm.Policy) {
	pair, isPair := pairOf(pol)
	if pi := p.wanted[pair]; isPair && (pi == nil || pi.Want != Clear) {
		p.change(Retire, pair, xfrm.DeletePolicy, pol)
		return
	}
	p.step(Step{Phase: Retire, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: xfrm.UpdatePolicy, Policy: inStack(pol)}, Guard: !isPair})
}
