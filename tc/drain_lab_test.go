// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package tc

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
)

func drain(t testing.TB, names ...string) int {
	t.Helper()
	var indexes []int
	for _, n := range names {
		indexes = append(indexes, ifindex(t, n))
	}
	n, err := Drain{}.Delete(t.Context(), indexes)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// All kinds of places give up what is in hardware, and nothing else. (The model
// NIC takes no rule of another chain than 0.)
func TestLabDelete(t *testing.T) {
	pf(t)
	sh(t, `tc qdisc add dev rep0 ingress
		tc qdisc add dev rep1 ingress_block 22 clsact
		tc filter add dev rep0 ingress prio 2 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add dev rep0 ingress prio 2 protocol ip flower skip_hw dst_ip 192.0.2.2 action drop
		tc filter add dev rep0 ingress prio 3 protocol ipv6 flower dst_ip 2001:db8::1 action drop
		tc filter add dev rep0 ingress prio 4 chain 5 protocol ip flower dst_ip 192.0.2.3 action drop
		tc filter add block 22 prio 2 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add block 22 prio 2 protocol ip flower skip_hw dst_ip 192.0.2.2 action drop
		tc filter add dev rep1 egress prio 2 protocol ip flower skip_hw dst_ip 192.0.2.1 action drop`)
	if before := offloaded(t, "rep0", "rep1"); before.Total != 3 || before.Rules != 7 {
		t.Fatalf("before: %+v", before)
	}
	if n := drain(t, "rep0"); n != 2 {
		t.Errorf("deleted %d of rep0, want 2", n)
	}
	if n := drain(t, "rep1", "rep0"); n != 1 {
		t.Errorf("deleted %d of both, want 1", n)
	}
	wantReport(t, Report{Rules: 4}, offloaded(t, "rep0", "rep1"))
	if n := drain(t, "rep0", "rep1", "pf0"); n != 0 {
		t.Errorf("deleted %d more", n)
	}
}

// A rule of another classifier at the same hook hides nothing and stays.
func TestLabDeleteBesideOthers(t *testing.T) {
	pf(t)
	sh(t, `tc qdisc add dev rep0 ingress
		tc filter add dev rep0 ingress prio 1 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add dev rep0 ingress prio 2 protocol ip basic action drop
		tc filter add dev rep0 ingress prio 3 protocol ip flower dst_ip 192.0.2.2 action drop`)
	if n := drain(t, "rep0"); n != 2 {
		t.Errorf("deleted %d, want 2", n)
	}
	if out, err := exec.Command("tc", "filter", "show", "dev", "rep0", "ingress").Output(); err != nil || !strings.Contains(string(out), "basic") || strings.Contains(string(out), "in_hw") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// Many batches, while somebody else deletes the same rules and at last the
// whole qdisc.
func TestLabDeleteRace(t *testing.T) {
	pf(t)
	const n = 2000
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
	deleted := drain(t, "rep0")
	if got := offloaded(t, "rep0"); got.Total != 0 {
		t.Errorf("after %d deletions: %+v", deleted, got)
	}
	wg.Wait()
	t.Logf("deleted %d of %d", deleted, n)
}

// BenchmarkLabDelete takes 10 000 rules out of the model NIC.
func BenchmarkLabDelete(b *testing.B) {
	addPF(b)
	b.Cleanup(func() { sh(b, "ip link del wire0") })
	sh(b, "tc qdisc add dev rep0 clsact")
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		tcBatch(b, rules("rep0", 0, 10000, ""))
		b.StartTimer()
		if n := drain(b, "rep0"); n != 10000 {
			b.Fatalf("deleted %d", n)
		}
	}
}
