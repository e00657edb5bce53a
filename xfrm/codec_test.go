// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// addr draws an address of a family.
func addr(t *rapid.T, v6 bool, label string) netip.Addr {
	b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label)
	if !v6 {
		return netip.AddrFrom4([4]byte(b))
	}
	b[0] = 0xfd // not an IPv4 address in IPv6 form
	return netip.AddrFrom16([16]byte(b))
}

func drawSA(t *rapid.T) *SA {
	v6 := rapid.Bool().Draw(t, "v6")
	key := rapid.SliceOfN(rapid.Byte(), KeyLen, KeyLen).Draw(t, "key")
	key[0] |= 1
	k, _ := NewKey(key)
	s := &SA{
		Src: addr(t, v6, "src"), Dst: addr(t, v6, "dst"),
		SPI:   rapid.Uint32Range(firstSPI, math.MaxUint32).Draw(t, "spi"),
		Reqid: rapid.Uint32Min(1).Draw(t, "reqid"),
		Mode:  Mode(rapid.IntRange(0, 1).Draw(t, "mode")),
		Dir:   Dir(rapid.IntRange(0, 1).Draw(t, "dir")),
		ESN:   rapid.Bool().Draw(t, "esn"),
		Key:   k,
	}
	if s.Dir == In {
		s.Window = rapid.SampledFrom([]uint32{32, 64, 128, 256}).Draw(t, "window")
	}
	if rapid.Bool().Draw(t, "offload") {
		s.Offload = Offload{Ifindex: rapid.IntRange(1, math.MaxInt32).Draw(t, "ifindex"), Packet: rapid.Bool().Draw(t, "packet")}
	}
	return s
}

func drawPolicy(t *rapid.T) *Policy {
	v6 := rapid.Bool().Draw(t, "v6")
	p := &Policy{
		Dir: Dir(rapid.IntRange(0, 2).Draw(t, "dir")),
		Sel: Selector{
			Src: prefix(t, v6, "src"), Dst: prefix(t, v6, "dst"),
			Proto:   rapid.Byte().Draw(t, "proto"),
			SrcPort: rapid.Uint16().Draw(t, "sport"), DstPort: rapid.Uint16().Draw(t, "dport"),
		},
		Priority: rapid.Uint32().Draw(t, "priority"),
		Action:   Action(rapid.IntRange(0, 1).Draw(t, "action")),
	}
	if rapid.Bool().Draw(t, "template") {
		p.Tmpl = &Template{
			Src: addr(t, v6, "tmpl src"), Dst: addr(t, v6, "tmpl dst"),
			Reqid: rapid.Uint32().Draw(t, "reqid"), Mode: Mode(rapid.IntRange(0, 1).Draw(t, "mode")),
		}
	}
	if rapid.Bool().Draw(t, "offload") {
		p.Offload = Offload{Ifindex: rapid.IntRange(1, math.MaxInt32).Draw(t, "ifindex"), Packet: true}
	}
	return p
}

func prefix(t *rapid.T, v6 bool, label string) netip.Prefix {
	a := addr(t, v6, label)
	return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, label+" bits")).Masked()
}

// body returns what follows the header of the only message in b.
func body(t interface{ Fatalf(string, ...any) }, b []byte) []byte {
	_, body, rest, ok := nextMessage(b)
	if !ok || len(rest) != 0 {
		t.Fatalf("not one message: %x", b)
	}
	return body
}

func TestSARoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSA(t)
		if err := (Op{Kind: AddSA, SA: want}).check(); err != nil {
			t.Fatal(err)
		}
		b := appendNewSA(nil, header{}, want, features{saDir: true})
		if len(b) > messageMax {
			t.Fatalf("%d bytes", len(b))
		}
		raw := want.Key.AppendTo(nil)
		var got SA
		payload := body(t, b)
		if err := decodeSA(payload, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(dumped(want), got, equal); diff != "" {
			t.Fatal(diff)
		}
		if !sameSA(want, &got) {
			t.Fatal("not the same")
		}
		if bytes.Contains(payload, raw) {
			t.Fatal("the key is still in the message")
		}
	})
}

func TestSAHasNoMarkNoInterface(t *testing.T) {
	allowed := []uint16{attrAlgAEAD, attrReplayESN, attrSADir, attrOffloadDev}
	rapid.Check(t, func(t *rapid.T) {
		b := body(t, appendNewSA(nil, header{}, drawSA(t), features{saDir: rapid.Bool().Draw(t, "dir known")}))
		for _, typ := range attrTypes(msgNewSA, b) {
			if !slices.Contains(allowed, typ) {
				t.Fatalf("attribute %d", typ)
			}
		}
		if !allZero(b[saSel : saSel+selLen]) {
			t.Fatal("the selector is not empty")
		}
	})
}

func TestPolicyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawPolicy(t)
		if err := (Op{Kind: AddPolicy, Policy: want}).check(); err != nil {
			t.Fatal(err)
		}
		var got Policy
		if err := decodePolicy(body(t, appendPolicy(nil, header{}, want)), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(*want, got, equal); diff != "" {
			t.Fatal(diff)
		}
		if !samePolicy(want, &got) {
			t.Fatal("not the same")
		}
	})
}

func TestSelectorsAreMasked(t *testing.T) {
	p := testPolicy(2, Out)
	p.Sel.Dst = netip.MustParsePrefix("10.0.0.77/24")
	var got Policy
	if err := decodePolicy(body(t, appendPolicy(nil, header{}, p)), &got); err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParsePrefix("10.0.0.0/24"); got.Sel.Dst != want || !samePolicy(p, &got) {
		t.Errorf("%s, want %s", got.Sel.Dst, want)
	}
}

func TestForeignStatesAreExotic(t *testing.T) {
	change := map[string]func(b []byte) []byte{
		"AH":         func(b []byte) []byte { b[saProto] = 51; return b },
		"BEET":       func(b []byte) []byte { b[saMode] = 4; return b },
		"wildrecv":   func(b []byte) []byte { b[saFlags] |= 8; return b },
		"selector":   func(b []byte) []byte { b[saSel+selProto] = 17; return b },
		"byte limit": func(b []byte) []byte { putU64(b[saLimits:], 1<<30); return b },
		"time limit": func(b []byte) []byte { putU64(b[saLimits+timeLimits:], 3600); return b },
		"mark":       func(b []byte) []byte { b, _ = appendAttr(b, attrMark, 8); return b },
		"if_id":      func(b []byte) []byte { b, _ = appendAttr(b, attrIfID, 4); return b },
		"NAT-T":      func(b []byte) []byte { b, _ = appendAttr(b, attrEncap, 24); return b },
		"CBC":        func(b []byte) []byte { b, _ = appendAttr(b, attrAlgCrypt, 68+16); return b },
		"short AEAD": func(b []byte) []byte { return replaceAEAD(b, 20) },
		"ICV 96":     func(b []byte) []byte { putU32(findAttr(b[saLen:], attrAlgAEAD)[aeadICVBits:], 96); return b },
		"ChaCha": func(b []byte) []byte {
			copy(findAttr(b[saLen:], attrAlgAEAD), "rfc7539esp(chacha20,poly1305)")
			return b
		},
	}
	for name, f := range change {
		t.Run(name, func(t *testing.T) {
			b := f(body(t, appendNewSA(nil, header{}, testSA(t, 0x1001, In), features{saDir: true})))
			var s SA
			if err := decodeSA(b, &s); err != nil {
				t.Fatal(err)
			}
			if !s.Exotic || s.SPI != 0x1001 {
				t.Errorf("%+v", s)
			}
			if err := (Op{Kind: AddSA, SA: &s}).check(); err == nil {
				t.Error("it can be added again")
			}
			if bytes.Contains(b, []byte{0xA5, 0xA5}) {
				t.Error("the key is still in the message")
			}
		})
	}
}

// replaceAEAD gives the state a key of n bytes.
func replaceAEAD(b []byte, n int) []byte {
	b = slices.Clone(b[:saLen])
	b, v := appendAttr(b, attrAlgAEAD, aeadKey+n)
	copy(v, algGCM)
	putU32(v[aeadKeyBits:], uint32(8*n))
	putU32(v[aeadICVBits:], icvBits)
	return b
}

func TestLockedDownKernelHidesTheKey(t *testing.T) {
	b := body(t, appendNewSA(nil, header{}, testSA(t, 0x1001, In), features{saDir: true}))
	clear(findAttr(b[saLen:], attrAlgAEAD)[aeadKey:])
	var s SA
	if err := decodeSA(b, &s); err != nil || s.Exotic || s.KeyPrint != (Fingerprint{}) {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestForeignPoliciesAreExotic(t *testing.T) {
	tmpl := func(b []byte) []byte { return findAttr(b[polLen:], attrTmpl) }
	change := map[string]func(b []byte) []byte{
		"port range":        func(b []byte) []byte { putU16(b[polSel+selDportMask:], 0xff); return b },
		"interface":         func(b []byte) []byte { putU32(b[polSel+selIfindex:], 3); return b },
		"flag icmp":         func(b []byte) []byte { b[polFlags] = 2; return b },
		"byte limit":        func(b []byte) []byte { putU64(b[polLimits:], 1); return b },
		"sub policy":        func(b []byte) []byte { b, v := appendAttr(b, attrPolicyType, 6); v[0] = 1; return b },
		"mark":              func(b []byte) []byte { b, _ = appendAttr(b, attrMark, 8); return b },
		"if_id":             func(b []byte) []byte { b, _ = appendAttr(b, attrIfID, 4); return b },
		"optional template": func(b []byte) []byte { tmpl(b)[tmplOptional] = 1; return b },
		"AH template":       func(b []byte) []byte { tmpl(b)[tmplProto] = 51; return b },
		"two templates":     func(b []byte) []byte { b, _ = appendAttr(b, attrTmpl, 2*tmplLen); return b },
		"no selector":       func(b []byte) []byte { putU16(b[polSel+selFamily:], 0); return b },
	}
	for name, f := range change {
		t.Run(name, func(t *testing.T) {
			b := f(body(t, appendPolicy(nil, header{}, testPolicy(2, Out))))
			var p Policy
			if err := decodePolicy(b, &p); err != nil || !p.Exotic {
				t.Errorf("%+v, %v", p, err)
			}
			if err := (Op{Kind: AddPolicy, Policy: &p}).check(); err == nil {
				t.Error("it can be added again")
			}
		})
	}
	plain := body(t, appendPolicy(nil, header{}, testPolicy(2, Out)))
	plain, _ = appendAttr(plain, attrPolicyType, 6) // main, as in every dump
	var p Policy
	if err := decodePolicy(plain, &p); err != nil || p.Exotic {
		t.Errorf("a plain policy: %+v, %v", p, err)
	}
}

func TestChecks(t *testing.T) {
	sa := func(f func(*SA)) Op { s := testSA(t, 0x1001, In); f(s); return Op{Kind: AddSA, SA: s} }
	policy := func(f func(*Policy)) Op { p := testPolicy(2, Out); f(p); return Op{Kind: AddPolicy, Policy: p} }
	wiped := testKey(t, 9)
	wiped.Wipe()
	bad := map[string]Op{
		"no verb":           {SA: testSA(t, 0x1001, In), Policy: testPolicy(2, Out)},
		"no SA":             {Kind: AddSA},
		"no policy":         {Kind: DeletePolicy},
		"no key":            sa(func(s *SA) { s.Key = Key{} }),
		"wiped key":         sa(func(s *SA) { s.Key = wiped }),
		"reserved SPI":      sa(func(s *SA) { s.SPI = 255 }),
		"two families":      sa(func(s *SA) { s.Src = netip.MustParseAddr("fd00::1") }),
		"no source":         sa(func(s *SA) { s.Src = netip.Addr{} }),
		"zone":              sa(func(s *SA) { s.Src = netip.MustParseAddr("fe80::1%eth0"); s.Dst = s.Src }),
		"mapped":            sa(func(s *SA) { s.Src = netip.MustParseAddr("::ffff:10.0.0.1"); s.Dst = s.Src }),
		"forward":           sa(func(s *SA) { s.Dir = Fwd }),
		"ESN, no window":    sa(func(s *SA) { s.Window = 0 }),
		"out with window":   sa(func(s *SA) { s.Dir = Out }),
		"no reqid":          sa(func(s *SA) { s.Reqid = 0 }),
		"packet, no device": sa(func(s *SA) { s.Offload.Ifindex = 0 }),
		"crypto policy":     policy(func(p *Policy) { p.Offload.Packet = false }),
		"no selector":       policy(func(p *Policy) { p.Sel = Selector{} }),
		"mixed selector":    policy(func(p *Policy) { p.Sel.Src = netip.MustParsePrefix("::/0") }),
		"negative device":   policy(func(p *Policy) { p.Offload.Ifindex = -1 }),
	}
	for name, op := range bad {
		if op.check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
