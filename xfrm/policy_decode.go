// SPDX-License-Identifier: Apache-2.0

package xfrm

import "encoding/binary"

// decodePolicy reads the body of a NEWPOLICY or UPDPOLICY message into p.
// What Policy has no words for makes it Exotic.
func decodePolicy(b []byte, p *Policy) error {
	*p = Policy{}
	if len(b) < polLen {
		return errShort
	}
	decodePolicyInfo(b, p)
	decodePolicyAttrs(b[align(polLen):], p)
	return nil
}

// decodeDelPolicy reads a DELPOLICY notification: the identity, and the
// policy itself in an attribute.
func decodeDelPolicy(b []byte, p *Policy) error {
	*p = Policy{}
	if len(b) < polidLen {
		return errShort
	}
	rest := b[polidLen:]
	if info := findAttr(rest, attrPolicy); len(info) >= polLen {
		decodePolicyInfo(info, p)
	} else {
		p.Sel, _ = selectorAt(b[polidSel : polidSel+selLen])
		p.Index = u32(b[polidIndex:])
		p.Dir = Dir(b[polidDir])
		p.Exotic = true
	}
	decodePolicyAttrs(rest, p)
	return nil
}

func decodePolicyInfo(b []byte, p *Policy) {
	sel, plain := selectorAt(b[polSel : polSel+selLen])
	p.Sel = sel
	p.Dir = Dir(b[polDir])
	p.Priority = u32(b[polPriority:])
	p.Index = u32(b[polIndex:])
	p.Action = Action(b[polAction])
	p.Exotic = !plain || p.Action > Block || b[polFlags] != 0 || b[polShare] != 0 ||
		!endless(b[polLimits:])
}

func decodePolicyAttrs(b []byte, p *Policy) {
	for {
		typ, v, rest, ok := nextAttr(b)
		if !ok {
			return
		}
		decodePolicyAttr(typ, v, p)
		b = rest
	}
}

func decodePolicyAttr(typ uint16, v []byte, p *Policy) {
	switch typ {
	case attrTmpl:
		t, plain := templateAt(v)
		p.Tmpl = t
		p.Exotic = p.Exotic || !plain
	case attrOffloadDev:
		p.Offload, _ = takeOffload(v)
	case attrPolicyType:
		p.Exotic = p.Exotic || len(v) == 0 || v[0] != 0
	case attrMark, attrIfID, attrSecCtx:
		p.Exotic = true
	}
}

// templateAt reads the first template of an XFRMA_TMPL attribute. plain tells
// that it is the only one and an ESP template of the kind this package makes;
// an optional one, for instance, lets clear text pass.
func templateAt(v []byte) (t *Template, plain bool) {
	if len(v) < tmplLen {
		return nil, false
	}
	family := u16(v[tmplFamily:])
	t = &Template{
		Dst:   addrAt(v[tmplDst:tmplDst+16], family),
		Src:   addrAt(v[tmplSrc:tmplSrc+16], family),
		Reqid: u32(v[tmplReqid:]),
		Mode:  Mode(v[tmplMode]),
	}
	plain = len(v) == tmplLen && v[tmplProto] == protoESP && t.Mode <= Tunnel &&
		v[tmplOptional] == 0 && v[tmplShare] == 0 && u32(v[tmplSPI:]) == 0 &&
		u32(v[tmplAAlgos:]) == anyAlgorithm && u32(v[tmplEAlgos:]) == anyAlgorithm
	return t, plain
}

// selectorAt reads a struct xfrm_selector. plain tells that nothing was left
// out: no part of a port range, no interface, no user.
func selectorAt(b []byte) (s Selector, plain bool) {
	family := u16(b[selFamily:])
	s = Selector{
		Dst:   prefixAt(b[selDst:selDst+16], family, b[selDstBits]),
		Src:   prefixAt(b[selSrc:selSrc+16], family, b[selSrcBits]),
		Proto: b[selProto],
	}
	var dport, sport bool
	s.DstPort, dport = portAt(b[selDport:], b[selDportMask:])
	s.SrcPort, sport = portAt(b[selSport:], b[selSportMask:])
	plain = s.Dst.IsValid() && s.Src.IsValid() && dport && sport &&
		u32(b[selIfindex:]) == 0 && u32(b[selUser:]) == 0
	return s, plain
}

func portAt(port, mask []byte) (v uint16, plain bool) {
	v = binary.BigEndian.Uint16(port)
	switch binary.BigEndian.Uint16(mask) {
	case 0:
		return 0, true
	case exactPort:
		return v, v != 0
	}
	return v, false
}
