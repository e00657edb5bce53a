// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Message types and flags of netlink itself (linux/netlink.h).
const (
	nlError = 2
	nlDone  = 3

	nlRequest     = 0x001
	nlAck         = 0x004
	nlDumpIntr    = 0x010
	nlDump        = 0x300
	nlCapped      = 0x100 // in an nlError: the request is not echoed
	nlAckTLVs     = 0x200 // in an nlError: attributes follow
	nlAckText     = 1     // NLMSGERR_ATTR_MSG
	nlHeaderLen   = 16
	attrHeaderLen = 4
	attrTypeMask  = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// header is struct nlmsghdr.
type header struct {
	len        uint32
	typ, flags uint16
	seq, port  uint32
}

// align rounds n up to the four bytes netlink aligns everything to.
func align(n int) int { return (n + 3) &^ 3 }

// beginMessage appends a header; endMessage fills in its length.
func beginMessage(b []byte, h header) []byte {
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint16(b, h.typ)
	b = binary.NativeEndian.AppendUint16(b, h.flags)
	b = binary.NativeEndian.AppendUint32(b, h.seq)
	return binary.NativeEndian.AppendUint32(b, h.port)
}

// endMessage closes the message that starts at start.
func endMessage(b []byte, start int) []byte {
	putU32(b[start:], uint32(len(b)-start))
	return grow(b, align(len(b))-len(b))
}

// grow appends n zero bytes.
func grow(b []byte, n int) []byte {
	const zeros = 256
	var z [zeros]byte
	for n > zeros {
		b, n = append(b, z[:]...), n-zeros
	}
	return append(b, z[:n]...)
}

// appendAttr appends an attribute of n zero bytes and returns where they are.
func appendAttr(b []byte, typ uint16, n int) (all, value []byte) {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeaderLen+n))
	b = binary.NativeEndian.AppendUint16(b, typ)
	at := len(b)
	b = grow(b, align(n))
	return b, b[at : at+n]
}

// nextMessage cuts the first message off a datagram. It gives false at the
// end and for a length that the datagram does not have.
func nextMessage(b []byte) (h header, body, rest []byte, ok bool) {
	if len(b) < nlHeaderLen {
		return header{}, nil, nil, false
	}
	h = header{u32(b), u16(b[4:]), u16(b[6:]), u32(b[8:]), u32(b[12:])}
	if h.len < nlHeaderLen || uint64(h.len) > uint64(len(b)) {
		return header{}, nil, nil, false
	}
	n := int(h.len)
	return h, b[nlHeaderLen:n:n], b[min(align(n), len(b)):], true
}

// nextAttr cuts the first attribute off b, in the same way.
func nextAttr(b []byte) (typ uint16, value, rest []byte, ok bool) {
	if len(b) < attrHeaderLen {
		return 0, nil, nil, false
	}
	n := int(u16(b))
	if n < attrHeaderLen || n > len(b) {
		return 0, nil, nil, false
	}
	return u16(b[2:]) & attrTypeMask, b[attrHeaderLen:n:n], b[min(align(n), len(b)):], true
}

// ack is what the kernel says to a request: 0 for done, or a reason.
type ack struct {
	errno unix.Errno
	text  string // NLMSGERR_ATTR_MSG: the driver's own words
}

// parseAck reads the body of an NLMSG_ERROR, with or without the echo of the
// request (NETLINK_CAP_ACK) and with or without attributes (NETLINK_EXT_ACK).
func parseAck(h header, body []byte) (ack, bool) {
	if len(body) < 4+nlHeaderLen {
		return ack{}, false
	}
	a := ack{errno: errnoOf(body)}
	if h.flags&nlAckTLVs == 0 {
		return a, true
	}
	skip := 4 + nlHeaderLen
	if h.flags&nlCapped == 0 {
		skip = 4 + align(int(min(u32(body[4:]), uint32(len(body)))))
	}
	a.text = ackText(body[min(skip, len(body)):])
	return a, true
}

// parseDone reads the end of a dump: an error number and, if any, attributes.
func parseDone(h header, body []byte) ack {
	if len(body) < 4 {
		return ack{}
	}
	a := ack{errno: errnoOf(body)}
	if h.flags&nlAckTLVs != 0 {
		a.text = ackText(body[4:])
	}
	return a
}

// errnoOf reads the kernel's negative error number.
func errnoOf(b []byte) unix.Errno {
	n := int32(u32(b))
	if n >= 0 {
		return 0
	}
	return unix.Errno(-int64(n))
}

// ackText finds the text among the attributes of an acknowledgement.
func ackText(b []byte) string {
	for {
		typ, v, rest, ok := nextAttr(b)
		if !ok {
			return ""
		}
		if typ == nlAckText {
			text, _, _ := bytes.Cut(v, []byte{0})
			return string(bytes.TrimSpace(text))
		}
		b = rest
	}
}
