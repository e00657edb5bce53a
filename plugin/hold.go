// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"maps"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// hold takes flows out of hardware when something has to be done that the NIC
// refuses while they are there, and it may be; else it leaves that PF, or those
// pairs, alone and says why.
func (p *planner) hold() {
	why, pfs := p.drains()
	p.open = p.ob.GateOpen && !p.held
	if len(pfs) == 0 {
		return
	}
	if why.Fast() {
		p.anchorHost()
	}
	p.step(Step{Phase: Hold, Verb: HoldFlows, Drain: &Drain{PFs: slices.Sorted(maps.Keys(pfs)), Why: why}})
}

// anchorHost puts bypasses and guards that are missing into the host's stack,
// where nothing refuses them: what goes by the slow path while flows leave the
// hardware is stopped there. The NIC gets them next.
func (p *planner) anchorHost() {
	for _, a := range p.anchors() {
		if _, stands := p.now.policies[placeOf(a.pol)]; !stands {
			p.step(Step{Phase: Hold, Verb: Change, Pair: a.pair, Op: xfrm.Op{Kind: xfrm.AddPolicy, Policy: inStack(a.pol)}, Guard: a.pair == Pair{}})
		}
	}
}

// drains returns the PFs whose flows have to leave the hardware now. All reasons
// are served by one drain; the most pressing gives its name.
func (p *planner) drains() (why Why, pfs map[int]bool) {
	pfs = map[int]bool{}
	note := func(pf int, w Why) {
		if pfs[pf] = true; why == "" || w == WhyLost {
			why = w
		}
	}
	for _, pf := range slices.Sorted(maps.Keys(p.ob.Flows)) {
		n := p.ob.Flows[pf]
		switch {
		case p.givesBack() && !p.ob.Protected[pf] && p.lacksGuard(pf):
			p.leave(pf, n)
		case p.in.Parked:
			if n > 0 || p.ob.GateOpen && (!p.held || p.ob.Loose) {
				note(pf, WhyPark)
			}
		case n > 0 && p.lacksTable(pf):
			if w := p.mayDrain(pf, n); w != "" {
				note(pf, w)
			}
		case p.in.Repair && (n > 0 || p.ob.GateOpen && !p.held) && p.inTheWay(pf):
			note(pf, WhyRepair)
		case p.ob.Strict[pf] && n > 0 && p.wantsSAs(pf):
			note(pf, WhyStrict)
		}
	}
	return why, pfs
}

// lacksTable tells whether a PF that has to hold something, or did, lacks a table: the
// kernel refuses it while flows are in hardware (EBUSY), and they would never use it.
func (p *planner) lacksTable(pf int) bool {
	r, f := p.now.refs[pf], p.ob.Foreign[pf]
	return (r.TX+f.TX == 0 || r.RX+f.RX == 0) &&
		(p.ob.Protected[pf] || p.in.Unguarded[pf] || slices.ContainsFunc(p.in.Guards, func(g GuardIntent) bool { return g.PF == pf }))
}

// mayDrain tells for what reason n flows that bypass the tables of pf may be
// taken out; if they may not, the PF is left alone and the plan says so.
func (p *planner) mayDrain(pf, n int) Why {
	switch {
	case p.ob.Protected[pf]:
		return WhyLost
	case p.in.Retrofit && !p.ob.GaveUp:
		return WhyRetrofit
	}
	p.leave(pf, n)
	return ""
}

// leave leaves a PF alone whose n flows bypass the tables that it lacks.
func (p *planner) leave(pf, n int) {
	p.plan.Stuck[pf] = true
	if n := p.ob.OnPF[pf]; n > 0 {
		p.plan.Problems = append(p.plan.Problems, filtersOnPF(p.in.name(pf), n))
	}
	remedy := "start this daemon before ovs-vswitchd, or stop ovs-vswitchd, delete its tunnel devices and restart both"
	if p.in.Ask {
		remedy = "`ovs-ipsec-offload repair` takes them out and puts them back; all traffic goes by the slow path for that time, about a second"
	}
	code, text := "FLOWS_FIRST", fmt.Sprintf("%d flows are in the hardware of %s but its IPsec tables are not: the NIC refuses them now and those flows would bypass them, so nothing was changed; %s", n, p.in.name(pf), remedy)
	if p.ob.GaveUp {
		code = "RETROFIT_FAILED"
		text = fmt.Sprintf("the flows in the hardware of %s were taken out, but its guards could not be put in, so everything was given back as it was: see the log, mend that, and `ovs-ipsec-offload repair` tries again", p.in.name(pf))
	}
	p.plan.Problems = append(p.plan.Problems, Problem{code, text})
}

// lacksGuard tells whether a guard that pf should hold is missing.
func (p *planner) lacksGuard(pf int) bool {
	return p.in.Unguarded[pf] && !p.now.tablesHeld(pf) || slices.ContainsFunc(p.in.Guards, func(g GuardIntent) bool {
		return g.PF == pf && !(p.now.guardStands(g, xfrm.Out) && p.now.guardStands(g, xfrm.In))
	})
}

// givesBack tells that flows are held for a retrofit that failed.
func (p *planner) givesBack() bool { return p.ob.Holding == WhyRetrofit && p.ob.GaveUp }

// inTheWay tells whether flows keep pf from what it should hold: a table of
// another encap-mode, or a policy that belongs into another NIC.
func (p *planner) inTheWay(pf int) bool {
	return p.ob.Remake[pf] || slices.ContainsFunc(p.anchors(), func(a anchored) bool {
		now, is := p.now.policies[placeOf(a.pol)]
		return is && now.Offload.Ifindex == pf && now.Offload != a.pol.Offload
	})
}

// wantsSAs tells whether a pair of pf needs an SA that does not stand and may
// have it at the price of a drain; pairs that may not are put off.
func (p *planner) wantsSAs(pf int) bool {
	wants := false
	for i := range p.in.Pairs {
		pi := &p.in.Pairs[i]
		if pi.PF != pf || !p.lacksSA(pi) {
			continue
		}
		switch {
		case !p.in.DrainForSAs:
			p.plan.Deferred[pi.Pair] = &Problem{"STRICT_KERNEL", fmt.Sprintf("this kernel takes no SA while flows are in hardware, and strict_sa=wait forbids to take them out: "+
				"%s stays as it is until there are none, or until `ovs-ipsec-offload repair`", pi.Pair)}
		case p.ob.Resting:
			p.plan.Deferred[pi.Pair] = &Problem{"STRICT_KERNEL", fmt.Sprintf("this kernel takes no SA while flows are in hardware, and they were taken out a moment ago: %s waits for the next time", pi.Pair)}
		default:
			wants = true
		}
	}
	return wants
}

// lacksSA tells whether flows keep a pair from an SA.
func (p *planner) lacksSA(pi *PairIntent) bool {
	if pi.Want == Negotiate {
		return p.ob.Refused[pi.Pair]
	}
	return pi.Want == Encrypt && !p.ob.PutOff[pi.Pair] && !p.complete(pi)
}

// complete tells whether both SAs of a pair stand.
func (p *planner) complete(pi *PairIntent) bool {
	in, out := pi.ids()
	return p.now.sas[in] != nil && p.now.sas[out] != nil
}

// free lets flows into hardware again, once every PF in use has its guards and
// nothing more is to be done that flows forbid. A retrofit that failed is undone
// as well: that host is as unprotected as it was.
func (p *planner) free() {
	if p.held && (p.givesBack() || !p.window() && len(p.plan.Stuck) == 0 && !p.exposed() && !p.unready()) {
		p.step(Step{Phase: Release, Verb: FreeFlows})
	}
}

// unready tells whether a PF that was protected lacks its tables still, and says so.
func (p *planner) unready() bool {
	for _, pf := range slices.Sorted(maps.Keys(p.ob.Protected)) {
		if p.lacksTable(pf) {
			p.plan.Problems = append(p.plan.Problems, Problem{"HOLD_WAITS", fmt.Sprintf(
				"flows are held back until %s can have its tables again: see what is noted of it; without them everything offloaded would leave in clear text", p.in.name(pf))})
			return true
		}
	}
	return false
}
