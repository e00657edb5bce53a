// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"net/netip"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// The methods of all ports may be called by several goroutines: the status is
// made beside the rounds.

// Database is Open vSwitch's database: what the operator wants, and where we
// report.
type Database interface {
	// Current returns the newest snapshot and whether it can be trusted.
	Current() (ovsdb.Snapshot, ovsdb.State)
	// Changed gets a value when Current would give something new.
	Changed() <-chan struct{}
	// Report writes into external_ids.
	Report(ctx context.Context, rs []ovsdb.Report) error
	// SetHWOffload sets other_config:hw-offload if it is still unset.
	// ovs-vswitchd has taken the value when the host's CurCfg is cfg or more.
	SetHWOffload(ctx context.Context, value string) (cfg int64, err error)
	Holder
}

// Holder is the part of the database that makes OVS offload nothing for a
// while. Both are idempotent, and both have been taken by ovs-vswitchd when the
// host's CurCfg is cfg or more.
type Holder interface {
	// Hold sets other_config:flow-limit to 0 and records what to restore, in
	// one transaction.
	Hold(ctx context.Context, h ovsdb.Hold) (cfg int64, err error)
	// Unhold restores flow-limit and removes the record, in one transaction.
	Unhold(ctx context.Context) (cfg int64, err error)
}

// Gate is what keeps rules out of the NIC without asking OVS. A device that is
// gone is no error, for nothing can be offloaded on it.
type Gate interface {
	// Offloading returns those of the devices whose hw-tc-offload is on.
	Offloading(ctx context.Context, ifindexes []int) ([]int, error)
	// Fence turns hw-tc-offload of devices off, so that their NIC takes no new
	// rules, or on again. Rules in hardware stay there. It goes on after a
	// failure; changed lists the devices that it switched. A PF that still has
	// rules in hardware does not go off: GATE_FENCE_BUSY.
	Fence(ctx context.Context, ifindexes []int, on bool) (changed []int, err error)
	// Evict takes the flower rules of devices out of the hardware, in the order
	// of the devices, and returns how many. It goes on after a failure. The
	// rules stay, in software, and OVS does not put them back by itself: once
	// the fence is lifted it has to be told revalidator/purge.
	Evict(ctx context.Context, ifindexes []int) (int, error)
	// Running tells whether ovs-vswitchd runs: without it nobody withdraws
	// rules in answer to a hold.
	Running(ctx context.Context) (bool, error)
}

// Kernel is the XFRM side: states and policies, in software and on NICs.
type Kernel interface {
	// SAs and Policies return all that stand, ours and others'.
	SAs(ctx context.Context) ([]xfrm.SA, error)
	Policies(ctx context.Context) ([]xfrm.Policy, error)
	// Do carries out ops in order and returns a result for each. An add with
	// an offload device that the kernel took but did not offload is undone and
	// is an error.
	Do(ctx context.Context, ops []xfrm.Op) []error
}

// NIC gives the facts of this host's NICs.
type NIC interface {
	// Facts reads everything afresh: PFs, addresses and tunnel devices.
	Facts(ctx context.Context) (devlink.Facts, error)
	// Link returns the device of that index, and ENODEV when there is none.
	Link(ctx context.Context, ifindex int) (devlink.Link, error)
	// Source returns the address from which the host would reach remote.
	Source(ctx context.Context, remote netip.Addr) (netip.Addr, error)
	// Counters reads the IPsec counters of a PF by its name, as `ethtool -S`.
	Counters(ctx context.Context, name string) (map[string]uint64, error)
}

// Flows tells which flow rules are in hardware.
type Flows interface {
	// Offloaded counts the rules of devices that are in hardware.
	Offloaded(ctx context.Context, ifindexes []int) (tc.Report, error)
	// Tunnels lists what the rules in hardware did with tunnels: a long
	// reading.
	Tunnels(ctx context.Context, ifindexes []int) ([]tc.TunnelRule, error)
}

// Prober sends probes.
type Prober interface {
	// Probe sends a datagram from the pair's local address and ProbePort to its
	// remote address and port that no tunnel takes for its own, and does not wait.
	Probe(ctx context.Context, p Pair) error
}

// Keys is the store of one-shot key sets.
type Keys interface {
	// Lookup returns what may be known of a set. Its error is a *Problem when
	// the operator can mend it.
	Lookup(name string) (KeySet, error)
	// Material returns the two keys of a set. The caller wipes them.
	Material(name string) (in, out xfrm.Key, err error)
}

// IKE keeps the connections of an IKE daemon equal to what is wanted; *ike.Runner
// and *pluto.Runner do.
type IKE interface {
	// Want says which connections there are to be, and returns at once. Before the
	// first call nothing is touched.
	Want(conns []ike.Conn)
	// Renew makes new SAs for a connection, whatever the daemon believes: what it
	// had is gone from the kernel. It returns at once.
	Renew(name string)
	// Rekey replaces the outbound child SA of a connection by a new one, without a gap.
	// It returns at once.
	Rekey(name string)
	// State returns what is known of the daemon and its connections.
	State() ike.State
}

// Credentials finds what this host proves itself with.
type Credentials interface {
	// Auths returns what every port that IKE keys names, by port, and what is to be
	// said about the host's own files.
	Auths(snap *ovsdb.Snapshot) (auths map[string]AuthResult, notes []Problem)
}

// Ledger remembers outbound keys for ever, so that none is installed twice.
type Ledger interface {
	// Used tells whether a key was reserved, and not refused since.
	Used(f xfrm.Fingerprint) bool
	// Reserve records the keys, durably, before they are installed.
	Reserve(ctx context.Context, es []LedgerEntry) error
	// Refused records that the kernel definitely did not install the keys.
	Refused(ctx context.Context, es []LedgerEntry) error
}

// LedgerEntry is one outbound key of the ledger.
type LedgerEntry struct {
	Print xfrm.Fingerprint
	Name  string // of the key set
	SPI   uint32
	Pair  Pair
}

// KeySet is what may be known of a one-shot key set: never the keys.
type KeySet struct {
	Name              string
	InSPI, OutSPI     uint32
	InPrint, OutPrint xfrm.Fingerprint
	Renew             string // the command that makes new keys for the same two hosts
}

// ids returns the identities of the inbound and outbound SAs that p has with the set.
func (s KeySet) ids(p Pair) (rx, tx xfrm.SAID) {
	return xfrm.SAID{Dst: p.Local, SPI: s.InSPI}, xfrm.SAID{Dst: p.Remote, SPI: s.OutSPI}
}

// Problem is a reason for the operator: a stable code, what is wrong, what to do.
type Problem struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Error returns the text and the code.
func (p *Problem) Error() string { return p.Text + " [" + p.Code + "]" }
