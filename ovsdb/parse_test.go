// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"net/netip"

	"github.com/google/go-cmp/cmp"
)

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
