// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"maps"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// Violation is a step that would break an invariant.
type Violation struct {
	Invariant string // "I1" to "I7", or "order"
	Step      int    // index of the step in the plan
	Text      string
}

// Error names the invariant, the step and what is wrong.
func (v *Violation) Error() string {
	return fmt.Sprintf("plan breaks %s at step %d: %s", v.Invariant, v.Step+1, v.Text)
}

// Check runs every prefix of the plan against the invariants, on a model of
// what stands, and returns the first violation or nil. Each step costs constant
// time, so that it can run before every apply.
func Check(in Intent, ob Observed, plan Plan) *Violation {
	m := newModel(in, ob, plan)
	for i := range plan.Steps {
		if v := m.take(i, &plan.Steps[i]); v != nil {
			return v
		}
	}
	return m.end(len(plan.Steps))
}

// model is the state that a prefix of the plan leads to.
type model struct {
	*view
	in       Intent
	ob       Observed
	stuck    map[int]bool
	kept     map[VTEP]bool
	pairs    map[Pair]*PairIntent
	users    map[uint32]Pair // reqid to the pair whose outbound policy uses it
	probers  map[lane]place  // what sends probes
	reserved map[xfrm.Fingerprint]bool
	sent     map[xfrm.Fingerprint]bool
	phase    Phase
	open     bool
	flows    map[int]int // in hardware, by PF
}

func newModel(in Intent, ob Observed, plan Plan) *model {
	m := &model{view: newView(&ob), in: in, ob: ob, stuck: plan.Stuck, kept: plan.Kept, open: ob.GateOpen && ob.Holding == "", flows: maps.Clone(ob.Flows),
		pairs: make(map[Pair]*PairIntent, len(in.Pairs)), users: users(ob.Policies), probers: probers(ob.Policies),
		reserved: map[xfrm.Fingerprint]bool{}, sent: map[xfrm.Fingerprint]bool{}}
	for i := range in.Pairs {
		m.pairs[in.Pairs[i].Pair] = &in.Pairs[i]
	}
	return m
}

// take checks one step and applies it to the model.
func (m *model) take(i int, s *Step) *Violation {
	bad := func(inv, format string, args ...any) *Violation {
		return &Violation{Invariant: inv, Step: i, Text: fmt.Sprintf(format, args...)}
	}
	if s.Phase < m.phase {
		return bad("order", "%s after %s", s.Phase, m.phase)
	}
	m.phase = s.Phase
	switch s.Verb {
	case Reserve:
		m.reserved[s.Keys.OutPrint] = true
		return nil
	case OpenGate:
		m.open = true
		return m.gate(bad)
	case HoldFlows:
		m.open = false
		for _, pf := range s.Drain.PFs {
			m.flows[pf] = 0
		}
		return nil
	case FreeFlows:
		if m.open = m.ob.GateOpen; m.open {
			return m.gate(bad)
		}
		return nil
	}
	if s.Aside {
		if !slices.ContainsFunc(m.ob.Aside, func(a Aside) bool { return a.Policy == *s.Op.Policy }) {
			return bad("I5", "policy for %s is not one of an IKE daemon", s.Pair)
		}
		return nil
	}
	if text := m.foreign(s.Op); text != "" {
		return bad("I5", "%s", text)
	}
	switch s.Op.Kind {
	case xfrm.AddSA:
		return m.addSA(s, bad)
	case xfrm.DeleteSA:
		if m.probes(s.Op.SA) {
			return bad("I2", "probes of %s would go out in clear text", s.Pair)
		}
		return m.dropped(s.Op.SA.Offload.Ifindex, m.users[s.Op.SA.Reqid], bad, func() { m.dropSA(s.Op.SA.ID()) })
	case xfrm.DeletePolicy:
		if v, is := vtepOf(s.Op.Policy); is {
			return bad("I2", "the guard of %s goes", v)
		}
		pair, _ := pairOf(s.Op.Policy)
		if isAnchor(pair) && !m.in.Parked {
			return bad("I4", "what holds the tables of %s goes", m.in.name(s.Op.Policy.Offload.Ifindex))
		}
		if m.freed(pair, s.Op.Policy) {
			pair = Pair{} // nobody's traffic
		}
		return m.dropped(s.Op.Policy.Offload.Ifindex, pair, bad, func() { m.dropPolicy(placeOf(s.Op.Policy)) })
	default:
		return m.putChecked(s.Op.Policy, bad)
	}
}

type complain func(inv, format string, args ...any) *Violation

// gate: I1, no flow may be offloaded without both tables; I2, every pair is safe.
func (m *model) gate(bad complain) *Violation {
	for pf := range m.ob.Protected {
		if r, f := m.refs[pf], m.ob.Foreign[pf]; !m.stuck[pf] && (r.TX+f.TX == 0 || r.RX+f.RX == 0) {
			return bad("I1", "the gate opens while a table of %s, which had it before, is missing", m.in.name(pf))
		}
	}
	for _, g := range m.in.Guards {
		if m.stuck[g.PF] {
			continue // as unprotected as it was, and the plan says so
		}
		if g.Exposed {
			return bad("I2", "the gate opens while nothing guards %s in its NIC", g.VTEP)
		}
		if r := m.refs[g.PF]; g.PF != 0 && (r.TX == 0 || r.RX == 0) {
			return bad("I1", "the gate opens while a table of %s is missing", m.in.name(g.PF))
		}
		if g.PF != 0 && (!m.stands(g, xfrm.Out) || !m.stands(g, xfrm.In)) {
			return bad("I2", "the gate opens before the guard of %s stands in its NIC", g.VTEP)
		}
	}
	if pf := m.adrift(); pf != 0 {
		return bad("I1", "the gate opens while nothing of ours holds the tables of %s", m.in.name(pf))
	}
	for i := range m.in.Pairs {
		if pi := &m.in.Pairs[i]; pi.PF != 0 && !m.stuck[pi.PF] && !m.safe(pi) {
			return bad("I2", "the gate opens while %s is neither encrypted nor blocked in hardware", pi.Pair)
		}
	}
	return nil
}

// stands tells whether a guard stands in the NIC that it is meant for.
func (m *model) stands(g GuardIntent, d xfrm.Dir) bool {
	p, is := m.policies[place{d, g.selector(d)}]
	return is && p.Action == xfrm.Block && p.Offload.Ifindex == g.PF
}

// safe tells whether a pair's traffic does what it may.
func (m *model) safe(pi *PairIntent) bool {
	f := m.fateOf(pi.Pair, pi.PF)
	return f == blocked || f == encrypted || pi.Want == Clear
}

// foreign: I5, nothing that is not ours is touched.
func (m *model) foreign(op xfrm.Op) string {
	if op.SA != nil && !oursSA(op.SA) && !m.ob.negotiated(op.SA) {
		return fmt.Sprintf("SA with SPI 0x%08x to %s is not ours", op.SA.SPI, op.SA.Dst)
	}
	if op.Policy != nil && !m.ob.ours(op.Policy) {
		return fmt.Sprintf("policy with priority %d is not ours", op.Policy.Priority)
	}
	return ""
}

// addSA: I1, no first object while flows are in hardware; I6, an outbound key
// once and only after its reservation; I7, no key in the step; and a reqid that
// no other SA of that direction has.
func (m *model) addSA(s *Step, bad complain) *Violation {
	sa := s.Op.SA
	switch f := s.Keys.OutPrint; {
	case !sa.Key.Empty():
		return bad("I7", "the step holds a key")
	case sa.Dir == xfrm.Out && (m.ob.Spent(f) || m.sent[f]):
		return bad("I6", "the outbound key of %s was installed before", s.Keys.Name)
	case sa.Dir == xfrm.Out && !m.reserved[f]:
		return bad("I6", "the outbound key of %s is not in the ledger yet", s.Keys.Name)
	case sa.Dir == xfrm.Out && m.senders[lane{sa.Offload.Ifindex, sa.Reqid}] > 0:
		return bad("I2", "reqid 0x%x has an outbound SA already: the NIC could encrypt to the wrong peer", sa.Reqid)
	}
	if sa.Dir == xfrm.Out {
		m.sent[s.Keys.OutPrint] = true
	}
	if v := m.first(sa.Offload.Ifindex, sa.Dir, bad); v != nil {
		return v
	}
	m.putSA(sa)
	return nil
}

// first: I1, the first object of a table is refused while flows are offloaded,
// and those flows would never use the table.
func (m *model) first(pf int, d xfrm.Dir, bad complain) *Violation {
	r := m.refs[pf]
	r.TX, r.RX = r.TX+m.ob.Foreign[pf].TX, r.RX+m.ob.Foreign[pf].RX
	if pf != 0 && m.flows[pf] > 0 && (d == xfrm.Out && r.TX == 0 || d == xfrm.In && r.RX == 0) {
		return bad("I1", "a table of %s is made while flows are in hardware", m.in.name(pf))
	}
	return nil
}

// dropped applies a deletion: I4, the last reference of a table stays while the
// gate is open; I2, the pair that used it is still safe if it was.
func (m *model) dropped(pf int, user Pair, bad complain, drop func()) *Violation {
	pi, exit := m.pairs[user], pf
	if pi != nil {
		exit = pi.PF
	}
	before := pi != nil && m.safe(pi)
	shut := [2]bool{m.shuts(user, exit), m.shuts(user, 0)}
	had := m.refs[pf]
	drop()
	has := m.refs[pf]
	switch {
	case m.open && pf != 0 && emptied(had, has):
		return bad("I4", "the last object of a table of %s goes while flows may be in hardware", m.in.name(pf))
	case before && !m.safe(pi), shut[0] && m.fateOf(user, exit) == leaks, shut[1] && m.fateOf(user, 0) == leaks:
		return bad("I2", "%s would go out in clear text", user)
	}
	return nil
}

// shuts tells whether clear text of a pair does not get out of a NIC, or of the
// host's stack (0).
func (m *model) shuts(p Pair, pf int) bool {
	f := m.fateOf(p, pf)
	return p != Pair{} && (f == encrypted || f == blocked)
}

// emptied tells whether a table lost its last object.
func emptied(had, has Refs) bool {
	return had.TX > 0 && has.TX == 0 || had.RX > 0 && has.RX == 0
}

// abandons returns the PF that would lose a table, while the gate is open, when
// p takes the place of a policy that stands elsewhere; 0 when none would.
func (m *model) abandons(p *xfrm.Policy) int {
	old, is := m.policies[placeOf(p)]
	if !is || !m.open || old.Offload.Ifindex == p.Offload.Ifindex {
		return 0
	}
	had := m.refs[old.Offload.Ifindex]
	has := had
	has.add(p.Dir, -1)
	if emptied(had, has) {
		return old.Offload.Ifindex
	}
	return 0
}

// putChecked applies an added or replaced policy: I1, I2 and I3.
func (m *model) putChecked(p *xfrm.Policy, bad complain) *Violation {
	if pair, is := probedBy(p); is {
		return m.putProbing(pair, p, bad)
	}
	if v := m.first(p.Offload.Ifindex, p.Dir, bad); v != nil {
		return v
	}
	pair, is := pairOf(p)
	pi := m.pairs[pair]
	if is && p.Action == xfrm.Allow && p.Tmpl != nil && pi != nil {
		if _, can := m.sas[xfrm.SAID{Dst: pair.Local, SPI: pi.Keys.InSPI}]; !can {
			return bad("I3", "%s is let out before this host can receive", pair)
		}
		if m.hasty(pi, p) {
			return bad("I3", "%s turns to keys that nothing shows its peer to have", pair)
		}
	}
	if pf := m.abandons(p); pf != 0 {
		return bad("I4", "the last object of a table of %s goes while flows may be in hardware", m.in.name(pf))
	}
	m.putPolicy(p)
	use(m.users, p)
	if is && p.Dir == xfrm.Out && p.Action == xfrm.Allow && (pi == nil || !m.safe(pi)) {
		return bad("I2", "%s would go out in clear text", pair)
	}
	return nil
}

// end: when the plan is through, every pair is safe, but for those on a PF that
// was left alone or whose guard could not come to theirs.
func (m *model) end(n int) *Violation {
	for i := range m.in.Pairs {
		if pi := &m.in.Pairs[i]; !m.stuck[pi.PF] && !m.kept[pi.VTEP()] && !m.ob.PutOff[pi.Pair] && !m.safe(pi) {
			return &Violation{Invariant: "I2", Step: n, Text: pi.Pair.String() + " is neither encrypted nor blocked when the plan is through"}
		}
	}
	return nil
}
