// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"slices"

	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// Glance notes the courses of pairs between two samples.
func (m *Meter) Glance(s Sample) { m.follow(s) }

// follow notes the courses of all pairs. A pair that comes counts as one of
// which nothing was asked before; one that goes is left to the guard.
func (m *Meter) follow(s Sample) {
	m.looks++
	m.guards = s.Guards
	m.darken(s)
	for p, c := range s.Courses {
		t := m.pairs[p]
		if t == nil {
			t = &trace{now: c.Way &^ toNowhere, since: s.Read.To, window: toWish, current: toWish, blind: toWish}
			m.pairs[p] = t
		}
		if (t.now^c.Way)&toNowhere != 0 {
			m.urgent = true
		}
		t.look = m.looks
		t.note(c.Way, s.Read.To)
	}
	for p, t := range m.pairs {
		if t.look != m.looks {
			t.note(m.unasked(p), s.Read.To)
		}
	}
}

// darken notes which NICs may have been down since the last look: those that were
// down then or are now. What they counted meanwhile can be compared with nothing.
func (m *Meter) darken(s Sample) {
	for _, off := range []map[int]bool{m.off, s.Off} {
		for pf := range off {
			m.lostNIC[pf] = true
			m.dark[pf] = s.Read.To
		}
	}
	m.off = s.Off
}

// certain tells whether a pair was exposed, and its NIC up, all the time that a
// reading of its rule is for, as far as was seen: the last one's count may have
// been old.
func (m *Meter) certain(p Pair, pf int) bool {
	from, t := m.read.From.Add(-m.Lag), m.pairs[p]
	return t != nil && t.now == toNowhere && !t.since.After(from) && !m.dark[pf].After(from)
}

// settle books what was in doubt when the rules were read, now that the next look
// is there.
func (m *Meter) settle() (found []Finding) {
	for _, d := range m.doubts {
		if t := m.pairs[d.Pair]; t != nil && t.now == toNowhere && t.since.Before(d.at.From) && m.dark[d.pf].Before(d.at.From) {
			d.Packets = d.Exposed
		}
		m.enter(d.Finding, d.at)
		found = append(found, d.Finding)
	}
	m.doubts = nil
	return found
}

// turn begins the next window, and forgets pairs that are long gone.
func (m *Meter) turn() {
	for p, t := range m.pairs {
		if t.look != m.looks && t.window == t.now && m.leaks[p] == nil {
			delete(m.pairs, p)
			continue
		}
		t.window, t.current = t.current|t.now, t.now
	}
}

// way returns the courses of a pair over the time that a reading is for.
func (m *Meter) way(p Pair, of func(*trace) course) course {
	if t := m.pairs[p]; t != nil {
		return of(t)
	}
	return m.unasked(p)
}

// unasked returns the course of a pair that no port is for.
func (m *Meter) unasked(p Pair) course {
	if m.guards[p.VTEP()] != 0 {
		return toGuard
	}
	return toWish
}

// countSAs adds what SAs counted since the last sample.
func (m *Meter) countSAs(sas []xfrm.SA) {
	now := m.spare
	clear(now)
	for i := range sas {
		s := &sas[i]
		k := saKey{s.ID(), s.Src, s.Dir, s.Stats.Added}
		last := m.sas[k]
		if s.Stats.Packets < last {
			m.lose(k)
			last = 0
		}
		sum, e := m.sent, peers{s.Src, s.Dst}
		if s.Dir == xfrm.In {
			sum, e = m.received, peers{s.Dst, s.Src}
		}
		sum[e] += s.Stats.Packets - last
		now[k] = s.Stats.Packets
	}
	for k := range m.sas {
		if _, is := now[k]; !is {
			m.lose(k)
		}
	}
	m.sas, m.spare = now, m.sas
}

func (m *Meter) lose(k saKey) {
	e := peers{k.src, k.Dst}
	if k.dir == xfrm.In {
		e = peers{k.Dst, k.src}
	}
	m.lost[e] = true
}

// countNICs adds what NICs counted. One that could not be read is forgotten.
func (m *Meter) countNICs(nics map[int]NICCount) {
	for pf := range m.nics {
		if _, read := nics[pf]; nics != nil && !read {
			m.lostNIC[pf] = true
			delete(m.nics, pf)
		}
	}
	for pf, n := range nics {
		was, known := m.nics[pf]
		sum := was
		sum.last = n
		switch {
		case !known:
		case n.Encrypted < was.last.Encrypted || n.Dropped < was.last.Dropped:
			m.lostNIC[pf] = true
		default:
			sum.Encrypted += n.Encrypted - was.last.Encrypted
			sum.Dropped += n.Dropped - was.last.Dropped
		}
		m.nics[pf] = sum
	}
}

// markAt makes a mark of the sample, if it is time for one, and compares with
// it when rules wait for that.
func (m *Meter) markAt(s Sample) (found []Finding) {
	p := m.pending
	if p != nil {
		if s.Read.From.Before(p.read.To.Add(m.Lag)) {
			return nil
		}
		found = m.compare(p)
		m.pending = nil
		m.due = p.read.From.Add(max(m.Every*4/5-m.Lag, 2*m.Lag))
		m.mark = nil
	}
	if m.mark == nil && !s.Read.To.Before(m.due.Add(-m.Lag)) {
		m.mark = &mark{s.Read, maps.Clone(m.sent), maps.Clone(m.received), maps.Clone(m.nics)}
		m.turn()
		for e := range m.lost {
			m.before.lost[e] = true
		}
		for pf := range m.lostNIC {
			m.before.lostNIC[pf] = true
		}
		clear(m.lost)
		clear(m.lostNIC)
	}
	return found
}

// Take adds what rules counted since the last reading, and keeps it for a
// comparison if there is a mark from before. It returns what leaked of exposed
// pairs.
func (m *Meter) Take(r *TunnelReading) []Finding {
	m.urgent = false
	first := m.devs == nil
	now := make(map[tc.RuleID]uint64, len(r.Rules))
	moved := make(map[Pair]uint64)
	pf := make(map[Pair]int)
	for i := range r.Rules {
		rule := &r.Rules[i]
		last, known := m.rules[rule.ID]
		now[rule.ID] = rule.Packets
		_, read := m.devs[rule.Dev]
		if !known && (first || !read) || !rule.Src.IsValid() || !rule.Dst.IsValid() {
			continue
		}
		if rule.Packets < last { // another rule by the same name
			last = 0
		}
		n := rule.Packets - last
		if n == 0 {
			continue
		}
		if rule.Encap {
			p := Pair{rule.Src, rule.Dst, rule.Port}
			moved[p] += n
			pf[p] = r.Devs[rule.Dev]
		} else {
			m.cameIn(Pair{rule.Dst, rule.Src, rule.Port}, n)
		}
	}
	found := m.book(moved, pf, r.Read)
	m.rules, m.devs, m.read = now, r.Devs, r.Read
	fits := m.pending == nil && m.mark != nil && !r.Read.From.Before(m.mark.read.To.Add(m.Lag))
	for _, t := range m.pairs {
		t.blind = t.now
		if fits {
			t.judged, t.window = t.window, t.current
		}
	}
	if fits {
		m.pending = &pending{m.mark, r.Read, maps.Clone(m.encap), maps.Clone(m.decap), maps.Clone(m.blocked), maps.Clone(m.all), m.moved}
		m.moved = map[Pair]uint64{}
	}
	return found
}

// cameIn enters packets that rules took out of a tunnel, of pairs that ask for
// IPsec.
func (m *Meter) cameIn(p Pair, n uint64) {
	if t := m.pairs[p]; t != nil && t.window&toWish == 0 {
		m.decap[track{peersOf(p), 0}] += n
	}
}

// book enters packets that rules put into tunnels: exposed pairs' as leaked, the
// others' for comparison.
func (m *Meter) book(moved map[Pair]uint64, pf map[Pair]int, at Span) (found []Finding) {
	for _, p := range slices.SortedFunc(maps.Keys(moved), Pair.Compare) {
		n := moved[p]
		way, blind := m.way(p, func(t *trace) course { return t.window }), m.way(p, func(t *trace) course { return t.blind })
		switch {
		case blind&toNowhere != 0:
			f := Finding{Code: LeakOut, Pair: p, Exposed: n}
			if m.certain(p, pf[p]) {
				m.doubts = append(m.doubts, doubt{f, pf[p], at})
				continue
			}
			m.enter(f, at)
			found = append(found, f)
		case way&toWish != 0:
		default:
			m.moved[p] += n
			m.all[pf[p]] += n
			switch way {
			case toGuard:
				m.blocked[pf[p]] += n
			case toSA:
				m.encap[track{peersOf(p), pf[p]}] += n
			}
		}
	}
	return found
}
