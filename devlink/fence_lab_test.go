// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package devlink

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// tcOf returns what ethtool(8) says of hw-tc-offload: "on", "off", with
// "[requested on]" behind it when the driver did not grant it.
func tcOf(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("ethtool", "-k", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "hw-tc-offload: ")
	state, _, _ := strings.Cut(rest, "\n")
	return state
}

func fence(t *testing.T, on bool, ifindexes ...int) []int {
	t.Helper()
	changed, err := Fence{}.Set(t.Context(), ifindexes, on)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestLabFence(t *testing.T) {
	inNamespace(t)
	addPF(t)
	pf0, rep0, rep1 := linkOf(t, "pf0").Ifindex, linkOf(t, "rep0").Ifindex, linkOf(t, "rep1").Ifindex
	const absent = 1 << 30
	sh(t, "ethtool -K rep1 hw-tc-offload off")
	if got := fence(t, false, rep0, absent, rep1, pf0); !slices.Equal(got, []int{rep0, pf0}) {
		t.Errorf("off: changed %v", got)
	}
	for _, name := range []string{"rep0", "rep1", "pf0"} {
		if got := tcOf(t, name); got != "off" {
			t.Errorf("%s is %s", name, got)
		}
	}
	if got := fence(t, false, rep0, pf0); got != nil {
		t.Errorf("off again: changed %v", got)
	}
	sh(t, "ip link del rep1")
	if got := fence(t, true, rep0, rep1, pf0); !slices.Equal(got, []int{rep0, pf0}) {
		t.Errorf("on: changed %v", got)
	}
	for _, name := range []string{"rep0", "pf0"} {
		if got := tcOf(t, name); got != "on" {
			t.Errorf("%s is %s", name, got)
		}
	}
}

// A PF does not go off while it has rules, and stays on when they are gone:
// the kernel must not carry the refused wish out at a later moment. Representors
// go off all the same.
func TestLabFenceBusy(t *testing.T) {
	inNamespace(t)
	addPF(t)
	pf0, rep0 := linkOf(t, "pf0"), linkOf(t, "rep0")
	sh(t, `tc qdisc add dev pf0 ingress
		tc filter add dev pf0 ingress protocol ip flower skip_sw dst_ip 192.0.2.1 action drop`)
	for range 2 {
		changed, err := Fence{}.Set(t.Context(), []int{pf0.Ifindex, rep0.Ifindex}, false)
		busy, ok := errors.AsType[*FenceError](err)
		if !ok || *busy != (FenceError{Link: pf0}) || busy.Code() != "GATE_FENCE_BUSY" || !slices.Equal(changed, []int{rep0.Ifindex}) {
			t.Fatalf("changed %v, %v", changed, err)
		}
		fence(t, true, rep0.Ifindex)
	}
	sh(t, "tc qdisc del dev pf0 ingress\nethtool -K pf0 gro off")
	if got := tcOf(t, "pf0"); got != "on" {
		t.Errorf("pf0 is %s", got)
	}

	// A wish that somebody else left behind does not keep ours from being tried.
	sh(t, `tc qdisc add dev pf0 ingress
		tc filter add dev pf0 ingress protocol ip flower skip_sw dst_ip 192.0.2.1 action drop`)
	if err := exec.Command("ethtool", "-K", "pf0", "hw-tc-offload", "off").Run(); err == nil {
		t.Error("ethtool turned a busy PF off")
	}
	if got := tcOf(t, "pf0"); got != "on [requested off]" {
		t.Errorf("pf0 is %s", got)
	}
	sh(t, "tc qdisc del dev pf0 ingress")
	if got := fence(t, false, pf0.Ifindex); !slices.Equal(got, []int{pf0.Ifindex}) || tcOf(t, "pf0") != "off" {
		t.Errorf("changed %v, pf0 is %s", got, tcOf(t, "pf0"))
	}
}

func TestLabFenceFixed(t *testing.T) {
	inNamespace(t)
	sh(t, "ip link add d0 type dummy")
	if got := fence(t, false, linkOf(t, "d0").Ifindex); got != nil {
		t.Errorf("changed %v", got)
	}
	_, err := Fence{}.Set(t.Context(), []int{linkOf(t, "d0").Ifindex}, true)
	if fixed, ok := errors.AsType[*FenceError](err); !ok || fixed.Code() != "GATE_FENCE_FIXED" {
		t.Errorf("got %v", err)
	}
}
