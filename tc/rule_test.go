// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"pgregory.net/rapid"
)

// message builds a tc message: header, then what fill adds.
func message(t testing.TB, m tcmsg, fill func(*netlink.AttributeEncoder)) []byte {
	t.Helper()
	ae := netlink.NewAttributeEncoder()
	fill(ae)
	attrs, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(m.append(nil), attrs...)
}

// filter builds an RTM_NEWTFILTER message whose options hold flags under typ.
func filter(t testing.TB, kind string, handle uint32, typ uint16, flags uint32) []byte {
	return message(t, tcmsg{ifindex: 7, handle: handle, parent: parentIngress, info: 0x20008}, func(ae *netlink.AttributeEncoder) {
		ae.String(attrKind, kind)
		ae.Uint32(11, 0) // TCA_CHAIN
		if handle == 0 {
			return
		}
		ae.Nested(attrOptions, func(o *netlink.AttributeEncoder) error {
			o.Bytes(300, []byte("a later kernel's attribute"))
			if typ != 0 {
				o.Uint32(typ, flags)
			}
			o.Uint32(24, 1) // an attribute behind the flags
			return nil
		})
	})
}

func TestDecodeRule(t *testing.T) {
	const inHW, notInHW, skipHW, verbose = 4, 8, 1, 16
	tests := []struct {
		name string
		msg  []byte
		want rule
	}{
		{"flower in hardware", filter(t, "flower", 1, 22, inHW), rule{flower: true, inHW: true}},
		{"flower in hardware, verbose", filter(t, "flower", 1, 22, inHW|verbose), rule{flower: true, inHW: true}},
		{"flower in software", filter(t, "flower", 1, 22, notInHW), rule{flower: true}},
		{"flower skip_hw", filter(t, "flower", 1, 22, skipHW|notInHW), rule{flower: true}},
		{"flower without flags", filter(t, "flower", 1, 0, 0), rule{flower: true}},
		{"head of a priority", filter(t, "flower", 0, 0, 0), rule{flower: true, head: true}},
		{"matchall in hardware", filter(t, "matchall", 1, 3, inHW), rule{inHW: true}},
		{"u32 in hardware", filter(t, "u32", 0x80000800, 11, inHW), rule{inHW: true}},
		{"bpf in hardware", filter(t, "bpf", 1, 9, inHW), rule{inHW: true}},
		{"head of matchall", filter(t, "matchall", 0, 0, 0), rule{head: true}},
		{"classifier without offload", filter(t, "basic", 1, 3, inHW), rule{}},
		{"flags of another classifier's number", filter(t, "flower", 1, 3, inHW), rule{flower: true}},
		{"no attributes", tcmsg{}.append(nil), rule{head: true}},
	}
	for _, tt := range tests {
		got, err := decodeRule(tt.msg)
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
	if _, err := decodeRule(make([]byte, sizeofTcmsg-1)); err == nil {
		t.Error("a message without its header was accepted")
	}
}

func TestDecodeQdisc(t *testing.T) {
	qdiscMessage := func(kind string, parent uint32, blocks ...uint32) []byte {
		return message(t, tcmsg{ifindex: 7, handle: 0xffff0000, parent: parent}, func(ae *netlink.AttributeEncoder) {
			ae.String(attrKind, kind)
			for i, b := range blocks {
				ae.Uint32(attrIngressBlock+uint16(i), b)
			}
		})
	}
	tests := []struct {
		name string
		msg  []byte
		want qdisc
		ok   bool
	}{
		{"ingress", qdiscMessage("ingress", parentHook), qdisc{ifindex: 7}, true},
		{"ingress of a block", qdiscMessage("ingress", parentHook, 22), qdisc{ifindex: 7, ingress: 22}, true},
		{"clsact", qdiscMessage("clsact", parentHook), qdisc{ifindex: 7, clsact: true}, true},
		{"clsact of blocks", qdiscMessage("clsact", parentHook, 22, 23), qdisc{ifindex: 7, clsact: true, ingress: 22, egress: 23}, true},
		{"root", qdiscMessage("mq", 0xffffffff), qdisc{}, false},
	}
	for _, tt := range tests {
		got, ok, err := decodeQdisc(tt.msg)
		if err != nil || ok != tt.ok || got != tt.want {
			t.Errorf("%s: %+v, %v, %v, want %+v, %v", tt.name, got, ok, err, tt.want, tt.ok)
		}
	}
}

func TestPlaces(t *testing.T) {
	qdiscs := []qdisc{
		{ifindex: 4}, {ifindex: 5, clsact: true}, {ifindex: 6, ingress: 22}, {ifindex: 7, clsact: true, ingress: 22, egress: 23}, {ifindex: 8}, {ifindex: 9, ingress: 22},
	}
	want := []place{
		{hook{4, parentIngress}, []int{4}},
		{hook{5, parentIngress}, []int{5}}, {hook{5, parentEgress}, []int{5}},
		{hook{ifindexBlock, 22}, []int{6, 7}}, {hook{ifindexBlock, 23}, []int{7}},
	}
	got := places(qdiscs, []int{7, 6, 5, 4, 99, 4})
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(place{}, hook{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReportAdd(t *testing.T) {
	var r Report
	r.add(place{hook{4, parentIngress}, []int{4}}, tally{rules: 3, inHW: 2, others: 1})
	r.add(place{hook{4, parentEgress}, []int{4}}, tally{rules: 1, inHW: 1})
	r.add(place{hook{5, parentIngress}, []int{5}}, tally{rules: 7})
	r.add(place{hook{ifindexBlock, 22}, []int{6, 7}}, tally{rules: 5, inHW: 5})
	if diff := cmp.Diff(Report{Total: 8, ByDev: map[int]int{4: 3, 6: 5, 7: 5}, Rules: 16, Others: 1}, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRequest(t *testing.T) {
	full, terse := hook{7, parentEgress}.request(false), hook{ifindexBlock, 22}.request(true)
	m, attrs, err := decodeTcmsg(full)
	if err != nil || m != (tcmsg{ifindex: 7, parent: parentEgress}) || len(attrs) != 0 {
		t.Errorf("full request: %+v, %d bytes of attributes, %v", m, len(attrs), err)
	}
	m, attrs, err = decodeTcmsg(terse)
	if err != nil || m != (tcmsg{ifindex: -1, parent: 22}) {
		t.Errorf("terse request: %+v, %v", m, err)
	}
	flags, found := find(attrs, attrDumpFlags)
	if want := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, dumpTerse), dumpTerse); !found || cmp.Diff(want, flags) != "" {
		t.Errorf("terse request has flags %v, want %v", flags, want)
	}
}

// Whatever else a filter carries, only its own flags decide.
func TestDecodeRuleProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		flags := rapid.Uint32().Draw(rt, "flags")
		extra := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 0, 6).Draw(rt, "extra")
		msg := message(t, tcmsg{ifindex: 7, handle: 1}, func(ae *netlink.AttributeEncoder) {
			ae.String(attrKind, "flower")
			ae.Nested(attrOptions, func(o *netlink.AttributeEncoder) error {
				for i, e := range extra {
					o.Bytes(uint16(100+i), e)
				}
				o.Uint32(22, flags)
				return nil
			})
		})
		if r, err := decodeRule(msg); err != nil || r.inHW != (flags&4 != 0) {
			rt.Fatalf("flags %#x: %+v, %v", flags, r, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(filter(f, "flower", 1, 22, 4))
	f.Add(filter(f, "matchall", 0, 0, 0))
	f.Add(append(tcmsg{parent: parentHook}.append(nil), 3, 0, 1, 0))
	f.Add(append(tcmsg{parent: parentHook}.append(nil), 4, 0, 1, 0, 255, 255, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRule(b)
		if err != nil && (len(b) >= sizeofTcmsg || r != rule{}) {
			t.Errorf("a message with its header must never be an error: %+v, %v", r, err)
		}
		q, ok, err := decodeQdisc(b)
		if !ok && q != (qdisc{}) || err != nil && len(b) >= sizeofTcmsg {
			t.Errorf("%+v, %v, %v", q, ok, err)
		}
	})
}

func BenchmarkDecodeRule(b *testing.B) {
	msg := filter(b, "flower", 1, 22, 4)
	b.ReportAllocs()
	for b.Loop() {
		if r, err := decodeRule(msg); err != nil || !r.inHW {
			b.Fatal(r, err)
		}
	}
}
