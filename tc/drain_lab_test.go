// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package tc

import (
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func drain(t testing.TB, names ...string) int {
	t.Helper()
	var indexes []int
	for _, n := range names {
		indexes = append(indexes, ifindex(t, n))
	}
	n, err := Drain{}.Evict(t.Context(), indexes)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// All kinds of places give up what is in hardware, and keep it in software. (The
// model NIC takes no rule of another chain than 0.)
func TestLabEvict(t *testing.T) {
	pf(t)
	sh(t, `tc qdisc add dev rep0 ingress
		tc qdisc add dev rep1 ingress_block 22 clsact
		tc filter add dev rep0 ingress prio 2 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add dev rep0 ingress prio 2 protocol ip flower skip_hw dst_ip 192.0.2.2 action drop
		tc filter add dev rep0 ingress prio 3 protocol ipv6 flower dst_ip 2001:db8::1 action drop
		tc filter add dev rep0 ingress prio 4 chain 5 protocol ip flower dst_ip 192.0.2.3 action drop
		tc filter add block 22 prio 2 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add block 22 prio 2 protocol ip flower skip_hw dst_ip 192.0.2.2 action drop
		tc filter add block 22 prio 5 protocol ip flower skip_sw dst_ip 192.0.2.3 action drop
		tc filter add dev rep1 egress prio 2 protocol ip flower skip_hw dst_ip 192.0.2.1 action drop`)
	if before := offloaded(t, "rep0", "rep1"); before.Total != 4 || before.Rules != 8 {
		t.Fatalf("before: %+v", before)
	}
	if n := drain(t, "rep0"); n != 2 {
		t.Errorf("took %d of rep0, want 2", n)
	}
	if n := drain(t, "rep1", "rep0"); n != 2 {
		t.Errorf("took %d of both, want 2", n)
	}
	// All are there but the one that cannot be in software.
	wantReport(t, Report{Rules: 7}, offloaded(t, "rep0", "rep1"))
	if n := drain(t, "rep0", "rep1", "pf0"); n != 0 {
		t.Errorf("took %d more", n)
	}
}

// A rule of OVS's making is the same afterwards, with its number, actions and
// cookies, but for the flags.
func TestLabEvictKeepsRule(t *testing.T) {
	pf(t)
	sh(t, `ip link add vxlan0 type vxlan external dstport 4789
		ip link set vxlan0 up
		ip address add 10.0.0.1/24 dev pf0
		ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev pf0
		tc qdisc add dev rep0 ingress
		tc qdisc add dev vxlan0 ingress
		tc filter add dev rep0 ingress prio 2 protocol ip handle 0x7 flower ip_proto udp dst_port 20002 ip_flags nofrag action tunnel_key set src_ip 10.0.0.1 dst_ip 10.0.0.2 id 100 dst_port 4789 nocsum nofrag ttl 64 pipe cookie 9733135abf4d8ad6f9f8c098411849ee action mirred egress redirect dev vxlan0 cookie 8c54f191fe4d700d9cf45195ec8e150e
		tc filter add dev vxlan0 ingress prio 2 protocol ip handle 0x9 flower enc_dst_ip 10.0.0.1 enc_src_ip 10.0.0.2 enc_key_id 100 enc_dst_port 4789 ip_proto udp src_port 20002 action tunnel_key unset pipe action mirred egress redirect dev rep0 cookie ac87dd99ee40d9e1004344866740e20e`)
	show := func() string {
		out, err := exec.Command("sh", "-c", "tc filter show dev rep0 ingress; tc filter show dev vxlan0 ingress").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	before := show()
	if strings.Count(before, "in_hw_count 1") != 2 {
		t.Fatalf("not in hardware:\n%s", before)
	}
	if n := drain(t, "rep0", "vxlan0"); n != 2 {
		t.Errorf("took %d, want 2", n)
	}
	plain := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.Contains(line, "_hw") && !strings.HasPrefix(line, "eth_type") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	after := show()
	if diff := cmp.Diff(plain(before), plain(after)); diff != "" || strings.Count(after, "skip_hw") != 2 {
		t.Errorf("(-before +after):\n%s\n%s", diff, after)
	}
}

// A rule of another classifier at the same hook hides nothing and stays.
func TestLabEvictBesideOthers(t *testing.T) {
	pf(t)
	sh(t, `tc qdisc add dev rep0 ingress
		tc filter add dev rep0 ingress prio 1 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add dev rep0 ingress prio 2 protocol ip basic action drop
		tc filter add dev rep0 ingress prio 3 protocol ip flower dst_ip 192.0.2.2 action drop`)
	if n := drain(t, "rep0"); n != 2 {
		t.Errorf("took %d, want 2", n)
	}
	wantReport(t, Report{Rules: 3}, offloaded(t, "rep0"))
}

// Many batches, while somebody else deletes the same rules and at last the
// whole qdisc.
func TestLabEvictRace(t *testing.T) {
	pf(t)
	const n = 1000
	sh(t, "tc qdisc add dev rep0 clsact")
	tcBatch(t, rules("rep0", 0, n, ""))
	if got := offloaded(t, "rep0"); got.Total != n {
		t.Fatalf("%+v", got)
	}
	other := exec.Command("tc", "-force", "-batch", "-")
	other.Stdin = strings.NewReader(strings.ReplaceAll(rules("rep0", 0, n, ""), "filter replace", "filter del") + "qdisc del dev rep0 clsact\n")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = other.Wait() })
	taken := drain(t, "rep0")
	if got := offloaded(t, "rep0"); got.Total != 0 {
		t.Errorf("after %d were taken: %+v", taken, got)
	}
	wg.Wait()
	t.Logf("took %d of %d", taken, n)
}

// BenchmarkLabEvict takes 10 000 rules out of the model NIC.
func BenchmarkLabEvict(b *testing.B) {
	addPF(b)
	b.Cleanup(func() { sh(b, "ip link del wire0") })
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		sh(b, "tc qdisc add dev rep0 clsact")
		tcBatch(b, rules("rep0", 0, 10000, ""))
		b.StartTimer()
		if n := drain(b, "rep0"); n != 10000 {
			b.Fatalf("took %d", n)
		}
		b.StopTimer()
		sh(b, "tc qdisc del dev rep0 clsact")
		b.StartTimer()
	}
}
