// SPDX-License-Identifier: Apache-2.0

// Package devlink gathers the facts of a host's NICs: which netdev is a PF, its
// eswitch, steering and encap modes, features, representors and counters, and
// which PF carries a VTEP address.
package devlink
