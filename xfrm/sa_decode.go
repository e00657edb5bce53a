// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// errShort says that a message is shorter than the struct it must hold.
var errShort = errors.New("message too short")

// decodeSA reads the body of a NEWSA or UPDSA message into s, as far as it
// goes: the kernel also lists states of others, with any protocol and any
// algorithm, and those come out Exotic. Keys in b are wiped.
func decodeSA(b []byte, s *SA) error {
	*s = SA{}
	if len(b) < saLen {
		wipe(b)
		return errShort
	}
	decodeSAInfo(b, s)
	decodeSAAttrs(b[align(saLen):], s)
	return nil
}

// decodeDelSA reads a DELSA notification: the identity, and the state itself
// in an attribute.
func decodeDelSA(b []byte, s *SA) error {
	*s = SA{}
	if len(b) < saidLen {
		return errShort
	}
	rest := b[saidLen:]
	if info := findAttr(rest, attrSA); len(info) >= saLen {
		decodeSAInfo(info, s)
	} else {
		s.Dst = addrAt(b[saidDst:saidDst+16], u16(b[saidFamily:]))
		s.SPI = binary.BigEndian.Uint32(b[saidSPI:])
		s.Exotic = true
	}
	decodeSAAttrs(rest, s)
	return nil
}

func decodeSAInfo(b []byte, s *SA) {
	family := u16(b[saFamily:])
	s.Dst = addrAt(b[saDst:saDst+16], family)
	s.Src = addrAt(b[saSrc:saSrc+16], family)
	s.SPI = binary.BigEndian.Uint32(b[saSPI:])
	s.Reqid = u32(b[saReqid:])
	s.Mode = Mode(b[saMode])
	s.ESN = b[saFlags]&flagESN != 0
	s.Window = uint32(b[saWindow])
	s.Stats = Stats{
		Bytes: u64(b[saBytes:]), Packets: u64(b[saPackets:]),
		Added: int64(u64(b[saAdded:])), Used: int64(u64(b[saUsed:])),
		ReplayWindow: u32(b[saLateDrop:]), Replay: u32(b[saReplay:]), Auth: u32(b[saAuth:]),
	}
	s.Exotic = b[saProto] != protoESP || s.Mode > Tunnel ||
		b[saFlags]&^(flagESN|flagNoPMTUDisc) != 0 ||
		!emptySASelector(b[saSel:saSel+selLen]) || !endless(b[saLimits:])
}

// emptySASelector tells whether a state is for every packet; only the family
// is filled in.
func emptySASelector(b []byte) bool {
	return allZero(b[:selFamily]) && allZero(b[selDstBits:])
}

// endless tells whether a struct xfrm_lifetime_cfg holds no limit.
func endless(b []byte) bool {
	for i := 0; i < timeLimits; i += 8 {
		if u64(b[i:]) != infinite {
			return false
		}
	}
	return allZero(b[timeLimits:limitsLen])
}

func decodeSAAttrs(b []byte, s *SA) {
	var d saAttrs
	for {
		typ, v, rest, ok := nextAttr(b)
		if !ok {
			break
		}
		d.read(typ, v, s)
		b = rest
	}
	wipe(b) // what could not be read may be a key
	d.finish(s)
}

// saAttrs gathers what only several attributes together can tell.
type saAttrs struct {
	dir     uint8
	inbound bool
	gcm     bool
}

func (d *saAttrs) read(typ uint16, v []byte, s *SA) {
	switch typ {
	case attrAlgAEAD:
		s.KeyPrint, d.gcm = takeAEAD(v)
	case attrAlgAuth, attrAlgCrypt, attrAlgComp, attrAlgAuthTrunc:
		wipe(v)
		s.Exotic = true
	case attrReplayESN:
		if len(v) >= esnLen {
			s.Window = u32(v[esnWindow:])
		}
	case attrOffloadDev:
		s.Offload, d.inbound = takeOffload(v)
	case attrSADir:
		if len(v) > 0 {
			d.dir = v[0]
		}
	case attrMark, attrIfID, attrSetMark, attrSetMarkMask, attrEncap, attrCoAddr,
		attrTFCPad, attrExtraFlags, attrSecCtx, attrKeepalive, attrPCPU:
		s.Exotic = true
	}
}

// finish settles the direction: of a state without XFRMA_SA_DIR only the
// offload knows it. An outbound state has no window, whatever it was told.
func (d *saAttrs) finish(s *SA) {
	if d.dir == saDirOut || d.dir == 0 && s.Offload.Ifindex != 0 && !d.inbound {
		s.Dir = Out
		s.Window = 0
	}
	if !d.gcm {
		s.Exotic = true
	}
}

// takeAEAD takes the fingerprint of the key in a struct xfrm_algo_aead and
// wipes it. A kernel in lockdown gives zeros for a key: that has no
// fingerprint. ours tells whether it is AES-256-GCM with an ICV of 16 bytes.
func takeAEAD(v []byte) (f Fingerprint, ours bool) {
	if len(v) < aeadKey {
		wipe(v)
		return f, false
	}
	key := v[aeadKey:]
	defer wipe(key)
	name, _, _ := bytes.Cut(v[:algNameLen], []byte{0})
	bits := u32(v[aeadKeyBits:])
	if string(name) != algGCM || u32(v[aeadICVBits:]) != icvBits || bits != KeyLen*8 || len(key) < KeyLen {
		return f, false
	}
	if allZero(key[:KeyLen]) {
		return f, true
	}
	return FingerprintOf(key[:KeyLen]), true
}

func takeOffload(v []byte) (o Offload, inbound bool) {
	if len(v) < offloadFlags+1 {
		return Offload{}, false
	}
	o.Ifindex = int(int32(u32(v[offloadIfindex:])))
	o.Packet = v[offloadFlags]&offloadPacket != 0
	return o, v[offloadFlags]&offloadInbound != 0
}

// findAttr returns the first attribute of a type, or nil.
func findAttr(b []byte, want uint16) []byte {
	for {
		typ, v, rest, ok := nextAttr(b)
		if !ok {
			return nil
		}
		if typ == want {
			return v
		}
		b = rest
	}
}

// wipe overwrites what may be a secret.
func wipe(b []byte) { clear(b) }

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
