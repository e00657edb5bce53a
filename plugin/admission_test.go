// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"ovs-ipsec-offload/plugin/ike"
)

// An IKE daemon that meets the end of a card hangs with all its tunnels, so what such
// cards have is believed before one has refused anything; pairs of key sets try.
func TestAdmitPresumesForIKEAlone(t *testing.T) {
	presumed := map[int]room{4: {PF: "pf0", Most: mlx5Inbound, Presumed: true}}
	for _, tc := range []struct {
		name  string
		pi    PairIntent
		rooms map[int]room
		want  int
	}{
		{"two children", PairIntent{Want: Negotiate, IKE: &ike.Conn{}}, presumed, (2047 - 31) / 2},
		{"one child", PairIntent{Want: Negotiate, IKE: &ike.Conn{OneChild: true}}, presumed, 2047 - 31},
		{"key sets", PairIntent{Want: Encrypt}, presumed, 2100},
		{"key sets on a card that has refused", PairIntent{Want: Encrypt}, map[int]room{4: {PF: "pf0", Most: 2047}}, 2047 - 31},
		{"a small card", PairIntent{Want: Negotiate, IKE: &ike.Conn{}}, map[int]room{4: {PF: "pf0", Most: 9}}, 3},
	} {
		in := Intent{Pairs: make([]PairIntent, 2100)}
		for i := range in.Pairs {
			pi := tc.pi
			pi.PF, pi.Local = 4, netip.MustParseAddr("10.0.0.1")
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], 0x0a010000+uint32(i))
			pi.Remote = netip.AddrFrom4(a)
			in.Pairs[i] = pi
		}
		out, _ := admit(in, nil, tc.rooms)
		got := 0
		for _, pi := range out.Pairs {
			if pi.Want == tc.pi.Want {
				got++
			}
		}
		if got != tc.want {
			t.Errorf("%s: %d of %d pairs admitted, want %d", tc.name, got, len(in.Pairs), tc.want)
		}
	}
}
