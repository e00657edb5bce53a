// SPDX-License-Identifier: Apache-2.0

// Package rules holds what a NIC with IPsec packet offload does and refuses,
// as small test scripts (*.rule), and runs them against anything that claims
// to behave so: the simulated NIC in the lab's virtual machine (Kernel), or a
// model of it in memory.
//
// A script is data: Parse turns each line into a Step with typed fields, so
// that a model needs no parser of iproute2's language. README.md has the
// grammar, lab/simnic/RULES.md the list of rules with the driver's functions
// behind them.
package rules
