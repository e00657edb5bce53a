// SPDX-License-Identifier: Apache-2.0

// Package saved is what the daemon leaves on the disk for the next boot: which
// guards stood, in which NIC, and which plain pairs passed them. It holds no
// secret and nothing that the daemon could not do without: a host that lost the
// file is guarded as soon as the daemon has made its first round.
//
// State, Encode and Decode are plain data and pure functions; Dir is the
// directory that the file is in.
package saved

import (
	"net/netip"
	"slices"
)

// State is what the next boot needs.
type State struct {
	Boot     string // id of the boot in which it was written (random(4))
	PFs      []PF   // the NICs that the others name, sorted by handle
	Guards   []Guard
	Bypasses []Bypass
}

// PF is a NIC by the names that outlive a reboot.
type PF struct {
	Handle string // of its devlink instance, as "pci/0000:08:00.0"
	Name   string // of its netdev
	// Protected is the id of the last boot in which all its guards stood in it
	// at one time, so that no flow could be offloaded before its tables.
	Protected string
}

// Guard is a VTEP that is blocked unless a pair's own policy says otherwise.
type Guard struct {
	Local netip.Addr
	Port  uint16 // UDP
	PF    string // handle; "" when the guard stood in the host's stack only
	// Absent counts the boots in a row that did not see the VTEP's address or NIC.
	Absent int
}

// Bypass is a plain pair that passes the guard of its VTEP.
type Bypass struct {
	Local, Remote netip.Addr
	Port          uint16
	PF            string // handle, or ""
}

// PF returns the NIC with that handle, and false when the state names none.
func (s State) PF(handle string) (PF, bool) {
	i := slices.IndexFunc(s.PFs, func(p PF) bool { return p.Handle == handle })
	if i < 0 {
		return PF{}, false
	}
	return s.PFs[i], true
}

// ProtectedIn tells whether all guards of a NIC stood in it during a boot.
func (s State) ProtectedIn(handle, boot string) bool {
	p, is := s.PF(handle)
	return is && boot != "" && p.Protected == boot
}

// Equal tells whether both say the same.
func (s State) Equal(t State) bool {
	return s.Boot == t.Boot && slices.Equal(s.PFs, t.PFs) && slices.Equal(s.Guards, t.Guards) && slices.Equal(s.Bypasses, t.Bypasses)
}
