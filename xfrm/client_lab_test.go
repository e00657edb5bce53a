// SPDX-License-Identifier: Apache-2.0

//go:build lab

package xfrm

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// noTimes ignores what only the kernel can know.
var noTimes = cmp.Options{
	equal,
	cmpopts.IgnoreFields(SA{}, "Stats"),
	cmpopts.IgnoreFields(Policy{}, "Index"),
	cmpopts.SortSlices(func(a, b SA) bool { return a.SPI < b.SPI }),
	cmpopts.SortSlices(func(a, b Policy) bool { return policySubject(&a) < policySubject(&b) }),
}

// labObjects returns one of each: both directions and families, offloaded and
// not, with and without template.
func labObjects(t testing.TB, pf int) (states []*SA, policies []*Policy) {
	v6 := on(pf, testSA(t, 0x1003, In))
	v6.Src, v6.Dst, v6.Window = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::1"), 256
	v6out := on(pf, testSA(t, 0x1004, Out))
	v6out.Src, v6out.Dst = v6.Dst, v6.Src
	tunnel := on(0, testSA(t, 0x1005, Out))
	tunnel.Mode, tunnel.Reqid = Tunnel, 99
	noESN := on(0, testSA(t, 0x1006, In))
	noESN.ESN = false
	states = []*SA{on(pf, testSA(t, 0x1001, In)), on(pf, testSA(t, 0x1002, Out)), v6, v6out, tunnel, noESN}

	in := policyOn(pf, testPolicy(2, In))
	in.Sel.Src, in.Sel.Dst = in.Sel.Dst, in.Sel.Src
	in.Tmpl.Src, in.Tmpl.Dst = in.Tmpl.Dst, in.Tmpl.Src
	guard := policyOn(pf, testPolicy(3, Out))
	guard.Action, guard.Tmpl, guard.Priority = Block, nil, 400001
	guard.Sel.Dst = netip.MustParsePrefix("0.0.0.0/0")
	v6policy := policyOn(pf, testPolicy(4, Out))
	v6policy.Sel.Src, v6policy.Sel.Dst = netip.MustParsePrefix("fd00::1/128"), netip.MustParsePrefix("fd00::2/128")
	v6policy.Sel.SrcPort, v6policy.Sel.DstPort = 4789, 0
	v6policy.Tmpl = &Template{Src: v6.Dst, Dst: v6.Src, Reqid: 17}
	fwd := policyOn(0, testPolicy(5, Fwd))
	return states, []*Policy{policyOn(pf, testPolicy(2, Out)), in, guard, v6policy, fwd}
}

func addOps(states []*SA, policies []*Policy) (ops []Op) {
	for _, s := range states {
		ops = append(ops, Op{Kind: AddSA, SA: s})
	}
	for _, p := range policies {
		ops = append(ops, Op{Kind: AddPolicy, Policy: p})
	}
	return ops
}

func TestLabAddDumpDelete(t *testing.T) {
	pf, _ := host(t)
	c := labClient(t)
	ctx := context.Background()
	states, policies := labObjects(t, pf)
	ops := addOps(states, policies)
	mustDo(t, c, ops...)

	var wantStates []SA
	for _, s := range states {
		wantStates = append(wantStates, dumped(s))
	}
	var wantPolicies []Policy
	for _, p := range policies {
		wantPolicies = append(wantPolicies, *p)
	}
	gotStates, err := c.SAs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantStates, gotStates, noTimes); diff != "" {
		t.Error(diff)
	}
	gotPolicies, err := c.Policies(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantPolicies, gotPolicies, noTimes); diff != "" {
		t.Error(diff)
	}
	one, err := c.SA(ctx, states[1].ID())
	if diff := cmp.Diff(dumped(states[1]), one, noTimes); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if one.Stats.Added == 0 {
		t.Error("the state has no time of birth")
	}

	for i, err := range c.Do(ctx, ops) { // once more
		wantError(t, err, unix.EEXIST, "file exists", CodeExists)
		ops[i] = ops[i].reverse()
	}
	mustDo(t, c, ops...)
	for i, err := range c.Do(ctx, ops) { // once more
		if CodeOf(err) != CodeNotFound {
			t.Errorf("%s: %v", ops[i], err)
		}
	}
	gotStates, _ = c.SAs(ctx)
	gotPolicies, _ = c.Policies(ctx)
	if len(gotStates)+len(gotPolicies) != 0 {
		t.Errorf("left: %v %v", gotStates, gotPolicies)
	}
}

func TestLabUpdatePolicy(t *testing.T) {
	pf, _ := host(t)
	c := labClient(t)
	allow := policyOn(pf, testPolicy(2, Out))
	block := policyOn(pf, testPolicy(2, Out))
	block.Action, block.Tmpl, block.Priority = Block, nil, 7
	mustDo(t, c, Op{Kind: AddPolicy, Policy: allow}, Op{Kind: UpdatePolicy, Policy: block})
	got, err := c.Policies(context.Background())
	if diff := cmp.Diff([]Policy{*block}, got, noTimes); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestLabIPRoute adds the same objects by the commands that Op.IP gives and
// compares what the kernel then holds.
func TestLabIPRoute(t *testing.T) {
	pf, _ := host(t)
	c := labClient(t)
	states, policies := labObjects(t, pf)
	ops := addOps(states, policies)
	mustDo(t, c, ops...)
	ctx := context.Background()
	wantStates, err1 := c.SAs(ctx)
	wantPolicies, err2 := c.Policies(ctx)
	for _, op := range ops {
		run(t, "%s", op.reverse().IP(nil))
	}
	name := func(int) string { return "pf0" }
	for _, op := range ops {
		command := op.IP(name)
		if op.SA != nil {
			command = strings.Replace(command, "[key]", "0x"+hex.EncodeToString(op.SA.Key.AppendTo(nil)), 1)
		}
		run(t, "%s", command)
	}
	gotStates, err3 := c.SAs(ctx)
	gotPolicies, err4 := c.Policies(ctx)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if len(gotStates) != len(states) || len(gotPolicies) != len(policies) {
		t.Errorf("%d states, %d policies", len(gotStates), len(gotPolicies))
	}
	if diff := cmp.Diff(wantStates, gotStates, noTimes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantPolicies, gotPolicies, noTimes); diff != "" {
		t.Error(diff)
	}
}

func TestLabDriversWords(t *testing.T) {
	pf, dummy := host(t)
	c := labClient(t)
	window := on(pf, testSA(t, 0x1001, In))
	window.Window = 48
	tunnel := on(pf, testSA(t, 0x1002, Out))
	tunnel.Mode = Tunnel
	fwd := policyOn(pf, testPolicy(2, Fwd))
	for _, test := range []struct {
		op    Op
		n     unix.Errno
		words string
		code  Code
	}{
		{Op{Kind: AddSA, SA: window}, unix.EINVAL, "Unsupported replay window size", CodeRefused},
		{Op{Kind: AddSA, SA: tunnel}, unix.EINVAL, "Packet offload tunnel mode is disabled due to encap settings", CodeTunnelEncap},
		{Op{Kind: AddPolicy, Policy: fwd}, unix.EINVAL, "Cannot offload forward policy", CodeRefused},
		{Op{Kind: AddSA, SA: on(dummy, testSA(t, 0x1003, Out))}, unix.EINVAL, "invalid argument", CodeNoPacket},
		{Op{Kind: AddPolicy, Policy: policyOn(dummy, testPolicy(2, Out))}, unix.EINVAL, "Policy offload is not supported", CodeNoPolicyOffload},
	} {
		wantError(t, c.Do(context.Background(), []Op{test.op})[0], test.n, test.words, test.code)
	}
}

// TestLabNotOffloaded makes the kernel take what it does not offload: crypto
// offload falls back to software, and an unknown device is replaced by the
// one that the route goes through.
func TestLabNotOffloaded(t *testing.T) {
	pf, dummy := host(t)
	c := labClient(t)
	crypto := testSA(t, 0x1001, Out)
	crypto.Offload = Offload{Ifindex: dummy}
	const unknown = 4242
	stale := on(unknown, testSA(t, 0x1002, Out))
	good := on(pf, testSA(t, 0x1003, In))
	errs := c.Do(context.Background(), []Op{
		{Kind: AddSA, SA: crypto}, {Kind: AddSA, SA: stale}, {Kind: AddSA, SA: good},
	})
	for i, words := range []string{"did not offload it", fmt.Sprintf("it is on interface %d, not %d", pf, unknown)} {
		var op *OpError
		if !errors.As(errs[i], &op) || !op.NotOffloaded || !strings.Contains(op.Error(), words) {
			t.Errorf("op %d: %v, want %q", i, errs[i], words)
		}
	}
	if errs[2] != nil {
		t.Error(errs[2])
	}
	got, err := c.SAs(context.Background())
	if diff := cmp.Diff([]SA{dumped(good)}, got, noTimes); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestLabOldDialect adds states as for a kernel without XFRMA_SA_DIR.
func TestLabOldDialect(t *testing.T) {
	pf, _ := host(t)
	c := labClient(t)
	if !c.feat.saDir {
		t.Error("the probe does not find XFRMA_SA_DIR on Linux 6.12")
	}
	c.feat.saDir = false
	in, out := on(pf, testSA(t, 0x1001, In)), on(pf, testSA(t, 0x1002, Out))
	mustDo(t, c, Op{Kind: AddSA, SA: in}, Op{Kind: AddSA, SA: out})
	got, err := c.SAs(context.Background())
	if diff := cmp.Diff([]SA{dumped(in), dumped(out)}, got, noTimes); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestLabForeignObjects(t *testing.T) {
	pf, _ := host(t)
	c := labClient(t)
	key := "0x" + strings.Repeat("5a", 36)
	run(t, `
		ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x2001 reqid 1 aead 'rfc4106(gcm(aes))' %[1]s 128 mark 5 mask 0xff
		ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x2002 reqid 1 aead 'rfc4106(gcm(aes))' %[1]s 128 if_id 9
		ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x2003 reqid 1 enc 'cbc(aes)' 0x%[2]s auth-trunc 'hmac(sha256)' 0x%[2]s 128
		ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto ah spi 0x2004 reqid 1 auth 'hmac(sha1)' 0x%[2]s
		ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x2005 reqid 1 aead 'rfc4106(gcm(aes))' %[1]s 128 sel proto udp dport 9
		ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x2006 reqid 1 aead 'rfc4106(gcm(aes))' %[1]s 128 limit byte-soft 1000000
		ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.2/32 dir out mark 5 tmpl proto esp reqid 1
		ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.3/32 dir out if_id 9 tmpl proto esp reqid 1
		ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.4/32 dir out tmpl proto comp reqid 1 level use tmpl proto esp reqid 1
		ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.5/32 dir out ptype main flag icmp tmpl proto esp reqid 1`,
		key, strings.Repeat("5a", 32))
	mustDo(t, c, Op{Kind: AddSA, SA: on(pf, testSA(t, 0x1001, In))}, Op{Kind: AddPolicy, Policy: policyOn(pf, testPolicy(2, Out))})
	states, err := c.SAs(context.Background())
	if err != nil || len(states) != 7 {
		t.Errorf("%v, %d states", err, len(states))
	}
	for _, s := range states {
		if s.Exotic == (s.SPI == 0x1001) {
			t.Errorf("%+v", s)
		}
	}
	policies, err := c.Policies(context.Background())
	if err != nil || len(policies) != 5 {
		t.Errorf("%v, %d policies", err, len(policies))
	}
	for _, p := range policies {
		if p.Exotic == (p.Offload.Ifindex == pf) {
			t.Errorf("%+v", p)
		}
	}
	// Their namesakes without mark are other objects, and not ours to take.
	err = c.Do(context.Background(), []Op{{Kind: DeletePolicy, Policy: &Policy{Dir: Out, Sel: Selector{
		Src: netip.MustParsePrefix("10.0.0.1/32"), Dst: netip.MustParsePrefix("10.0.0.3/32"),
	}}}})[0]
	wantError(t, err, unix.ENOENT, "no such file or directory", CodeNotFound)
}

func TestLabThousands(t *testing.T) {
	pf, _ := host(t)
	c := labClient(t)
	ops := tunnels(t, pf, 500)
	mustDo(t, c, ops...)
	states, err1 := c.SAs(context.Background())
	policies, err2 := c.Policies(context.Background())
	if err := errors.Join(err1, err2); err != nil || len(states) != 1000 || len(policies) != 1000 {
		t.Errorf("%v: %d states, %d policies", err, len(states), len(policies))
	}
	for _, s := range states {
		if s.Exotic || s.Offload != (Offload{pf, true}) {
			t.Fatalf("%+v", s)
		}
	}
	slices.Reverse(ops)
	for i := range ops {
		ops[i] = ops[i].reverse()
	}
	mustDo(t, c, ops...)
}

// tunnels returns the ops of n peers: a state and a policy each way.
func tunnels(t testing.TB, pf, n int) (ops []Op) {
	local := netip.MustParseAddr("10.0.0.1")
	for i := range n {
		peer := netip.AddrFrom4([4]byte{10, 20, byte(i >> 8), byte(i)})
		reqid := uint32(i+1) * 2654435761 // spread, as hashed ones are
		for _, d := range []Dir{In, Out} {
			src, dst := peer, local
			if d == Out {
				src, dst = local, peer
			}
			sa := on(pf, testSA(t, reqid|firstSPI, d))
			sa.Src, sa.Dst, sa.Reqid = src, dst, reqid
			policy := policyOn(pf, testPolicy(2, d))
			policy.Sel.Src, policy.Sel.Dst = netip.PrefixFrom(src, 32), netip.PrefixFrom(dst, 32)
			policy.Tmpl = &Template{Src: src, Dst: dst, Reqid: reqid}
			ops = append(ops, Op{Kind: AddSA, SA: sa}, Op{Kind: AddPolicy, Policy: policy})
		}
	}
	return ops
}

// watched is a socket that keeps what it receives.
type watched struct {
	socket
	seen []byte
}

func (w *watched) Receive(b []byte) (int, error) {
	n, err := w.socket.Receive(b)
	w.seen = append(w.seen, b[:n]...)
	return n, err
}

func TestLabErrorsDoNotEchoTheKey(t *testing.T) {
	host(t)
	c := labClient(t)
	w := &watched{socket: c.x.sock}
	c.x.sock = w
	sa := on(0, testSA(t, 0x1001, In))
	mustDo(t, c, Op{Kind: AddSA, SA: sa})
	wantError(t, c.Do(context.Background(), []Op{{Kind: AddSA, SA: sa}})[0], unix.EEXIST, "file exists", CodeExists)
	if len(w.seen) == 0 || bytes.Contains(w.seen, sa.Key.AppendTo(nil)) {
		t.Errorf("the kernel answered %x", w.seen)
	}
}
