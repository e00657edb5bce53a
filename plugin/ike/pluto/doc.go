// SPDX-License-Identifier: Apache-2.0

// Package pluto keeps libreswan's IKE daemon at a wanted set of connections, as
// package ike does strongSwan's.
//
// pluto has no interface but the commands whack and addconn, and tells of nothing by
// itself: it is asked every now and then, and what it prints is read. One of our
// connections is two of pluto's, because a libreswan connection has one child SA:
// NAME-out carries what this host sends, NAME-in what it receives.
package pluto
