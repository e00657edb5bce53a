// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"
	"testing"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// bench is a Meter with one pair in NIC 4. Times are in seconds.
type bench struct {
	*Meter
	said uint64 // to have leaked, at least
}

var benchPair = Pair{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 4789}

func newBench() *bench { return &bench{Meter: NewMeter(time.Second, 10*time.Second)} }

func at(t float64) Span {
	x := time.Unix(1000, 0).Add(time.Duration(t * float64(time.Second)))
	return Span{x, x}
}

// look is a look at the host. The NIC has dropped nothing.
func (b *bench) look(t float64, way course, off bool) {
	s := Sample{Read: at(t), Courses: map[Pair]Course{benchPair: {4, way}}, NICs: map[int]NICCount{4: {}}}
	if off {
		s.Off = map[int]bool{4: true}
	}
	b.add(b.Step(s))
}

// rules is a reading of the rules, which have counted n packets.
func (b *bench) rules(t float64, n uint64) {
	b.add(b.Take(&TunnelReading{Read: at(t), Devs: map[int]int{104: 4}, Rules: []tc.TunnelRule{{ID: tc.RuleID{Handle: 1}, Dev: 104,
		Encap: true, Src: benchPair.Local, Dst: benchPair.Remote, Port: benchPair.Port, Packets: n}}}))
}

func (b *bench) add(fs []Finding) {
	for _, f := range fs {
		b.said += f.Packets
	}
}

// TestMeterExposed: what an exposed pair's rules count has leaked for certain only
// when a look after the reading vouches for it, as one before did.
func TestMeterExposed(t *testing.T) {
	for _, tt := range []struct {
		name                       string
		offBefore, offAfter        bool
		wayAfter                   course
		exposed, lastRead, reading float64
		want                       uint64
	}{
		{"exposed throughout", false, false, toNowhere, 0, 5, 10, 100},
		{"down before", true, false, toNowhere, 0, 5, 10, 0},
		{"down after", false, true, toNowhere, 0, 5, 10, 0},
		{"down after, and it shows", false, true, toWish, 0, 5, 10, 0},
		{"blocked after", false, false, toGuard, 0, 5, 10, 0},
		{"the last reading may be of before", false, false, toNowhere, 4.5, 5, 10, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench()
			b.look(-1, toSA, false)
			b.rules(-1, 0)
			b.look(tt.exposed, toNowhere, false)
			b.rules(tt.lastRead, 0)
			b.look(6, toNowhere, tt.offBefore)
			b.look(7, toNowhere, false)
			b.look(8, toNowhere, false)
			b.rules(tt.reading, 100)
			if b.said > 0 {
				t.Fatalf("%d packets said to have leaked before anybody looked", b.said)
			}
			b.look(12, tt.wayAfter, tt.offAfter)
			if b.said != tt.want {
				t.Errorf("%d packets said to have leaked, want %d", b.said, tt.want)
			}
			if l, _ := b.Leak(benchPair); l.Out != tt.want || l.Exposed != 100 {
				t.Errorf("booked: %d to %d, want %d to 100", l.Out, l.Exposed, tt.want)
			}
		})
	}
}

// TestMeterDown: a blocked pair's rules count 500 packets in a NIC that drops none
// of them. They leaked, unless a look saw the NIC down next to them.
func TestMeterDown(t *testing.T) {
	for _, tt := range []struct {
		name  string
		downs map[float64]bool // by the time of the look
		want  uint64
	}{
		{"up", nil, 500},
		{"down long ago", map[float64]bool{14: true}, 500},
		{"down at the look before", map[float64]bool{28: true}, 0},
		{"down at the look after", map[float64]bool{29: true}, 0},
		{"down when they show", map[float64]bool{36: true}, 0},
		{"down all the time", map[float64]bool{24: true, 28: true, 29: true, 30: true, 36: true, 38: true}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench()
			look := func(t float64) { b.look(t, toGuard, tt.downs[t]) }
			for _, t := range []float64{0, 10, 20} {
				look(t)
				b.rules(t+2, 0)
				look(t + 4)
			}
			look(28) // a mark; 500 packets come now, and are counted late
			look(29)
			b.rules(29, 0)
			look(30)
			look(36)
			b.rules(37, 500)
			look(38)
			if b.said != tt.want {
				t.Errorf("%d packets said to have leaked, want %d", b.said, tt.want)
			}
		})
	}
}

// TestWitness: a NIC that lost its policy since the last look was down, whatever
// stands there now.
func TestWitness(t *testing.T) {
	own := xfrm.Policy{Dir: xfrm.Out, Sel: benchPair.selector(xfrm.Out), Action: xfrm.Allow, Offload: onPF(4), Index: 9}
	first, again := *guard(GuardIntent{VTEP: benchPair.VTEP(), PF: 4}, xfrm.Out), *guard(GuardIntent{VTEP: benchPair.VTEP(), PF: 4}, xfrm.Out)
	first.Index, again.Index = 17, 25
	var w leakWatch
	for _, look := range []struct {
		name     string
		policies []xfrm.Policy
		down     bool
		want     bool
	}{
		{"nothing yet", nil, false, false},
		{"made", []xfrm.Policy{own, first}, false, false},
		{"the pair's own has gone", []xfrm.Policy{first}, false, false},
		{"made again", []xfrm.Policy{own, again}, false, true},
		{"as it was", []xfrm.Policy{own, again}, false, false},
		{"in the host's stack now", []xfrm.Policy{own, *inStack(&again)}, false, true},
		{"the pair's own is left", []xfrm.Policy{own}, false, false},
		{"all gone", nil, false, true},
		{"still gone", nil, false, false},
		{"down", nil, true, true},
		{"made while it is down", []xfrm.Policy{first}, true, true},
		{"up", []xfrm.Policy{first}, false, false},
	} {
		s := &scene{facts: devlink.Facts{PFs: []devlink.PF{{Link: devlink.Link{Ifindex: 4}, Up: !look.down}}}, observed: Observed{Policies: look.policies}}
		if got := w.off(s, newView(&s.observed))[4]; got != look.want {
			t.Errorf("%s: off %t, want %t", look.name, got, look.want)
		}
	}
}
