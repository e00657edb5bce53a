// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"errors"
)

// Values of linux/rtnetlink.h, linux/pkt_sched.h and linux/pkt_cls.h.
const (
	sizeofTcmsg = 20 // struct tcmsg

	attrKind         = 1  // TCA_KIND
	attrOptions      = 2  // TCA_OPTIONS
	attrIngressBlock = 13 // TCA_INGRESS_BLOCK
	attrEgressBlock  = 14 // TCA_EGRESS_BLOCK
	attrDumpFlags    = 15 // TCA_DUMP_FLAGS

	dumpTerse = 1 // TCA_DUMP_FLAGS_TERSE

	parentHook    = 0xfffffff1 // TC_H_INGRESS, which is TC_H_CLSACT too
	parentIngress = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	parentEgress  = 0xfffffff3 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
	ifindexBlock  = -1         // TCM_IFINDEX_MAGIC_BLOCK

	flagInHW = 4 // TCA_CLS_FLAGS_IN_HW
)

var errShort = errors.New("message ends early")

// tcmsg is struct tcmsg without its padding.
type tcmsg struct {
	ifindex int32
	handle  uint32
	parent  uint32 // of a filter of a shared block: the index of the block
	info    uint32
}

// decodeTcmsg splits a message into its header and its attributes.
func decodeTcmsg(b []byte) (tcmsg, []byte, error) {
	if len(b) < sizeofTcmsg {
		return tcmsg{}, nil, errShort
	}
	return tcmsg{
		ifindex: int32(binary.NativeEndian.Uint32(b[4:])),
		handle:  binary.NativeEndian.Uint32(b[8:]),
		parent:  binary.NativeEndian.Uint32(b[12:]),
		info:    binary.NativeEndian.Uint32(b[16:]),
	}, b[sizeofTcmsg:], nil
}

// append appends m in wire format.
func (m tcmsg) append(b []byte) []byte {
	b = append(b, 0, 0, 0, 0) // family, padding
	b = binary.NativeEndian.AppendUint32(b, uint32(m.ifindex))
	b = binary.NativeEndian.AppendUint32(b, m.handle)
	b = binary.NativeEndian.AppendUint32(b, m.parent)
	return binary.NativeEndian.AppendUint32(b, m.info)
}

// find returns the payload of the first attribute of the given type. It looks
// at no attribute's content, so an unknown one cannot disturb it.
func find(b []byte, typ uint16) (payload []byte, found bool) {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(b[2:])&attrTypeMask == typ {
			return b[4:size], true
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil, false
}

const attrTypeMask = 0x3fff // NLA_TYPE_MASK

// findUint32 returns the number in the first attribute of the given type, or 0.
func findUint32(b []byte, typ uint16) uint32 {
	if v, _ := find(b, typ); len(v) >= 4 {
		return binary.NativeEndian.Uint32(v)
	}
	return 0
}

// findString returns the text in the first attribute of the given type, or nil.
func findString(b []byte, typ uint16) []byte {
	v, _ := find(b, typ)
	for len(v) > 0 && v[len(v)-1] == 0 {
		v = v[:len(v)-1]
	}
	return v
}
