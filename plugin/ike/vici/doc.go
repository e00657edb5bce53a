// SPDX-License-Identifier: Apache-2.0

// Package vici speaks strongSwan's Versatile IKE Control Interface
// (strongSwan's src/libcharon/plugins/vici/README.md).
//
// A Session is one connection. It has no goroutine and no queue: a call writes
// its request and reads until the answer, so that nothing can be dropped, and
// every call ends with its context. A connection carries one call at a time, and
// events come over a connection of their own. Values are bytes, so that a
// secret never becomes a string.
package vici
