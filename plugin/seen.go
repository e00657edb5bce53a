// SPDX-License-Identifier: Apache-2.0

package plugin

import "ovs-ipsec-offload/xfrm"

// Seen is what the last round saw. It is shared: nothing of it may be written to.
type Seen struct {
	Status   Status
	SAs      []xfrm.SA     // ours
	Policies []xfrm.Policy // ours
	// Device names a device by its ifindex.
	Device func(ifindex int) string
}

// Seen returns what the last round saw, without looking again. It waits for
// nothing, not even a round's bookkeeping.
func (d *Daemon) Seen() Seen { return *d.shown.Load() }
