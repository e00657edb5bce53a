// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"slices"
	"testing"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
)

// A device that was renamed while flows were held gets hw-tc-offload back; one
// that is gone, or that the hold did not fence, is left alone.
func TestRenamedDeviceIsGivenBack(t *testing.T) {
	facts := devlink.Facts{PFs: []devlink.PF{{Link: devlink.Link{Ifindex: 4, Name: "uplink"},
		Representors: []devlink.Link{{Ifindex: 7, Name: "pf0vf0"}, {Ifindex: 8, Name: "pf0vf1"}}}}}
	h := &ovsdb.Hold{Fenced: map[int]string{4: "pf0", 7: "pf0vf0", 9: "gone"}}
	if got := plugin.Fenced(facts, h); !slices.Equal(got, []int{4, 7}) {
		t.Errorf("fenced %v, want 4 and 7", got)
	}
}
