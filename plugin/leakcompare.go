// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"maps"
	"slices"
)

// enter books a finding.
func (m *Meter) enter(f Finding, at Span) {
	l := m.leaks[f.Pair]
	if l == nil {
		l = &Leak{Since: at.From, outCycle: -2, inCycle: -2, mended: -2}
		m.leaks[f.Pair] = l
	}
	l.Last = at.To
	if f.Code == LeakIn {
		l.In += f.Packets
		l.inCycle = m.cycle
		return
	}
	l.Out += f.Packets
	l.Exposed += f.Exposed
	if f.Exposed > 0 {
		l.mended = m.cycle
	} else {
		l.outCycle = m.cycle
	}
}

// compare judges a reading of rules between two marks; the later one is now. A
// comparison that is new begins with the one before.
func (m *Meter) compare(p *pending) (found []Finding) {
	m.cycle++
	for _, pf := range slices.Sorted(maps.Keys(p.all)) {
		found = append(found, m.compareBlocked(p, pf)...)
	}
	for _, t := range sortedTracks(p.encap) {
		found = append(found, m.compareOut(p, t)...)
	}
	for _, pf := range slices.Sorted(maps.Keys(p.all)) {
		found = append(found, m.compareAll(p, pf)...)
	}
	for _, t := range sortedTracks(p.decap) {
		found = append(found, m.compareIn(p, t)...)
	}
	clear(m.before.lost)
	clear(m.before.lostNIC)
	m.prev = p
	return found
}

func (m *Meter) nicAt(pf int) *nicGauges {
	g := m.nic[pf]
	if g == nil {
		g = &nicGauges{}
		m.nic[pf] = g
	}
	return g
}

// weigh lets a gauge judge, unless counts were lost that it rests on.
func (m *Meter) weigh(g *gauge, broken bool, pf int, e, earlier func(*pending) uint64, p *pending, later uint64) {
	if _, read := p.mark.nics[pf]; broken || pf != 0 && !read {
		g.set = false
	} else if _, read := m.prevNICs()[pf]; !g.set && m.prev != nil && (pf == 0 || read) {
		g.begin(e(m.prev), earlier(m.prev))
	}
	g.judge(e(p), earlier(p), later)
}

func (m *Meter) prevNICs() map[int]nicSum {
	if m.prev == nil {
		return nil
	}
	return m.prev.mark.nics
}

func (m *Meter) compareBlocked(p *pending, pf int) []Finding {
	g := &m.nicAt(pf).blocked
	m.weigh(&g.gauge, m.lostNIC[pf] || m.before.lostNIC[pf], pf,
		func(p *pending) uint64 { return p.blocked[pf] },
		func(p *pending) uint64 { return p.mark.nics[pf].Dropped }, p, m.nics[pf].Dropped)
	g.suspect(p.moved, func(q Pair) bool { return m.way(q, func(t *trace) course { return t.judged }) == toGuard })
	defer g.settle()
	return m.name(p, g.news(g.total, 0), LeakOut, g.suspects)
}

func (m *Meter) compareOut(p *pending, t track) []Finding {
	g := m.out[t]
	if g == nil {
		g = &outGauge{}
		m.out[t] = g
	}
	encap := func(p *pending) uint64 { return p.encap[t] }
	sent := func(p *pending) uint64 { return p.mark.sent[t.peers] }
	m.weigh(&g.own, m.broken(t), t.pf, encap, sent, p, m.sent[t.peers])
	m.weigh(&g.with, m.broken(t), t.pf,
		func(p *pending) uint64 { return encap(p) + p.blocked[t.pf] },
		func(p *pending) uint64 { return sent(p) + p.mark.nics[t.pf].Dropped },
		p, m.sent[t.peers]+m.nics[t.pf].Dropped)
	more := g.news(min(g.own.total, g.with.total), 0)
	m.nicAt(t.pf).told += more
	return m.name(p, more, LeakOut, m.between(t.peers, more))
}

// compareAll judges what went into encapsulation on a whole NIC against what the
// NIC encrypted and dropped in all.
func (m *Meter) compareAll(p *pending, pf int) []Finding {
	nic := m.nicAt(pf)
	g := &nic.all
	m.weigh(&g.gauge, m.lostNIC[pf] || m.before.lostNIC[pf], pf,
		func(p *pending) uint64 { return p.all[pf] },
		func(p *pending) uint64 { return p.mark.nics[pf].Encrypted + p.mark.nics[pf].Dropped },
		p, m.nics[pf].Encrypted+m.nics[pf].Dropped)
	g.suspect(p.moved, func(Pair) bool { return true })
	defer g.settle()
	return m.name(p, g.news(g.total, nic.told+nic.blocked.told), LeakOut, g.suspects)
}

func (m *Meter) compareIn(p *pending, t track) []Finding {
	g := m.in[t]
	if g == nil {
		g = &inGauge{}
		m.in[t] = g
	}
	m.weigh(&g.gauge, m.lost[t.peers] || m.before.lost[t.peers], 0,
		func(p *pending) uint64 { return p.decap[t] },
		func(p *pending) uint64 { return p.mark.received[t.peers] }, p, m.received[t.peers])
	more := g.news(g.total, 0)
	return m.name(p, more, LeakIn, m.between(t.peers, more))
}

// between returns the pairs of two addresses, if anything leaked: one, but for
// those of several ports.
func (m *Meter) between(e peers, more uint64) map[Pair]bool {
	if more == 0 {
		return nil
	}
	ps := map[Pair]bool{}
	for q := range m.pairs {
		if peersOf(q) == e {
			ps[q] = true
		}
	}
	return ps
}

// mostNamed is how many pairs are named for a leak that any of them may have.
const mostNamed = 8

// name books a leak on the pairs that may have it. With several of them none is
// known to have any of it, and only those that sent most are named.
func (m *Meter) name(p *pending, more uint64, code string, may map[Pair]bool) (found []Finding) {
	if more == 0 {
		return nil
	}
	all := slices.SortedFunc(maps.Keys(may), func(a, b Pair) int {
		return cmp.Or(-cmp.Compare(p.moved[a], p.moved[b]), a.Compare(b))
	})
	for _, q := range all[:min(len(all), mostNamed)] {
		f := Finding{Code: code, Pair: q, Packets: more}
		if len(all) > 1 {
			f.Packets = 0
		}
		m.enter(f, p.read)
		found = append(found, f)
	}
	return found
}

// broken tells whether counts were lost that a comparison rests on.
func (m *Meter) broken(t track) bool {
	return m.lost[t.peers] || m.before.lost[t.peers] || m.lostNIC[t.pf] || m.before.lostNIC[t.pf]
}

func sortedTracks(m map[track]uint64) []track {
	return slices.SortedFunc(maps.Keys(m), func(a, b track) int {
		return cmp.Or(a.Local.Compare(b.Local), a.Remote.Compare(b.Remote), cmp.Compare(a.pf, b.pf))
	})
}
