// SPDX-License-Identifier: Apache-2.0

// Package ike keeps an IKE daemon at the set of peers that is wanted.
//
// A Runner is told the whole set with Want and makes it so: it loads what is
// missing, unloads what nobody wants, and has the daemon set up what is down.
// It is level-based: an event that an SA came up is taken as a listing of it, and any
// other only says which Conn is to be listed, or why it failed. Everything of ours in the daemon has a name that begins with Prefix;
// nothing else is touched.
//
// The daemon is strongSwan's charon, spoken to over VICI (strongSwan's
// src/libcharon/plugins/vici/README.md). It owns its SAs and policies; this
// package never talks to the kernel. Keys and certificates go over the socket
// and are never written to disk.
package ike
