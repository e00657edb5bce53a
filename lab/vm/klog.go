// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"regexp"
	"strings"
)

// trouble matches the lines with which the kernel reports a fault of its own:
// oops, lockup, hung task, broken locking, a device that cannot go away.
var trouble = regexp.MustCompile(`BUG: |kernel BUG at|Oops: |Oops\[|Kernel panic|general protection fault|` +
	`WARNING: CPU: \d|WARNING: (possible|suspicious|inconsistent|bad|held|lock) |` +
	`blocked for more than|rcu: INFO: .* detected .*stall|self-detected stall|` +
	`unregister_netdevice: waiting for|refcount_t: |UBSAN: |scheduling while atomic|` +
	`sleeping function called from invalid context|DEBUG_LOCKS_WARN_ON`)

// Complaints returns the lines of a kernel log that report a fault.
func Complaints(log string) []string {
	var found []string
	for line := range strings.Lines(log) {
		if trouble.MatchString(line) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// Excerpt returns the part of a kernel log that is worth reading after a
// failure: from a little before the first complaint, or if there is none the
// end; at most limit lines.
func Excerpt(log string, limit int) string {
	const before = 20
	lines := strings.SplitAfter(strings.TrimRight(log, "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	from := len(lines) - limit
	for i, line := range lines {
		if trouble.MatchString(line) {
			from = i - before
			break
		}
	}
	from = max(from, 0)
	return strings.Join(lines[from:min(len(lines), from+limit)], "")
}
