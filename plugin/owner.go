// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"

	"ovs-ipsec-offload/xfrm"
)

// Strangers are the offloaded states and policies of others. Where one is for a
// pair of ours, two would work on the same traffic: the NIC takes the first
// policy that matches, and the kernel of two with one selector only one.
type Strangers struct {
	sas      map[ends]xfrm.SA // one for each source and destination
	policies []xfrm.Policy
}

// addSA notes a state of somebody else's.
func (s *Strangers) addSA(sa *xfrm.SA) {
	if sa.Offload.Ifindex == 0 {
		return
	}
	if s.sas == nil {
		s.sas = map[ends]xfrm.SA{}
	}
	s.sas[ends{sa.Src, sa.Dst}] = *sa
}

// addPolicy notes a policy of somebody else's, if it can match overlay traffic:
// IKE daemons let their own pass by policies for UDP source ports 500 and 4500.
func (s *Strangers) addPolicy(p *xfrm.Policy) {
	if p.Offload.Ifindex != 0 && (p.Sel.Proto == 0 || p.Sel.Proto == udp) && p.Sel.SrcPort == 0 {
		s.policies = append(s.policies, *p)
	}
}

// Of returns why a pair cannot be set up beside what others have for it, or nil.
func (s Strangers) Of(p Pair) *Problem {
	const remedy = "the pair is not set up beside it: stop what made it (ovs-monitor-ipsec, strongSwan, libreswan), then `ip xfrm %s`"
	for _, e := range [2]ends{{p.Local, p.Remote}, {p.Remote, p.Local}} {
		if sa, is := s.sas[e]; is {
			return &Problem{"OWNER_FOREIGN_SA", fmt.Sprintf("an offloaded SA from %s to %s (spi 0x%08x, reqid %d) is somebody else's; "+remedy, sa.Src, sa.Dst, sa.SPI, sa.Reqid,
				fmt.Sprintf("state delete src %s dst %s proto esp spi 0x%08x", sa.Src, sa.Dst, sa.SPI))}
		}
	}
	for i := range s.policies {
		if q := &s.policies[i]; onPath(q, p) {
			op := xfrm.Op{Kind: xfrm.DeletePolicy, Policy: q}
			return &Problem{"OWNER_FOREIGN_POLICY", fmt.Sprintf("an offloaded policy for %s > %s (%s, priority %d, %s) is somebody else's; "+remedy, q.Sel.Src, q.Sel.Dst, q.Dir, q.Priority, q.Action,
				op.String()[len("ip xfrm "):])}
		}
	}
	return nil
}

// opens tells whether a policy of somebody else's lets a pair's clear text out
// before our guard could stop it.
func (s Strangers) opens(p Pair) bool {
	for i := range s.policies {
		if q := &s.policies[i]; q.Dir == xfrm.Out && q.Action == xfrm.Allow && q.Tmpl == nil && q.Priority < PriorityGuard && onPath(q, p) {
			return true
		}
	}
	return false
}

// onPath tells whether a policy matches overlay traffic of a pair.
func onPath(q *xfrm.Policy, p Pair) bool {
	src, dst := p.Local, p.Remote
	if q.Dir == xfrm.In {
		src, dst = dst, src
	}
	return q.Sel.Src.Contains(src) && q.Sel.Dst.Contains(dst) && (q.Sel.DstPort == 0 || q.Sel.DstPort == p.Port)
}
