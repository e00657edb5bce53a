// SPDX-License-Identifier: Apache-2.0

package ovsdb

import "net/netip"

// Snapshot is the part of the database that decides about encryption, at one
// moment. Tunnels are sorted by name.
type Snapshot struct {
	Host    Host
	Tunnels []Tunnel
	// Systems holds the names of the interfaces that are devices of the host
	// (type system), sorted. Offloaded flows on a PF among them exclude IPsec.
	Systems []string
}

// Host is the row of table Open_vSwitch.
type Host struct {
	UUID       string
	SystemID   string // external_ids:system-id
	Hostname   string // external_ids:hostname
	OVSVersion string
	// HWOffload is other_config:hw-offload as it stands; "" when unset.
	HWOffload string
	// FlowLimit is other_config:flow-limit as it stands; "" when unset.
	FlowLimit string
	// Hold is the record of the hold that stands, or nil. The hold is in force
	// while FlowLimit is "0".
	Hold *Hold
	// PKI names the files of the host's certificate.
	PKI PKI
	// Notes is what is to be said about the row, though nothing is refused for it.
	Notes []Problem
	// NextCfg counts the changes that somebody asked ovs-vswitchd to take, and
	// CurCfg is the last of them that it took. Both begin at 0 again in a new
	// database, whose row has another UUID.
	CurCfg, NextCfg int64
	// SKBMark is other_config:ipsec_skb_mark as it stands. It is shown only: guards
	// do what it is for.
	SKBMark string
	// Reported holds our own keys of external_ids without their prefix.
	Reported map[string]string
}

// Mode is what options:ipsec_mode asks for.
type Mode string

// The IPsec modes of a port.
const (
	Transport Mode = "transport"
	Tunneled  Mode = "tunnel"
)

// Tunnel is one tunnel port of OVS: an Interface row of a tunnel type. It is
// known by its name; its UUID changes when OVN replaces the row.
type Tunnel struct {
	Name string
	Type string // "vxlan", "geneve", "gre", …

	Local   netip.Addr // options:local_ip; the zero Addr when unset or "flow"
	Remote  netip.Addr // options:remote_ip; the zero Addr when unset or "flow"
	ByFlow  bool       // remote_ip=flow or local_ip=flow: the flows choose the addresses
	DstPort uint16     // options:dst_port, or the type's default

	// IPsec tells whether any option asks for encryption. Such a port is
	// encrypted or blocked, never clear text, even when it is not valid.
	IPsec bool
	Mode  Mode
	Keys  string // options:ipsec_keys: name of a one-shot key set
	Dev   string // options:ipsec_dev: the PF, "" to find it from Local

	// OFPort is the OpenFlow number that ovs-vswitchd gave the port, and 0 while it
	// has none. Fault is what CFM found, nil while CFM is off. Both are only shown.
	OFPort int
	Fault  *bool

	Auth Auth // psk, psk_file, remote_cert, remote_name: keys by IKE
	IKE  IKE  // what the port asks of the IKE daemon
	// StockPeer is options:ipsec_peer=ovs-monitor-ipsec: the peer runs the script
	// that comes with OVS.
	StockPeer bool

	// Problems says why the port is refused; empty when it is valid.
	Problems []Problem
	// Notes is what is to be said about a port that is not refused for it.
	Notes []Problem
	// Reported holds our own keys of external_ids without their prefix.
	Reported map[string]string
}

// Problem is one reason why a port or a host is refused.
type Problem struct {
	Code string // stable, e.g. "OPT_REMOTE_IP"
	Text string // for the operator: what is wrong and what to do
}

// Report is what Watch writes into external_ids of one row, under the prefix
// "ipsec-offload:". Keys that are ours and not in Values are removed.
type Report struct {
	Tunnel string // name of the Interface; "" for the host's row
	Values map[string]string
}

// ReportPrefix starts every key that this project writes into external_ids.
const ReportPrefix = "ipsec-offload:"
