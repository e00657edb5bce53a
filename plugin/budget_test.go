// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

func TestBudgetOf(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for name, c := range map[string]struct {
		esn            bool
		bytes, packets uint64
		age            time.Duration
		want           plugin.Budget
	}{
		"new":                  {esn: true, want: plugin.Budget{Of: "bytes"}},
		"half of the bytes":    {esn: true, bytes: 1 << 44, packets: 1 << 34, age: time.Hour, want: plugin.Budget{Used: 0.5, Of: "bytes", Age: 3600, Left: 3600}},
		"too many":             {esn: true, bytes: 1 << 46, age: time.Hour, want: plugin.Budget{Used: 2, Of: "bytes", Age: 3600}},
		"nearly idle":          {esn: true, bytes: 1, age: time.Hour, want: plugin.Budget{Used: 1.0 / (1 << 45), Of: "bytes", Age: 3600}},
		"short sequence":       {bytes: 1 << 40, packets: 1 << 31, age: time.Hour, want: plugin.Budget{Used: 0.5, Of: "sequence numbers", Age: 3600, Left: 3600}},
		"a clock that went on": {esn: true, age: -time.Hour, want: plugin.Budget{Of: "bytes"}},
	} {
		s := xfrm.SA{ESN: c.esn, Stats: xfrm.Stats{Bytes: c.bytes, Packets: c.packets, Added: now.Add(-c.age).Unix()}}
		if diff := cmp.Diff(&c.want, plugin.BudgetOf(&s, now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
