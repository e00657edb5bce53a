// SPDX-License-Identifier: Apache-2.0

//go:build !faultpoint

package main

import "ovs-ipsec-offload/plugin"

// withFaultPoints returns c: only a program built with the tag faultpoint can be
// told to die at a step.
func withFaultPoints(c plugin.Config) plugin.Config { return c }
