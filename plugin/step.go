// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"

	"ovs-ipsec-offload/xfrm"
)

// Phase is the place of a step in the only safe order. Steps of a plan never go
// back to an earlier phase.
type Phase uint8

// The phases, in order.
const (
	Hold    Phase = iota + 1 // take flows out of hardware, where something is refused while they are there
	Anchor                   // bypasses and guards: they create the NIC's tables
	Block                    // stop what must not pass any more
	Accept                   // inbound SAs and policies
	Send                     // outbound SAs, then allow policies
	Release                  // let OVS offload
	Retire                   // take away what nobody wants
)

var phaseNames = [...]string{"", "hold", "anchor", "block", "accept", "send", "release", "retire"}

// String gives the phase's name in lower case.
func (p Phase) String() string { return phaseNames[p] }

// Verb is what a step does.
type Verb uint8

// The verbs.
const (
	Change    Verb = iota + 1 // one XFRM operation
	Reserve                   // write the outbound key into the ledger
	OpenGate                  // set other_config:hw-offload=true
	HoldFlows                 // drain the flows of PFs and keep new ones out
	FreeFlows                 // end what HoldFlows began
)

// Step is one change, as data: printable, comparable, free of keys. A step of
// the zero Pair has the scope of the host: when it fails the round ends.
type Step struct {
	Phase Phase
	Verb  Verb
	Pair  Pair
	Op    xfrm.Op // for Change
	Keys  KeySet  // for Reserve, and for a Change that adds an SA: where its key is
	Guard bool    // the op sets up a guard
	Drain *Drain  // for HoldFlows
	// Wide is what the policy of a deletion really matches; nil: its selector.
	Wide *xfrm.Selector
	// Aside tells that the policy of a deletion stands beside the pair's own, of
	// Observed.Aside: what else stands is as it was.
	Aside bool
}

// real returns the operation as the kernel has to be asked for it.
func (s Step) real() xfrm.Op {
	if s.Wide == nil {
		return s.Op
	}
	p := *s.Op.Policy
	p.Sel = *s.Wide
	return xfrm.Op{Kind: s.Op.Kind, Policy: &p}
}

// Drain says which flows have to leave the hardware, and why.
type Drain struct {
	PFs []int // ifindexes, sorted
	Why Why
}

// Why is the reason for which flows are held back.
type Why string

// The reasons.
const (
	WhyRetrofit Why = "retrofit" // they were there before the tables, on a host that was never protected
	WhyLost     Why = "lost"     // the tables were lost under them: they leave in clear text
	WhyStrict   Why = "strict"   // this kernel takes no SA while there are any
	WhyRepair   Why = "repair"   // the operator asked for a repair that they are in the way of
	WhyPark     Why = "park"     // the operator parked the host
)

// Fast tells whether the flows leak, so that they are taken out of hardware at
// once; otherwise OVS is asked to withdraw them.
func (w Why) Fast() bool { return w == WhyLost }

// Hosts tells whether a failure of the step concerns the whole host.
func (s Step) Hosts() bool { return s.Pair == Pair{} }

// Plan is an ordered list of steps, with what the planner has to say.
type Plan struct {
	Steps []Step
	// Encrypted counts the pairs that are encrypted before the first step. The
	// gate opens only if there is one, then or by the steps before.
	Encrypted int
	// Problems of host scope: why something was left out.
	Problems []Problem
	// Deferred holds pairs that have to wait, and says for what.
	Deferred map[Pair]*Problem
	// Stuck holds PFs (by ifindex) that must not be touched: flows were
	// offloaded before their tables stood.
	Stuck map[int]bool
	// Kept holds VTEPs whose guard could not move to the NIC that it belongs to.
	Kept map[VTEP]bool
}

// Undo returns the step that takes s back, and false when there is none.
//
// Guards, bypasses, replaced policies and deletions have no inverse: rollback goes to blocked,
// never to clear text. SAs have none either: without a policy they are idle,
// and an outbound key that was taken away could never be installed again.
func Undo(s Step) (Step, bool) {
	if s.Verb != Change || s.Guard || s.Op.Kind != xfrm.AddPolicy {
		return Step{}, false
	}
	p := s.Op.Policy
	if p.Action != xfrm.Allow || p.Tmpl == nil {
		return Step{}, false
	}
	return Step{Phase: Block, Verb: Change, Pair: s.Pair, Op: xfrm.Op{Kind: xfrm.DeletePolicy, Policy: p}}, true
}

// Text says what the step does; name gives the name of a device.
func (s Step) Text(name func(ifindex int) string) string {
	switch s.Verb {
	case Reserve:
		return fmt.Sprintf("# ledger: outbound key of %s (spi 0x%08x) is used from now on", s.Keys.Name, s.Keys.OutSPI)
	case OpenGate:
		return "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true"
	case HoldFlows:
		return fmt.Sprintf("ovs-vsctl set Open_vSwitch . other_config:flow-limit=0 # and hw-tc-offload off, until no flow is in the hardware of %s (%s)",
			s.Drain.names(name), s.Drain.Why)
	case FreeFlows:
		return "ovs-vsctl remove Open_vSwitch . other_config flow-limit # or as it was, and hw-tc-offload; ovs-appctl revalidator/purge"
	default:
		return s.real().IP(name)
	}
}

func (d *Drain) names(name func(int) string) string {
	ns := make([]string, len(d.PFs))
	for i, pf := range d.PFs {
		ns[i] = name(pf)
	}
	return strings.Join(ns, ", ")
}
