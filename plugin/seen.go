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

// Seen returns what the last round saw, without looking again: it takes no time
// and does not wait for a round.
func (d *Daemon) Seen() Seen {
	d.mu.Lock()
	last, s := d.last, d.seen
	d.mu.Unlock()
	if s == nil {
		return Seen{Status: last, Device: pfNames(nil).of}
	}
	return Seen{Status: last, SAs: s.observed.SAs, Policies: s.observed.Policies, Device: pfNamesOf(s.facts).of}
}
