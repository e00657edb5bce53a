// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String returns op as a command of iproute2 (ip-xfrm(8)), with "[key]" in
// place of a key and "ifN" for a device, which iproute2 understands.
func (op Op) String() string {
	return op.IP(func(ifindex int) string { return "if" + strconv.Itoa(ifindex) })
}

// IP is String with devices named by name.
func (op Op) IP(name func(ifindex int) string) string {
	if !op.named() {
		return op.Kind.String() + " nothing"
	}
	var b strings.Builder
	switch op.Kind {
	case AddSA:
		writeSA(&b, op.SA, name)
	case DeleteSA:
		b.WriteString("ip xfrm state delete")
		writeSAID(&b, op.SA)
	case AddPolicy:
		b.WriteString("ip xfrm policy add")
		writePolicy(&b, op.Policy, name)
	case UpdatePolicy:
		b.WriteString("ip xfrm policy update")
		writePolicy(&b, op.Policy, name)
	case DeletePolicy:
		b.WriteString("ip xfrm policy delete")
		writePolicyID(&b, op.Policy)
	default:
		return op.Kind.String()
	}
	return b.String()
}

func writeSA(b *strings.Builder, s *SA, name func(int) string) {
	b.WriteString("ip xfrm state add")
	writeSAID(b, s)
	fmt.Fprintf(b, " reqid %d mode %s", s.Reqid, s.Mode)
	if s.Window != 0 {
		fmt.Fprintf(b, " replay-window %d", s.Window)
	}
	if s.ESN {
		b.WriteString(" flag esn")
	}
	fmt.Fprintf(b, " aead '%s' %s %d", algGCM, s.Key, icvBits)
	if s.Offload.Ifindex != 0 {
		kind := "crypto"
		if s.Offload.Packet {
			kind = "packet"
		}
		fmt.Fprintf(b, " offload %s dev %s dir %s", kind, name(s.Offload.Ifindex), s.Dir)
	}
	fmt.Fprintf(b, " dir %s", s.Dir)
}

func writeSAID(b *strings.Builder, s *SA) {
	if s.Src.IsValid() {
		fmt.Fprintf(b, " src %s", s.Src)
	}
	fmt.Fprintf(b, " dst %s proto esp spi %#x", s.Dst, s.SPI)
}

func writePolicy(b *strings.Builder, p *Policy, name func(int) string) {
	writePolicyID(b, p)
	fmt.Fprintf(b, " priority %d action %s", p.Priority, p.Action)
	if p.Offload.Ifindex != 0 {
		fmt.Fprintf(b, " offload packet dev %s", name(p.Offload.Ifindex))
	}
	if t := p.Tmpl; t != nil {
		family := p.Sel.Dst.Addr()
		fmt.Fprintf(b, " tmpl src %s dst %s proto esp reqid %d mode %s",
			orWild(t.Src, family), orWild(t.Dst, family), t.Reqid, t.Mode)
	}
}

func writePolicyID(b *strings.Builder, p *Policy) {
	fmt.Fprintf(b, " %s dir %s", p.Sel.AppendTo(nil), p.Dir)
}

// orWild returns a, or the address of all zeros in the family of like.
func orWild(a, like netip.Addr) netip.Addr {
	switch {
	case a.IsValid():
		return a
	case like.Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
