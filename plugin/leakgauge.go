// SPDX-License-Identifier: Apache-2.0

package plugin

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
