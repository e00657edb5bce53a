// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"encoding/binary"
	"net/netip"
)

// The offsets below are those of 64-bit machines; elsewhere the structs with
// 64-bit fields are shorter, and this does not compile.
const _ = uint(^uint(0)>>63) - 1

// The messages of NETLINK_XFRM (linux/xfrm.h).
const (
	msgNewSA       = 0x10
	msgDelSA       = 0x11
	msgGetSA       = 0x12
	msgNewPolicy   = 0x13
	msgDelPolicy   = 0x14
	msgGetPolicy   = 0x15
	msgAcquire     = 0x17
	msgExpire      = 0x18
	msgUpdPolicy   = 0x19
	msgUpdSA       = 0x1a
	msgPolExpire   = 0x1b
	msgFlushSA     = 0x1c
	msgFlushPolicy = 0x1d
)

// The attributes this package reads or writes (enum xfrm_attr_type_t).
const (
	attrAlgAuth      = 1
	attrAlgCrypt     = 2
	attrAlgComp      = 3
	attrEncap        = 4
	attrTmpl         = 5
	attrSA           = 6
	attrPolicy       = 7
	attrSecCtx       = 8
	attrCoAddr       = 14
	attrPolicyType   = 16
	attrAlgAEAD      = 18
	attrAlgAuthTrunc = 20
	attrMark         = 21
	attrTFCPad       = 22
	attrReplayESN    = 23
	attrExtraFlags   = 24
	attrOffloadDev   = 28
	attrSetMark      = 29
	attrSetMarkMask  = 30
	attrIfID         = 31
	attrSADir        = 33
	attrKeepalive    = 34
	attrPCPU         = 35
)

// struct xfrm_selector.
const (
	selDst       = 0
	selSrc       = 16
	selDport     = 32 // big endian, as are the three below
	selDportMask = 34
	selSport     = 36
	selSportMask = 38
	selFamily    = 40
	selDstBits   = 42
	selSrcBits   = 43
	selProto     = 44
	selIfindex   = 48
	selUser      = 52
	selLen       = 56
)

// struct xfrm_usersa_info.
const (
	saSel      = 0
	saDst      = 56
	saSPI      = 72 // big endian
	saProto    = 76
	saSrc      = 80
	saLimits   = 96
	saBytes    = 160
	saPackets  = 168
	saAdded    = 176
	saUsed     = 184
	saLateDrop = 192 // stats.replay_window
	saReplay   = 196
	saAuth     = 200
	saReqid    = 208
	saFamily   = 212
	saMode     = 214
	saWindow   = 215
	saFlags    = 216
	saLen      = 224
)

// struct xfrm_usersa_id.
const (
	saidDst    = 0
	saidSPI    = 16
	saidFamily = 20
	saidProto  = 22
	saidLen    = 24
)

// struct xfrm_userpolicy_info.
const (
	polSel      = 0
	polLimits   = 56
	polPriority = 152
	polIndex    = 156
	polDir      = 160
	polAction   = 161
	polFlags    = 162
	polShare    = 163
	polLen      = 168
)

// struct xfrm_userpolicy_id.
const (
	polidSel   = 0
	polidIndex = 56
	polidDir   = 60
	polidLen   = 64
)

// struct xfrm_user_tmpl.
const (
	tmplDst      = 0
	tmplSPI      = 16
	tmplProto    = 20
	tmplFamily   = 24
	tmplSrc      = 28
	tmplReqid    = 44
	tmplMode     = 48
	tmplShare    = 49
	tmplOptional = 50
	tmplAAlgos   = 52
	tmplEAlgos   = 56
	tmplCAlgos   = 60
	tmplLen      = 64
)

// struct xfrm_algo_aead, xfrm_replay_state_esn and xfrm_user_offload.
const (
	algNameLen  = 64
	aeadKeyBits = 64
	aeadICVBits = 68
	aeadKey     = 72

	esnBitmapLen = 0 // in 32-bit words
	esnWindow    = 20
	esnLen       = 24

	offloadIfindex = 0
	offloadFlags   = 4
	offloadLen     = 8
)

const (
	familyIPv4 = 2  // AF_INET of Linux
	familyIPv6 = 10 // AF_INET6 of Linux

	protoESP = 50

	flagESN         = 128 // XFRM_STATE_ESN
	flagNoPMTUDisc  = 4   // XFRM_STATE_NOPMTUDISC; the kernel sets it by sysctl ip_no_pmtu_disc
	offloadInbound  = 2   // XFRM_OFFLOAD_INBOUND
	offloadPacket   = 4   // XFRM_OFFLOAD_PACKET
	saDirIn         = 1   // XFRM_SA_DIR_IN
	saDirOut        = 2   // XFRM_SA_DIR_OUT
	infinite        = ^uint64(0)
	limitsLen       = 64 // struct xfrm_lifetime_cfg: four XFRM_INF limits, then four times in seconds
	timeLimits      = 32 // offset of the first time in it; 0 is "never"
	algGCM          = "rfc4106(gcm(aes))"
	icvBits         = 128
	anyAlgorithm    = ^uint32(0)
	exactPort       = 0xffff
	legacyOutWindow = 32
)

// Netlink is in the byte order of the host; only SPIs and ports are not.

func u16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }

func putU16(b []byte, v uint16) { binary.NativeEndian.PutUint16(b, v) }
func putU32(b []byte, v uint32) { binary.NativeEndian.PutUint32(b, v) }
func putU64(b []byte, v uint64) { binary.NativeEndian.PutUint64(b, v) }

// familyOf returns the address family of a as Linux numbers it, 0 for none.
func familyOf(a netip.Addr) uint16 {
	switch {
	case a.Is4():
		return familyIPv4
	case a.Is6():
		return familyIPv6
	}
	return 0
}

// putAddr writes a in an xfrm_address_t: 16 bytes, IPv4 in the first four.
func putAddr(b []byte, a netip.Addr) {
	switch {
	case a.Is4():
		v := a.As4()
		copy(b, v[:])
	case a.Is6():
		v := a.As16()
		copy(b, v[:])
	}
}

// addrAt reads an xfrm_address_t; without a known family there is no address.
func addrAt(b []byte, family uint16) netip.Addr {
	switch family {
	case familyIPv4:
		return netip.AddrFrom4([4]byte(b))
	case familyIPv6:
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.Addr{}
}

// prefixAt reads an xfrm_address_t with a prefix length. A length that the
// family does not have gives the zero Prefix.
func prefixAt(b []byte, family uint16, bits uint8) netip.Prefix {
	a := addrAt(b, family)
	if !a.IsValid() || int(bits) > a.BitLen() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(bits))
}
