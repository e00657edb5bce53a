// SPDX-License-Identifier: Apache-2.0

// Package ovsdb watches Open vSwitch's database for tunnel ports that ask for
// IPsec and reports back how they fare.
//
// Rows become a Snapshot by pure functions; Watch owns the connection. The
// package takes no policy decision: it says what the operator wrote and what of
// it is not valid.
//
// # How the watch stays right
//
// libovsdb's events are only a hint that something changed. Every snapshot is
// read from the whole cache, between two transactions, so a row that is deleted
// and inserted under the same name in one transaction is never seen missing.
// A client is used for one connection and one monitor, and thrown away with it:
// libovsdb's own reconnect loses rows.
//
// # Secrets
//
// An option may hold a pre-shared key. libovsdb keeps the options of a row as
// they stand, because the server sends differences against the old value. A psk
// leaves this package in one way only, as a Secret, which cannot print itself;
// no other value of a secret option does, and none stands in a Problem, a log
// line or an error.
package ovsdb
