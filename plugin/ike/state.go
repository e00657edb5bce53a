// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"cmp"
	"slices"
	"time"
)

// The phases of a Conn, as ConnState.Phase gives them.
const (
	Loading    = "loading"    // the daemon does not have it yet
	Waiting    = "waiting"    // for the peer, which leads, or for the next attempt
	Connecting = "connecting" // the daemon is at it
	Up         = "up"         // its children are installed, as the daemon says
	Failed     = "failed"     // the last attempt failed; there will be another
)

// State is what is known of the IKE daemon. It is shared: it must not be
// written to.
type State struct {
	Daemon  string               // such as "strongSwan 6.0.1"; "" when it does not answer
	Problem *Problem             // of the daemon as a whole, nil if there is none
	Conns   map[string]ConnState // by Conn.Name; all that are wanted
}

// ConnState is what is known of one Conn.
type ConnState struct {
	Phase    string
	Children []Child   // installed ones; during a rekey there may be two of a name
	Problem  *Problem  // nil if there is none
	Since    time.Time // when Phase was entered
}

// Child is a child SA that the daemon says is installed: one ESP SA each way.
type Child struct {
	Name          string // Out, In or Both
	SPIIn, SPIOut uint32
	Installed     time.Time     // to the second
	RekeyIn       time.Duration // 0 when the peer rekeys it
	ESN           bool          // 64-bit sequence numbers
	Rekeyed       bool          // it was replaced and is about to go
}

// ByAge orders children by name and age, the oldest first.
func ByAge(a, b Child) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), a.Installed.Compare(b.Installed), cmp.Compare(a.SPIIn, b.SPIIn))
}

// news tells whether t says something that s does not, and that matters to who waits for
// SAs: not how far an attempt is, nor the time until a rekey, which passes by itself.
func (s ConnState) news(t ConnState) bool {
	if s.Phase != t.Phase && (!coming(s.Phase) || !coming(t.Phase)) || !s.Problem.equal(t.Problem) {
		return true
	}
	return !slices.EqualFunc(s.Children, t.Children, func(a, b Child) bool {
		a.RekeyIn, b.RekeyIn = 0, 0
		return a == b
	})
}

// coming tells whether a phase is one on the way to Up.
func coming(phase string) bool { return phase == Loading || phase == Waiting || phase == Connecting }
