// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"

	"ovs-ipsec-offload/xfrm"
)

// sender is a pair that gets or has its two SAs.
type sender struct {
	pi      *PairIntent
	in, out *xfrm.SA
}

// accept installs inbound SAs, and behind them the inbound policies where the
// NIC looks at policies after decryption. Where it looks before, an inbound
// allow policy would only let clear text from the peer's address past the guard.
func (p *planner) accept() {
	for i := range p.in.Pairs {
		pi := &p.in.Pairs[i]
		if pi.Want != Encrypt || p.ob.PutOff[pi.Pair] || p.plan.Deferred[pi.Pair] != nil || !p.usable(pi.PF) {
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
		p.turn(s)
	}
}

func (p *planner) addSA(ph Phase, pi *PairIntent, s *xfrm.SA) {
	p.step(Step{Phase: ph, Verb: Change, Pair: pi.Pair, Op: xfrm.Op{Kind: xfrm.AddSA, SA: s}, Keys: pi.Keys})
}

// release opens the gate when it was left to us, tables stand on every PF in
// use and there is something encrypted to offload.
func (p *planner) release() {
	if p.in.OpenGate && len(p.plan.Stuck) == 0 && (len(p.sends) > 0 || p.plan.Encrypted > 0) && !p.exposed() && !p.unready() {
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
