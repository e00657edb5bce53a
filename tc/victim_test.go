// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestDecodeVictim(t *testing.T) {
	const skipSW, inHW, notInHW, verbose = 2, 4, 8, 16
	software := filter(t, "flower", 5, 22, 1)
	_, attrs, _ := decodeTcmsg(software)
	options, _ := find(attrs, attrOptions)
	want := victim{handle: 5, info: 0x20008, options: options}
	lonely := want
	lonely.options = nil
	for _, tt := range []struct {
		name string
		msg  []byte
		want *victim
	}{
		{"flower in hardware", filter(t, "flower", 5, 22, inHW), &want},
		{"flower in hardware, verbose", filter(t, "flower", 5, 22, inHW|verbose), &want},
		{"flower in hardware only", filter(t, "flower", 5, 22, inHW|skipSW), &lonely},
		{"flower in software", filter(t, "flower", 5, 22, notInHW), nil},
		{"flower without flags", filter(t, "flower", 5, 0, 0), nil},
		{"head of a priority", filter(t, "flower", 0, 0, 0), nil},
		{"matchall in hardware", filter(t, "matchall", 5, 3, inHW), nil},
	} {
		before := bytes.Clone(tt.msg)
		v, ok, err := decodeVictim(tt.msg)
		if ok != (tt.want != nil) || err != nil || ok && !cmp.Equal(v, *tt.want, cmp.AllowUnexported(victim{})) {
			t.Errorf("%s: %+v, %v, %v", tt.name, v, ok, err)
		}
		if !bytes.Equal(tt.msg, before) {
			t.Errorf("%s: the message was written to", tt.name)
		}
	}
	if _, _, err := decodeVictim(nil); err == nil {
		t.Error("a message without its header was accepted")
	}
}

// What a rule without a number would delete is a whole priority.
func TestDecodeVictimNeverAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, ok, err := decodeVictim(rapid.SliceOf(rapid.Byte()).Draw(t, "message"))
		if ok && (err != nil || a.handle == 0) {
			t.Fatalf("%+v, %v", a, err)
		}
	})
	handleless := message(t, tcmsg{ifindex: 7, parent: parentIngress, info: 0x20008}, func(ae *netlink.AttributeEncoder) {
		ae.String(attrKind, "flower")
		ae.Nested(attrOptions, func(o *netlink.AttributeEncoder) error { o.Uint32(22, 4); return nil })
	})
	if a, ok, _ := decodeVictim(handleless); ok {
		t.Errorf("took %+v for a rule", a)
	}
}

func TestRequests(t *testing.T) {
	v := victim{handle: 5, info: 0x2dd86, chain: 3, options: []byte("twelve bytes")}
	for _, h := range []hook{{7, parentIngress}, {ifindexBlock, 22}} {
		build := func(options []byte) []byte {
			return message(t, tcmsg{ifindex: h.ifindex, handle: 5, parent: h.parent, info: 0x2dd86}, func(ae *netlink.AttributeEncoder) {
				ae.String(attrKind, "flower")
				ae.Uint32(unix.TCA_CHAIN, 3)
				if options != nil {
					ae.Bytes(attrOptions, options)
				}
			})
		}
		if got, want := h.deletion(v), build(nil); !bytes.Equal(got, want) {
			t.Errorf("deletion of %+v:\n got %x\nwant %x", h, got, want)
		}
		if got, want := h.change(v), build(v.options); !bytes.Equal(got, want) {
			t.Errorf("change of %+v:\n got %x\nwant %x", h, got, want)
		}
	}
}

func TestInOrder(t *testing.T) {
	ps := []place{{hook{1, 1}, []int{1}}, {hook{-1, 9}, []int{2, 5}}, {hook{3, 1}, []int{3}}, {hook{3, 2}, []int{3}}}
	want := []place{ps[2], ps[3], ps[1], ps[0]}
	if diff := cmp.Diff(want, inOrder(ps, []int{3, 5, 1, 2}), cmp.AllowUnexported(place{}, hook{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
