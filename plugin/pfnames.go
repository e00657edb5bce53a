// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strconv"

	"ovs-ipsec-offload/devlink"
)

// pfNames are the names of PFs, by ifindex.
type pfNames map[int]string

func pfNamesOf(f devlink.Facts) pfNames {
	names := make(pfNames, len(f.PFs))
	for i := range f.PFs {
		names[f.PFs[i].Ifindex] = f.PFs[i].Name
	}
	return names
}

// of returns the name of a PF for the operator, also of one that is gone.
func (n pfNames) of(ifindex int) string {
	if name := n[ifindex]; name != "" {
		return name
	}
	return "if" + strconv.Itoa(ifindex)
}
