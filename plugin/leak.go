// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"
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
// with an SA would make it larger: the comparison then begins anew. So does what
// a NIC's rules counted while it was down, since nothing left then: a comparison
// with a look in it that cannot vouch for the NIC begins anew too.
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
	read  Span        // of the rules, the last

	sums
	lost    map[peers]bool // an SA went away since the mark, and with it its count
	lostNIC map[int]bool   // a NIC began to count anew, or was down
	before  struct {       // the same, before the mark
		lost    map[peers]bool
		lostNIC map[int]bool
	}
	off  map[int]bool      // NICs that were down at the last look
	dark map[int]time.Time // until when a NIC may have been down

	looks  int
	pairs  map[Pair]*trace
	moved  map[Pair]uint64 // packets of rules since the last comparison
	doubts []doubt
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
	look    int       // when the pair was last asked for
	now     course    // in the last sample
	since   time.Time // that it is now
	window  course    // all since the mark before the last one
	current course    // all since the last mark
	judged  course    // the window of the reading that is being judged
	blind   course    // all since the last reading of the rules
}

// doubt is what an exposed pair's rules counted, until the next look tells whether
// the pair was exposed, and the NIC up, up to the reading.
type doubt struct {
	Finding
	pf int
	at Span
}

// note takes what a look shows.
func (t *trace) note(c course, at time.Time) {
	if c != t.now {
		t.now, t.since = c, at
	}
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
	// Off holds PFs that are down, or have been since the sample before: what rules
	// count there does not leave.
	Off map[int]bool
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

// NewMeter returns a Meter that has seen nothing.
func NewMeter(lag, every time.Duration) *Meter {
	m := &Meter{Lag: lag, Every: every, sas: map[saKey]uint64{}, spare: map[saKey]uint64{}, rules: map[tc.RuleID]uint64{},
		lost: map[peers]bool{}, lostNIC: map[int]bool{}, dark: map[int]time.Time{}, pairs: map[Pair]*trace{},
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
	found := m.settle()
	m.countSAs(s.SAs)
	m.countNICs(s.NICs)
	if s.NICs != nil {
		found = append(found, m.markAt(s)...)
	}
	return found
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
