// SPDX-License-Identifier: Apache-2.0

package fakenic

// replay is the window of an inbound SA with ESN (RFC 4303, section 3.4.3).
type replay struct {
	window  uint64 // 0: nobody checks
	highest uint64
	seen    map[uint64]bool
}

// old tells whether a sequence number came before or is too far behind.
func (r *replay) old(seq uint64) bool {
	return r.window > 0 && seq > 0 && (r.seen[seq] || seq+r.window <= r.highest)
}

// take notes a sequence number that passed.
func (r *replay) take(seq uint64) {
	if r.window == 0 || seq == 0 {
		return
	}
	if r.seen == nil {
		r.seen = map[uint64]bool{}
	}
	r.seen[seq] = true
	r.highest = max(r.highest, seq)
}
