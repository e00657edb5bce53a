// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"

	"ovs-ipsec-offload/xfrm"
)

// Phase is the place of a step in the only safe order. Steps of a plan never go
// back to an earlier phase.
type Phase uint8

// The phases, in order.
const (
	Anchor  Phase = iota + 1 // bypasses and guards: they create the NIC's tables
	Block                    // stop what must not pass any more
	Accept                   // inbound SAs and policies
	Send                     // outbound SAs, then allow policies
	Release                  // let OVS offload
	Retire                   // take away what nobody wants
)

var phaseNames = [...]string{"", "anchor", "block", "accept", "send", "release", "retire"}

// String gives the phase's name in lower case.
func (p Phase) String() string { return phaseNames[p] }

// Verb is what a step does.
type Verb uint8

// The verbs.
const (
	Change   Verb = iota + 1 // one XFRM operation
	Reserve                  // write the outbound key into the ledger
	OpenGate                 // set other_config:hw-offload=true
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
}

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
	default:
		return s.Op.IP(name)
	}
}
