// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"net/netip"
	"strconv"
)

// AppendShown appends the state in one line, in the words of ip-xfrm(8) but
// without algorithm and key. name gives the name of a device.
func (s *SA) AppendShown(b []byte, name func(ifindex int) string) []byte {
	b = appendAddr(b, "src ", s.Src)
	b = appendAddr(b, " dst ", s.Dst)
	b = append(b, " proto esp spi 0x"...)
	b = appendHex8(b, s.SPI)
	b = appendNumber(b, " reqid ", s.Reqid)
	b = append(append(b, " mode "...), s.Mode.String()...)
	if s.Window != 0 {
		b = appendNumber(b, " replay-window ", s.Window)
	}
	if s.ESN {
		b = append(b, " flag esn"...)
	}
	b = s.Offload.appendShown(b, name)
	return append(append(b, " dir "...), s.Dir.String()...)
}

// AppendShown appends the policy in one line, in the words of ip-xfrm(8), which
// begins with the selector. name gives the name of a device.
func (p *Policy) AppendShown(b []byte, name func(ifindex int) string) []byte {
	b = p.Sel.AppendTo(b)
	b = append(append(b, " dir "...), p.Dir.String()...)
	b = appendNumber(b, " priority ", p.Priority)
	b = append(append(b, " action "...), p.Action.String()...)
	b = p.Offload.appendShown(b, name)
	if p.Tmpl != nil {
		b = appendNumber(b, " tmpl proto esp reqid ", p.Tmpl.Reqid)
		b = append(append(b, " mode "...), p.Tmpl.Mode.String()...)
	}
	return b
}

// AppendTo appends the selector in the words of ip-xfrm(8).
func (s Selector) AppendTo(b []byte) []byte {
	b = s.Src.AppendTo(append(b, "src "...))
	b = s.Dst.AppendTo(append(b, " dst "...))
	return s.appendUpper(b)
}

// appendUpper appends the part above IP.
func (s Selector) appendUpper(b []byte) []byte {
	switch s.Proto {
	case 0:
	case 6:
		b = append(b, " proto tcp"...)
	case 17:
		b = append(b, " proto udp"...)
	default:
		b = appendNumber(b, " proto ", uint32(s.Proto))
	}
	if s.SrcPort != 0 {
		b = appendNumber(b, " sport ", uint32(s.SrcPort))
	}
	if s.DstPort != 0 {
		b = appendNumber(b, " dport ", uint32(s.DstPort))
	}
	return b
}

func (o Offload) appendShown(b []byte, name func(int) string) []byte {
	switch {
	case o.Ifindex == 0:
		return b
	case o.Packet:
		b = append(b, " offload packet dev "...)
	default:
		b = append(b, " offload crypto dev "...)
	}
	return append(b, name(o.Ifindex)...)
}

func appendAddr(b []byte, before string, a netip.Addr) []byte {
	return a.AppendTo(append(b, before...))
}

func appendNumber(b []byte, before string, n uint32) []byte {
	return strconv.AppendUint(append(b, before...), uint64(n), 10)
}

// appendHex8 appends n in eight digits, as iproute2 prints SPIs.
func appendHex8(b []byte, n uint32) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&0xf])
	}
	return b
}
