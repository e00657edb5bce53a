// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"fmt"
	"net/netip"

	"ovs-ipsec-offload/xfrm"
)

// Pair is the unit of encryption: the overlay traffic between two VTEPs to one
// UDP port. Many ports (VNIs) share one pair.
type Pair struct {
	Local, Remote netip.Addr
	Port          uint16
}

// String gives "10.0.0.1 > 10.0.0.2 udp 4789".
func (p Pair) String() string { return fmt.Sprintf("%s > %s udp %d", p.Local, p.Remote, p.Port) }

// VTEP returns the local end of the pair.
func (p Pair) VTEP() VTEP { return VTEP{Local: p.Local, Port: p.Port} }

// Compare orders pairs by local address, remote address and port.
func (p Pair) Compare(q Pair) int {
	return cmp.Or(p.Local.Compare(q.Local), p.Remote.Compare(q.Remote), cmp.Compare(p.Port, q.Port))
}

// selector returns what the pair's policies match in direction d.
func (p Pair) selector(d xfrm.Dir) xfrm.Selector {
	s := xfrm.Selector{Src: host(p.Local), Dst: host(p.Remote), Proto: udp, DstPort: p.Port}
	if d == xfrm.In {
		s.Src, s.Dst = s.Dst, s.Src
	}
	return s
}

// VTEP is a local tunnel endpoint: what a guard stands for.
type VTEP struct {
	Local netip.Addr
	Port  uint16
}

// String gives "10.0.0.1 udp 4789".
func (v VTEP) String() string { return fmt.Sprintf("%s udp %d", v.Local, v.Port) }

// Compare orders VTEPs by address and port.
func (v VTEP) Compare(w VTEP) int {
	return cmp.Or(v.Local.Compare(w.Local), cmp.Compare(v.Port, w.Port))
}

// selector returns what the VTEP's guard matches in direction d: all overlay
// traffic from it (Out) or to it (In).
func (v VTEP) selector(d xfrm.Dir) xfrm.Selector {
	s := xfrm.Selector{Src: host(v.Local), Dst: anyOf(v.Local), Proto: udp, DstPort: v.Port}
	if d == xfrm.In {
		s.Src, s.Dst = s.Dst, s.Src
	}
	return s
}

const udp = 17

// ends are the two addresses of an SA: from, to.
type ends [2]netip.Addr

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func anyOf(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// Our priority band. A policy whose priority lies in it is ours, and no other
// is (I5). The band is below everything that IKE daemons use (strongSwan stays
// under 400000) and below U32_MAX, which mlx5 refuses. Each distinct priority
// costs a flow table in the NIC, so there are only four.
const (
	bandFirst     = 0x6f760000
	PriorityProbe = bandFirst + 0x08 // probes of a pair that changes its keys
	PriorityAllow = bandFirst + 0x10 // a pair's own allow policy
	PriorityClear = bandFirst + 0x20 // bypass: clear text by the operator's wish
	PriorityGuard = bandFirst + 0xff00
	bandLast      = bandFirst + 0xffff
)

// oursPolicy tells whether p belongs to this program: by its priority, or on a card
// that has none by its template; or whether an IKE daemon made it for a pair of ours.
func oursPolicy(p *xfrm.Policy) bool {
	return p.Priority >= bandFirst && p.Priority <= bandLast && !p.Exotic || oursNoPriority(p) || negotiatedPolicy(p)
}

// Our reqid range. A reqid is a hash, never a counter: sequential reqids with
// sequential addresses meet in one bucket of the kernel's state hash.
const (
	reqidFirst = 0x40000000
	reqidMask  = 0x3fffffff
	reqidTries = 8
)

// reqidOf returns the n-th choice of a reqid for an SA. mlx5 picks the outbound
// SA by reqid alone, so no two SAs of a device may share one; the planner takes
// the next choice when one is taken.
func reqidOf(id xfrm.SAID, src netip.Addr, n int) uint32 { return hashSA(id, src).choice(n) }

// hashSA is what the choices of a reqid for an SA follow from.
func hashSA(id xfrm.SAID, src netip.Addr) fnv1a {
	return fnvOffset.addr(src).addr(id.Dst).byte(byte(id.SPI >> 24)).byte(byte(id.SPI >> 16)).byte(byte(id.SPI >> 8)).byte(byte(id.SPI))
}

// choice returns the n-th choice of a reqid.
func (h fnv1a) choice(n int) uint32 { return h.byte(byte(n)).reqid() }

// fnv1a is FNV-1a, 64 bits, of what was added to fnvOffset. Rounds take it of every SA,
// several times, so it makes no garbage, as hash/fnv would.
type fnv1a uint64

const fnvOffset fnv1a = 14695981039346656037

func (h fnv1a) byte(b byte) fnv1a { return (h ^ fnv1a(b)) * 1099511628211 }

func (h fnv1a) addr(a netip.Addr) fnv1a {
	for _, b := range a.As16() {
		h = h.byte(b)
	}
	return h
}

// reqid returns a reqid of our range.
func (h fnv1a) reqid() uint32 { return reqidFirst | uint32(h^h>>32)&reqidMask }

// oursSA tells whether s belongs to this program: its reqid can be derived from
// its own addresses and SPI.
func oursSA(s *xfrm.SA) bool {
	if s.Exotic {
		return false
	}
	h := hashSA(s.ID(), s.Src)
	for n := range reqidTries {
		if s.Reqid == h.choice(n) {
			return true
		}
	}
	return false
}
