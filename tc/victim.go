// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"cmp"
	"encoding/binary"
	"slices"
)

const kindFlower = "flower"

// victim names one flower rule of a hook to the kernel, for deletion.
type victim struct {
	handle uint32 // never 0, which would mean all rules of a priority
	info   uint32 // priority and protocol, as struct tcmsg has them
	chain  uint32
}

// decodeVictim returns the flower rule of a filter message; ok
// is false when the message is of another classifier, or not of a single rule,
// or the rule is not in hardware.
func decodeVictim(b []byte) (a victim, ok bool, err error) {
	r, err := decodeRule(b)
	if err != nil || !r.flower || !r.inHW {
		return victim{}, false, err
	}
	m, attrs, err := decodeTcmsg(b)
	return victim{m.handle, m.info, findUint32(attrs, attrChain)}, m.handle != 0, err
}

// deletion builds the RTM_DELTFILTER request for the rule a of h.
func (h hook) deletion(a victim) []byte {
	b := tcmsg{ifindex: h.ifindex, handle: a.handle, parent: h.parent, info: a.info}.append(make([]byte, 0, sizeofTcmsg+20))
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(kindFlower)+1))
	b = binary.NativeEndian.AppendUint16(b, attrKind)
	b = append(b, kindFlower+"\x00\x00"...) // terminated, and padded to four bytes
	b = binary.NativeEndian.AppendUint16(b, 8)
	b = binary.NativeEndian.AppendUint16(b, attrChain)
	return binary.NativeEndian.AppendUint32(b, a.chain)
}

// inOrder sorts places as the devices they belong to were named.
func inOrder(ps []place, ifindexes []int) []place {
	first := func(p place) int {
		return slices.IndexFunc(ifindexes, func(i int) bool { return slices.Contains(p.devs, i) })
	}
	slices.SortStableFunc(ps, func(a, b place) int { return cmp.Compare(first(a), first(b)) })
	return ps
}
