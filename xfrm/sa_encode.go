// SPDX-License-Identifier: Apache-2.0

package xfrm

import "encoding/binary"

// features is what the running kernel can be told.
type features struct {
	saDir bool // XFRMA_SA_DIR, Linux 6.10
}

// appendNewSA appends a NEWSA request. The result holds the raw key: the
// caller wipes it. The selector stays empty (the kernel fills in the family),
// as before Linux 6.15 mlx5 mixes it up with the match on ESP; nothing here
// can set a mark or an interface id.
func appendNewSA(b []byte, h header, s *SA, f features) []byte {
	start := len(b)
	h.typ = msgNewSA
	b = beginMessage(b, h)
	b = appendSAInfo(b, s)
	b = appendAEAD(b, s.Key)
	b = appendReplay(b, s, f)
	if f.saDir {
		var v []byte
		b, v = appendAttr(b, attrSADir, 1)
		v[0] = saDir(s.Dir)
	}
	return endMessage(appendOffload(b, s.Offload, s.Dir == In), start)
}

func appendSAInfo(b []byte, s *SA) []byte {
	at := len(b)
	b = grow(b, saLen)
	v := b[at:]
	putAddr(v[saDst:], s.Dst)
	binary.BigEndian.PutUint32(v[saSPI:], s.SPI)
	v[saProto] = protoESP
	putAddr(v[saSrc:], s.Src)
	putLimits(v[saLimits:])
	putU32(v[saReqid:], s.Reqid)
	putU16(v[saFamily:], familyOf(s.Dst))
	v[saMode] = uint8(s.Mode)
	if s.ESN {
		v[saFlags] = flagESN
	}
	return b
}

// putLimits writes a struct xfrm_lifetime_cfg that never ends: mlx5 refuses 0
// for bytes and packets.
func putLimits(b []byte) {
	for i := 0; i < timeLimits; i += 8 {
		putU64(b[i:], infinite)
	}
}

func appendAEAD(b []byte, k Key) []byte {
	b, v := appendAttr(b, attrAlgAEAD, aeadKey+KeyLen)
	copy(v, algGCM)
	putU32(v[aeadKeyBits:], KeyLen*8)
	putU32(v[aeadICVBits:], icvBits)
	k.AppendTo(v[:aeadKey])
	return b
}

// appendReplay appends the replay state: without the bitmap, which the kernel
// then takes as empty. An outbound SA has no window, but a kernel that does
// not know directions wants one for every ESN state.
func appendReplay(b []byte, s *SA, f features) []byte {
	window := s.Window
	if s.Dir == Out && !f.saDir {
		window = legacyOutWindow
	}
	if !s.ESN && window == 0 {
		return b
	}
	b, v := appendAttr(b, attrReplayESN, esnLen)
	putU32(v[esnBitmapLen:], (window+31)/32)
	putU32(v[esnWindow:], window)
	return b
}

// appendOffload appends XFRMA_OFFLOAD_DEV, if there is to be any. A policy
// has its direction elsewhere and takes no other flag than packet.
func appendOffload(b []byte, o Offload, inbound bool) []byte {
	if o.Ifindex == 0 {
		return b
	}
	b, v := appendAttr(b, attrOffloadDev, offloadLen)
	putU32(v[offloadIfindex:], uint32(o.Ifindex))
	if o.Packet {
		v[offloadFlags] |= offloadPacket
	}
	if inbound {
		v[offloadFlags] |= offloadInbound
	}
	return b
}

func saDir(d Dir) uint8 {
	if d == Out {
		return saDirOut
	}
	return saDirIn
}

// appendSAID appends a GETSA or DELSA request for an ESP state.
func appendSAID(b []byte, h header, id SAID) []byte {
	start := len(b)
	b = beginMessage(b, h)
	at := len(b)
	b = grow(b, saidLen)
	v := b[at:]
	putAddr(v[saidDst:], id.Dst)
	binary.BigEndian.PutUint32(v[saidSPI:], id.SPI)
	putU16(v[saidFamily:], familyOf(id.Dst))
	v[saidProto] = protoESP
	return endMessage(b, start)
}

// appendDirProbe appends a GETSA request that no kernel fulfils, to learn
// whether it knows XFRMA_SA_DIR: one that does finds the value out of range
// (ERANGE), one that does not skips the attribute and finds no such state.
func appendDirProbe(b []byte, h header) []byte {
	start := len(b)
	h.typ = msgGetSA
	b = beginMessage(b, h)
	at := len(b)
	b = grow(b, saidLen)
	putU16(b[at+saidFamily:], familyIPv4)
	b[at+saidProto] = protoESP
	b, v := appendAttr(b, attrSADir, 1)
	v[0] = saDirOut + 1
	return endMessage(b, start)
}
