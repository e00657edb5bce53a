// SPDX-License-Identifier: Apache-2.0

package plugin_test

import "testing"

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
