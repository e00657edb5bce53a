// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
)

// TestSeen: what a round saw is there after it, and nothing before.
func TestSeen(t *testing.T) {
	r := standardRig()
	if s := r.d.Seen(); len(s.SAs)+len(s.Policies) > 0 || s.Device(4) != "if4" || s.Status.State != "waiting" {
		t.Errorf("before the first round: %+v", s)
	}
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
	r.mustSettle(t)
	s := r.d.Seen()
	if len(s.SAs) != 2 || len(s.Policies) == 0 || s.Device(s.SAs[0].Offload.Ifindex) != "pf0" || s.Status.Pairs[0].State != "encrypted" {
		t.Errorf("after rounds: %+v", s)
	}
}

// TestRefresh: a pair that waits for its next try is tried at once.
func TestRefresh(t *testing.T) {
	r := standardRig()
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
	state := func() string { return r.d.Last().Pairs[0].State }
	r.Faults.Set(fakenic.Fault{Label: "reserve ab", Errno: unix.ENOSPC, Times: fakenic.Always})
	r.mustSettle(t)
	r.Faults.Set()
	if r.round(); state() != "blocked" {
		t.Fatalf("%s before its time", state())
	}
	from := r.d.Refresh()
	r.mustSettle(t)
	if state() != "encrypted" {
		t.Errorf("%s after a refresh", state())
	}
	if _, done := r.d.Await(t.Context(), from, func(plugin.Status) bool { return true }); !done {
		t.Error("the round is not over")
	}
}
