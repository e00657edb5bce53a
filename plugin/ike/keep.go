// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"cmp"
	"slices"
	"time"
)

const (
	// atOneTime is how far apart the ages of two IKE SAs may be that both ends
	// have set up at the same time. Ages are in whole seconds, at each end.
	atOneTime = 10 * time.Second
	// settle is how long an end that may act leaves the other to finish.
	settle = 3 * time.Second
)

// liveOf returns the IKE SAs that may stay, the one to keep first.
func (p *peer) liveOf(sas []sa) []sa {
	var live []sa
	for _, s := range sas {
		if s.live() && !p.stale(s) {
			live = append(live, s)
		}
	}
	slices.SortStableFunc(live, p.better)
	return live
}

// apart tells whether both ends see alike which of two IKE SAs is the newer one.
// They do if one end began both: it would not have begun the second if it still
// had the first.
func apart(a, b sa) bool {
	age := a.Established - b.Established
	return a.Initiator == b.Initiator || age > atOneTime || age < -atOneTime
}

// better orders IKE SAs: the newer first, and of two that both ends began at the
// same time the one of the end that leads, of which a stock peer knows nothing.
func (p *peer) better(a, b sa) int {
	switch {
	case !apart(a, b) && !p.conn.Stock:
		return order(a.Initiator == p.conn.Lead)
	case a.Established != b.Established:
		return order(a.Established < b.Established)
	}
	return order(a.ID > b.ID)
}

func order(first bool) int {
	if first {
		return -1
	}
	return 1
}

// keep has live, which is not empty, become one complete IKE SA.
func (p *peer) keep(l look, live []sa, do *plan) {
	stay, spare := live[0], p.spare(live)
	if len(spare) > 0 {
		p.trim(l, stay, spare, do)
	} else {
		p.twins = time.Time{}
		p.fill(l, together(live), do)
	}
	if stay.complete(p.conn) {
		for _, s := range l.sas {
			if p.stale(s) && s.live() {
				do.add(doTerminate, "", s.ID, "another one has taken over")
			}
		}
	}
	p.single(l, stay, do)
	p.endNarrow(l, stay, do)
}

// spare returns the IKE SAs of a pair that are too many. ovs-monitor-ipsec has a
// connection for each direction, and libreswan begins one anew as soon as the child ends
// that it made last for it. So with such a peer an IKE SA stays that has the youngest
// child of a direction.
func (p *peer) spare(live []sa) []sa {
	if !p.conn.Stock {
		return live[1:]
	}
	all, youngest := together(live), map[uint32]bool{}
	for _, c := range all.Children {
		if cs := all.has(c.Name); len(cs) > 0 {
			youngest[cs[len(cs)-1].ID] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(live[1:]), func(s sa) bool {
		return slices.ContainsFunc(s.Children, func(c childSA) bool { return youngest[c.ID] })
	})
}

// together returns the first of IKE SAs with the children of all.
func together(live []sa) sa {
	s := live[0]
	s.Children = nil
	for _, other := range live {
		s.Children = append(s.Children, other.Children...)
	}
	slices.SortStableFunc(s.Children, func(a, b childSA) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// trim ends the IKE SAs of a pair that are too many. Of two that both ends began
// at the same time the end that leads ends one, for any others both ends may, and
// for all if nobody has done it for long.
func (p *peer) trim(l look, stay sa, others []sa, do *plan) {
	if p.twins.IsZero() {
		p.twins = l.now
	}
	waited := l.now.Sub(p.twins) >= l.o.TakeOver
	for _, s := range others {
		sure := apart(s, stay)
		settled := stay.complete(p.conn) || !sure || l.now.Sub(p.twins) >= settle
		if waited || settled && (p.conn.Lead || sure) {
			do.add(doTerminate, "", s.ID, "there is another one")
		}
	}
	do.at(l.now.Add(young))
}

// fill has the children set up that the IKE SA lacks: the outbound one by this
// end; the inbound one by the peer, unless the peer cannot know that it is
// missing, or does not do it.
func (p *peer) fill(l look, stay sa, do *plan) {
	for _, child := range p.conn.Children() {
		if len(stay.has(child)) > 0 {
			delete(p.missing, child)
			continue
		}
		if p.missing[child].IsZero() {
			p.missing[child] = l.now
		}
		start := p.missing[child].Add(p.patience(l, stay, child))
		if start.Before(p.next) && p.failures > 0 {
			start = p.next
		}
		switch {
		case !p.tried[child].IsZero():
		case start.After(l.now):
			do.at(start)
		default:
			p.initiate(l, child, "the IKE SA lacks it", do)
		}
	}
}

// patience returns how long a child may be missing before this end sets it up.
func (p *peer) patience(l look, stay sa, child string) time.Duration {
	again := p.wasUp || slices.ContainsFunc(l.sas, p.stale) // the peer may have its child in an older IKE SA
	switch {
	case child == Both && stay.Initiator:
		return 0
	case child == Out && (stay.Initiator || !again):
		return 0
	case child == Out:
		return settle - young // the peer sets up both
	case stay.Initiator && again:
		return 0
	}
	return l.o.TakeOver
}

// single ends children that are there twice and stay so: the older ones, because
// charon's policy has the youngest. Each end does so for what it sends.
func (p *peer) single(l look, stay sa, do *plan) {
	for _, child := range p.conn.Children() {
		all := stay.has(child)
		rekeying := slices.ContainsFunc(all, func(c childSA) bool { return c.State == "REKEYING" })
		if len(all) < 2 || rekeying {
			delete(p.doubled, child)
			continue
		}
		if p.doubled[child].IsZero() {
			p.doubled[child] = l.now
		}
		start := p.doubled[child].Add(settle)
		if child == In || child == Both && !p.conn.Lead {
			start = start.Add(l.o.TakeOver)
		}
		if start.After(l.now) {
			do.at(start)
			continue
		}
		for _, c := range all[:len(all)-1] {
			do.add(doTerminateChild, child, c.ID, "there is a younger one")
		}
	}
}

// endNarrow ends an only child that the peer, which has one for each direction, made
// narrower.
func (p *peer) endNarrow(l look, stay sa, do *plan) {
	for _, c := range stay.Children {
		if c.Name == Both && c.Narrow && c.stays() {
			p.reason, p.given = problem(CodeTS, "the peer has a child SA for each direction: give ipsec_children the same value at both ends"), l.now
			do.add(doTerminateChild, Both, c.ID, "it is for one direction")
		}
	}
}
