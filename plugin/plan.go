// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// MakePlan returns the steps from what stands to what is wanted, in the only
// safe order. It is pure, total and deterministic; a plan made from the result
// of a plan is empty (I8).
func MakePlan(in Intent, ob Observed) Plan {
	p := planner{in: in, ob: ob, now: newView(&ob), held: ob.Holding != "", flows: maps.Clone(ob.Flows), reqids: map[uint32]bool{}, wanted: make(map[Pair]*PairIntent, len(in.Pairs))}
	p.plan.Problems = slices.Clone(in.Problems)
	p.plan.Stuck, p.plan.Kept, p.plan.Deferred = map[int]bool{}, map[VTEP]bool{}, map[Pair]*Problem{}
	for i := range in.Pairs {
		p.wanted[in.Pairs[i].Pair] = &in.Pairs[i]
		if in.Pairs[i].Want.encrypts() && in.Pairs[i].PF != 0 && p.now.fateOf(in.Pairs[i].Pair, in.Pairs[i].PF) == encrypted {
			p.plan.Encrypted++
		}
	}
	for i := range ob.SAs {
		p.reqids[ob.SAs[i].Reqid] = true
	}
	for i := range in.Pairs {
		if c := in.Pairs[i].IKE; c != nil {
			p.reqids[c.ReqidOut], p.reqids[c.ReqidIn] = true, true
		}
	}
	p.hold()
	p.remake()
	p.anchor()
	p.pairwise()
	p.block()
	if in.Parked {
		p.unload()
		return p.plan
	}
	p.accept()
	p.send()
	p.free()
	p.release()
	p.retire()
	return p.plan
}

type planner struct {
	in     Intent
	ob     Observed
	now    *view       // what stands once the steps so far are carried out
	flows  map[int]int // in hardware then
	open   bool        // flows may be offloaded then
	held   bool        // flows are held back then
	wanted map[Pair]*PairIntent
	reqids map[uint32]bool // taken
	sends  []sender
	plan   Plan
}

// step appends a step and notes what it leads to.
func (p *planner) step(s Step) {
	if s.Op.Kind == xfrm.DeletePolicy && !s.Aside {
		if sel, is := p.ob.Wide[placeOf(s.Op.Policy)]; is {
			s.Wide = &sel
		}
	}
	p.plan.Steps = append(p.plan.Steps, s)
	switch {
	case s.Verb == OpenGate:
		p.open = true
	case s.Verb == HoldFlows:
		p.held, p.open = true, false
		for _, pf := range s.Drain.PFs {
			p.flows[pf] = 0
		}
	case s.Verb == FreeFlows:
		p.held, p.open = false, p.ob.GateOpen
	case s.Verb == Change && !s.Aside:
		p.now.change(s.Op)
	}
}

func (p *planner) change(ph Phase, pair Pair, kind xfrm.OpKind, pol *xfrm.Policy) {
	p.step(Step{Phase: ph, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: kind, Policy: pol}})
}

// usable tells whether a pair's PF may be touched.
func (p *planner) usable(pf int) bool { return !p.plan.Stuck[pf] }

// remove takes a policy away, if no step before has.
func (p *planner) remove(ph Phase, pair Pair, pol *xfrm.Policy) {
	if _, is := p.now.policies[placeOf(pol)]; is {
		p.change(ph, pair, xfrm.DeletePolicy, pol)
	}
}

// ensure adds pol, or puts it in the place of what stands there.
func (p *planner) ensure(ph Phase, pair Pair, pol *xfrm.Policy, isGuard bool) {
	kind := xfrm.AddPolicy
	if now, is := p.now.policies[placeOf(pol)]; is {
		if samePolicy(now, pol) {
			return
		}
		kind = xfrm.UpdatePolicy
	}
	p.step(Step{Phase: ph, Verb: Change, Pair: pair, Op: xfrm.Op{Kind: kind, Policy: pol}, Guard: isGuard})
}

// holdsTable tells whether one object is all that keeps a table while flows may
// be offloaded: without the table they would go out in clear text.
func (p *planner) holdsTable(pf int, d xfrm.Dir) bool {
	r := p.now.refs[pf]
	return p.open && pf != 0 && (d == xfrm.Out && r.TX == 1 || d != xfrm.Out && r.RX == 1)
}
