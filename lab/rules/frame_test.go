// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	here  = mac{2, 0, 0, 0, 0, 1}
	there = mac{2, 0, 0, 0, 0, 2}
)

func TestEncode(t *testing.T) {
	for line, want := range map[string]Frame{
		"pf src 10.0.0.1 dst 10.0.0.2 udp sport 1 dport 4789 vxlan":            {Proto: "udp", DPort: 4789},
		"pf src 10.0.0.1 dst 10.0.0.2 vlan 7 udp sport 1 dport 4789 vxlan":     {Proto: "udp", DPort: 4789},
		"pf src 10.0.0.1 dst 10.0.0.2 options udp sport 1 dport 53":            {Proto: "udp", DPort: 53},
		"pf src 10.0.0.1 dst 10.0.0.2 frag first udp sport 1 dport 4789 vxlan": {Proto: "udp", DPort: 4789},
		"pf src 10.0.0.1 dst 10.0.0.2 frag later udp sport 1 dport 4789 vxlan": {Proto: "other"},
		"pf src 10.0.0.1 dst 10.0.0.2 tcp sport 1 dport 80":                    {Proto: "tcp", DPort: 80},
		"pf src fd00::1 dst fd00::2 udp sport 1 dport 4789 vxlan":              {Proto: "udp", DPort: 4789},
		"pf src fd00::1 dst fd00::2 options udp sport 1 dport 4789 vxlan":      {Proto: "udp", DPort: 4789},
		"pf src fd00::1 dst fd00::2 frag first udp sport 1 dport 4789 vxlan":   {Proto: "udp", DPort: 4789},
		"pf src fd00::1 dst fd00::2 vlan 7 frag later udp sport 1 dport 4789":  {Proto: "other"},
	} {
		p, err := parsePacket(line)
		if err != nil {
			t.Fatal(err)
		}
		have, ok := decode(p.encode(there, here))
		if !ok || have != want {
			t.Errorf("%s: have %v %v, want %v", line, have, ok, want)
		}
	}
}

// TestEncodeBytes holds one packet against bytes laid out by hand after the
// RFCs.
func TestEncodeBytes(t *testing.T) {
	p := Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: "udp", SPort: 49152, DPort: 4789}
	want := "020000000002" + "020000000001" + "0800" +
		"4500003412340000" + "4011" + "5483" + "0a000001" + "0a000002" +
		"c00012b500200000" + "000000000000000000000000000000000000000000000000"
	have := p.encode(there, here)
	if diff := cmp.Diff(want, hex.EncodeToString(have)); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeNotForScripts(t *testing.T) {
	arp := append(bytes.Repeat([]byte{1}, 12), 0x08, 0x06, 0, 1, 8, 0, 6, 4)
	if f, ok := decode(arp); ok {
		t.Errorf("arp is %v", f)
	}
	for n := range 60 { // any beginning of a frame
		p := Packet{Src: netip.MustParseAddr("fd00::1"), Dst: netip.MustParseAddr("fd00::2"), Proto: "udp", Options: true}
		decode(p.encode(there, here)[:n])
	}
}

// TestSeal holds ESP against the first vector for rfc4106(gcm(aes)) in Linux'
// crypto/testmgr.h: everything is zero, 16 bytes of text.
func TestSeal(t *testing.T) {
	key := espKey{key: make([]byte, 16), salt: make([]byte, 4)}
	have, err := key.seal(0, 0, 0, make([]byte, 14))
	if err != nil {
		t.Fatal(err)
	}
	want := "00000000000000000000000000000000" +
		"0388dace60b6a392f328c2b971b2fe78" + "97fe4c23374201e0819f8dc5d741a01b"
	if diff := cmp.Diff(want, hex.EncodeToString(have)); diff != "" {
		t.Error(diff)
	}
}

// open is what the NIC does with what seal made.
func (k espKey) open(b []byte, seq uint64) (text []byte, next uint8, err error) {
	block, err := aes.NewCipher(k.key)
	if err != nil {
		return nil, 0, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, 0, err
	}
	nonce := append(append([]byte{}, k.salt...), b[8:16]...)
	text, err = gcm.Open(nil, nonce, b[16:], k.aad(binary.BigEndian.Uint32(b), seq))
	if err != nil {
		return nil, 0, err
	}
	end := len(text) - 2 - int(text[len(text)-2])
	return text[:end], text[len(text)-1], nil
}

func TestSealOpens(t *testing.T) {
	for _, esn := range []bool{false, true} {
		key := espKey{key: make([]byte, 32), salt: []byte{1, 2, 3, 4}, esn: esn}
		b, err := key.seal(7, 1<<32+5, 17, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		text, next, err := key.open(b, 1<<32+5)
		if err != nil || next != 17 || string(text) != "hello" {
			t.Errorf("esn %v: have %q %d %v", esn, text, next, err)
		}
		if _, _, err := key.open(b, 5); esn != (err != nil) {
			t.Errorf("esn %v: the high half of the number: %v", esn, err)
		}
	}
}
