// SPDX-License-Identifier: Apache-2.0

// Package fakehost is a hypervisor in memory: the host and NICs of
// lab/fakenic, Open vSwitch with its database, key sets and the ledger. It is
// what a plugin.Daemon needs to run in a test.
//
// Open vSwitch is as hasty as it can be: as soon as hw-offload is set, every
// tunnel's flows are in hardware, and a port that is added has its flows there
// before anybody was told of it.
package fakehost
