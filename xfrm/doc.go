// SPDX-License-Identifier: Apache-2.0

// Package xfrm reads and writes the kernel's IPsec states and policies with
// packet offload.
//
// Values (SA, Policy, Selector) are plain data; encoding and decoding are pure
// functions over bytes; Client is the only part that owns a socket. The wire
// format is linux/xfrm.h; what mlx5 accepts of it is in docs/kernel.md.
package xfrm
