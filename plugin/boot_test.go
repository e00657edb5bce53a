// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/saved"
)

// bootRig is a host with pf0 (down, without addresses, as it often is before
// ovs-vswitchd) and what a boot before it saved.
func bootRig(t *testing.T) (*rig, plugin.Boot) {
	t.Helper()
	r := newRig()
	r.AddPF("pf0", 4)
	h := r.handle(t, "pf0")
	r.PF("pf0").SetUp(false)
	return r, plugin.Boot{Kernel: r.Host, NIC: r.Host, Flows: r.Host, Bypasses: true,
		Settings: plugin.Settings{GuardAuto: true, GuardPorts: []uint16{4789}},
		Saved: saved.State{
			PFs:      []saved.PF{{Handle: h, Name: "pf0"}},
			Guards:   []saved.Guard{{Local: addr("10.0.0.1"), Port: 4789, PF: h}},
			Bypasses: []saved.Bypass{{Local: addr("10.0.0.1"), Remote: addr("10.0.0.3"), Port: 4789, PF: h}},
		}}
}

const (
	bypassOut = "ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.3/32 proto udp dport 4789 dir out priority 1870004256 action allow offload packet dev pf0"
	bypassIn  = "ip xfrm policy add src 10.0.0.3/32 dst 10.0.0.1/32 proto udp dport 4789 dir in priority 1870004256 action allow offload packet dev pf0"
	guardOut  = "ip xfrm policy add src 10.0.0.1/32 dst 0.0.0.0/0 proto udp dport 4789 dir out priority 1870069504 action block offload packet dev pf0"
	guardIn   = "ip xfrm policy add src 0.0.0.0/0 dst 10.0.0.1/32 proto udp dport 4789 dir in priority 1870069504 action block offload packet dev pf0"
)

// run runs b to its end; nothing changes on the host meanwhile, and late has
// come if it is given.
func runBoot(t *testing.T, b plugin.Boot, late bool) (plugin.BootResult, error) {
	t.Helper()
	var over chan time.Time
	if late {
		over = make(chan time.Time, 1)
		over <- time.Time{}
	}
	return b.Run(t.Context(), nil, over)
}

func TestBootFromSaved(t *testing.T) {
	r, b := bootRig(t)
	want := []string{bypassOut, bypassIn, guardOut, guardIn}
	preview, err := b.Preview(t.Context())
	if diff := cmp.Diff(want, preview.Steps); err != nil || diff != "" {
		t.Fatalf("preview: %v (-want +got):\n%s", err, diff)
	}
	if ps, _ := r.Policies(t.Context()); len(ps) != 0 {
		t.Fatal("the preview changed something")
	}
	got, err := runBoot(t, b, false)
	if diff := cmp.Diff(want, got.Steps); err != nil || diff != "" || len(got.Problems) != 0 {
		t.Fatalf("%v, %v (-want +got):\n%s", err, got.Problems, diff)
	}
	if len(got.Guards) != 1 || got.Guards[0].Stands != "hardware" || got.Guards[0].PF != "pf0" {
		t.Errorf("guards %+v", got.Guards)
	}
	again, err := runBoot(t, b, false)
	if err != nil || len(again.Steps) != 0 || len(again.Problems) != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestBootAdoptedByTheDaemon(t *testing.T) {
	r, b := bootRig(t)
	if _, err := runBoot(t, b, false); err != nil {
		t.Fatal(err)
	}
	r.PF("pf0").SetUp(true)
	r.AddAddr(netip.MustParsePrefix("10.0.0.1/24"), 4)
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"), plain("vx1", "10.0.0.1", "10.0.0.3"))
	r.mustSettle(t)
	st := r.d.Last()
	if st.State != plugin.OK || len(st.Pairs) != 2 || st.Pairs[0].State != "encrypted" || st.Pairs[1].State != "clear" {
		t.Errorf("%s: %+v", st.State, st.Pairs)
	}
	// The saved state is behind: it calls the encrypted pair plain.
	b.Saved.Bypasses[0].Remote = addr("10.0.0.2")
	got, err := runBoot(t, b, false)
	if err != nil || len(got.Steps) != 0 {
		t.Errorf("beside an encrypted pair: %v, %v", got.Steps, err)
	}
	r.mustSettle(t)
	if r.d.Last().State != plugin.OK {
		t.Errorf("after it: %+v", r.d.Last().Problems)
	}
}

func TestBootOwnAddresses(t *testing.T) {
	r, b := bootRig(t)
	b.Saved = saved.State{}
	r.AddAddr(netip.MustParsePrefix("10.0.0.1/24"), 4)
	got, err := runBoot(t, b, false)
	if diff := cmp.Diff([]string{guardOut, guardIn}, got.Steps); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	b.Settings.GuardAuto = false
	r.AddAddr(netip.MustParsePrefix("10.0.0.9/24"), 4)
	if got, err := runBoot(t, b, false); err != nil || len(got.Steps) != 0 || len(got.Guards) != 1 {
		t.Errorf("guard: tunnels: %+v, %v", got, err)
	}
}

func TestBootWaitsForTheNIC(t *testing.T) {
	r, b := bootRig(t)
	if err := r.PF("pf0").SetMode("legacy"); err != nil {
		t.Fatal(err)
	}
	changed, done := make(chan struct{}), make(chan struct{})
	var got plugin.BootResult
	var err error
	go func() { defer close(done); got, err = b.Run(t.Context(), changed, nil) }()
	changed <- struct{}{} // taken after the first look: nothing could be done
	if ps, _ := r.Policies(t.Context()); len(ps) != 0 {
		t.Errorf("%d policies before the NIC is ready", len(ps))
	}
	if err := r.PF("pf0").SetMode("switchdev"); err != nil {
		t.Fatal(err)
	}
	select { // it may have seen the change by itself
	case changed <- struct{}{}:
	case <-done:
	}
	<-done
	if err != nil || len(got.Steps) != 4 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBootWithoutTheNIC(t *testing.T) {
	r, b := bootRig(t)
	b.Saved.PFs[0] = saved.PF{Handle: "pci/0000:99:00.0", Name: "gone0"}
	b.Saved.Guards[0].PF, b.Saved.Bypasses[0].PF = "pci/0000:99:00.0", "pci/0000:99:00.0"
	got, err := runBoot(t, b, true)
	if err != nil || len(got.Problems) != 1 || got.Problems[0].Code != "GUARD_WAIT" || !strings.Contains(got.Problems[0].Text, "gone0 (pci/0000:99:00.0): there is no such NIC") {
		t.Fatalf("%v, %v", got.Problems, err)
	}
	if len(got.Guards) != 1 || got.Guards[0].Stands != "host" || strings.Contains(strings.Join(got.Steps, "\n"), "offload") {
		t.Errorf("not in the host's stack: %+v %v", got.Guards, got.Steps)
	}
	// A NIC in another slot is known by its name, and takes the guard from the stack.
	b.Saved.PFs[0].Name = "pf0"
	got, err = runBoot(t, b, false)
	if err != nil || len(got.Problems) != 0 || got.Guards[0].Stands != "hardware" {
		t.Errorf("%+v, %v", got, err)
	}
	if ps, _ := r.Policies(t.Context()); len(ps) != 4 {
		t.Errorf("%d policies", len(ps))
	}
}

func TestBootWhileParked(t *testing.T) {
	_, b := bootRig(t)
	b.Parked = true
	got, err := runBoot(t, b, false)
	if err != nil || len(got.Problems) != 0 || len(got.Steps) != 4 || len(got.Guards) != 1 || got.Guards[0].Stands != "host" {
		t.Errorf("%+v, %v", got, err)
	}
	again, err := runBoot(t, b, false)
	if err != nil || len(again.Steps) != 0 {
		t.Errorf("again: %v, %v", again.Steps, err)
	}
}

func TestBootFlowsFirst(t *testing.T) {
	r := standardRig()
	r.OVS.Offload("true")
	r.OVS.SetPort(plain("vx1", "10.0.0.1", "10.0.0.3"))
	b := plugin.Boot{Kernel: r.Host, NIC: r.Host, Flows: r.Host, Settings: plugin.Settings{GuardAuto: true, GuardPorts: []uint16{4789}}}
	got, err := runBoot(t, b, false)
	var p *plugin.Problem
	if !errors.As(err, &p) || p.Code != "FLOWS_FIRST" || len(got.Steps) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if ps, _ := r.Policies(t.Context()); len(ps) != 0 {
		t.Errorf("%d policies", len(ps))
	}
}

func TestBootTriesAgain(t *testing.T) {
	r, b := bootRig(t)
	r.PF("pf0").Set(func(k *fakenic.Knobs) { k.FailEINVAL = 1 })
	got, err := runBoot(t, b, false)
	if err != nil || got.Guards[0].Stands != "hardware" {
		t.Errorf("%+v, %v", got, err)
	}
	_, b = bootRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Run(ctx, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestBootWithoutPriorities wants the tables to stand, and the guards where they
// can, on a card that takes none.
func TestBootWithoutPriorities(t *testing.T) {
	r, b := bootRig(t)
	r.PF("pf0").Set(func(k *fakenic.Knobs) { k.NoPriority = true })
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	got, err := b.Run(t.Context(), changed, nil)
	if err != nil || len(got.Problems) != 0 || len(got.Guards) != 1 || got.Guards[0].Stands != "host" {
		t.Errorf("%+v, %v", got, err)
	}
	if n := r.PF("pf0").Tables(); n.TXTables != 1 || n.RXTables != 1 {
		t.Errorf("tables %+v", n)
	}
}
