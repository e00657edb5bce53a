// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ovs-ipsec-offload/plugin/saved"
)

// shelf is a plugin.Store in memory.
type shelf struct {
	state        saved.State
	batch        string
	writes       int
	loads, saves error // what goes wrong
}

func (s *shelf) Load() (saved.State, error) { return s.state, s.loads }

func (s *shelf) Save(st saved.State, batch string) error {
	if s.saves != nil {
		return s.saves
	}
	s.state, s.batch, s.writes = st, batch, s.writes+1
	return nil
}

// savingRig is standardRig with a store, where one pair is encrypted and one plain.
func savingRig(t *testing.T) (*rig, *shelf) {
	t.Helper()
	r, s := standardRig(), &shelf{}
	r.cfg.Saved = s
	r.reboot(t, "boot-1")
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"), plain("vx1", "10.0.0.1", "10.0.0.3"))
	r.mustSettle(t)
	return r, s
}

func (r *rig) mustSettle(t *testing.T) {
	t.Helper()
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
}

// reboot starts a daemon in another boot; the NIC and the kernel stay as they are.
func (r *rig) reboot(t *testing.T, id string) {
	t.Helper()
	r.cfg.BootID = id
	r.restart()
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestRememberGuards(t *testing.T) {
	r, s := savingRig(t)
	h := r.handle(t, "pf0")
	want := saved.State{
		Boot:     "boot-1",
		PFs:      []saved.PF{{Handle: h, Name: "pf0", Protected: "boot-1"}},
		Guards:   []saved.Guard{{Local: addr("10.0.0.1"), Port: 4789, PF: h}, {Local: addr("fd00::1"), Port: 4789, PF: h}},
		Bypasses: []saved.Bypass{{Local: addr("10.0.0.1"), Remote: addr("10.0.0.3"), Port: 4789, PF: h}},
	}
	if diff := cmp.Diff(want, s.state, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +saved):\n%s", diff)
	}
	lines := []string{
		"# pf0 is " + h,
		"xfrm policy add src 10.0.0.1/32 dst 10.0.0.3/32 proto udp dport 4789 dir out priority 1870004256 action allow offload packet dev pf0",
		"xfrm policy add src 10.0.0.3/32 dst 10.0.0.1/32 proto udp dport 4789 dir in priority 1870004256 action allow offload packet dev pf0",
		"xfrm policy add src 10.0.0.1/32 dst 0.0.0.0/0 proto udp dport 4789 dir out priority 1870069504 action block offload packet dev pf0",
		"xfrm policy add src 0.0.0.0/0 dst 10.0.0.1/32 proto udp dport 4789 dir in priority 1870069504 action block offload packet dev pf0",
		"xfrm policy add src fd00::1/128 dst ::/0 proto udp dport 4789 dir out priority 1870069504 action block offload packet dev pf0",
		"xfrm policy add src ::/0 dst fd00::1/128 proto udp dport 4789 dir in priority 1870069504 action block offload packet dev pf0", "",
	}
	if diff := cmp.Diff(lines, strings.Split(s.batch, "\n")); diff != "" {
		t.Errorf("batch (-want +saved):\n%s", diff)
	}
	if strings.Contains(s.batch, "10.0.0.2") || strings.Contains(string(s.state.Encode()), "10.0.0.2") {
		t.Error("the encrypted pair is in the files")
	}
	writes := s.writes
	r.round()
	if s.writes != writes {
		t.Error("written again though nothing changed")
	}
}

// handle returns the devlink handle of a PF.
func (r *rig) handle(t *testing.T, name string) string {
	t.Helper()
	f, err := r.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.PFs {
		if p.Name == name {
			return p.Handle
		}
	}
	t.Fatalf("no PF %s", name)
	return ""
}

func TestRememberProtection(t *testing.T) {
	r, s := savingRig(t)
	h := r.handle(t, "pf0")
	r.OVS.Stop()
	r.PF("pf0").SetUp(false)
	r.reboot(t, "boot-2")
	r.PF("pf0").SetUp(false) // drops every object; the guards cannot come back while it is down
	r.round()
	if s.state.Boot != "boot-2" || s.state.ProtectedIn(h, "boot-2") {
		t.Errorf("protected in boot-2 without guards: %+v", s.state)
	}
	r.PF("pf0").SetUp(true)
	r.mustSettle(t)
	if !s.state.ProtectedIn(h, "boot-2") {
		t.Errorf("not protected with guards: %+v", s.state)
	}
	r.PF("pf0").SetUp(false)
	r.round()
	if !s.state.ProtectedIn(h, "boot-2") {
		t.Errorf("the boot forgot that its guards stood: %+v", s.state)
	}
	if s.state.Guards[0].PF != h || s.state.Bypasses[0].PF != h {
		t.Errorf("the NIC of a guard is forgotten while it is down: %+v", s.state)
	}
}

func TestRememberAbsentGuards(t *testing.T) {
	r, s := savingRig(t)
	fresh := func(boot string) { // nothing of ours stands, as after a reboot
		r.PF("pf0").SetUp(false)
		r.PF("pf0").SetUp(true)
		r.reboot(t, boot)
		r.mustSettle(t)
	}
	r.OVS.DelPort("vx0", "vx1")
	r.DelAddr(addr("fd00::1"))
	for _, boot := range []string{"boot-2", "boot-3", "boot-4"} {
		fresh(boot)
		if len(s.state.Guards) != 2 {
			t.Fatalf("%s: guard of the missing address is forgotten: %+v", boot, s.state.Guards)
		}
	}
	fresh("boot-5")
	if len(s.state.Guards) != 1 || s.state.Guards[0].Local != addr("10.0.0.1") || len(s.state.Bypasses) != 0 {
		t.Errorf("four boots without it: %+v", s.state)
	}
}

func TestRememberForgetsGuardsNobodyWants(t *testing.T) {
	r, s := savingRig(t)
	r.cfg.Settings.GuardAuto = false
	r.OVS.DelPort("vx0", "vx1")
	r.restart()
	r.mustSettle(t)
	if len(s.state.Guards) != 0 {
		t.Errorf("kept for the next boot: %+v", s.state.Guards)
	}
	if len(r.d.Last().Guards) != 2 {
		t.Errorf("guards that stand: %+v", r.d.Last().Guards)
	}
}

func TestRememberWhileParked(t *testing.T) {
	r, s := savingRig(t)
	before := s.state
	r.d.Park(true)
	r.mustSettle(t)
	if !s.state.Equal(before) {
		t.Errorf("a parked host forgot its guards: %+v", s.state)
	}
	if g := r.d.Last().Guards[0]; g.Stands != "host" {
		t.Errorf("not parked: %+v", g)
	}
}

func TestRememberTrouble(t *testing.T) {
	r, s := savingRig(t)
	s.saves = errors.New("save guards: no space left on device")
	r.OVS.DelPort("vx0", "vx1")
	r.mustSettle(t)
	r.round()
	if ps := r.d.Last().Problems; len(ps) != 1 || ps[0].Code != "SAVED_STATE" || !strings.Contains(ps[0].Text, "no space left") {
		t.Errorf("problems %v", ps)
	}
	s.saves = nil
	r.round()
	r.round()
	if ps := r.d.Last().Problems; len(ps) != 0 || len(s.state.Bypasses) != 0 {
		t.Errorf("problems %v, bypasses %v", ps, s.state.Bypasses)
	}
	s.loads, s.state = errors.New("read saved guards: unexpected EOF"), saved.State{}
	r.reboot(t, "boot-2")
	r.mustSettle(t)
	if !s.state.ProtectedIn(r.handle(t, "pf0"), "boot-2") {
		t.Errorf("a broken file was not written anew: %+v", s.state)
	}
}
