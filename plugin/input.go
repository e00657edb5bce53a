// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// Settings are the operator's choices that bear on intent and plan.
type Settings struct {
	GateAuto   bool     // set hw-offload when the operator left it unset
	GuardAuto  bool     // guard every address of a capable PF from the start
	GuardPorts []uint16 // UDP ports of the automatic guards
	Unguarded  bool     // use NICs in which no guard can stand
	// Retrofit is what to do with flows that are in hardware before the tables:
	// nothing, what the operator says by `repair`, or take them out.
	Retrofit Retrofit
	// DrainForSAs lets flows be taken out of hardware for SAs where the kernel
	// takes none beside them.
	DrainForSAs bool
	BlockLeaks  bool // block a pair that leaked
}

// Retrofit is a choice of the operator; see Settings.
type Retrofit string

// The choices.
const (
	RetrofitNever Retrofit = "never"
	RetrofitAsk   Retrofit = "ask"
	RetrofitAuto  Retrofit = "auto"
)

// KeyResult is what the key store says about one name.
type KeyResult struct {
	Set     KeySet
	Problem *Problem
}

// Input is all that BuildIntent looks at.
type Input struct {
	Snapshot ovsdb.Snapshot
	Facts    devlink.Facts
	Sources  map[netip.Addr]netip.Addr // remote to local address, for ports without local_ip
	Keys     map[string]KeyResult
	Auths    map[string]AuthResult // by port, of those that IKE keys
	Settings Settings
	// Consent tells that the operator has asked for the retrofit; Parked that
	// nothing of ours may be in a NIC.
	Consent, Parked bool
	// Installed finds our SAs that stand in the kernel; Spent tells which
	// outbound keys were installed once already.
	Installed func(xfrm.SAID) (*xfrm.SA, bool)
	Spent     func(xfrm.Fingerprint) bool
	// Carried holds the pairs that are encrypted now, whatever by, with their PF.
	Carried map[Pair]int
	// NoPriority holds the PFs that have shown to have no policy priorities.
	NoPriority map[int]bool
	// Guarded holds the VTEPs that have a guard now, with its PF (0: in the
	// host's stack only). A guard is never taken away, nor out of its NIC.
	Guarded map[VTEP]int
	// Strangers are others who may work on the same pairs.
	Strangers Strangers
	// Leaked holds the pairs that stay blocked since they leaked.
	Leaked map[Pair]LeakBlock
	ids    reqids
}
