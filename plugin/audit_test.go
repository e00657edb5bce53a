// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

func TestAudit(t *testing.T) {
	local, remote := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	sa := func(added int64, auth, replay, late uint32) []xfrm.SA {
		return []xfrm.SA{{Src: remote, Dst: local, SPI: 0x1000, Dir: xfrm.In, Stats: xfrm.Stats{Added: added, Auth: auth, Replay: replay, ReplayWindow: late}},
			{Src: local, Dst: remote, SPI: 0x2000, Dir: xfrm.Out, Stats: xfrm.Stats{Auth: 9}}}
	}
	event := func(kind string, n uint32) plugin.AuditEvent {
		return plugin.AuditEvent{Event: kind, SA: xfrm.SAID{Dst: local, SPI: 0x1000}, Pair: plugin.Pair{Local: local, Remote: remote}, Count: n}
	}
	var a plugin.Audit
	for _, look := range []struct {
		name string
		sas  []xfrm.SA
		want []plugin.AuditEvent
	}{
		{"nothing", sa(1, 0, 0, 0), nil},
		{"each of them", sa(1, 2, 3, 4), []plugin.AuditEvent{event(plugin.AuditIntegrity, 2), event(plugin.AuditReplay, 3), event(plugin.AuditLate, 4)}},
		{"nothing new", sa(1, 2, 3, 4), nil},
		{"one more", sa(1, 3, 3, 4), []plugin.AuditEvent{event(plugin.AuditIntegrity, 1)}},
		{"another SA by that name", sa(2, 1, 0, 0), []plugin.AuditEvent{event(plugin.AuditIntegrity, 1)}},
		{"gone", nil, nil},
	} {
		if diff := cmp.Diff(look.want, a.Look(look.sas), cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", look.name, diff)
		}
	}
}
