// SPDX-License-Identifier: Apache-2.0

package fakenic_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/xfrm"
)

// The rule scripts say what a NIC does. These tests say what the host around it
// does: its databases, its stack, several NICs, faults.

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// hostWithPF returns a host with pf0 (index 4, 10.0.0.1/24).
func hostWithPF() (*fakenic.Host, *fakenic.PF) {
	h := fakenic.New()
	p := h.AddPF("pf0", 4)
	h.AddAddr(netip.MustParsePrefix("10.0.0.1/24"), 4)
	return h, p
}

// outSA returns an outbound SA to 10.0.0.2 on a device, 0 for none.
func outSA(dev int) *xfrm.SA {
	key, _ := xfrm.NewKey(bytes.Repeat([]byte{7}, xfrm.KeyLen))
	return &xfrm.SA{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), SPI: 0x101, Reqid: 1, Dir: xfrm.Out, ESN: true, Key: key,
		Offload: xfrm.Offload{Ifindex: dev, Packet: dev != 0}}
}

// outPolicy returns a policy from 10.0.0.1 to a prefix.
func outPolicy(to string, priority uint32, dev int, reqid uint32, action xfrm.Action) *xfrm.Policy {
	p := &xfrm.Policy{Dir: xfrm.Out, Priority: priority, Action: action, Offload: xfrm.Offload{Ifindex: dev, Packet: dev != 0},
		Sel: xfrm.Selector{Src: netip.MustParsePrefix("10.0.0.1/32"), Dst: netip.MustParsePrefix(to), Proto: 17, DstPort: 4789}}
	if reqid != 0 {
		p.Tmpl = &xfrm.Template{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Reqid: reqid}
	}
	return p
}

func do(t *testing.T, h *fakenic.Host, kind xfrm.OpKind, sa *xfrm.SA, p *xfrm.Policy) error {
	t.Helper()
	return h.Do(t.Context(), []xfrm.Op{{Kind: kind, SA: sa, Policy: p}})[0]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var tunnel2 = fakenic.Tunnel{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Port: 4789}

func TestDatabases(t *testing.T) {
	h, p := hostWithPF()
	must(t, do(t, h, xfrm.AddSA, outSA(4), nil))
	if err := do(t, h, xfrm.AddSA, outSA(4), nil); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second SA: %v", err)
	}
	must(t, do(t, h, xfrm.AddPolicy, nil, outPolicy("10.0.0.2/32", 10, 4, 1, xfrm.Allow)))
	if err := do(t, h, xfrm.AddPolicy, nil, outPolicy("10.0.0.2/32", 20, 4, 1, xfrm.Allow)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second policy: %v", err)
	}
	if got := p.Tables(); got.TXRefs != 2 {
		t.Errorf("what the databases refused is still in the NIC: %+v", got)
	}
	sas, err := h.SAs(t.Context())
	must(t, err)
	if len(sas) != 1 || !sas[0].Key.Empty() || sas[0].KeyPrint != outSA(4).Key.Fingerprint() {
		t.Errorf("dumped %+v", sas)
	}
	must(t, do(t, h, xfrm.DeletePolicy, nil, outPolicy("10.0.0.2/32", 0, 0, 0, xfrm.Allow)))
	if err := do(t, h, xfrm.DeletePolicy, nil, outPolicy("10.0.0.2/32", 0, 0, 0, xfrm.Allow)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("deleting a policy that is gone: %v", err)
	}
	must(t, do(t, h, xfrm.DeleteSA, outSA(0), nil))
	if err := do(t, h, xfrm.DeleteSA, outSA(0), nil); !errors.Is(err, unix.ESRCH) {
		t.Errorf("deleting an SA that is gone: %v", err)
	}
	if got := p.Tables(); got.TXTables != 0 {
		t.Errorf("tables without objects: %+v", got)
	}
}

// TestStaleIndex: the kernel looks for another device when the index is gone.
func TestStaleIndex(t *testing.T) {
	h, _ := hostWithPF()
	must(t, do(t, h, xfrm.AddSA, outSA(77), nil))
	sas, err := h.SAs(t.Context())
	must(t, err)
	if sas[0].Offload.Ifindex != 4 {
		t.Errorf("the SA is on %d", sas[0].Offload.Ifindex)
	}
	if err := do(t, h, xfrm.AddPolicy, nil, outPolicy("10.0.0.2/32", 10, 77, 1, xfrm.Allow)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a policy on a device that is gone: %v", err)
	}
}

func TestStack(t *testing.T) {
	tests := []struct {
		name     string
		policies []*xfrm.Policy
		sa       *xfrm.SA
		want     fakenic.Way
		why      string
	}{
		{"nothing", nil, nil, fakenic.Clear, "no IPsec tables"},
		{"a block in software", []*xfrm.Policy{outPolicy("0.0.0.0/0", 10, 0, 0, xfrm.Block)}, nil, fakenic.Dropped, "XfrmOutPolBlock"},
		{"a block in hardware", []*xfrm.Policy{outPolicy("0.0.0.0/0", 10, 4, 0, xfrm.Block)}, nil, fakenic.Dropped, "XfrmOutPolBlock"},
		{"an SA that is missing", []*xfrm.Policy{outPolicy("10.0.0.2/32", 10, 4, 1, xfrm.Allow)}, nil, fakenic.Dropped, "XfrmOutNoStates"},
		{"policy and SA in hardware", []*xfrm.Policy{outPolicy("10.0.0.2/32", 10, 4, 1, xfrm.Allow)}, outSA(4), fakenic.Crypted, ""},
		{"policy and SA in software", []*xfrm.Policy{outPolicy("10.0.0.2/32", 10, 0, 1, xfrm.Allow)}, outSA(0), fakenic.Crypted, "in software"},
		{"a policy in hardware wants its SA there", []*xfrm.Policy{outPolicy("10.0.0.2/32", 10, 4, 1, xfrm.Allow)}, outSA(0), fakenic.Dropped, "XfrmOutNoStates"},
		{"hardware before a better one in software", []*xfrm.Policy{outPolicy("0.0.0.0/0", 1, 0, 0, xfrm.Block), outPolicy("10.0.0.2/32", 10, 4, 1, xfrm.Allow)},
			outSA(4), fakenic.Crypted, ""},
		{"in software the better one", []*xfrm.Policy{outPolicy("0.0.0.0/0", 1, 0, 0, xfrm.Block), outPolicy("10.0.0.2/32", 10, 0, 1, xfrm.Allow)},
			outSA(0), fakenic.Dropped, "XfrmOutPolBlock"},
		{"a bypass that the NIC does not know, over its block", []*xfrm.Policy{outPolicy("0.0.0.0/0", 20, 4, 0, xfrm.Block), outPolicy("10.0.0.2/32", 10, 0, 0, xfrm.Allow)},
			nil, fakenic.Blocked, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, _ := hostWithPF()
			for _, p := range test.policies {
				must(t, do(t, h, xfrm.AddPolicy, nil, p))
			}
			if test.sa != nil {
				must(t, do(t, h, xfrm.AddSA, test.sa, nil))
			}
			if f := h.SendHost(tunnel2); f.Way != test.want || f.Why != test.why {
				t.Errorf("%s (%s), want %s (%s)", f.Way, f.Why, test.want, test.why)
			}
		})
	}
}

// TestTwoNICs: a tunnel device's rules are offered to every NIC; each takes those
// that lead to its own representors, and only its own tables are kept out.
func TestTwoNICs(t *testing.T) {
	h, p0 := hostWithPF()
	p1 := h.AddPF("pf1", 5)
	h.AddVXLAN("vxlan_sys_4789", 200, 4789, true)
	back := fakenic.Tunnel{Src: tunnel2.Dst, Dst: tunnel2.Src, Port: 4789}
	id, n, err := h.AddRule(fakenic.DecapRule(200, h.Representor(tunnel2.Src), back))
	must(t, err)
	if n != 1 { // pf1 does not know a representor of pf0
		t.Errorf("%d NICs took the rule", n)
	}
	if err := do(t, h, xfrm.AddPolicy, nil, outPolicy("0.0.0.0/0", 10, 4, 0, xfrm.Block)); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a table after the flow: %v", err)
	}
	must(t, do(t, h, xfrm.AddPolicy, nil, outPolicy("0.0.0.0/0", 10, 5, 0, xfrm.Block)))
	must(t, h.DeleteRule(id))
	if p0.Tables().OffloadedFlows+p1.Tables().OffloadedFlows != 0 {
		t.Error("flows are left")
	}
}

// TestAnyRoute: mlx5 sends what a rule encapsulates out of its own port although
// the route leads elsewhere.
func TestAnyRoute(t *testing.T) {
	h, p := hostWithPF()
	h.AddLink("eth0", 2, "")
	h.AddAddr(netip.MustParsePrefix("192.0.2.1/24"), 2)
	h.AddVXLAN("vxlan_sys_4789", 200, 4789, true)
	k := fakenic.Tunnel{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), Port: 4789}
	if _, n, err := h.AddRule(fakenic.EncapRule(h.Representor(k.Src), 200, k)); err != nil || n != 1 {
		t.Fatalf("%d NICs took the rule: %v", n, err)
	}
	if f := h.SendVF(k); f.Offload || f.Why != "out of eth0" {
		t.Errorf("left to the stack: %+v", f)
	}
	p.Set(func(k *fakenic.Knobs) { k.AnyRoute = true })
	if f := h.SendVF(k); !f.Offload || f.Way != fakenic.Clear || p.Counters().TXClearVXLAN != 1 {
		t.Errorf("out of the NIC: %+v", f)
	}
}

func TestFaults(t *testing.T) {
	op := xfrm.Op{Kind: xfrm.AddSA, SA: outSA(4)}
	tests := []struct {
		name   string
		fault  fakenic.Fault
		errno  unix.Errno
		stands int // SAs after it
	}{
		{"refused by label", fakenic.Fault{Label: op.String(), Errno: unix.ENOMEM}, unix.ENOMEM, 0},
		{"refused by number", fakenic.Fault{Nth: 1, Errno: unix.EBUSY}, unix.EBUSY, 0},
		{"another number", fakenic.Fault{Nth: 2, Errno: unix.EBUSY}, 0, 1},
		{"the answer is lost", fakenic.Fault{Effect: fakenic.Lose}, unix.ENOBUFS, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, _ := hostWithPF()
			h.Faults.Set(test.fault)
			err := do(t, h, xfrm.AddSA, outSA(4), nil)
			if test.errno == 0 && err != nil || test.errno != 0 && !errors.Is(err, test.errno) {
				t.Errorf("got %v", err)
			}
			if sas, _ := h.SAs(t.Context()); len(sas) != test.stands {
				t.Errorf("%d SAs stand", len(sas))
			}
		})
	}
}

func TestNotOffloaded(t *testing.T) {
	h, p := hostWithPF()
	h.Faults.Set(fakenic.Fault{Effect: fakenic.NotOffload})
	var op *xfrm.OpError
	if err := do(t, h, xfrm.AddSA, outSA(4), nil); !errors.As(err, &op) || !op.NotOffloaded {
		t.Errorf("got %v", err)
	}
	if sas, _ := h.SAs(t.Context()); len(sas) != 0 || p.Tables().TXRefs != 0 {
		t.Error("something is left of it")
	}
	if n := h.Sent(outSA(4).Key.Fingerprint()); n != 1 {
		t.Errorf("the kernel had the key %d times", n)
	}
}

func TestCrash(t *testing.T) {
	for _, test := range []struct {
		effect fakenic.Effect
		stands int
	}{{fakenic.Before, 0}, {fakenic.After, 1}} {
		h, _ := hostWithPF()
		h.Faults.Set(fakenic.Fault{Effect: test.effect})
		func() {
			defer func() {
				if _, is := recover().(fakenic.Crash); !is {
					t.Error("no crash")
				}
			}()
			_ = do(t, h, xfrm.AddSA, outSA(4), nil)
		}()
		if sas, _ := h.SAs(t.Context()); len(sas) != test.stands {
			t.Errorf("%d SAs stand after a crash", len(sas))
		}
	}
}

func TestDoStopsWithItsContext(t *testing.T) {
	h, _ := hostWithPF()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i, err := range h.Do(ctx, []xfrm.Op{{Kind: xfrm.AddSA, SA: outSA(4)}, {Kind: xfrm.DeleteSA, SA: outSA(4)}}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("op %d: %v", i, err)
		}
	}
}
