// SPDX-License-Identifier: Apache-2.0

package plugin

import "ovs-ipsec-offload/xfrm"

// A pair whose ports name another key set goes on with the SAs that stand until
// there is evidence that its peer takes packets of the new set. Where a pair has
// come to is told by what stands and by the NIC's counters alone, so that a daemon
// that starts anew goes on from there:
//
//   - the new SAs are installed, inbound first, while the policy sends by the old one;
//   - probes go by the new outbound SA, and by nothing else of the pair;
//   - a packet on the new inbound SA proves that the peer has the new set, and since
//     it installs inbound SAs first, that it can receive: the policy turns;
//   - the old outbound SA goes, the old inbound one stays until nothing comes by it.
//
// The peer does the same. Whoever is told last, or is an older version that turns
// at once, proves it to the other by its probes or its traffic.

// Stage is how far a pair has come with a change of keys.
type Stage uint8

// The stages.
const (
	Settled Stage = iota // it sends by the keys that it is to have, or has no others to go on with
	Receive              // its new SAs do not stand yet
	Prove                // they do, and nothing shows that its peer has the new keys
	Turn                 // that is shown: its policy is turned to them
)

// stageOf tells how far a pair has come. Without policy priorities no probe can be
// sent, and the pair turns as soon as it can receive; so it does when the operator
// says so.
func (v *view) stageOf(pi *PairIntent, pushed map[Pair]string) Stage {
	if pi.Want != Encrypt || v.fateOf(pi.Pair, pi.PF) != encrypted {
		return Settled
	}
	own := v.policies[place{xfrm.Out, pi.selector(xfrm.Out)}]
	if !oursPolicy(own) {
		return Settled // an IKE daemon's, which takes it away now
	}
	now := own.Tmpl.Reqid
	rx, tx := pi.ids()
	in, out := v.sas[rx], v.sas[tx]
	switch {
	case out != nil && out.Reqid == now:
		return Settled
	case in == nil || out == nil:
		return Receive
	case heard(in) || pi.NoPriority || pushed[pi.Pair] == pi.Keys.Name:
		return Turn
	}
	return Prove
}

// keeps tells whether the SAs between the ends of a pair stay, wanted or not.
func (v *view) keeps(pi *PairIntent, pushed map[Pair]string) bool {
	switch pi.Want {
	case Blocked, Standing:
		return true
	case Encrypt:
		rx, _ := pi.ids()
		return v.sas[rx] == nil || v.stageOf(pi, pushed) != Settled
	}
	return false
}

// heard tells whether an inbound SA took a packet that its peer must have sent.
// What is counted as dropped may be counted as a packet too.
func heard(s *xfrm.SA) bool { return s.Stats.Packets > dropped(s) }

// dropped counts the packets of an SA that had a bad ICV or were a replay.
func dropped(s *xfrm.SA) uint64 {
	return uint64(s.Stats.Auth) + uint64(s.Stats.Replay) + uint64(s.Stats.ReplayWindow)
}

// ProbePort is the UDP source port of probes, by which the NIC tells them from
// traffic: discard (RFC 863). That of a tunnel's packets is a hash, from the range
// of ephemeral ports.
const ProbePort = 9

// probing returns the policy that sends probes of a pair, and nothing else, to SA s.
func probing(pi *PairIntent, s *xfrm.SA) *xfrm.Policy {
	p := allow(pi, s, xfrm.Out)
	p.Sel.SrcPort, p.Priority = ProbePort, PriorityProbe
	return p
}

// probedBy returns the pair that a policy of ours sends probes of, and false when it
// is another one.
func probedBy(p *xfrm.Policy) (Pair, bool) {
	is := p.Sel.SrcPort == ProbePort && p.Dir == xfrm.Out && p.Action == xfrm.Allow && p.Tmpl != nil
	return Pair{Local: p.Sel.Src.Addr(), Remote: p.Sel.Dst.Addr(), Port: p.Sel.DstPort}, is
}

// carried returns the pairs that are encrypted by their own policy, with its PF.
func (v *view) carried() map[Pair]int {
	m := map[Pair]int{}
	for _, p := range v.policies {
		if pair, is := pairOf(p); is && p.Dir == xfrm.Out && p.Action == xfrm.Allow && p.Tmpl != nil && p.Offload.Ifindex != 0 && oursPolicy(p) && v.sends(p) {
			m[pair] = p.Offload.Ifindex
		}
	}
	return m
}

// turn lets traffic use a pair's new outbound SA, or its probes as long as nothing
// shows that the peer can receive.
func (p *planner) turn(s sender) {
	if p.now.stageOf(s.pi, p.ob.Pushed) == Prove {
		p.ensure(Send, s.pi.Pair, probing(s.pi, s.out), false)
		return
	}
	p.ensure(Send, s.pi.Pair, allow(s.pi, s.out, xfrm.Out), false)
}

// blockProbes takes away policies whose probes would go out in clear text, for want
// of their SA, and those of pairs that must not send.
func (p *planner) blockProbes() {
	p.dropProbes(Block, func(pi *PairIntent, pol *xfrm.Policy) bool {
		return p.in.Parked || !p.now.sends(pol) || pi != nil && pi.Want != Encrypt && pi.Want != Standing
	})
}

// retireProbes takes away policies of probes that prove nothing any more.
func (p *planner) retireProbes() {
	p.dropProbes(Retire, func(pi *PairIntent, pol *xfrm.Policy) bool {
		if pi == nil || p.now.stageOf(pi, p.ob.Pushed) != Prove {
			return true
		}
		_, tx := pi.ids()
		return p.now.sas[tx].Reqid != pol.Tmpl.Reqid
	})
}

func (p *planner) dropProbes(ph Phase, old func(*PairIntent, *xfrm.Policy) bool) {
	for i := range p.ob.Policies {
		pol := &p.ob.Policies[i]
		pair, is := probedBy(pol)
		if is && p.usable(pol.Offload.Ifindex) && old(p.wanted[pair], pol) && !p.holdsTable(pol.Offload.Ifindex, xfrm.Out) {
			p.remove(ph, pair, pol)
		}
	}
}

// superseded tells whether the plan itself turned a pair's traffic, or its probes,
// away from an outbound SA: it goes at once. So a pair never goes back to a key
// whose counters tell of the past.
func (p *planner) superseded(s *xfrm.SA, before map[uint32]Pair) bool {
	pair, is := before[s.Reqid]
	pi := p.wanted[pair]
	if !is || s.Dir != xfrm.Out || pi == nil || pi.Want != Encrypt || p.in.Named[s.KeyPrint] {
		return false
	}
	return p.now.fateOf(pair, pi.PF) == encrypted && p.now.stageOf(pi, p.ob.Pushed) == Settled &&
		p.usable(s.Offload.Ifindex) && !p.holdsTable(s.Offload.Ifindex, s.Dir)
}

// senders returns the pair that sends by an SA, traffic or probes, by reqid.
func senders(ps []xfrm.Policy) map[uint32]Pair {
	m := users(ps)
	for i := range ps {
		if pair, is := probedBy(&ps[i]); is {
			m[ps[i].Tmpl.Reqid] = pair
		}
	}
	return m
}

// hasty tells whether a policy would turn a pair from keys that its peer has to some
// that nothing shows it to have (I3).
func (m *model) hasty(pi *PairIntent, p *xfrm.Policy) bool {
	if p.Dir != xfrm.Out || p.Action != xfrm.Allow || p.Tmpl == nil {
		return false
	}
	_, tx := pi.ids()
	out := m.sas[tx]
	return out != nil && out.Reqid == p.Tmpl.Reqid && m.stageOf(pi, m.ob.Pushed) == Prove
}

// putProbing applies a policy for probes: I2, its SA stands in its NIC; I3, it is the
// pair's own, and this host can receive what answers.
func (m *model) putProbing(pair Pair, p *xfrm.Policy, bad complain) *Violation {
	if v := m.first(p.Offload.Ifindex, p.Dir, bad); v != nil {
		return v
	}
	pi := m.pairs[pair]
	if !m.sends(p) || pi == nil {
		return bad("I2", "probes of %s would go out in clear text", pair)
	}
	rx, tx := pi.ids()
	if in, out := m.sas[rx], m.sas[tx]; in == nil || out == nil || out.Reqid != p.Tmpl.Reqid {
		return bad("I3", "probes of %s go by keys that are not its own", pair)
	}
	m.putPolicy(p)
	m.probers[lane{p.Offload.Ifindex, p.Tmpl.Reqid}] = placeOf(p)
	return nil
}

// probes tells whether a policy for probes sends to an SA.
func (m *model) probes(s *xfrm.SA) bool {
	at, was := m.probers[lane{s.Offload.Ifindex, s.Reqid}]
	p, is := m.policies[at]
	return was && is && s.Dir == xfrm.Out && p.Tmpl.Reqid == s.Reqid
}

// probers returns where the policies stand that send probes, by what they send to.
func probers(ps []xfrm.Policy) map[lane]place {
	m := map[lane]place{}
	for i := range ps {
		if _, is := probedBy(&ps[i]); is {
			m[lane{ps[i].Offload.Ifindex, ps[i].Tmpl.Reqid}] = placeOf(&ps[i])
		}
	}
	return m
}
