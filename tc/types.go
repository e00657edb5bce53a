// SPDX-License-Identifier: Apache-2.0

package tc

// Report says how many rules of each scanned device are in hardware.
type Report struct {
	Total int         // flower rules in hardware on all devices; each holds the eswitch
	ByDev map[int]int // ifindex to flower rules in hardware; devices without any are left out
	Rules int         // rules seen, in hardware or not

	// Others counts rules of other classifiers in hardware, such as a policer
	// of matchall. mlx5 does not count them as users of the eswitch
	// (mlx5e_tc_configure_matchall in en_tc.c), so they keep no IPsec table
	// from being made, and Total leaves them out.
	Others int
}
