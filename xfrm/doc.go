// SPDX-License-Identifier: Apache-2.0

// Package xfrm reads and writes the kernel's IPsec states and policies with
// packet offload.
//
// Values (SA, Policy, Selector) are plain data; encoding and decoding are pure
// functions over bytes. Client and Monitor own a socket each: Client carries
// out Ops in batches, reads back whether the NIC has them, and lists what
// there is; Monitor tells what others changed. The wire format is that of
// linux/xfrm.h; what mlx5 accepts of it is in docs/guarantee.md.
//
// Keys are sent and forgotten: every buffer that held one is wiped, and what
// comes back from the kernel is reduced to a Fingerprint.
package xfrm
