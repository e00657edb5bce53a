// SPDX-License-Identifier: Apache-2.0

// Package keys holds one-shot key sets and the ledger of outbound keys.
//
// A key set is made for two hosts at once by NewPair and lies on each as one
// file. Each direction has its own 256-bit key, salt and SPI. AES-GCM loses all
// its security when a key meets the same sequence number twice (SP 800-38D,
// section 8; RFC 4106, section 2), and every loss of an SA restarts the sequence
// numbers. So an outbound key is written to a Ledger before it is installed and
// is never installed again.
//
// Parsing, checking and the ledger's rules are pure; Store, WriteFile, Watch and
// OpenLedger are the parts that touch the file system.
package keys
