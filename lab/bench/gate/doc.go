// SPDX-License-Identifier: Apache-2.0

// Package gate measures, on a real kernel with the simulated NIC and Open
// vSwitch, how fast the ways to empty the hardware are, what they cost the
// traffic, and how long it takes until the flows are in hardware again. Its
// test runs in the lab only:
//
//	make bench
package gate
