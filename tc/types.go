// SPDX-License-Identifier: Apache-2.0

package tc

// Report says how many rules of each scanned device are in hardware.
type Report struct {
	Total int         // rules in hardware on all devices
	ByDev map[int]int // ifindex to rules in hardware; devices without any are left out
	Rules int         // rules seen, in hardware or not
}
