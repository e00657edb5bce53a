// SPDX-License-Identifier: Apache-2.0

// Package ovsdb watches Open vSwitch's database for tunnel ports that ask for
// IPsec and reports back how they fare.
//
// Rows become a Snapshot by pure functions; Watch owns the connection. The
// package takes no policy decision: it says what the operator wrote and what of
// it is not valid.
package ovsdb
