// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// String returns the verb in the words of an error: "add SA".
func (k OpKind) String() string {
	switch k {
	case AddSA:
		return "add SA"
	case DeleteSA:
		return "delete SA"
	case AddPolicy:
		return "add policy"
	case UpdatePolicy:
		return "update policy"
	case DeletePolicy:
		return "delete policy"
	}
	return fmt.Sprintf("do %d", uint8(k))
}

// String returns "in", "out" or "fwd", as iproute2 does.
func (d Dir) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	case Fwd:
		return "fwd"
	}
	return fmt.Sprintf("dir-%d", uint8(d))
}

// String returns "transport" or "tunnel".
func (m Mode) String() string {
	switch m {
	case Transport:
		return "transport"
	case Tunnel:
		return "tunnel"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// String returns "allow" or "block".
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Block:
		return "block"
	}
	return fmt.Sprintf("action-%d", uint8(a))
}

// makes tells whether the verb leaves an object in the kernel.
func (k OpKind) makes() bool { return k == AddSA || k == AddPolicy || k == UpdatePolicy }

// ofSA tells whether the verb is about a state.
func (k OpKind) ofSA() bool { return k == AddSA || k == DeleteSA }

// named tells whether op says what it is about.
func (op Op) named() bool {
	if op.Kind.ofSA() {
		return op.SA != nil
	}
	return op.Policy != nil
}

// offload returns the device an op asks for.
func (op Op) offload() Offload {
	switch {
	case !op.Kind.makes():
		return Offload{}
	case op.Kind.ofSA():
		return op.SA.Offload
	}
	return op.Policy.Offload
}

// subject names the object of an op for an error: never its key.
func (op Op) subject() string {
	switch {
	case !op.named():
		return "nothing"
	case op.Kind.ofSA():
		return saSubject(op.SA)
	}
	return policySubject(op.Policy)
}

func saSubject(s *SA) string {
	var b strings.Builder
	if s.Src.IsValid() {
		fmt.Fprintf(&b, "%s > ", s.Src)
	}
	fmt.Fprintf(&b, "%s spi %#x", s.Dst, s.SPI)
	if s.Reqid != 0 {
		fmt.Fprintf(&b, " reqid %d", s.Reqid)
	}
	return b.String()
}

func policySubject(p *Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s > %s", p.Dir, p.Sel.Src, p.Sel.Dst)
	b.Write(p.Sel.appendUpper(nil))
	fmt.Fprintf(&b, " priority %d", p.Priority)
	if p.Tmpl != nil {
		fmt.Fprintf(&b, " reqid %d", p.Tmpl.Reqid)
	}
	return b.String()
}

// check finds what the codec cannot put in a message, or must not: everything
// else is for the kernel and the driver to judge.
func (op Op) check() error {
	switch {
	case !op.named():
		return errors.New("nothing is named")
	case op.Kind == AddSA:
		return checkSA(op.SA)
	case op.Kind == DeleteSA:
		return checkAddr(op.SA.Dst)
	case op.Kind == AddPolicy, op.Kind == UpdatePolicy:
		return checkPolicy(op.Policy)
	case op.Kind == DeletePolicy:
		return checkSelector(op.Policy.Sel)
	}
	return errors.New("unknown verb")
}

// firstSPI is the smallest SPI that is not reserved (RFC 4303, section 2.1).
const firstSPI = 256

func checkSA(s *SA) error {
	if err := errors.Join(checkAddr(s.Src), checkAddr(s.Dst)); err != nil {
		return err
	}
	switch {
	case s.Exotic:
		return errors.New("it has properties that cannot be made again")
	case familyOf(s.Src) != familyOf(s.Dst):
		return errors.New("source and destination are of two families")
	case s.SPI < firstSPI:
		return errors.New("the SPI is reserved")
	case s.Key.Empty():
		return errors.New("it has no key")
	case s.Dir > Out:
		return errors.New("a state is in or out")
	case s.Mode > Tunnel:
		return errors.New("the mode is neither transport nor tunnel")
	case s.Dir == Out && s.Window != 0:
		return errors.New("an outbound state has no replay window")
	case s.Dir == In && s.ESN && s.Window == 0:
		return errors.New("an inbound state with ESN needs a replay window")
	case s.Offload.Packet && s.Reqid == 0:
		return errors.New("packet offload needs a reqid")
	}
	return checkOffload(s.Offload)
}

func checkPolicy(p *Policy) error {
	if err := checkSelector(p.Sel); err != nil {
		return err
	}
	switch {
	case p.Exotic:
		return errors.New("it has properties that cannot be made again")
	case p.Dir > Fwd:
		return errors.New("unknown direction")
	case p.Action > Block:
		return errors.New("unknown action")
	case p.Offload.Ifindex != 0 && !p.Offload.Packet:
		return errors.New("a policy has no crypto offload")
	case p.Tmpl != nil && p.Tmpl.Mode > Tunnel:
		return errors.New("the mode is neither transport nor tunnel")
	case p.Tmpl != nil && familyOf(p.Tmpl.Src) != familyOf(p.Tmpl.Dst):
		return errors.New("source and destination of the template are of two families")
	}
	return checkOffload(p.Offload)
}

func checkSelector(s Selector) error {
	switch {
	case !s.Src.IsValid() || !s.Dst.IsValid():
		return errors.New("the selector has no source or no destination")
	case s.Src.Addr().Is4() != s.Dst.Addr().Is4():
		return errors.New("source and destination are of two families")
	case s.Src.Addr().Is4In6() || s.Dst.Addr().Is4In6():
		return errors.New("the selector has an IPv4 address in IPv6 form")
	}
	return nil
}

func checkAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("an address is missing")
	case a.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6 form", a)
	case a.Zone() != "":
		return fmt.Errorf("%s has a zone", a)
	}
	return nil
}

// checkOffload refuses what would silently end up in software.
func checkOffload(o Offload) error {
	switch {
	case o.Ifindex < 0:
		return errors.New("the interface index is negative")
	case o.Packet && o.Ifindex == 0:
		return errors.New("packet offload needs a device")
	}
	return nil
}

// append appends the request for op. With AddSA it holds a raw key.
func (op Op) append(b []byte, h header, f features) []byte {
	switch op.Kind {
	case AddSA:
		return appendNewSA(b, h, op.SA, f)
	case DeleteSA:
		h.typ = msgDelSA
		return appendSAID(b, h, op.SA.ID())
	case UpdatePolicy:
		h.typ = msgUpdPolicy
		return appendPolicy(b, h, op.Policy)
	case DeletePolicy:
		h.typ = msgDelPolicy
		return appendPolicyID(b, h, op.Policy.Dir, op.Policy.Sel)
	}
	h.typ = msgNewPolicy
	return appendPolicy(b, h, op.Policy)
}

// appendGet appends the request that reads the object of op back.
func (op Op) appendGet(b []byte, h header) []byte {
	if op.Kind.ofSA() {
		h.typ = msgGetSA
		return appendSAID(b, h, op.SA.ID())
	}
	h.typ = msgGetPolicy
	return appendPolicyID(b, h, op.Policy.Dir, op.Policy.Sel)
}

// reverse returns the op that removes what op made.
func (op Op) reverse() Op {
	if op.Kind.ofSA() {
		return Op{Kind: DeleteSA, SA: op.SA}
	}
	return Op{Kind: DeletePolicy, Policy: op.Policy}
}
