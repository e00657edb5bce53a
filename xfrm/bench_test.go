// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"bytes"
	"context"
	"testing"
)

func BenchmarkEncodeSA(b *testing.B) {
	sa := testSA(b, 0x1001, In)
	buf := make([]byte, 0, messageMax)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendNewSA(buf[:0], header{}, sa, features{saDir: true})
	}
}

func BenchmarkEncodePolicy(b *testing.B) {
	p := testPolicy(2, Out)
	buf := make([]byte, 0, messageMax)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendPolicy(buf[:0], header{}, p)
	}
}

func BenchmarkDecodeSA(b *testing.B) {
	from := body(b, appendNewSA(nil, header{}, testSA(b, 0x1001, In), features{saDir: true}))
	msg := bytes.Clone(from)
	var s SA
	b.ReportAllocs()
	for b.Loop() {
		copy(msg, from) // decoding wipes the key
		if err := decodeSA(msg, &s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePolicy(b *testing.B) {
	msg := body(b, appendPolicy(nil, header{}, testPolicy(2, Out)))
	var p Policy
	b.ReportAllocs()
	for b.Loop() {
		if err := decodePolicy(msg, &p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDo is what a batch costs on this side of the socket.
func BenchmarkDo(b *testing.B) {
	c, err := newClient(newKernel(), testPort)
	if err != nil {
		b.Fatal(err)
	}
	var ops []Op
	for i := range batchMax {
		ops = append(ops, Op{Kind: UpdatePolicy, Policy: testPolicy(byte(i), Out)})
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Do(context.Background(), ops)
	}
}
