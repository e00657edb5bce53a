// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestAckForms(t *testing.T) {
	const text = "mlx5_core: Cannot offload without reqid"
	for _, echo := range []bool{false, true} {
		for _, want := range []ack{{}, {errno: unix.EINVAL}, {errno: unix.EINVAL, text: text}} {
			k := newKernel()
			k.echo = echo
			k.ack(header{seq: 1}, make([]byte, 13), want)
			h, b, _, ok := nextMessage(k.queue[0])
			got, parsed := parseAck(h, b)
			if !ok || !parsed || got != want {
				t.Errorf("echo %v: got %+v, want %+v", echo, got, want)
			}
		}
	}
}

func TestShortAck(t *testing.T) {
	if a, ok := parseAck(header{}, make([]byte, 19)); ok {
		t.Errorf("%+v", a)
	}
	if a := answerOf(header{typ: nlError}, nil); a.ack.errno != unix.EBADMSG {
		t.Errorf("%+v", a)
	}
}

func TestMessagesStayInTheirBounds(t *testing.T) {
	one := message(header{typ: msgNewSA, seq: 1}, make([]byte, 5))
	two := append(append([]byte{}, one...), message(header{typ: msgDelSA, seq: 2}, nil)...)
	var seen []uint32
	eachMessage(two, func(h header, body []byte) {
		seen = append(seen, h.seq)
		if h.seq == 1 && (len(body) != 5 || cap(body) != 5) {
			t.Errorf("body of %d bytes, %d within reach", len(body), cap(body))
		}
	})
	if len(seen) != 2 {
		t.Errorf("messages %v", seen)
	}
	putU32(one, 15)
	if _, _, _, ok := nextMessage(one); ok {
		t.Error("a message shorter than its header")
	}
	putU32(one, 1<<31)
	if _, _, _, ok := nextMessage(one); ok {
		t.Error("a message longer than the datagram")
	}
}

func TestDoneCarriesAnError(t *testing.T) {
	b := make([]byte, 4)
	putU32(b, uint32(0xffffffff)-uint32(unix.ENOMEM)+1)
	b, v := appendAttr(b, nlAckText, 4)
	copy(v, "why")
	if a := parseDone(header{flags: nlAckTLVs}, b); a.errno != unix.ENOMEM || a.text != "why" {
		t.Errorf("%+v", a)
	}
	if a := parseDone(header{}, nil); a != (ack{}) {
		t.Errorf("%+v", a)
	}
}
