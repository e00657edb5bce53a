// SPDX-License-Identifier: Apache-2.0

package fakehost

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
)

const pf0, rep0, tunnelDev = 2, 102, 1000 + 4789

// host returns a hypervisor with one NIC and one port, whose flows are in
// hardware if open.
func host(t *testing.T, open bool) *Host {
	t.Helper()
	h := New()
	h.AddPF("pf0", pf0)
	h.AddAddr(netip.MustParsePrefix("10.0.0.1/24"), pf0)
	h.OVS.SetPort(port("vx0", "10.0.0.2"))
	if open {
		h.OVS.Offload("true")
		inHW(t, h, 2)
	}
	return h
}

func port(name, remote string) ovsdb.Tunnel {
	return ovsdb.Tunnel{Name: name, Type: "vxlan", DstPort: 4789, Local: netip.MustParseAddr("10.0.0.1"), Remote: netip.MustParseAddr(remote)}
}

func inHW(t *testing.T, h *Host, want int) {
	t.Helper()
	r, err := h.Offloaded(t.Context(), []int{pf0, rep0, tunnelDev})
	if err != nil || r.Total != want {
		t.Fatalf("%d rules in hardware, %v, want %d", r.Total, err, want)
	}
}

func hold(t *testing.T, h *Host) int64 {
	t.Helper()
	cfg, err := h.OVS.Hold(t.Context(), ovsdb.Hold{Why: "test", Boot: "boot-1", Since: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func unhold(t *testing.T, h *Host) int64 {
	t.Helper()
	cfg, err := h.OVS.Unhold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func fence(t *testing.T, h *Host, on bool, devs ...int) []int {
	t.Helper()
	changed, err := h.Fence(t.Context(), devs, on)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func row(h *Host) ovsdb.Host {
	s, _ := h.OVS.Current()
	return s.Host
}

func TestHoldWithdraws(t *testing.T) {
	h := host(t, true)
	h.OVS.Limit("1000")
	cfg := hold(t, h)
	inHW(t, h, 0)
	if r := row(h); r.FlowLimit != "0" || r.Hold.FlowLimit != "1000" || r.CurCfg != cfg || hold(t, h) != cfg {
		t.Fatalf("%+v", r)
	}
	h.OVS.SetPort(port("vx1", "10.0.0.3"))
	inHW(t, h, 0)
	unhold(t, h)
	inHW(t, h, 4)
	if r := row(h); r.FlowLimit != "1000" || r.Hold != nil {
		t.Fatalf("%+v", r)
	}
}

// ovs-vswitchd that takes its time, and revalidators that do.
func TestHoldSlow(t *testing.T) {
	h := host(t, true)
	h.OVS.Slow, h.OVS.Linger = true, true
	cfg := hold(t, h)
	h.OVS.SetPort(port("vx1", "10.0.0.3"))
	inHW(t, h, 4)
	if row(h).CurCfg >= cfg {
		t.Fatal("taken at once")
	}
	h.OVS.Settle()
	inHW(t, h, 0)
	if row(h).CurCfg < cfg {
		t.Fatal("not taken")
	}
	h.OVS.Slow = false
	unhold(t, h)
	hold(t, h)
	inHW(t, h, 4)
	h.OVS.Settle()
	inHW(t, h, 0)
}

// What was installed while a device was fenced stays in software until a purge.
func TestFence(t *testing.T) {
	h := host(t, true)
	if changed, err := h.Fence(t.Context(), []int{pf0, rep0, 999}, false); !slices.Equal(changed, []int{rep0}) {
		t.Fatalf("changed %v, %v", changed, err)
	} else if p, ok := errors.AsType[*plugin.Problem](err); !ok || p.Code != "GATE_FENCE_BUSY" {
		t.Fatalf("got %v", err)
	}
	hold(t, h)
	if got := fence(t, h, false, pf0, rep0); !slices.Equal(got, []int{pf0}) {
		t.Fatalf("changed %v", got)
	}
	unhold(t, h)
	inHW(t, h, 0)
	fence(t, h, true, pf0, rep0)
	inHW(t, h, 0)
	h.OVS.Purge()
	inHW(t, h, 2)
}

// A new representor begins without a fence.
func TestFenceNewRepresentor(t *testing.T) {
	h := host(t, true)
	h.OVS.DelPort("vx0")
	fence(t, h, false, rep0)
	h.AddRepresentor(h.PF("pf0"), "pf0_1", rep0+1)
	k := fakenic.Tunnel{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Port: 4789}
	for dev, want := range map[int]int{rep0: 0, rep0 + 1: 1} {
		if _, n, err := h.AddRule(fakenic.EncapRule(dev, tunnelDev, k)); n != want || err != nil {
			t.Errorf("device %d: in %d NICs, %v", dev, n, err)
		}
	}
	h.DelLink(rep0 + 1)
	if got := fence(t, h, false, rep0+1); got != nil {
		t.Errorf("changed %v, which is gone", got)
	}
	inHW(t, h, 0)
}

// OVS leaves out of hardware what was taken out of it, and offloads what is new.
func TestEvict(t *testing.T) {
	for _, again := range []func(*Host){func(h *Host) { h.OVS.Purge() }, func(h *Host) { h.OVS.Start() }, func(h *Host) { hold(t, h); unhold(t, h) }} {
		h := host(t, true)
		n, err := h.Evict(t.Context(), []int{rep0})
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
		h.OVS.SetPort(port("vx1", "10.0.0.3"))
		h.OVS.Offload("true")
		h.OVS.Notice()
		inHW(t, h, 3)
		again(h)
		inHW(t, h, 4)
	}
}

// A rule that somebody deletes comes back by itself after some dumps.
func TestNotice(t *testing.T) {
	h := host(t, true)
	h.DeleteRules(rep0, 0)
	h.OVS.Offload("true")
	inHW(t, h, 1)
	h.OVS.Notice()
	inHW(t, h, 2)
}

// hw-offload is a latch: unset, it stays as it was until ovs-vswitchd is started anew.
func TestLatch(t *testing.T) {
	h := host(t, true)
	h.OVS.Offload("false")
	h.OVS.SetPort(port("vx1", "10.0.0.3"))
	inHW(t, h, 4)
	h.OVS.Start()
	inHW(t, h, 0)
}

// Flows that were in the kernel's datapath before may stay there.
func TestSticky(t *testing.T) {
	h := host(t, false)
	h.OVS.Sticky = true
	h.OVS.Offload("true")
	inHW(t, h, 0)
	h.OVS.SetPort(port("vx1", "10.0.0.3"))
	inHW(t, h, 2)
	h.OVS.Purge()
	inHW(t, h, 4)
}

// A killed ovs-vswitchd leaves its rules, and takes nothing.
func TestKill(t *testing.T) {
	h := host(t, true)
	h.OVS.Kill()
	if runs, err := h.Running(t.Context()); runs || err != nil {
		t.Fatal(runs, err)
	}
	cfg := hold(t, h)
	h.OVS.Purge()
	h.OVS.Notice()
	inHW(t, h, 2)
	if row(h).CurCfg >= cfg {
		t.Fatal("taken by nobody")
	}
	h.OVS.Start()
	inHW(t, h, 0)
	if row(h).CurCfg < cfg {
		t.Fatal("not taken at the start")
	}
}

func TestGateFaults(t *testing.T) {
	h := host(t, true)
	for label, do := range map[string]func() error{
		"hold":                  func() error { _, err := h.OVS.Hold(t.Context(), ovsdb.Hold{}); return err },
		"unhold":                func() error { _, err := h.OVS.Unhold(t.Context()); return err },
		"fence pf0_0,pf0":       func() error { _, err := h.Fence(t.Context(), []int{rep0, pf0}, false); return err },
		"unfence pf0_0":         func() error { _, err := h.Fence(t.Context(), []int{rep0}, true); return err },
		"evict pf0_0":           func() error { _, err := h.Evict(t.Context(), []int{rep0}); return err },
		"look for ovs-vswitchd": func() error { _, err := h.Running(t.Context()); return err },
	} {
		h.Faults.Set(fakenic.Fault{Label: label, Errno: unix.EIO})
		if err := do(); !errors.Is(err, unix.EIO) || !h.Faults.Struck() {
			t.Errorf("%s: %v", label, err)
		}
		inHW(t, h, 2)
		if r := row(h); r.Hold != nil || r.NextCfg != 1 {
			t.Errorf("%s: %+v", label, r)
		}
	}
}
