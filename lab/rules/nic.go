// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"net/netip"
)

// NIC is what a script is run against.
type NIC interface {
	// Reset gives a NIC as new, in the setting of README.md, with the
	// contract that the parameters choose.
	Reset(ctx context.Context, params []Param) error
	// Apply carries out a command. A refusal is an Answer, not an error.
	Apply(ctx context.Context, c Command) (Answer, error)
	// Send lets a packet loose and tells what became of it.
	Send(ctx context.Context, p Packet) (Fate, error)
	// Status tells what the NIC says of itself now.
	Status(ctx context.Context) (Status, error)
	// Counters tells the names that ethtool -S shows for pf0.
	Counters(ctx context.Context) ([]string, error)
}

// Answer is what came of a command.
type Answer struct {
	Errno string // "" if it was carried out, else a name such as "EBUSY"
	Text  string // ext-ack text, with or without the driver's name before it
	InHW  bool   // of a filter that was added: it is offloaded
}

// Fate is what became of a packet.
type Fate struct {
	Out []Frame // what left on the wire, in order
	In  Port    // where a packet from the wire came out; "" if nowhere
}

// Frame is a frame on the wire, as far as a script looks at it.
type Frame struct {
	Proto string // "esp", "udp", "tcp" or "other"
	SPI   uint32 // of ESP
	DPort uint16 // of UDP and TCP
}

// Status is what a NIC says of itself. Values are those of the module's state
// file, Log the texts of its events, oldest first.
type Status struct {
	Values map[string]string
	Log    []string
}

// Param is a parameter of the simulated NIC, such as strict_sa=1.
type Param struct{ Name, Value string }

// Port is where a packet starts or comes out.
type Port string

// The ports of the setting.
const (
	VF   Port = "vf"   // the VM behind the representor rep0
	PF   Port = "pf"   // the host's stack on pf0
	Wire Port = "wire" // the other end of the wire
)

// Packet is a packet to send.
type Packet struct {
	From         Port
	Src, Dst     netip.Addr
	Proto        string // "udp" or "tcp"
	SPort, DPort uint16
	VXLAN        bool   // it carries a VXLAN header and a frame
	VLAN         uint16 // 802.1Q tag; 0 for none
	Options      bool   // IPv4 options, or an IPv6 hop-by-hop header
	Frag         string // "", "first" or "later"
	ESP          *ESP   // from the wire: in ESP, with the key of that SPI's inbound state
}

// ESP is what a packet from the wire is wrapped in, in transport mode.
type ESP struct {
	SPI    uint32
	Seq    uint64
	BadICV bool
}
