// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// kernel is a socket with a small XFRM behind it: it keeps the bodies of the
// requests and gives them back.
type kernel struct {
	states   map[SAID][]byte
	policies map[policyName][]byte
	order    []any // names, in the order they were added
	queue    [][]byte

	// What it does wrong.
	oldKernel bool // knows no XFRMA_SA_DIR
	software  bool // acknowledges offload and does none
	moveTo    int  // puts objects on this device instead
	stuck     bool // DELSA and DELPOLICY fail with EPERM
	refuse    map[uint32]ack
	lose      int // answers to drop, with ENOBUFS
	mute      int // answers to drop without a word, as for EINTR
	torn      int // dumps to interrupt
	sendErr   error
	overrun   bool

	requests []request // seen
	datagram int
	echo     bool // errors repeat the request, as without CAP_ACK
	closed   bool
}

type policyName struct {
	dir Dir
	sel Selector
}

type request struct {
	typ, flags uint16
	port       uint32
	attrs      []uint16
}

func newKernel() *kernel {
	return &kernel{
		states: map[SAID][]byte{}, policies: map[policyName][]byte{}, refuse: map[uint32]ack{},
	}
}

const testPort = 4711

func newTestClient(t *testing.T, k *kernel) *Client {
	t.Helper()
	c, err := newClient(k, testPort)
	if err != nil {
		t.Fatal(err)
	}
	k.requests, k.datagram = nil, 0
	return c
}

func (k *kernel) Close() error { k.closed = true; return nil }

func (k *kernel) Send(b []byte) error {
	if k.sendErr != nil {
		return k.sendErr
	}
	k.datagram++
	eachMessage(bytes.Clone(b), k.handle)
	return nil
}

func (k *kernel) Receive(b []byte) (int, error) {
	if k.overrun {
		k.overrun = false
		return 0, unix.ENOBUFS
	}
	if len(k.queue) == 0 {
		return 0, unix.EAGAIN
	}
	n := copy(b, k.queue[0])
	k.queue = k.queue[1:]
	return n, nil
}

func (k *kernel) handle(h header, body []byte) {
	k.requests = append(k.requests, request{h.typ, h.flags, h.port, attrTypes(h.typ, body)})
	if a, ok := k.refuse[uint32(len(k.requests))]; ok {
		k.ack(h, body, a)
		return
	}
	switch {
	case h.flags&nlDump != 0:
		k.dump(h)
	case h.typ == msgNewSA, h.typ == msgNewPolicy, h.typ == msgUpdPolicy:
		k.ack(h, body, ack{errno: k.add(h.typ, body)})
	case h.typ == msgGetSA, h.typ == msgGetPolicy:
		k.get(h, body)
	case h.typ == msgDelSA, h.typ == msgDelPolicy:
		k.ack(h, body, ack{errno: k.remove(nameOf(h.typ, body))})
	}
}

// attrTypes lists the attributes behind the fixed part of a request.
func attrTypes(typ uint16, body []byte) (types []uint16) {
	fixed := map[uint16]int{
		msgNewSA: saLen, msgNewPolicy: polLen, msgUpdPolicy: polLen,
		msgGetSA: saidLen, msgDelSA: saidLen, msgGetPolicy: polidLen, msgDelPolicy: polidLen,
	}[typ]
	for b := body[min(fixed, len(body)):]; ; {
		typ, _, rest, ok := nextAttr(b)
		if !ok {
			return types
		}
		types, b = append(types, typ), rest
	}
}

// nameOf returns the key of the object a request is about.
func nameOf(typ uint16, body []byte) any {
	switch typ {
	case msgNewSA:
		return SAID{addrAt(body[saDst:], u16(body[saFamily:])), binary.BigEndian.Uint32(body[saSPI:])}
	case msgGetSA, msgDelSA:
		return SAID{addrAt(body[saidDst:], u16(body[saidFamily:])), binary.BigEndian.Uint32(body[saidSPI:])}
	case msgNewPolicy, msgUpdPolicy:
		sel, _ := selectorAt(body[polSel:])
		return policyName{Dir(body[polDir]), sel}
	}
	sel, _ := selectorAt(body[polidSel:])
	return policyName{Dir(body[polidDir]), sel}
}

func (k *kernel) find(name any) []byte {
	switch n := name.(type) {
	case SAID:
		return k.states[n]
	case policyName:
		return k.policies[n]
	}
	return nil
}

func (k *kernel) add(typ uint16, body []byte) unix.Errno {
	name := nameOf(typ, body)
	switch {
	case typ == msgNewSA && !k.replayOK(body):
		return unix.EINVAL
	case k.find(name) != nil && typ != msgUpdPolicy:
		return unix.EEXIST
	}
	body = bytes.Clone(body)
	k.misplace(typ, body)
	switch n := name.(type) {
	case SAID:
		k.states[n] = body
	case policyName:
		k.policies[n] = body
	}
	k.order = append(k.order, name)
	return 0
}

// replayOK is what verify_replay and xfrm_init_replay ask of ESN states: a
// window, and none if the state is known to be outbound.
func (k *kernel) replayOK(body []byte) bool {
	esn := findAttr(body[saLen:], attrReplayESN)
	if len(esn) < esnLen {
		return body[saFlags]&flagESN == 0
	}
	dir := findAttr(body[saLen:], attrSADir)
	out := len(dir) > 0 && dir[0] == saDirOut && !k.oldKernel
	return out == (u32(esn[esnWindow:]) == 0)
}

// misplace changes XFRMA_OFFLOAD_DEV as a kernel does that has other plans.
func (k *kernel) misplace(typ uint16, body []byte) {
	at := map[bool]int{true: saLen, false: polLen}[typ == msgNewSA]
	for b := body[at:]; ; {
		typ, v, rest, ok := nextAttr(b)
		if !ok {
			return
		}
		if typ == attrOffloadDev && k.software {
			putU16(b[2:], 27) // XFRMA_PAD
		}
		if typ == attrOffloadDev && k.moveTo != 0 {
			putU32(v[offloadIfindex:], uint32(k.moveTo))
		}
		b = rest
	}
}

func (k *kernel) remove(name any) unix.Errno {
	switch {
	case k.stuck:
		return unix.EPERM
	case k.find(name) == nil:
		if _, ok := name.(SAID); ok {
			return unix.ESRCH
		}
		return unix.ENOENT
	}
	switch n := name.(type) {
	case SAID:
		delete(k.states, n)
	case policyName:
		delete(k.policies, n)
	}
	return 0
}

func (k *kernel) get(h header, body []byte) {
	if dir := findAttr(body[min(saidLen, len(body)):], attrSADir); dir != nil && !k.oldKernel {
		k.ack(h, body, ack{errno: unix.ERANGE, text: "integer out of range"})
		return
	}
	found := k.find(nameOf(h.typ, body))
	switch {
	case found == nil && h.typ == msgGetSA:
		k.ack(h, body, ack{errno: unix.ESRCH})
	case found == nil:
		k.ack(h, body, ack{errno: unix.ENOENT})
	case h.typ == msgGetSA:
		k.answer(message(header{typ: msgNewSA, seq: h.seq, port: h.port}, found))
	default:
		k.answer(message(header{typ: msgNewPolicy, seq: h.seq, port: h.port}, found))
	}
}

func (k *kernel) dump(h header) {
	flags := uint16(2) // NLM_F_MULTI
	if k.torn > 0 {
		k.torn--
		flags |= nlDumpIntr
	}
	for _, name := range k.order {
		body := k.find(name)
		_, isSA := name.(SAID)
		switch {
		case body == nil:
		case isSA && h.typ == msgGetSA:
			k.answer(message(header{typ: msgNewSA, flags: flags, seq: h.seq}, body))
		case !isSA && h.typ == msgGetPolicy:
			k.answer(message(header{typ: msgNewPolicy, flags: flags, seq: h.seq}, body))
		}
	}
	k.answer(message(header{typ: nlDone, flags: flags, seq: h.seq}, make([]byte, 4)))
}

func (k *kernel) ack(h header, body []byte, a ack) {
	b := binary.NativeEndian.AppendUint32(nil, uint32(-int32(a.errno)))
	b = binary.NativeEndian.AppendUint32(b, uint32(nlHeaderLen+len(body)))
	b = append(b, make([]byte, 12)...)
	flags := uint16(nlCapped)
	if k.echo && a.errno != 0 {
		flags = 0
		b = append(b, body...)
		b = grow(b, align(len(b))-len(b))
	}
	if a.text != "" {
		flags |= nlAckTLVs
		var v []byte
		b, v = appendAttr(b, nlAckText, len(a.text)+1)
		copy(v, a.text)
	}
	k.answer(message(header{typ: nlError, flags: flags, seq: h.seq}, b))
}

func (k *kernel) answer(b []byte) {
	switch {
	case k.lose > 0:
		k.lose--
		k.overrun = true
	case k.mute > 0:
		k.mute--
	default:
		k.queue = append(k.queue, b)
	}
}

// message returns one message with its header.
func message(h header, body []byte) []byte {
	return endMessage(append(beginMessage(nil, h), body...), 0)
}

// testKey returns a key of one repeated byte.
func testKey(t testing.TB, fill byte) Key {
	t.Helper()
	k, ok := NewKey(bytes.Repeat([]byte{fill}, KeyLen))
	if !ok {
		t.Fatal("no key")
	}
	return k
}

const testIfindex = 7

func testSA(t testing.TB, spi uint32, d Dir) *SA {
	t.Helper()
	s := &SA{
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		SPI: spi, Reqid: 17, Dir: d, ESN: true, Key: testKey(t, 0xA5),
		Offload: Offload{Ifindex: testIfindex, Packet: true},
	}
	if d == In {
		s.Src, s.Dst, s.Window = s.Dst, s.Src, 64
	}
	return s
}

func testPolicy(last byte, d Dir) *Policy {
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.AddrFrom4([4]byte{10, 0, 0, last})
	p := &Policy{
		Dir: d, Priority: 100,
		Sel:     Selector{Src: netip.PrefixFrom(src, 32), Dst: netip.PrefixFrom(dst, 32), Proto: 17, DstPort: 4789},
		Tmpl:    &Template{Src: src, Dst: dst, Reqid: 17},
		Offload: Offload{Ifindex: testIfindex, Packet: true},
	}
	return p
}
