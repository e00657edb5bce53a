// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package tc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	gotc "github.com/florianl/go-tc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// inNamespace moves the test to a network namespace of its own. The thread is
// never unlocked, so it ends with the test and the namespace goes with it.
func inNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
}

// sh runs commands, one a line, and fails the test with the first that fails.
// A word in double quotes may hold spaces.
func sh(t testing.TB, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.TrimSpace(line), err, out)
		}
	}
}

// tcBatch feeds lines to one tc process.
func tcBatch(t testing.TB, lines string) {
	t.Helper()
	cmd := exec.Command("tc", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tc -batch: %v\n%s", err, out)
	}
}

func ifindex(t testing.TB, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

// pf makes a namespace with a simulated PF and its representors rep0, rep1,
// which have no qdisc yet.
func pf(t testing.TB) {
	t.Helper()
	inNamespace(t)
	addPF(t)
}

func addPF(t testing.TB) {
	t.Helper()
	sh(t, `ip link add wire0 type veth peer name wire1
		ip link set wire0 up
		ip link set wire1 up
		ip link add link wire0 name pf0 type simpf
		ip link set pf0 up
		ip link add link pf0 name rep0 type simrep
		ip link add link pf0 name rep1 type simrep
		ip link set rep0 up
		ip link set rep1 up`)
}

func offloaded(t testing.TB, names ...string) Report {
	t.Helper()
	var indexes []int
	for _, n := range names {
		indexes = append(indexes, ifindex(t, n))
	}
	r, err := Scanner{}.Offloaded(t.Context(), indexes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantReport(t testing.TB, want, got Report) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLabOffloaded(t *testing.T) {
	pf(t)
	wantReport(t, Report{}, offloaded(t, "rep0", "rep1", "pf0"))
	sh(t, `tc qdisc add dev rep0 ingress
		tc qdisc add dev rep1 clsact
		tc filter add dev rep0 ingress prio 2 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add dev rep0 ingress prio 2 protocol ip flower dst_ip 192.0.2.2 action drop
		tc filter add dev rep0 ingress prio 3 protocol ipv6 flower dst_ip 2001:db8::1 action drop
		tc filter add dev rep0 ingress prio 4 protocol ip flower skip_hw dst_ip 192.0.2.3 action drop
		tc filter add dev rep1 ingress prio 2 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add dev rep1 egress prio 2 protocol ip flower skip_hw dst_ip 192.0.2.1 action drop`)
	rep0, rep1 := ifindex(t, "rep0"), ifindex(t, "rep1")
	wantReport(t, Report{Total: 4, ByDev: map[int]int{rep0: 3, rep1: 1}, Rules: 6}, offloaded(t, "rep0", "rep1", "pf0"))
	wantReport(t, Report{Total: 1, ByDev: map[int]int{rep1: 1}, Rules: 2}, offloaded(t, "rep1"))
	dev, found, err := Scanner{}.Any(t.Context(), []int{ifindex(t, "pf0"), rep1})
	if dev != rep1 || !found || err != nil {
		t.Errorf("Any: %d, %v, %v, want %d", dev, found, err, rep1)
	}
	sh(t, `tc filter del dev rep0 ingress
		tc filter del dev rep1 ingress`)
	wantReport(t, Report{Rules: 1}, offloaded(t, "rep0", "rep1", "pf0"))
	if dev, found, err := (Scanner{}).Any(t.Context(), []int{rep0, rep1}); found || err != nil {
		t.Errorf("Any: %d, %v, %v, want none", dev, found, err)
	}
}

func TestLabChainsAndSharedBlocks(t *testing.T) {
	pf(t)
	sh(t, `tc qdisc add dev rep0 ingress_block 22 ingress
		tc qdisc add dev rep1 ingress_block 22 egress_block 23 clsact
		tc qdisc add dev pf0 ingress
		tc filter add block 22 prio 1 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add block 22 prio 1 chain 7 protocol ip flower dst_ip 192.0.2.1 action drop
		tc filter add block 23 prio 1 protocol ip flower skip_hw dst_ip 192.0.2.1 action drop
		tc filter add dev pf0 ingress prio 1 chain 3 protocol ip flower skip_hw dst_ip 192.0.2.1 action drop`)
	got := offloaded(t, "rep1", "rep0", "pf0")
	rep0, rep1 := ifindex(t, "rep0"), ifindex(t, "rep1")
	if got.Rules != 4 || got.Total == 0 || got.ByDev[rep0] != got.Total || got.ByDev[rep1] != got.Total || len(got.ByDev) != 2 {
		t.Errorf("got %+v, want 4 rules and each shared one once in the total", got)
	}
	if out, err := exec.Command("tc", "-s", "filter", "show", "block", "22").CombinedOutput(); err != nil || bytes.Count(out, []byte("\n  in_hw")) != got.Total {
		t.Errorf("tc shows %d rules in hardware, the scanner %d (%v)\n%s", bytes.Count(out, []byte("\n  in_hw")), got.Total, err, out)
	}
}

// Rules that other parsers stumble over must be seen like any other.
func TestLabUnknownKeys(t *testing.T) {
	pf(t)
	sh(t, `tc qdisc add dev rep0 clsact
		tc filter add dev rep0 ingress prio 1 protocol ipv6 flower dst_ip 2001:db8::1 src_ip 2001:db8::2 ip_proto udp dst_port 53 action drop
		tc filter add dev rep0 ingress prio 2 protocol ip flower enc_dst_ip 2001:db8::1 enc_key_id 7 enc_dst_port 6081 geneve_opts 0102:80:00880022/ffff:ff:ffffffff action drop
		tc filter add dev rep0 ingress prio 3 protocol ip flower ct_state +trk+est ct_label 1/1 action drop
		tc filter add dev rep0 ingress prio 4 protocol ip flower ip_proto tcp action pedit ex munge ip ttl set 9 pipe action csum ip pipe action drop
		tc filter add dev rep0 ingress prio 5 protocol ip flower ip_proto udp action police rate 40gbit burst 10m conform-exceed drop/pipe action drop
		tc filter add dev rep0 ingress prio 6 protocol arp flower arp_op request arp_tip 192.0.2.1 action drop
		tc filter add dev rep0 ingress prio 7 protocol ip flower dst_ip 192.0.2.77 action drop`)
	got := offloaded(t, "rep0")
	if got.Rules != 7 || got.Total < 1 {
		t.Errorf("got %+v, want all 7 rules, and the plain one in hardware", got)
	}
}

// The kernel cannot dump other classifiers tersely: it passes over the rule of
// matchall in silence, and at a u32 filter it ends the dump, so that flower
// rules behind it are not shown. Neither may hide a rule.
func TestLabOtherClassifiers(t *testing.T) {
	for _, other := range []string{
		"matchall skip_hw action pass",
		"u32 skip_hw match u32 0 0 action pass",
		"bpf skip_hw bytecode 1,6__0__0__0, action pass",
		"basic match meta(priority__eq__1) action pass",
	} {
		kind, _, _ := strings.Cut(other, " ")
		t.Run(kind, func(t *testing.T) {
			pf(t)
			sh(t, "tc qdisc add dev rep0 clsact")
			args := strings.Fields("filter add dev rep0 ingress prio 1 protocol ip " + other)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "__", " ")
			}
			if out, err := exec.Command("tc", args...).CombinedOutput(); err != nil {
				t.Fatalf("tc %q: %v\n%s", args, err, out)
			}
			sh(t, `tc filter add dev rep0 ingress prio 2 protocol ip flower dst_ip 192.0.2.1 action drop
				tc filter add dev rep0 ingress prio 3 protocol ip flower skip_hw dst_ip 192.0.2.2 action drop`)
			rep0 := ifindex(t, "rep0")
			r := offloaded(t, "rep0")
			// u32 shows its hash table as a rule too.
			if r.Total != 1 || r.ByDev[rep0] != 1 || r.Others != 0 || r.Rules < 3 {
				t.Errorf("got %+v", r)
			}
			if dev, found, err := (Scanner{}).Any(t.Context(), []int{rep0}); dev != rep0 || !found || err != nil {
				t.Errorf("Any: %d, %v, %v", dev, found, err)
			}
			wantFlags(t, hook{int32(rep0), parentIngress}, kind)
		})
	}
}

// wantFlags checks against the kernel that flagsAttr names the right attribute:
// the filter of that kind was added with skip_hw, which is bit 0.
func wantFlags(t *testing.T, h hook, kind string) {
	t.Helper()
	typ := flagsAttr([]byte(kind))
	if typ == 0 {
		return
	}
	s, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var seen bool
	err = s.dump(unix.RTM_GETTFILTER, h.request(false), func() {}, func(b []byte) (bool, error) {
		_, attrs, err := decodeTcmsg(b)
		options, _ := find(attrs, attrOptions)
		if string(findString(attrs, attrKind)) == kind && findUint32(options, typ)&1 != 0 {
			seen = true
		}
		return true, err
	})
	if err != nil || !seen {
		t.Errorf("no filter of %s has skip_hw in attribute %d (%v)", kind, typ, err)
	}
}

// A device that disappears while others are scanned is not an error.
func TestLabDeviceGoes(t *testing.T) {
	inNamespace(t)
	sh(t, `ip link add d0 type dummy
		ip link add d1 type dummy
		tc qdisc add dev d0 clsact
		tc qdisc add dev d1 ingress_block 9 ingress
		tc filter add dev d0 ingress protocol ip flower skip_hw dst_ip 192.0.2.1 action drop`)
	s, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	qdiscs, err := s.qdiscs()
	if err != nil {
		t.Fatal(err)
	}
	ps := places(qdiscs, []int{ifindex(t, "d0"), ifindex(t, "d1")})
	if len(ps) != 3 {
		t.Fatalf("places %+v, want 3", ps)
	}
	sh(t, `ip link del d0
		ip link del d1`)
	for _, p := range ps {
		if got, err := s.tally(p.hook, nil); err != nil || got != (tally{}) {
			t.Errorf("%+v: %+v, %v", p, got, err)
		}
	}
}

// Rules that stay must be found whatever happens around them.
func TestLabChurn(t *testing.T) {
	pf(t)
	sh(t, "tc qdisc add dev rep0 clsact")
	tcBatch(t, rules("rep0", 0, 300, "skip_hw"))
	sh(t, "tc filter add dev rep0 ingress prio 9 protocol ip flower dst_ip 192.0.2.1 action drop")
	rep0 := ifindex(t, "rep0")
	add, del := rules("rep0", 300, 600, "skip_hw"), strings.ReplaceAll(rules("rep0", 0, 300, "skip_hw"), "filter replace", "filter del")
	cmds := []*exec.Cmd{exec.Command("tc", "-force", "-batch", "-"), exec.Command("tc", "-force", "-batch", "-")}
	cmds[0].Stdin, cmds[1].Stdin = strings.NewReader(strings.Repeat(add, 3)), strings.NewReader(del)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, c := range cmds {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = c.Wait() })
	}
	go func() { wg.Wait(); close(done) }()
	for scans := 1; ; scans++ {
		r, err := Scanner{}.Offloaded(t.Context(), []int{rep0})
		if err != nil || r.Total != 1 {
			t.Fatalf("scan %d: %+v, %v, want the one rule in hardware", scans, r, err)
		}
		select {
		case <-done:
			wantReport(t, Report{Total: 1, ByDev: map[int]int{rep0: 1}, Rules: 301}, offloaded(t, "rep0"))
			t.Logf("%d scans during changes", scans)
			return
		default:
		}
	}
}

// A context that ends in the middle ends the scan, with its own error.
func TestLabContextEnds(t *testing.T) {
	pf(t)
	sh(t, "tc qdisc add dev rep0 clsact")
	tcBatch(t, rules("rep0", 0, 2000, "skip_hw"))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var seen int
	err = s.dump(unix.RTM_GETTFILTER, hook{int32(ifindex(t, "rep0")), parentIngress}.request(false), func() {}, func([]byte) (bool, error) {
		if seen++; seen == 1 {
			cancel()
		}
		return true, nil
	})
	if err = s.reason(err); !errors.Is(err, context.Canceled) || seen >= 2000 {
		t.Errorf("%d rules seen, %v, want context canceled", seen, err)
	}
}

// rules returns tc lines that add the rules from to to, in decap's shape.
func rules(dev string, from, to int, flags string) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "filter replace dev %s ingress prio 2 handle %d protocol ip flower %s dst_mac 02:00:00:%02x:%02x:%02x dst_ip 10.%d.%d.%d action drop\n",
			dev, i+1, flags, i>>16, i>>8&255, i&255, i>>16, i>>8&255, i&255)
	}
	return b.String()
}

// BenchmarkLab compares ways to answer "is anything offloaded" at 10 000 rules
// of one representor, none of them in hardware (the worst case), or all. It
// works in the machine's first namespace, since every sub-benchmark has its
// own thread, and a locked thread slows package socket down.
func BenchmarkLab(b *testing.B) {
	addPF(b)
	b.Cleanup(func() { sh(b, "ip link del wire0") })
	for _, where := range []string{"skip_hw", ""} {
		sh(b, "tc qdisc add dev rep0 clsact")
		tcBatch(b, rules("rep0", 0, 10000, where))
		rep0 := ifindex(b, "rep0")
		want := 0
		if where == "" {
			want = 10000
		}
		suffix := map[int]string{0: "none", 10000: "all"}[want]
		b.Run("Offloaded/in_hw="+suffix, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r, err := (Scanner{}).Offloaded(b.Context(), []int{rep0}); err != nil || r.Rules != 10000 || r.Total != want {
					b.Fatal(r, err)
				}
			}
		})
		b.Run("Any/in_hw="+suffix, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, found, err := (Scanner{}).Any(b.Context(), []int{rep0}); err != nil || found != (want > 0) {
					b.Fatal(found, err)
				}
			}
		})
		b.Run("full dump/in_hw="+suffix, func(b *testing.B) { benchFull(b, rep0, want) })
		b.Run("go-tc/in_hw="+suffix, func(b *testing.B) { benchGoTC(b, rep0, want) })
		sh(b, "tc qdisc del dev rep0 clsact")
	}
}

// benchFull scans without the terse flag.
func benchFull(b *testing.B, ifindex, want int) {
	b.ReportAllocs()
	for b.Loop() {
		s, err := open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		t, err := s.count(hook{int32(ifindex), parentIngress}, false, nil)
		s.close()
		if err != nil || t.rules != 10000 || t.inHW != want {
			b.Fatal(t, err)
		}
	}
}

// benchGoTC asks the same of github.com/florianl/go-tc, which parses whole rules.
func benchGoTC(b *testing.B, ifindex, want int) {
	conn, err := gotc.Open(&gotc.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	b.ReportAllocs()
	for b.Loop() {
		objs, err := conn.Filter().Get(&gotc.Msg{Family: unix.AF_UNSPEC, Ifindex: uint32(ifindex), Parent: parentIngress})
		if err != nil {
			b.Fatal(err)
		}
		inHW := slices.Collect(func(yield func(int) bool) {
			for i, o := range objs {
				if o.Flower != nil && o.Flower.Flags != nil && *o.Flower.Flags&flagInHW != 0 && !yield(i) {
					return
				}
			}
		})
		if len(inHW) != want {
			b.Fatalf("%d in hardware, want %d", len(inHW), want)
		}
	}
}
