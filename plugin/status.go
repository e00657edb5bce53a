// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"time"
)

// The states of a host, for Status.
const (
	OK       = "ok"
	Waiting  = "waiting"  // for the database
	Unseen   = "unseen"   // the host cannot be looked at: what is shown is old
	Degraded = "degraded" // some port or pair has not what it asks for, but is blocked
	Parked   = "parked"   // nothing of ours is in a NIC, and what asks for IPsec is blocked
	Unsafe   = "unsafe"   // some traffic that asks for IPsec is neither encrypted nor blocked in hardware
)

// The states of a pair's traffic and of a port's, for PairStatus and PortStatus.
const (
	StateEncrypted   = "encrypted"
	StateBlocked     = "blocked"
	StateClear       = "clear"       // by the operator's wish
	StateUnprotected = "unprotected" // asks for IPsec, and is neither encrypted nor blocked
	StateLeaking     = "leaking"     // the leak meter sees clear text, whatever policies say
	StateInvalid     = "invalid"     // a port that is refused, and nothing stops it
)

// Status is what `ovs-ipsec-offload status --json` prints. Names and meanings
// of its fields are stable.
type Status struct {
	Version  string        `json:"version"`
	State    string        `json:"state"` // OK, Waiting, Unseen, Parked, Degraded or Unsafe
	At       time.Time     `json:"at"`
	Host     HostStatus    `json:"host"`
	Gate     GateStatus    `json:"gate"`
	Problems []Problem     `json:"problems"`
	Notes    []Problem     `json:"notes,omitempty"` // what is weak, or will be wrong soon
	PFs      []PFStatus    `json:"pfs"`
	Guards   []GuardStatus `json:"guards"`
	Pairs    []PairStatus  `json:"pairs"`
	Ports    []PortStatus  `json:"ports"`
}

// HostStatus tells about the machine and its database.
type HostStatus struct {
	SystemID string `json:"system_id,omitempty"`
	Kernel   string `json:"kernel"`
	OVS      string `json:"ovs,omitempty"`
	Database string `json:"database"` // "connected", or why not
}

// GateStatus tells whether OVS may offload flows, and who decided.
type GateStatus struct {
	HWOffload string `json:"hw_offload"` // other_config:hw-offload as it stands, "" when unset
	Open      bool   `json:"open"`
	Reason    string `json:"reason"`
	// Held is why flows are held back now, and since when; Last is the last time
	// in which they were.
	Held  Why         `json:"held,omitempty"`
	Since *time.Time  `json:"held_since,omitempty"`
	Last  *HoldStatus `json:"last_hold,omitempty"`
}

// PFStatus tells about one NIC.
type PFStatus struct {
	Name           string `json:"name"`
	Handle         string `json:"handle"`
	Driver         string `json:"driver"`
	EswitchMode    string `json:"eswitch_mode"`
	EncapMode      string `json:"encap_mode"`
	Steering       string `json:"steering,omitempty"`
	TXTable        bool   `json:"tx_table"`
	RXTable        bool   `json:"rx_table"`
	SAs            int    `json:"sas"`
	Policies       int    `json:"policies"`
	OffloadedFlows int    `json:"offloaded_flows"`
	// Strict tells that the kernel takes no SA while flows are in hardware, as
	// far as it has shown.
	Strict bool     `json:"strict,omitempty"`
	Notes  []string `json:"notes,omitempty"`

	Meter *MeterStatus `json:"meter,omitempty"`
}

// GuardStatus tells where the guard of a VTEP stands.
type GuardStatus struct {
	Local  string `json:"local"`
	Port   uint16 `json:"port"`
	PF     string `json:"pf,omitempty"`
	Stands string `json:"stands"` // "hardware", "host" or "no"
}

// PairStatus tells what a pair's traffic does now.
type PairStatus struct {
	Local   string   `json:"local"`
	Remote  string   `json:"remote"`
	Port    uint16   `json:"port"`
	State   string   `json:"state"` // StateEncrypted to StateLeaking
	Path    string   `json:"path,omitempty"`
	Mode    string   `json:"mode,omitempty"`
	PF      string   `json:"pf,omitempty"`
	Ports   []string `json:"ports"`
	Keys    string   `json:"keys,omitempty"`
	SPIIn   string   `json:"spi_in,omitempty"`
	SPIOut  string   `json:"spi_out,omitempty"`
	In      Traffic  `json:"in"`
	Out     Traffic  `json:"out"`
	Problem *Problem `json:"problem,omitempty"`

	Budget *Budget     `json:"budget,omitempty"` // of the outbound key
	IKE    *IKEStatus  `json:"ike,omitempty"`    // when an IKE daemon keys the pair
	Notes  []Problem   `json:"notes,omitempty"`  // what is weak, or will be wrong soon
	Leak   *LeakStatus `json:"leak,omitempty"`

	Rotation *RotationStatus `json:"rotation,omitempty"` // while it changes its keys
}

// IKEStatus tells how an IKE daemon keys a pair.
type IKEStatus struct {
	Daemon string    `json:"daemon,omitempty"` // name and version; "" when it does not answer
	Auth   string    `json:"auth"`             // "psk", "self-signed" or "ca"
	Phase  string    `json:"phase"`            // ike.Loading to ike.Failed
	Since  time.Time `json:"since,omitzero"`   // of the phase
}

// Traffic is what an SA's counters say.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Dropped uint64 `json:"dropped"` // bad ICV, replay
}

// PortStatus tells about one tunnel port that asks for IPsec, or is in the way
// of one.
type PortStatus struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // of its pair; without one StateBlocked, StateClear or StateInvalid
	Problems []Problem `json:"problems,omitempty"`
}
