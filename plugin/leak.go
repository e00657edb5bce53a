// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// A Meter compares what flow rules in hardware sent into tunnels with what SAs
// encrypted, and what came out of tunnels with what they decrypted. It has no
// clock and touches nothing: Step gives it what was read.
//
// No two counters can be read at the same moment, the NIC's are up to a second
// old, and each is read at its own time. So the rules (E) are read between two
// readings of the SAs (S), each Lag away: the earlier S holds nothing that E
// lacks, and the later S holds all that E has. E less the earlier S is no less
// than what has leaked up to then, E less the later S is no more. What the second
// gives today beyond the least that the first ever gave has leaked in between,
// whatever the traffic did. Packets of the slow path, which an SA counts and no
// rule does, only make the figure smaller.
//
// What is lost with a rule that goes makes the figure smaller too. What is lost
// with an SA would make it larger: the comparison then begins anew.
type Meter struct {
	Lag   time.Duration // the oldest that a counter may be when it is read
	Every time.Duration // a leak is to be found within this time

	due     time.Time // of the next reading of the rules
	urgent  bool      // a pair became exposed or safe: read the rules now
	mark    *mark     // the earlier S
	pending *pending  // E, which waits for the later S
	cycle   int       // comparisons made

	sas   map[saKey]uint64 // last counts
	spare map[saKey]uint64 // to be filled next
	rules map[tc.RuleID]uint64
	devs  map[int]int // that were read, to their PF; nil before the first reading

	sums
	lost    map[peers]bool // an SA went away since the mark, and with it its count
	lostNIC map[int]bool   // a NIC began to count anew
	before  struct {       // the same, before the mark
		lost    map[peers]bool
		lostNIC map[int]bool
	}

	looks  int
	pairs  map[Pair]*trace
	moved  map[Pair]uint64 // packets of rules since the last comparison
	guards map[VTEP]int
	prev   *pending // of the comparison before

	out   map[track]*outGauge
	in    map[track]*inGauge
	nic   map[int]*nicGauges
	leaks map[Pair]*Leak
}

// Leak is what is known to have leaked of a pair since the daemon started.
type Leak struct {
	Out      uint64 // packets that left without the pair's SA, at least
	Exposed  uint64 // packets that may have left in clear text while the pair was exposed, at most
	In       uint64 // packets in clear text that a flow took from the wire, at least
	Since    time.Time
	Last     time.Time
	outCycle int // of the Meter, when it grew last
	inCycle  int
	mended   int // and when it grew last while the pair was exposed
}

// Leaking tells how a pair leaks now.
type Leaking struct {
	Out, In bool
	// Mended tells that it did so lately, while it was exposed, and that this is
	// over.
	Mended bool
}

// Finding is a leak that was found or has grown.
type Finding struct {
	Code    string // LEAK_OUT or LEAK_IN
	Pair    Pair
	Packets uint64 // more than before, at least; 0 when others may have it too
	// Exposed is, for a pair that was neither encrypted nor blocked, how many
	// packets may have left at most. 0: all stood as it should.
	Exposed uint64
}

// The codes of the findings.
const (
	LeakOut = "LEAK_OUT"
	LeakIn  = "LEAK_IN"
)

// course is what policies and SAs say becomes of a pair's packets in hardware;
// several of them are what was seen over a time.
type course uint8

const (
	toSA      course = 1 << iota // encrypted
	toGuard                      // blocked
	toWish                       // clear text that nobody asked to encrypt
	toNowhere                    // exposed: neither encrypted nor blocked
)

// trace is what a pair's course was.
type trace struct {
	look    int    // when the pair was last asked for
	now     course // in the last sample
	window  course // all since the mark before the last one
	current course // all since the last mark
	judged  course // the window of the reading that is being judged
	blind   course // all since the last reading of the rules
}

func (t *trace) note(c course) {
	t.window |= c
	t.current |= c
	t.blind |= c
}

// Sample is what one look at the host gives.
type Sample struct {
	Read    Span             // when SAs and NIC counters were read
	Courses map[Pair]Course  // of all pairs of the intent
	Guards  map[VTEP]int     // VTEPs whose guard stands, with its PF
	SAs     []xfrm.SA        // ours
	NICs    map[int]NICCount // by ifindex of the PF; nil: not read
}

// Span is the time that a reading took.
type Span struct{ From, To time.Time }

// Course is a pair's course in its NIC.
type Course struct {
	PF  int
	Way course
}

// NICCount is what a PF counted: packets encrypted, and packets that a policy
// dropped on their way out.
type NICCount struct{ Encrypted, Dropped uint64 }

// TunnelReading is what flow rules counted.
type TunnelReading struct {
	Read  Span
	Devs  map[int]int // devices that were read, to the PF they belong to; 0 for tunnels'
	Rules []tc.TunnelRule
}

// peers is how SAs and rules meet: an SA knows no UDP port.
type peers struct{ Local, Remote netip.Addr }

func peersOf(p Pair) peers { return peers{p.Local, p.Remote} }

type saKey struct {
	xfrm.SAID
	src   netip.Addr
	dir   xfrm.Dir
	added int64
}

// track is one comparison: the packets between two addresses by one NIC.
type track struct {
	peers
	pf int
}

// sums are counts that only grow, whatever comes and goes.
type sums struct {
	sent, received map[peers]uint64 // by SAs
	encap          map[track]uint64
	decap          map[track]uint64
	blocked, all   map[int]uint64 // by rules, of pairs that are blocked, and of all that ask for IPsec
	nics           map[int]nicSum
}

type nicSum struct {
	NICCount
	last NICCount // as it was read
}

// mark is a reading of SAs and NICs.
type mark struct {
	read           Span
	sent, received map[peers]uint64
	nics           map[int]nicSum
}

// pending is a reading of rules, and the mark before it.
type pending struct {
	mark         *mark
	read         Span
	encap, decap map[track]uint64
	blocked, all map[int]uint64
	moved        map[Pair]uint64
}

// leakTolerance is how many packets a comparison must be off before anything is
// said.
const leakTolerance = 8

// gauge follows one comparison; see Meter for why it is right.
type gauge struct {
	set         bool
	renewed     bool   // the floor was taken in the last comparison
	floor       int64  // the least that E less the earlier S has been
	base, total uint64 // leaked when floor was taken, and in all
}

// begin takes the floor from a comparison before.
func (g *gauge) begin(e, earlier uint64) {
	g.set, g.renewed, g.floor, g.base = true, true, int64(e-earlier), g.total
}

// judge takes a comparison.
func (g *gauge) judge(e, earlier, later uint64) {
	upper, lower := int64(e-earlier), int64(e-later)
	g.renewed = false
	if !g.set {
		g.begin(e, earlier)
		return
	}
	if lower > g.floor {
		g.total = max(g.total, g.base+uint64(lower-g.floor))
	}
	if upper <= g.floor {
		g.renewed, g.floor, g.base = true, upper, g.total
	}
}

// alarm tells of a figure that grows.
type alarm struct{ told uint64 }

// news returns by how much more has leaked than was told of, here and elsewhere.
func (a *alarm) news(total, elsewhere uint64) uint64 {
	if total < a.told+elsewhere+leakTolerance {
		return 0
	}
	more := total - a.told - elsewhere
	a.told += more
	return more
}

// outGauge are the comparisons of one pair. own takes packets that a policy
// dropped for leaked; with takes in what blocked pairs leaked. So the smaller is
// the pair's own.
type outGauge struct {
	own, with gauge
	alarm
}

// inGauge is the comparison of one pair inbound.
type inGauge struct {
	gauge
	alarm
}

// groupGauge is a comparison of many pairs.
type groupGauge struct {
	gauge
	alarm
	suspects map[Pair]bool // that moved since the floor was taken
}

// suspect adds pairs that may be among those that leaked.
func (g *groupGauge) suspect(moved map[Pair]uint64, may func(Pair) bool) {
	if g.suspects == nil {
		g.suspects = map[Pair]bool{}
	}
	for p, n := range moved {
		if n > 0 && may(p) {
			g.suspects[p] = true
		}
	}
}

// settle begins with new suspects, if all is told.
func (g *groupGauge) settle() {
	if g.renewed {
		clear(g.suspects)
	}
}

// nicGauges are the comparisons of a whole NIC: of blocked pairs, all of which is
// to be dropped, and of all pairs.
type nicGauges struct {
	blocked, all groupGauge
	told         uint64 // of single pairs
}

// NewMeter returns a Meter that has seen nothing.
func NewMeter(lag, every time.Duration) *Meter {
	m := &Meter{Lag: lag, Every: every, sas: map[saKey]uint64{}, spare: map[saKey]uint64{}, rules: map[tc.RuleID]uint64{},
		lost: map[peers]bool{}, lostNIC: map[int]bool{}, pairs: map[Pair]*trace{},
		moved: map[Pair]uint64{}, out: map[track]*outGauge{}, in: map[track]*inGauge{}, nic: map[int]*nicGauges{}, leaks: map[Pair]*Leak{}}
	m.before.lost, m.before.lostNIC = map[peers]bool{}, map[int]bool{}
	m.sums = sums{sent: map[peers]uint64{}, received: map[peers]uint64{}, encap: map[track]uint64{}, decap: map[track]uint64{},
		blocked: map[int]uint64{}, all: map[int]uint64{}, nics: map[int]nicSum{}}
	return m
}

// Wish is what a Meter wants to be read.
type Wish uint8

// The wishes.
const (
	WishMark    Wish = iota + 1 // SAs, with NICs
	WishTunnels                 // rules
)

// Next returns what is to be read next, and when.
func (m *Meter) Next() (Wish, time.Time) {
	switch {
	case m.urgent:
		return WishTunnels, time.Time{}
	case m.pending != nil:
		return WishMark, m.pending.read.To.Add(m.Lag)
	case m.mark == nil:
		return WishMark, m.due.Add(-m.Lag)
	}
	at := m.mark.read.To.Add(m.Lag)
	if m.due.After(at) {
		at = m.due
	}
	return WishTunnels, at
}

// Step takes a sample and returns what it shows to have leaked.
func (m *Meter) Step(s Sample) []Finding {
	m.follow(s)
	m.countSAs(s.SAs)
	m.countNICs(s.NICs)
	var found []Finding
	if s.NICs != nil {
		found = m.markAt(s)
	}
	return found
}

// Glance notes the courses of pairs between two samples.
func (m *Meter) Glance(s Sample) { m.follow(s) }

// follow notes the courses of all pairs. A pair that comes counts as one of
// which nothing was asked before; one that goes is left to the guard.
func (m *Meter) follow(s Sample) {
	m.looks++
	m.guards = s.Guards
	for p, c := range s.Courses {
		t := m.pairs[p]
		if t == nil {
			t = &trace{now: c.Way &^ toNowhere, window: toWish, current: toWish, blind: toWish}
			m.pairs[p] = t
		}
		if (t.now^c.Way)&toNowhere != 0 {
			m.urgent = true
		}
		t.look, t.now = m.looks, c.Way
		t.note(c.Way)
	}
	for p, t := range m.pairs {
		if t.look != m.looks {
			t.now = m.unasked(p)
			t.note(t.now)
		}
	}
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
	m.rules, m.devs = now, r.Devs
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
			if blind == toNowhere {
				f.Packets = n
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

// Leak returns what leaked of a pair, and whether it still does: whether it grew
// in one of the last two comparisons, or the pair is exposed now.
func (m *Meter) Leak(p Pair) (l Leak, now Leaking) {
	if m.leaks[p] == nil {
		return l, now
	}
	l = *m.leaks[p]
	exposed := m.pairs[p] != nil && m.pairs[p].now == toNowhere
	return l, Leaking{Out: exposed || m.cycle-l.outCycle < 2, In: m.cycle-l.inCycle < 2, Mended: !exposed && m.cycle-l.mended < 2}
}
