// SPDX-License-Identifier: Apache-2.0

// Package bench measures the daemon against iproute2 on a real kernel with the
// simulated NIC. Its tests run in the lab only:
//
//	make bench
package bench
