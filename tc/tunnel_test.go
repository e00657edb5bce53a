// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mdlayher/netlink"
)

// counted builds a tc_action's statistics: software and hardware packets.
func counted(sw, hw uint64) func(*netlink.AttributeEncoder) error {
	basic := func(n uint64) []byte {
		return append(binary.NativeEndian.AppendUint32(make([]byte, 8), uint32(n)), 0, 0, 0, 0)
	}
	return func(s *netlink.AttributeEncoder) error {
		s.Bytes(1, basic(sw))
		if sw>>32 != 0 {
			s.Uint64(8, sw)
		}
		s.Bytes(7, basic(hw))
		if hw>>32 != 0 {
			s.Uint64(8, hw)
		}
		s.Bytes(3, make([]byte, 20))
		return nil
	}
}

// act appends an action to a rule. As in the kernel an action tunnel_key counts
// nothing in hardware, and Open vSwitch's cookie is on the last action.
func act(a *netlink.AttributeEncoder, nth uint16, kind string, sw, hw uint64, options func(*netlink.AttributeEncoder)) {
	if kind == "tunnel_key" {
		hw = 0
	}
	a.Nested(nth, func(e *netlink.AttributeEncoder) error {
		e.String(1, kind)
		e.Nested(2, func(o *netlink.AttributeEncoder) error { options(o); return nil })
		e.Nested(4, counted(sw, hw))
		if kind == "mirred" {
			e.Bytes(6, []byte("flow-0123456789a"))
		}
		return nil
	})
}

func setTunnel(src, dst string, port uint16) func(*netlink.AttributeEncoder) {
	return func(o *netlink.AttributeEncoder) {
		o.Bytes(2, append(make([]byte, 20), binary.NativeEndian.AppendUint32(nil, 1)...))
		o.Bytes(3, netip.MustParseAddr(src).AsSlice())
		o.Bytes(4, netip.MustParseAddr(dst).AsSlice())
		o.Bytes(9, binary.BigEndian.AppendUint16(nil, port))
	}
}

func nothing(*netlink.AttributeEncoder) {}

// flower builds a filter message with the given actions and match.
func flower(t testing.TB, flags uint32, match func(*netlink.AttributeEncoder), acts func(*netlink.AttributeEncoder)) []byte {
	return message(t, tcmsg{ifindex: 7, handle: 5, parent: parentIngress, info: 0x20008}, func(ae *netlink.AttributeEncoder) {
		ae.String(attrKind, "flower")
		ae.Uint32(11, 0)
		ae.Nested(attrOptions, func(o *netlink.AttributeEncoder) error {
			match(o)
			o.Nested(3, func(a *netlink.AttributeEncoder) error { acts(a); return nil })
			o.Uint32(22, flags)
			return nil
		})
	})
}

func TestTunnels(t *testing.T) {
	encap := func(a *netlink.AttributeEncoder) {
		act(a, 1, "tunnel_key", 9, 1<<32+5, setTunnel("10.0.0.1", "10.0.0.2", 4789))
		act(a, 2, "mirred", 9, 1<<32+5, nothing)
	}
	twice := func(a *netlink.AttributeEncoder) {
		act(a, 1, "tunnel_key", 0, 3, setTunnel("10.0.0.1", "10.0.0.2", 4789))
		act(a, 2, "mirred", 0, 3, nothing)
		act(a, 3, "tunnel_key", 0, 3, setTunnel("10.0.0.1", "10.0.0.3", 4790))
	}
	decap := func(a *netlink.AttributeEncoder) {
		act(a, 1, "tunnel_key", 0, 8, func(o *netlink.AttributeEncoder) {
			o.Bytes(2, append(make([]byte, 20), binary.NativeEndian.AppendUint32(nil, 2)...))
		})
		act(a, 2, "mirred", 0, 8, nothing)
	}
	outer6 := func(o *netlink.AttributeEncoder) {
		o.Bytes(31, netip.MustParseAddr("fd00::2").AsSlice())
		o.Bytes(33, netip.MustParseAddr("fd00::1").AsSlice())
		o.Bytes(45, binary.BigEndian.AppendUint16(nil, 4789))
	}
	addr := netip.MustParseAddr
	rule := func(nth uint8, encap bool, src, dst string, port uint16, packets uint64) TunnelRule {
		r := TunnelRule{ID: RuleID{Ifindex: 7, Parent: parentIngress, Info: 0x20008, Handle: 5, Nth: nth}, Dev: 7,
			Encap: encap, Src: addr(src), Dst: addr(dst), Port: port, Packets: packets}
		copy(r.ID.Cookie[:], "flow-0123456789a")
		return r
	}
	tests := map[string]struct {
		msg  []byte
		want []TunnelRule
	}{
		"encap":                    {flower(t, flagInHW, nothing, encap), []TunnelRule{rule(1, true, "10.0.0.1", "10.0.0.2", 4789, 1<<32+5)}},
		"encap not in hardware":    {flower(t, 8, nothing, encap), nil},
		"two tunnels":              {flower(t, flagInHW, nothing, twice), []TunnelRule{rule(1, true, "10.0.0.1", "10.0.0.2", 4789, 3), rule(3, true, "10.0.0.1", "10.0.0.3", 4790, 3)}},
		"decap":                    {flower(t, flagInHW, outer6, decap), []TunnelRule{rule(0, false, "fd00::2", "fd00::1", 4789, 8)}},
		"decap without an address": {flower(t, flagInHW, nothing, decap), nil},
		"another classifier":       {filter(t, "matchall", 1, 3, flagInHW), nil},
		"cut off":                  {flower(t, flagInHW, nothing, encap)[:90], nil},
	}
	for name, tt := range tests {
		got := appendTunnels(nil, tt.msg, 7)
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Whatever a message holds, figures are read without a fault.
func FuzzTunnels(f *testing.F) {
	f.Add(flower(f, flagInHW, nothing, func(a *netlink.AttributeEncoder) {
		act(a, 1, "tunnel_key", 9, 1<<32+5, setTunnel("10.0.0.1", "10.0.0.2", 4789))
	}))
	f.Fuzz(func(_ *testing.T, b []byte) { appendTunnels(nil, b, 1) })
}

func BenchmarkTunnels(b *testing.B) {
	msg := flower(b, flagInHW, nothing, func(a *netlink.AttributeEncoder) {
		act(a, 1, "tunnel_key", 9, 5, setTunnel("10.0.0.1", "10.0.0.2", 4789))
		act(a, 2, "mirred", 9, 5, nothing)
	})
	var to []TunnelRule
	b.ReportAllocs()
	for b.Loop() {
		if to = appendTunnels(to[:0], msg, 7); len(to) != 1 {
			b.Fatal(to)
		}
	}
}
