// SPDX-License-Identifier: Apache-2.0

// Package plugin decides what a host's NICs have to hold so that every tunnel
// that asks for IPsec is encrypted or blocked in hardware, and carries it out
// in the only safe order.
//
// A round observes afresh, plans, checks the plan against the invariants and
// applies it. BuildIntent, MakePlan and Check are pure functions over plain
// data; Daemon owns the loop and reaches the kernel, the database and the files
// through the interfaces in ports.go. First start, crash recovery, drift and a
// stranger's flush take the same path.
package plugin
