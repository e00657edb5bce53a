// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"net/netip"

	"ovs-ipsec-offload/xfrm"
)

// IP protocols and the UDP ports that matter.
const (
	protoTCP = 6
	protoUDP = 17
	protoESP = 50

	portVXLAN = 4789
	portIKE   = 500
	portNATT  = 4500
)

// Fragment says which part of a datagram a frame holds.
type Fragment uint8

// The parts.
const (
	Whole Fragment = iota
	First
	Later // holds no upper header
)

// Frame is a frame, as far as a NIC or a host looks at it.
type Frame struct {
	Src, Dst         netip.Addr
	TCP              bool // else UDP
	SrcPort, DstPort uint16
	VXLAN            bool   // it carries a VXLAN header
	VNI              uint32 // in that header
	VLAN             uint16 // 802.1Q tag; 0: none
	Options          bool   // IPv4 options, or IPv6 extension headers
	Frag             Fragment
	ESP              *ESP // what all this is wrapped in, in transport mode
}

// ESP is the outside of an encrypted frame.
type ESP struct {
	SPI    uint32
	Seq    uint64           // 0: nobody counts
	Key    xfrm.Fingerprint // with which it was encrypted
	BadICV bool
}

// Tunnel is what a VXLAN packet has outside: the pair's addresses and port.
type Tunnel struct {
	Src, Dst netip.Addr
	Port     uint16
	VNI      uint32
}

// Frame returns the VXLAN frame with that outside.
func (t Tunnel) Frame() Frame {
	return Frame{Src: t.Src, Dst: t.Dst, SrcPort: 49152, DstPort: t.Port, VXLAN: true, VNI: t.VNI}
}

func (f Frame) proto() uint8 {
	switch {
	case f.ESP != nil:
		return protoESP
	case f.TCP:
		return protoTCP
	}
	return protoUDP
}

// tuple is what the tables of a NIC see of a frame.
type tuple struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
}

// tuple returns what the steering parser makes of the frame, and false for
// fragments and headers with options, which no table matches.
func (f Frame) tuple() (tuple, bool) {
	t := tuple{src: f.Src, dst: f.Dst, proto: f.proto()}
	if f.ESP == nil {
		t.sport, t.dport = f.SrcPort, f.DstPort
	}
	return t, f.Frag == Whole && !f.Options
}

// datagram names what fragments belong to.
type datagram struct {
	src, dst netip.Addr
	out      bool
}

// clear tells whether a frame on the wire is VXLAN in clear text: by port 4789,
// or by a VXLAN header on any port but those of IKE. A later fragment is what
// its first one was.
func (p *PF) clear(f Frame, out bool) bool {
	d := datagram{f.Src, f.Dst, out}
	switch {
	case f.ESP != nil || f.TCP:
		return false
	case f.Frag == Later:
		return p.fragments[d]
	}
	is := f.DstPort == portVXLAN || f.VXLAN && !ike(f.SrcPort) && !ike(f.DstPort)
	if f.Frag == First {
		p.fragments[d] = is
	}
	return is
}

func ike(port uint16) bool { return port == portIKE || port == portNATT }

// Way is what became of a frame.
type Way uint8

// The ways of a frame.
const (
	Clear   Way = iota + 1 // out on the wire as it was, or in from it
	Crypted                // out on the wire in ESP, or in and decrypted
	Blocked                // by a policy in the NIC
	Dropped                // by the NIC or the host's stack for another reason
)

// String gives the way in lower case.
func (w Way) String() string { return [...]string{"", "clear", "esp", "blocked", "dropped"}[w] }

// Port is where a frame from the wire comes out of the NIC.
type Port uint8

// The ports.
const (
	Nowhere Port = iota
	ToVF         // by a flow rule
	ToHost
)

// Fate is what became of a frame.
type Fate struct {
	Way     Way
	SPI     uint32 // of the SA that encrypted or decrypted it
	Offload bool   // a flow rule in hardware forwarded it
	In      Port   // where a frame from the wire came out
	Why     string
	Frame   Frame // that left on the wire, before encryption
}
