// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package tc

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// tunnelRules returns tc lines as Open vSwitch's rules of a tunnel are: encap
// rules of rep0 to as many peers.
func tunnelRules(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "filter replace dev rep0 ingress prio 2 handle %d protocol ip flower dst_mac 02:00:00:%02x:%02x:%02x "+
			"action tunnel_key set src_ip 10.0.0.1 dst_ip 10.1.%d.%d id %d dst_port 4789 action mirred egress redirect dev vxlan0\n",
			i+1, i>>16, i>>8&255, i&255, i>>8&255, i&255, i+1)
	}
	return b.String()
}

func addTunnel(t testing.TB) {
	t.Helper()
	sh(t, `ip addr add 10.0.0.1/8 dev pf0
		ip link add vxlan0 type vxlan external dstport 4789
		ip link set vxlan0 up
		tc qdisc add dev rep0 ingress
		tc qdisc add dev vxlan0 ingress`)
}

// Packets of a VF that a rule in hardware encapsulates are counted for the
// tunnel.
func TestLabTunnels(t *testing.T) {
	pf(t)
	addTunnel(t)
	sh(t, `ip neigh add 10.1.0.0 lladdr 02:00:00:00:00:09 dev pf0
		tc filter add dev vxlan0 ingress prio 2 protocol ip flower enc_src_ip 10.1.0.0 enc_dst_ip 10.0.0.1 enc_dst_port 4789 enc_key_id 1 action tunnel_key unset action mirred egress redirect dev rep0
		ip addr add 192.168.7.1/24 dev rep0v
		ip neigh add 192.168.7.2 lladdr 02:00:00:00:00:00 dev rep0v
		ip link set rep0v up`)
	tcBatch(t, tunnelRules(1))
	devs := []int{ifindex(t, "rep0"), ifindex(t, "vxlan0")}
	before, err := Scanner{}.Tunnels(t.Context(), devs)
	if err != nil || len(before) != 2 {
		t.Fatalf("%+v, %v, want an encap and a decap rule", before, err)
	}
	_ = exec.Command("ping", "-q", "-c", "5", "-i", "0.02", "-W", "1", "-I", "rep0v", "192.168.7.2").Run() // nobody answers
	after, err := Scanner{}.Tunnels(t.Context(), devs)
	if err != nil || len(after) != 2 {
		t.Fatalf("%+v, %v", after, err)
	}
	for i, r := range after {
		local, peer := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.0")
		want := TunnelRule{ID: r.ID, Dev: devs[0], Encap: true, Src: local, Dst: peer, Port: 4789, Packets: before[i].Packets + 5}
		if !r.Encap {
			want.Dev, want.Encap, want.Src, want.Dst, want.Packets = devs[1], false, peer, local, 0
		}
		if r != want || r.ID != before[i].ID {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
}

// BenchmarkLabTunnels reads what 10,000 encap rules in hardware have counted, and
// for comparison asks only how many they are.
func BenchmarkLabTunnels(b *testing.B) {
	addPF(b)
	b.Cleanup(func() { sh(b, "ip link del wire0") })
	addTunnel(b)
	tcBatch(b, tunnelRules(10000))
	devs := []int{ifindex(b, "rep0")}
	b.Run("Tunnels", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if rs, err := (Scanner{}).Tunnels(b.Context(), devs); err != nil || len(rs) != 10000 {
				b.Fatal(len(rs), err)
			}
		}
	})
	b.Run("Offloaded", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r, err := (Scanner{}).Offloaded(b.Context(), devs); err != nil || r.Total != 10000 {
				b.Fatal(r, err)
			}
		}
	})
}
