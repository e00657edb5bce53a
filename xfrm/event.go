// SPDX-License-Identifier: Apache-2.0

package xfrm

import "fmt"

// EventKind is what happened.
type EventKind uint8

// The kinds of an Event.
const (
	SAAdded EventKind = iota + 1
	SAUpdated
	SADeleted
	SAsFlushed
	SAExpired // softly, or hard: then it is gone
	PolicyAdded
	PolicyUpdated
	PolicyDeleted
	PoliciesFlushed
	PolicyExpired
	Acquire // the host's stack wants an SA; only WithAcquire

	// Overrun: events were lost. What is not seen in a dump made after it did
	// not happen.
	Overrun
)

// String returns the kind in words: "SA deleted".
func (k EventKind) String() string {
	names := [...]string{
		SAAdded: "SA added", SAUpdated: "SA updated", SADeleted: "SA deleted",
		SAsFlushed: "SAs flushed", SAExpired: "SA expired",
		PolicyAdded: "policy added", PolicyUpdated: "policy updated", PolicyDeleted: "policy deleted",
		PoliciesFlushed: "policies flushed", PolicyExpired: "policy expired",
		Acquire: "acquire", Overrun: "overrun",
	}
	if k == 0 || int(k) >= len(names) {
		return fmt.Sprintf("event %d", uint8(k))
	}
	return names[k]
}

// Event is one notification. That a device went down, or away, and took its
// states and policies with it is no event: the kernel says nothing
// (net/xfrm/xfrm_device.c).
type Event struct {
	Kind EventKind

	// PortID is the port id in the request that caused it (Client.PortID), 0
	// from the kernel itself and from programs that leave it out, as iproute2.
	PortID uint32

	SA     SA     // of the kinds SA…; without algorithm and offload if SAExpired, only addresses, mode and reqid if Acquire
	Policy Policy // of the kinds Policy… and Acquire
	Hard   bool   // of SAExpired and PolicyExpired: the limit that ends its life
}

// struct xfrm_user_expire and xfrm_user_polexpire: an info, then hard.
// struct xfrm_user_acquire: id, source, selector, policy.
const (
	expireHard    = saLen
	expireLen     = saLen + 8
	polExpireHard = polLen
	polExpireLen  = polLen + 8

	acqDst    = 0
	acqSrc    = 24
	acqSel    = 40
	acqPolicy = 96
	acqLen    = 280
)

// decodeEvent reads a notification. It gives false for those that are of no
// interest: other messages, and the policies of a single socket.
func decodeEvent(h header, body []byte) (Event, bool) {
	e := Event{PortID: h.port}
	var err error
	switch h.typ {
	case msgNewSA, msgUpdSA:
		e.Kind, err = SAAdded, decodeSA(body, &e.SA)
		if h.typ == msgUpdSA {
			e.Kind = SAUpdated
		}
	case msgDelSA:
		e.Kind, err = SADeleted, decodeDelSA(body, &e.SA)
	case msgFlushSA:
		e.Kind = SAsFlushed
	case msgExpire:
		e.Kind, err = SAExpired, decodeExpire(body, &e)
	case msgNewPolicy, msgUpdPolicy:
		e.Kind, err = PolicyAdded, decodePolicy(body, &e.Policy)
		if h.typ == msgUpdPolicy {
			e.Kind = PolicyUpdated
		}
	case msgDelPolicy:
		e.Kind, err = PolicyDeleted, decodeDelPolicy(body, &e.Policy)
	case msgFlushPolicy:
		e.Kind = PoliciesFlushed
	case msgPolExpire:
		e.Kind, err = PolicyExpired, decodePolExpire(body, &e)
	case msgAcquire:
		e.Kind, err = Acquire, decodeAcquire(body, &e)
	default:
		return Event{}, false
	}
	return e, err == nil && e.Policy.Dir <= Fwd
}

func decodeExpire(b []byte, e *Event) error {
	if len(b) < expireLen {
		return errShort
	}
	decodeSAInfo(b, &e.SA)
	decodeSAAttrs(b[expireLen:], &e.SA)
	e.Hard = b[expireHard] != 0
	return nil
}

func decodePolExpire(b []byte, e *Event) error {
	if len(b) < polExpireLen {
		return errShort
	}
	decodePolicyInfo(b, &e.Policy)
	decodePolicyAttrs(b[polExpireLen:], &e.Policy)
	e.Hard = b[polExpireHard] != 0
	return nil
}

// decodeAcquire reads an ACQUIRE: the policy that wants a state, and the ends
// of the state it wants.
func decodeAcquire(b []byte, e *Event) error {
	if len(b) < acqLen {
		return errShort
	}
	decodePolicyInfo(b[acqPolicy:], &e.Policy)
	decodePolicyAttrs(b[acqLen:], &e.Policy)
	family := u16(b[acqSel+selFamily:])
	if e.Policy.Tmpl != nil {
		e.SA.Reqid, e.SA.Mode = e.Policy.Tmpl.Reqid, e.Policy.Tmpl.Mode
		if e.SA.Mode == Tunnel {
			family = familyOf(e.Policy.Tmpl.Dst)
		}
	}
	e.SA.Dst, e.SA.Src = addrAt(b[acqDst:acqDst+16], family), addrAt(b[acqSrc:acqSrc+16], family)
	e.SA.Dir = Out
	return nil
}
