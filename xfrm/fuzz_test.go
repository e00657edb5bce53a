// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"bytes"
	"testing"
)

// The corpora under testdata/fuzz hold messages of a real kernel too.

func FuzzSA(f *testing.F) {
	f.Add(body(f, appendNewSA(nil, header{}, testSA(f, 0x1001, In), features{saDir: true})))
	f.Add(body(f, appendNewSA(nil, header{}, testSA(f, 0x1002, Out), features{})))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		var s SA
		if err := decodeSA(b, &s); err != nil {
			return
		}
		for rest := b[saLen:]; ; {
			typ, v, next, ok := nextAttr(rest)
			if !ok {
				break
			}
			switch {
			case typ == attrAlgAEAD && len(v) > aeadKey && !allZero(v[aeadKey:]):
				t.Error("an AEAD key is still in the message")
			case (typ == attrAlgAuth || typ == attrAlgCrypt || typ == attrAlgAuthTrunc) && !allZero(v):
				t.Error("a key is still in the message")
			}
			rest = next
		}
		if !s.Exotic {
			sameAgain(t, &s)
		}
	})
}

// sameAgain encodes what was decoded: that AddSA can make a state which is
// not exotic means that nothing of it was lost.
func sameAgain(t *testing.T, s *SA) {
	again := *s
	again.Key = testKey(t, 1)
	if (Op{Kind: AddSA, SA: &again}).check() != nil {
		return
	}
	var got SA
	b := body(t, appendNewSA(nil, header{}, &again, features{saDir: true}))
	if err := decodeSA(b, &got); err != nil || !sameSA(&again, &got) {
		t.Errorf("%+v became %+v, %v", again, got, err)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add(body(f, appendPolicy(nil, header{}, testPolicy(2, Out))))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, got Policy
		if decodePolicy(b, &p) != nil || (Op{Kind: AddPolicy, Policy: &p}).check() != nil {
			return
		}
		if err := decodePolicy(body(t, appendPolicy(nil, header{}, &p)), &got); err != nil || !samePolicy(&p, &got) {
			t.Errorf("%+v became %+v, %v", p, got, err)
		}
	})
}

func FuzzEvent(f *testing.F) {
	sa := appendNewSA(nil, header{}, testSA(f, 0x1001, In), features{saDir: true})
	f.Add(uint16(msgNewSA), body(f, sa))
	f.Add(uint16(msgDelPolicy), make([]byte, polidLen))
	for typ := uint16(msgNewSA); typ <= msgFlushPolicy; typ++ {
		f.Add(typ, make([]byte, acqLen))
	}
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		e, ok := decodeEvent(header{typ: typ}, bytes.Clone(b))
		if ok && (e.Kind == 0 || e.Kind >= Overrun) {
			t.Errorf("kind %d", e.Kind)
		}
	})
}

func FuzzDatagram(f *testing.F) {
	k := newKernel()
	k.ack(header{seq: 1}, nil, ack{errno: 16, text: "busy"})
	f.Add(k.queue[0])
	f.Add(message(header{typ: nlDone, flags: nlAckTLVs}, make([]byte, 4)))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		eachMessage(b, func(h header, body []byte) {
			total += nlHeaderLen + len(body)
			parseDone(h, body)
			if a, ok := parseAck(h, body); ok && len(a.text) > len(body) {
				t.Errorf("text of %d bytes in %d", len(a.text), len(body))
			}
		})
		if total > len(b) {
			t.Errorf("%d bytes of messages in %d", total, len(b))
		}
	})
}
