// SPDX-License-Identifier: Apache-2.0

// Package config reads the daemon's settings from a file, the environment and
// the command line, the later the stronger, and checks them.
//
// Nothing has to be set: every setting has a default that fits a host with Open
// vSwitch as the distributions package it. A name that is not known is an error.
package config

import (
	"log/slog"
	"time"
)

// DefaultFile is read when no other file is asked for; it may be missing.
const DefaultFile = "/etc/ovs-ipsec-offload/config.yaml"

// Config is one consistent set of settings. It is never changed: a reload makes
// a new one.
type Config struct {
	OVSDB    string // endpoint of Open vSwitch's database, as unix:/run/openvswitch/db.sock
	StateDir string // what must outlive a reboot: the ledger of outbound keys
	RunDir   string // lock and control socket
	KeysDir  string // key set files

	LogLevel  slog.Level
	LogFormat LogFormat

	Gate       Gate
	Guard      Guard
	GuardPorts []uint16 // UDP ports of the guards that stand from the start
	Unguarded  Unguarded

	Retrofit Retrofit
	StrictSA StrictSA

	IKE       IKE
	IKESocket string        // of the IKE daemon; where strongSwan's VICI listens
	IKERekey  time.Duration // age at which keys of IKE are replaced

	RetireAfter time.Duration // how long an SA that no port wants any more is kept
	AuditEvery  time.Duration // the host is looked at at least this often
	OnLeak      OnLeak
	Report      bool // write state into external_ids of the database
	// MonitorSocket answers ovs-appctl in the place of ovs-monitor-ipsec.
	MonitorSocket bool
}

// LogFormat is how log lines are written.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Gate is who decides that OVS may offload flows.
type Gate string

// The choices for Gate.
const (
	GateAuto Gate = "auto" // we set other_config:hw-offload if the operator left it unset
	GateOff  Gate = "off"  // the operator does
)

// Guard is which addresses are guarded against clear text.
type Guard string

// The choices for Guard.
const (
	GuardAuto    Guard = "auto"    // every address of a NIC that can offload, from the start
	GuardTunnels Guard = "tunnels" // the local addresses of tunnels that ask for IPsec
)

// Retrofit is what to do with flows that are in hardware before the tables.
type Retrofit string

// The choices for Retrofit.
const (
	RetrofitNever Retrofit = "never" // leave that NIC alone and say so
	RetrofitAsk   Retrofit = "ask"   // until the operator says so
	RetrofitAuto  Retrofit = "auto"  // take them out, make the tables, put them back
)

// StrictSA is what to do for an SA where the kernel takes none beside flows.
type StrictSA string

// The choices for StrictSA.
const (
	StrictDrain StrictSA = "drain" // take the flows out for a moment
	StrictWait  StrictSA = "wait"  // wait until there are none, or for the operator
)

// OnLeak is what becomes of a pair of which clear text leaked.
type OnLeak string

// The choices for OnLeak.
const (
	LeakReport OnLeak = "report" // it is told
	LeakBlock  OnLeak = "block"  // it is told, and the pair blocked
)

// IKE is which IKE daemon keys the tunnels that name a psk or certificates.
type IKE string

// The choices for IKE.
const (
	IKEAuto       IKE = "auto"       // the one that this host has
	IKEStrongSwan IKE = "strongswan" // charon, by VICI
	IKELibreswan  IKE = "libreswan"  // pluto, by whack
	IKENone       IKE = "none"       // such tunnels are refused
)

// Unguarded is what becomes of tunnels on a NIC in which no guard can stand.
type Unguarded string

// The choices for Unguarded.
const (
	UnguardedRefuse Unguarded = "refuse" // they are blocked
	UnguardedAllow  Unguarded = "allow"  // they are encrypted, by policies of each pair alone
)

// NeedsRestart returns the names of the settings that differ in next and that a
// running daemon cannot take over.
func (c Config) NeedsRestart(next Config) []string {
	var names []string
	for _, s := range []struct {
		name string
		same bool
	}{
		{"ovsdb", c.OVSDB == next.OVSDB},
		{"state_dir", c.StateDir == next.StateDir},
		{"run_dir", c.RunDir == next.RunDir},
		{"keys_dir", c.KeysDir == next.KeysDir},
		{"log_format", c.LogFormat == next.LogFormat},
		{"ike", c.IKE == next.IKE},
		{"ike_socket", c.IKESocket == next.IKESocket},
		{"ike_rekey", c.IKERekey == next.IKERekey},
		{"retire_after", c.RetireAfter == next.RetireAfter},
		{"audit_every", c.AuditEvery == next.AuditEvery},
		{"report", c.Report == next.Report},
		{"monitor_socket", c.MonitorSocket == next.MonitorSocket},
	} {
		if !s.same {
			names = append(names, s.name)
		}
	}
	return names
}
