// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// counter is a figure of a NIC that is read late: at any time, but never one
// older than the last, what it was up to leakLag ago.
type counter struct {
	at   []uint64 // by tick
	read int      // the tick of the last answer
}

func (c *counter) add(tick int, n uint64) {
	for len(c.at) <= tick {
		c.at = append(c.at, c.now())
	}
	c.at[tick] += n
}

func (c *counter) now() uint64 {
	if len(c.at) == 0 {
		return 0
	}
	return c.at[len(c.at)-1]
}

const (
	tickTime  = 100 * time.Millisecond
	lagTicks  = 10
	testLag   = (lagTicks + 2) * tickTime
	testEvery = 10 * time.Second
)

// fresh is no lag at all.
func (c *counter) value(tick, lag int) uint64 {
	tick = max(tick-lag, c.read)
	c.read = tick
	if tick < len(c.at) {
		return c.at[tick]
	}
	return c.now()
}

// road is a host with pairs, as counters show it.
type road struct {
	t     *rapid.T
	tick  int
	meter *Meter
	pairs [3]*roadPair
	drops counter
	all   counter
	id    uint32
	found map[string]uint64 // by code and pair
	late  *TunnelReading    // read, and not given to the meter yet
	down  bool              // the NIC is: its rules count, and nothing leaves
	gone  bool              // what it held went since the last look
	drop  bool              // it counts what it drops, down as it is
	calm  bool              // it does not go down by itself
}

type roadPair struct {
	Pair
	way     course
	sas     []*roadSA
	encap   *roadRule
	decap   *roadRule
	out, in int // packets a tick that go as they should
	slow    int // packets a tick of the slow path
	leakOut int
	leakIn  int
	lost    uint64 // leaked so far
	lostIn  uint64
}

type roadSA struct {
	xfrm.SA
	counter
}

type roadRule struct {
	tc.RuleID
	counter
}

func newRoad(t *rapid.T) *road {
	r := &road{t: t, meter: NewMeter(testLag, testEvery), found: map[string]uint64{}}
	for i := range r.pairs {
		r.pairs[i] = &roadPair{Pair: Pair{netip.MustParseAddr("10.0.0.1"), netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 2)}), 4789}, way: toSA}
		r.rekey(r.pairs[i])
		r.rerule(r.pairs[i])
	}
	return r
}

func (r *road) next() uint32 { r.id++; return r.id }

// rekey gives a pair new SAs; the old ones stay until drop.
func (r *road) rekey(p *roadPair) {
	for _, d := range []xfrm.Dir{xfrm.Out, xfrm.In} {
		s := &roadSA{SA: xfrm.SA{Src: p.Local, Dst: p.Remote, SPI: r.next(), Dir: d}}
		if d == xfrm.In {
			s.Src, s.Dst = s.Dst, s.Src
		}
		p.sas = append(p.sas, s)
	}
}

// rerule gives a pair new rules; the old ones and their counts go.
func (r *road) rerule(p *roadPair) {
	p.encap, p.decap = &roadRule{RuleID: tc.RuleID{Handle: r.next()}}, &roadRule{RuleID: tc.RuleID{Handle: r.next()}}
}

func (p *roadPair) sa(d xfrm.Dir) *roadSA {
	for i := len(p.sas) - 1; i >= 0; i-- {
		if p.sas[i].Dir == d {
			return p.sas[i]
		}
	}
	return nil
}

// run lets a tick pass, with its traffic.
func (r *road) run() {
	r.tick++
	for _, p := range r.pairs {
		p.encap.add(r.tick, uint64(p.out+p.leakOut))
		if r.down {
			if p.way == toGuard && r.drop {
				r.drops.add(r.tick, uint64(p.out+p.leakOut))
			}
			continue
		}
		p.decap.add(r.tick, uint64(p.in+p.leakIn))
		p.lost += uint64(p.leakOut)
		p.lostIn += uint64(p.leakIn)
		switch p.way {
		case toSA:
			p.sa(xfrm.Out).add(r.tick, uint64(p.out+p.slow))
			r.all.add(r.tick, uint64(p.out+p.slow))
		case toGuard:
			r.drops.add(r.tick, uint64(p.out))
		case toNowhere:
			p.lost += uint64(p.out)
		}
		if a := p.sa(xfrm.In); a != nil {
			a.add(r.tick, uint64(p.in+p.slow))
		} else {
			p.lostIn += uint64(p.in)
		}
	}
}

// runs lets up to most ticks pass unseen.
func (r *road) runs(most int) {
	for range rapid.IntRange(0, most).Draw(r.t, "unseen ticks") {
		r.run()
	}
}

// shut takes the NIC down, and with it all that stands in it. Guards may come
// back there.
func (r *road) shut() {
	r.down, r.gone, r.drop = true, true, rapid.Bool().Draw(r.t, "drops")
	for _, p := range r.pairs {
		p.sas, p.way = nil, rapid.SampledFrom([]course{toGuard, toNowhere}).Draw(r.t, "way")
	}
}

// mend encrypts what can be, as the daemon does: it looks before and after.
func (r *road) mend() {
	r.look()
	for _, p := range r.pairs {
		if !r.down && (p.way == toNowhere || len(p.sas) == 0) {
			r.rekey(p)
			p.way = toSA
		}
	}
	r.look()
}

func (r *road) lag() int { return rapid.IntRange(0, lagTicks).Draw(r.t, "lag") }

func (r *road) now() time.Time { return time.Unix(1000, 0).Add(time.Duration(r.tick) * tickTime) }

// look is a round of the daemon.
func (r *road) look() {
	s := Sample{Read: Span{r.now(), r.now()}, Courses: map[Pair]Course{}, Guards: map[VTEP]int{r.pairs[0].VTEP(): 4}}
	if r.down || r.gone {
		s.Off = map[int]bool{4: true}
	}
	r.gone = false
	for _, p := range r.pairs {
		way := p.way
		if r.down && way == toNowhere {
			way = toWish
		}
		s.Courses[p.Pair] = Course{4, way}
		for _, a := range p.sas {
			sa := a.SA
			sa.Stats.Packets = a.value(r.tick, r.lag())
			s.SAs = append(s.SAs, sa)
		}
	}
	wish, at := r.meter.Next()
	switch due := !r.now().Before(at); {
	case due && wish == WishMark:
		s.NICs = map[int]NICCount{4: {r.all.value(r.tick, 0), r.drops.value(r.tick, 0)}}
	}
	found := r.meter.Step(s)
	if r.late != nil {
		found = append(found, r.meter.Take(r.late)...)
		r.late = nil
	} else if wish, at := r.meter.Next(); wish == WishTunnels && !r.now().Before(at) {
		if !r.calm && rapid.IntRange(0, 9).Draw(r.t, "down before the rules are read") < 2 {
			r.shut()
			r.runs(30)
		}
		if r.late = r.read(); rapid.Bool().Draw(r.t, "at once") {
			found = append(found, r.meter.Take(r.late)...)
			r.late = nil
		}
	}
	for _, f := range found {
		if f.Packets > 0 || f.Exposed == 0 {
			r.found[f.Code+" "+f.Pair.String()] += f.Packets
		}
	}
	r.check()
}

// read reads the rules.
func (r *road) read() *TunnelReading {
	t := &TunnelReading{Read: Span{r.now(), r.now()}, Devs: map[int]int{104: 4, 1000: 0}}
	for _, p := range r.pairs {
		t.Rules = append(t.Rules,
			tc.TunnelRule{ID: p.encap.RuleID, Dev: 104, Encap: true, Src: p.Local, Dst: p.Remote, Port: 4789, Packets: p.encap.value(r.tick, r.lag())},
			tc.TunnelRule{ID: p.decap.RuleID, Dev: 1000, Src: p.Remote, Dst: p.Local, Port: 4789, Packets: p.decap.value(r.tick, r.lag())})
	}
	return t
}

// check: never more is said to have leaked than has, on the whole, nor of a pair
// unless another one leaks too.
func (r *road) check() {
	var out, in, foundOut uint64
	for _, p := range r.pairs {
		out, in, foundOut = out+p.lost, in+p.lostIn, foundOut+r.found[LeakOut+" "+p.String()]
		if got := r.found[LeakIn+" "+p.String()]; got > p.lostIn {
			r.t.Fatalf("tick %d: %d packets of %s said to have come in clear, %d did", r.tick, got, p, p.lostIn)
		}
	}
	if foundOut > out {
		r.t.Fatalf("tick %d: %d packets said to have leaked, %d did: %v", r.tick, foundOut, out, r.found)
	}
	if n := len(r.found); n > 0 && out+in == 0 {
		r.t.Fatalf("tick %d: nothing leaked, found %v", r.tick, r.found)
	}
}

// live lets a random time pass: traffic, churn, rekeys, blocks, a NIC that goes
// down and comes up, and leaks if they may.
func (r *road) live(leaks bool) {
	p := rapid.SampledFrom(r.pairs[:]).Draw(r.t, "pair")
	n := func(max int) int { return rapid.IntRange(0, max).Draw(r.t, "packets") }
	switch rapid.SampledFrom([]string{"traffic", "traffic", "rekey", "drop", "rule", "block", "leak", "expose", "mend", "mend", "down", "up", "flap"}).Draw(r.t, "what") {
	case "traffic":
		p.out, p.in, p.slow = n(1000), n(1000), n(3)
	case "rekey":
		if !r.down {
			r.rekey(p)
		}
	case "drop":
		if len(p.sas) > 2 {
			p.sas = p.sas[2:]
		}
	case "rule":
		r.rerule(p)
	case "block":
		if p.way == toGuard && len(p.sas) > 0 {
			p.way = toSA
		} else if p.way == toSA {
			p.way = toGuard
		}
	case "leak":
		if leaks {
			p.leakOut, p.leakIn = n(20), n(20)
		}
	case "expose":
		if leaks && !r.down {
			p.way = toNowhere
		}
	case "mend":
		r.mend()
	case "down":
		r.shut()
	case "up":
		r.runs(30)
		r.down = false
		r.mend()
	case "flap":
		r.shut()
		r.runs(30)
		r.down = false
	}
	r.pass(rapid.IntRange(1, 60).Draw(r.t, "ticks"), rapid.IntRange(1, 20).Draw(r.t, "every"))
}

func (r *road) pass(ticks, every int) {
	for i := range ticks {
		r.run()
		if i%every == 0 {
			r.look()
		}
	}
	r.look()
}

// TestMeterNeverCriesWolf: whatever churns, and whatever leaks beside it, no
// pair is said to leak more than it does.
func TestMeterNeverCriesWolf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRoad(t)
		leaks := rapid.Bool().Draw(t, "leaks")
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			r.live(leaks)
		}
	})
}

// TestMeterFindsLeaks: what leaks 50 packets or more in a period is found within
// it, whatever was before, if the pair sends little else in the two readings.
func TestMeterFindsLeaks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRoad(t)
		for range rapid.IntRange(0, 20).Draw(t, "events") {
			r.live(false)
		}
		r.calm, r.down = true, false
		r.mend()
		for _, p := range r.pairs {
			p.out, p.in, p.slow = 0, 0, 0
		}
		r.pass(rapid.IntRange(300, 400).Draw(t, "quiet"), 1)
		p := rapid.SampledFrom(r.pairs[:]).Draw(t, "leaking")
		every := rapid.IntRange(1, 2).Draw(t, "one packet in so many ticks")
		start := r.tick
		for r.found[LeakOut+" "+p.String()] == 0 || r.found[LeakIn+" "+p.String()] == 0 {
			p.leakOut, p.leakIn = 0, 0
			if (r.tick-start)%every == 0 {
				p.leakOut, p.leakIn = 1, 1
			}
			r.run()
			r.look()
			if r.now().Sub(r.now().Add(-time.Duration(r.tick-start)*tickTime)) > testEvery+testLag {
				t.Fatalf("%d packets of %s leaked in %v, found %v", p.lost, p, time.Duration(r.tick-start)*tickTime, fmt.Sprint(r.found))
			}
		}
	})
}

// BenchmarkMeter is what a round costs the meter with 10,000 pairs, and what a
// reading of their rules with the comparison costs.
func BenchmarkMeter(b *testing.B) {
	const n = 10000
	now := time.Unix(1000, 0)
	s := Sample{Courses: map[Pair]Course{}, Guards: map[VTEP]int{}}
	read := &TunnelReading{Devs: map[int]int{104: 4, 1000: 0}}
	for i := range n {
		p := Pair{netip.MustParseAddr("10.0.0.1"), netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 4789}
		s.Courses[p] = Course{4, toSA}
		s.SAs = append(s.SAs, xfrm.SA{Src: p.Local, Dst: p.Remote, SPI: uint32(i), Dir: xfrm.Out}, xfrm.SA{Src: p.Remote, Dst: p.Local, SPI: uint32(i)})
		read.Rules = append(read.Rules, tc.TunnelRule{ID: tc.RuleID{Handle: uint32(i)}, Dev: 104, Encap: true, Src: p.Local, Dst: p.Remote, Port: 4789},
			tc.TunnelRule{ID: tc.RuleID{Handle: uint32(i), Ifindex: 1}, Dev: 1000, Src: p.Remote, Dst: p.Local, Port: 4789})
	}
	m, sent := NewMeter(testLag, testEvery), uint64(0)
	step := func(mark bool) {
		now = now.Add(time.Minute)
		sent += 10 * n
		var nics map[int]NICCount
		if mark {
			nics = map[int]NICCount{4: {Encrypted: sent}}
		}
		for i := range s.SAs {
			s.SAs[i].Stats.Packets += 10
		}
		s.Read, s.NICs = Span{now, now}, nics
		if found := m.Step(s); len(found) > 0 {
			b.Fatal(found[0])
		}
	}
	b.Run("round", func(b *testing.B) {
		for b.Loop() {
			step(false)
		}
	})
	b.Run("comparison", func(b *testing.B) {
		for b.Loop() {
			step(true)
			now = now.Add(time.Minute)
			for i := range read.Rules {
				read.Rules[i].Packets += 10
			}
			read.Read = Span{now, now}
			m.Take(read)
			step(true)
		}
	})
}
