// SPDX-License-Identifier: Apache-2.0

// Package tc tells which TC flower rules a NIC has taken into its hardware, and
// takes them out again.
//
// The scanner reads a terse dump (TCA_DUMP_FLAGS) and looks only at each
// rule's flags, so a match or an action it does not know can never make it
// fail: a safety question must not depend on a parser's vocabulary. What the
// rules of tunnels counted is read by a full dump, for figures only.
package tc
