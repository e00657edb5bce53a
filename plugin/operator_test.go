// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"errors"
	"testing"

	"ovs-ipsec-offload/plugin"
)

// TestUninstall takes a host's last traces away, but not what still protects it.
func TestUninstall(t *testing.T) {
	r := standardRig()
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"), plain("vx1", "10.0.0.1", "10.0.0.3"))
	r.mustSettle(t)
	refused := func(want string) {
		t.Helper()
		_, err := plugin.Uninstall(t.Context(), r.cfg, want == "UNINSTALL_PARK")
		var p *plugin.Problem
		if !errors.As(err, &p) || p.Code != want {
			t.Fatalf("got %v, want %s", err, want)
		}
	}
	refused("UNINSTALL_ASKED")
	refused("UNINSTALL_PARK")
	r.d.Park(true)
	r.mustSettle(t)
	refused("UNINSTALL_ASKED")
	r.OVS.DelPort("vx0")
	r.mustSettle(t)
	if _, err := plugin.Uninstall(t.Context(), r.cfg, false); err != nil {
		t.Fatal(err)
	}
	if left := r.dump(); len(left) > 0 {
		t.Errorf("left in the kernel: %q", left)
	}
	snap, _ := r.OVS.Current()
	if snap.Host.Hold != nil || snap.Host.FlowLimit != "" || len(snap.Host.Reported) > 0 {
		t.Errorf("left in the database: %+v", snap.Host)
	}
}
