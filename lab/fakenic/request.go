// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"math"

	"ovs-ipsec-offload/xfrm"
)

// State is an ESP state as somebody may ask for it: what an xfrm.SA can say,
// and what it cannot.
type State struct {
	xfrm.SA
	Odd
}

// Odd is what makes a state unlike those that an xfrm.SA stands for. The zero
// value makes it like them.
type Odd struct {
	Proto   uint8            // IP protocol; 0: ESP
	Cipher  string           // "" for rfc4106(gcm(aes)); anything else is not AEAD
	Auth    bool             // an authentication algorithm of its own
	Encap   bool             // ESP in UDP
	ICVBits int              // 0: 128
	KeyBits int              // with the salt; 0: 288
	Print   xfrm.Fingerprint // of a key of another length
	Mode    string           // "beet" and others; "" for SA.Mode
	Crypto  bool             // crypto offload only
	Upper   Upper
	Limits  *Limits // nil: none
}

// print returns the name of the state's key.
func (s *State) print() xfrm.Fingerprint {
	if s.Key.Empty() {
		return s.Odd.Print
	}
	return s.Key.Fingerprint()
}

// Upper is the part of a selector above IP. A port of 0 matches any.
type Upper struct {
	Proto            uint8
	SrcPort, DstPort uint16
}

func upperOf(s xfrm.Selector) Upper { return Upper{s.Proto, s.SrcPort, s.DstPort} }

func (u Upper) match(t tuple) bool {
	return (u.Proto == 0 || u.Proto == t.proto) && (u.SrcPort == 0 || u.SrcPort == t.sport) && (u.DstPort == 0 || u.DstPort == t.dport)
}

// Limits are the byte and packet limits of a state.
type Limits struct{ SoftBytes, HardBytes, SoftPackets, HardPackets uint64 }

// NoLimit is XFRM_INF.
const NoLimit = math.MaxUint64

// Request is a policy as somebody may ask for it: what an xfrm.Policy can say,
// and what it cannot.
type Request struct {
	xfrm.Policy
	SubType   bool // not of type main
	Templates int  // 0: as many as Tmpl says
}

func (r *Request) templates() int {
	if r.Templates == 0 && r.Tmpl != nil {
		return 1
	}
	return r.Templates
}

func (r *Request) reqid() uint32 {
	if r.Tmpl == nil {
		return 0
	}
	return r.Tmpl.Reqid
}

// v6 tells the family of a policy.
func (r *Request) v6() bool { return r.Sel.Dst.Addr().Is6() }
