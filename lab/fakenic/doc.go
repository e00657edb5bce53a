// SPDX-License-Identifier: Apache-2.0

// Package fakenic is a model, in memory, of a Linux host whose NICs encrypt and
// forward by themselves as mlx5 does: states, policies, flow rules, the tables
// behind them, what excludes what, and what becomes of a packet.
//
// It is deterministic and has no clock. The rules it obeys are those of
// lab/simnic/RULES.md, and in the words of that file's kernel module: what the
// one refuses the other refuses, with the same error and the same text.
//
// Host is the kernel: it answers what the daemon asks of XFRM, TC and devlink,
// and decides the fate of a packet. PF is one NIC. Faults makes operations
// fail, in the ways in which they fail on a real host.
package fakenic
