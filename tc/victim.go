// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"cmp"
	"encoding/binary"
	"slices"
)

const (
	kindFlower = "flower"
	attrFlags  = 22 // TCA_FLOWER_FLAGS

	flagSkipHW = 1 // TCA_CLS_FLAGS_SKIP_HW
	flagSkipSW = 2 // TCA_CLS_FLAGS_SKIP_SW
)

// victim is a flower rule that has to leave the hardware.
type victim struct {
	handle uint32 // never 0, which would mean all rules of a priority
	info   uint32 // priority and protocol, as struct tcmsg has them
	chain  uint32
	// options are the rule's own, but for flags that keep it in software; nil
	// when it can be in hardware only.
	options []byte
}

// decodeVictim returns the flower rule of a full filter message; ok is false
// when the message is of another classifier, or not of a single rule, or the
// rule is not in hardware.
func decodeVictim(b []byte) (v victim, ok bool, err error) {
	r, err := decodeRule(b)
	if err != nil || !r.flower || !r.inHW {
		return victim{}, false, err
	}
	m, attrs, err := decodeTcmsg(b)
	options, _ := find(attrs, attrOptions)
	v = victim{handle: m.handle, info: m.info, chain: findUint32(attrs, attrChain), options: inSoftware(options)}
	return v, m.handle != 0, err
}

// inSoftware returns a copy of the options of a flower rule with other flags.
// Whatever else is in them goes back to the kernel as it came.
func inSoftware(options []byte) []byte {
	c := slices.Clone(options)
	flags, _ := find(c, attrFlags)
	if len(flags) < 4 || binary.NativeEndian.Uint32(flags)&flagSkipSW != 0 {
		return nil
	}
	binary.NativeEndian.PutUint32(flags, flagSkipHW)
	return c
}

// deletion builds the RTM_DELTFILTER request for the rule v of h.
func (h hook) deletion(v victim) []byte {
	b := tcmsg{ifindex: h.ifindex, handle: v.handle, parent: h.parent, info: v.info}.append(make([]byte, 0, sizeofTcmsg+24+len(v.options)))
	b = appendAttr(b, attrKind, []byte(kindFlower+"\x00"))
	return appendAttr(b, attrChain, binary.NativeEndian.AppendUint32(nil, v.chain))
}

// change builds the RTM_NEWTFILTER request that keeps the rule v of h and takes
// it out of the hardware.
func (h hook) change(v victim) []byte { return appendAttr(h.deletion(v), attrOptions, v.options) }

// appendAttr appends an attribute and pads it to four bytes.
func appendAttr(b []byte, typ uint16, payload []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, payload...)
	return append(b, make([]byte, -len(b)&3)...)
}

// inOrder sorts places as the devices they belong to were named.
func inOrder(ps []place, ifindexes []int) []place {
	first := func(p place) int {
		return slices.IndexFunc(ifindexes, func(i int) bool { return slices.Contains(p.devs, i) })
	}
	slices.SortStableFunc(ps, func(a, b place) int { return cmp.Compare(first(a), first(b)) })
	return ps
}
