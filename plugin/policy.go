// SPDX-License-Identifier: Apache-2.0

package plugin

import "ovs-ipsec-offload/xfrm"

// guard returns the block policy of a VTEP in direction d.
func guard(g GuardIntent, d xfrm.Dir) *xfrm.Policy {
	return &xfrm.Policy{Dir: d, Sel: g.selector(d), Priority: PriorityGuard, Action: xfrm.Block, Offload: onPF(g.PF)}
}

// bypass returns the policy that lets a plain pair's clear text pass the guard.
func bypass(pi *PairIntent, d xfrm.Dir) *xfrm.Policy {
	return &xfrm.Policy{Dir: d, Sel: pi.selector(d), Priority: PriorityClear, Action: xfrm.Allow, Offload: onPF(pi.PF)}
}

// allow returns the policy that sends a pair's traffic to SA s.
func allow(pi *PairIntent, s *xfrm.SA, d xfrm.Dir) *xfrm.Policy {
	p := &xfrm.Policy{Dir: d, Sel: pi.selector(d), Priority: PriorityAllow, Action: xfrm.Allow, Offload: onPF(pi.PF),
		Tmpl: &xfrm.Template{Src: s.Src, Dst: s.Dst, Reqid: s.Reqid, Mode: s.Mode}}
	if pi.NoPriority {
		p.Priority = 0
	}
	return p
}

func onPF(ifindex int) xfrm.Offload {
	if ifindex == 0 {
		return xfrm.Offload{}
	}
	return xfrm.Offload{Ifindex: ifindex, Packet: true}
}

// inStack returns a copy of p for the host's stack alone.
func inStack(p *xfrm.Policy) *xfrm.Policy {
	host := *p
	host.Offload = xfrm.Offload{}
	return &host
}

// samePolicy compares all but the kernel's index.
func samePolicy(a, b *xfrm.Policy) bool {
	if a.Dir != b.Dir || a.Sel != b.Sel || a.Priority != b.Priority || a.Action != b.Action || a.Offload != b.Offload {
		return false
	}
	if a.Tmpl == nil || b.Tmpl == nil {
		return a.Tmpl == b.Tmpl
	}
	return *a.Tmpl == *b.Tmpl
}

// pairOf returns the pair that a policy of ours is for, and false for a guard and for
// what sends probes.
func pairOf(p *xfrm.Policy) (Pair, bool) {
	l, r := p.Sel.Src, p.Sel.Dst
	if p.Dir == xfrm.In {
		l, r = r, l
	}
	if l.Bits() == 0 || r.Bits() == 0 || p.Sel.SrcPort != 0 {
		return Pair{}, false
	}
	return Pair{Local: l.Addr(), Remote: r.Addr(), Port: p.Sel.DstPort}, true
}

// vtepOf returns the VTEP that a guard of ours stands for.
func vtepOf(p *xfrm.Policy) (VTEP, bool) {
	if _, is := pairOf(p); is || p.Action != xfrm.Block {
		return VTEP{}, false
	}
	l := p.Sel.Src
	if p.Dir == xfrm.In {
		l = p.Sel.Dst
	}
	return VTEP{Local: l.Addr(), Port: p.Sel.DstPort}, true
}
