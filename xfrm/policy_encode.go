// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"encoding/binary"
	"net/netip"
)

// appendPolicy appends a NEWPOLICY or UPDPOLICY request.
func appendPolicy(b []byte, h header, p *Policy) []byte {
	start := len(b)
	b = beginMessage(b, h)
	at := len(b)
	b = grow(b, polLen)
	v := b[at:]
	putSelector(v[polSel:], p.Sel)
	putLimits(v[polLimits:])
	putU32(v[polPriority:], p.Priority)
	v[polDir] = uint8(p.Dir)
	v[polAction] = uint8(p.Action)
	if p.Tmpl != nil {
		b = appendTemplate(b, p.Tmpl, familyOf(p.Sel.Dst.Addr()))
	}
	return endMessage(appendOffload(b, p.Offload, false), start)
}

// appendTemplate appends XFRMA_TMPL. Wild addresses are zeros of the family
// of the selector.
func appendTemplate(b []byte, t *Template, family uint16) []byte {
	b, v := appendAttr(b, attrTmpl, tmplLen)
	if f := familyOf(t.Dst); f != 0 {
		family = f
	}
	putAddr(v[tmplDst:], t.Dst)
	putAddr(v[tmplSrc:], t.Src)
	v[tmplProto] = protoESP
	putU16(v[tmplFamily:], family)
	putU32(v[tmplReqid:], t.Reqid)
	v[tmplMode] = uint8(t.Mode)
	for _, at := range []int{tmplAAlgos, tmplEAlgos, tmplCAlgos} {
		putU32(v[at:], anyAlgorithm)
	}
	return b
}

// appendPolicyID appends a GETPOLICY or DELPOLICY request by selector.
func appendPolicyID(b []byte, h header, d Dir, s Selector) []byte {
	start := len(b)
	b = beginMessage(b, h)
	at := len(b)
	b = grow(b, polidLen)
	putSelector(b[at+polidSel:], s)
	b[at+polidDir] = uint8(d)
	return endMessage(b, start)
}

func putSelector(b []byte, s Selector) {
	putPrefix(b[selDst:], &b[selDstBits], s.Dst)
	putPrefix(b[selSrc:], &b[selSrcBits], s.Src)
	putPort(b[selDport:], b[selDportMask:], s.DstPort)
	putPort(b[selSport:], b[selSportMask:], s.SrcPort)
	putU16(b[selFamily:], familyOf(s.Dst.Addr()))
	b[selProto] = s.Proto
}

// putPrefix masks the address: the kernel compares selectors byte by byte.
func putPrefix(b []byte, bits *uint8, p netip.Prefix) {
	putAddr(b, p.Masked().Addr())
	*bits = uint8(p.Bits())
}

func putPort(port, mask []byte, v uint16) {
	if v == 0 {
		return
	}
	binary.BigEndian.PutUint16(port, v)
	binary.BigEndian.PutUint16(mask, exactPort)
}
