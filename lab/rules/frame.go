// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Numbers on the wire (RFC 791, 8200, 768, 4303, 7348, IEEE 802.3 and 802.1Q).
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100

	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoESP      = 50

	fragID = 0x1234 // of all fragments here, so that later ones belong to first ones
)

// mac is an Ethernet address.
type mac [6]byte

// encode gives the Ethernet frame of a packet that is not in ESP.
func (p Packet) encode(dst, src mac) []byte {
	return p.ethernet(dst, src, p.ip(p.payload()))
}

// encodeESP gives the Ethernet frame of a packet in ESP, transport mode.
func (p Packet) encodeESP(dst, src mac, key espKey) ([]byte, error) {
	esp, err := key.seal(p.ESP.SPI, p.ESP.Seq, p.proto(), p.payload())
	if err != nil {
		return nil, err
	}
	if p.ESP.BadICV {
		esp[len(esp)-1] ^= 1
	}
	return p.ethernet(dst, src, p.ipHeader(protoESP, esp)), nil
}

func (p Packet) proto() uint8 {
	if p.Proto == "tcp" {
		return protoTCP
	}
	return protoUDP
}

// payload is the UDP or TCP segment. The checksum of UDP over IPv4 is left
// out, as VXLAN does; the other ones nobody looks at before the NIC is done.
func (p Packet) payload() []byte {
	var b []byte
	if p.Proto == "tcp" {
		b = make([]byte, 20)
		b[12] = 5 << 4 // header length
	} else {
		b = make([]byte, 8)
	}
	binary.BigEndian.PutUint16(b[0:], p.SPort)
	binary.BigEndian.PutUint16(b[2:], p.DPort)
	if p.VXLAN {
		b = append(b, vxlan...)
	}
	b = append(b, make([]byte, 24)...)
	if p.Proto == "udp" {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	}
	return b
}

// vxlan is a VXLAN header of VNI 100, and the Ethernet and IPv4 headers of an
// inner frame.
var vxlan = []byte{
	0x08, 0, 0, 0, 0, 0, 100, 0,
	0x02, 0, 0, 0, 0, 0x0a, 0x02, 0, 0, 0, 0, 0x0b, 0x08, 0x00,
	0x45, 0, 0, 44, 0, 0, 0, 0, 64, 59, 0, 0, 192, 168, 7, 2, 192, 168, 7, 1,
}

// ip puts the IP header before a segment, or before a part of it.
func (p Packet) ip(segment []byte) []byte {
	switch p.Frag {
	case "first":
		segment = segment[:len(segment)&^7]
	case "later":
		segment = make([]byte, 32) // anything: no header is in it
	}
	return p.ipHeader(p.proto(), segment)
}

func (p Packet) ipHeader(proto uint8, payload []byte) []byte {
	if p.Src.Is4() {
		return p.ipv4(proto, payload)
	}
	return p.ipv6(proto, payload)
}

func (p Packet) ipv4(proto uint8, payload []byte) []byte {
	h := make([]byte, 20)
	if p.Options {
		h = append(h, 1, 1, 1, 0) // three NOPs, end of options
	}
	h[0] = 4<<4 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[4:], fragID)
	binary.BigEndian.PutUint16(h[6:], p.fragment4())
	h[8] = 64
	h[9] = proto
	copy(h[12:], p.Src.AsSlice())
	copy(h[16:], p.Dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, payload...)
}

// fragment4 is the word of flags and fragment offset.
func (p Packet) fragment4() uint16 {
	switch p.Frag {
	case "first":
		return 0x2000 // more fragments
	case "later":
		return 1000 / 8
	}
	return 0
}

func (p Packet) ipv6(proto uint8, payload []byte) []byte {
	var ext []byte
	next := proto
	switch {
	case p.Options:
		next, ext = protoHopByHop, []byte{proto, 0, 1, 4, 0, 0, 0, 0} // PadN
	case p.Frag != "":
		next, ext = protoFragment, p.fragment6(proto)
	}
	h := make([]byte, 40)
	h[0] = 6 << 4
	binary.BigEndian.PutUint16(h[4:], uint16(len(ext)+len(payload)))
	h[6] = next
	h[7] = 64
	copy(h[8:], p.Src.AsSlice())
	copy(h[24:], p.Dst.AsSlice())
	return slices.Concat(h, ext, payload)
}

func (p Packet) fragment6(proto uint8) []byte {
	h := []byte{proto, 0, 0, 1, 0, 0, 0, 0} // more fragments
	if p.Frag == "later" {
		binary.BigEndian.PutUint16(h[2:], 1000)
	}
	binary.BigEndian.PutUint32(h[4:], fragID)
	return h
}

func (p Packet) ethernet(dst, src mac, payload []byte) []byte {
	b := slices.Concat(dst[:], src[:])
	if p.VLAN != 0 {
		b = binary.BigEndian.AppendUint16(b, etherVLAN)
		b = binary.BigEndian.AppendUint16(b, p.VLAN)
	}
	ether := uint16(etherIPv4)
	if p.Src.Is6() {
		ether = etherIPv6
	}
	return append(binary.BigEndian.AppendUint16(b, ether), payload...)
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// decode tells of a frame what a script may ask; false: not for scripts (ARP,
// neighbour discovery and the like).
func decode(b []byte) (Frame, bool) {
	if len(b) < 18 {
		return Frame{}, false
	}
	ether, b := binary.BigEndian.Uint16(b[12:]), b[14:]
	if ether == etherVLAN {
		ether, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	proto, payload, err := splitIP(ether, b)
	if err != nil || proto == 58 { // ICMPv6
		return Frame{}, false
	}
	switch {
	case proto == protoESP && len(payload) >= 8:
		return Frame{Proto: "esp", SPI: binary.BigEndian.Uint32(payload)}, true
	case proto == protoUDP && len(payload) >= 8:
		return Frame{Proto: "udp", DPort: binary.BigEndian.Uint16(payload[2:])}, true
	case proto == protoTCP && len(payload) >= 20:
		return Frame{Proto: "tcp", DPort: binary.BigEndian.Uint16(payload[2:])}, true
	}
	return Frame{Proto: "other"}, true
}

// splitIP finds the upper protocol and its segment; of a later fragment there
// is none.
func splitIP(ether uint16, b []byte) (uint8, []byte, error) {
	switch {
	case ether == etherIPv4 && len(b) >= 20 && len(b) >= int(b[0]&15)*4:
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return 255, nil, nil
		}
		return b[9], b[int(b[0]&15)*4:], nil
	case ether == etherIPv6 && len(b) >= 40:
		return splitIPv6(b[6], b[40:])
	}
	return 0, nil, fmt.Errorf("not IP: %#x", ether)
}

func splitIPv6(next uint8, b []byte) (uint8, []byte, error) {
	for next == protoHopByHop || next == protoFragment {
		if len(b) < 8 || next == protoHopByHop && len(b) < (int(b[1])+1)*8 {
			return 0, nil, fmt.Errorf("short extension header")
		}
		if next == protoFragment {
			if binary.BigEndian.Uint16(b[2:])&^7 != 0 {
				return 255, nil, nil
			}
			next, b = b[0], b[8:]
			continue
		}
		next, b = b[0], b[(int(b[1])+1)*8:]
	}
	return next, b, nil
}
