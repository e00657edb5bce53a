// SPDX-License-Identifier: Apache-2.0

package xfrm

import "net/netip"

// Dir is the direction of a state or a policy as seen from this host.
// Its values are those of XFRM_POLICY_IN, XFRM_POLICY_OUT and XFRM_POLICY_FWD
// (linux/xfrm.h).
type Dir uint8

// The directions of a policy; a state is In or Out.
const (
	In  Dir = 0
	Out Dir = 1
	Fwd Dir = 2
)

// Mode is the IPsec mode of a state or a template: XFRM_MODE_TRANSPORT or
// XFRM_MODE_TUNNEL.
type Mode uint8

// The modes mlx5 can offload.
const (
	Transport Mode = 0
	Tunnel    Mode = 1
)

// Action is what a policy does with a packet that matches it.
type Action uint8

// The actions of a policy: XFRM_POLICY_ALLOW and XFRM_POLICY_BLOCK.
const (
	Allow Action = 0
	Block Action = 1
)

// Offload names the device that holds a state or policy in hardware
// (XFRMA_OFFLOAD_DEV). The zero value means software only.
type Offload struct {
	Ifindex int  // of the PF; 0: not offloaded
	Packet  bool // XFRM_OFFLOAD_PACKET; false is crypto offload
}

// SAID identifies an ESP state in the kernel.
type SAID struct {
	Dst netip.Addr
	SPI uint32
}

// SA is one ESP security association with AES-GCM-16 and its own key.
//
// Lifetime limits are not part of it: mlx5 wants every byte and packet limit
// to be XFRM_INF or a real figure, never 0, and an outbound SA must not have a
// hard limit (a missing SA is clear text), so the codec writes XFRM_INF.
type SA struct {
	Src, Dst netip.Addr // outer addresses, one family
	SPI      uint32     // host order, at least 256
	Reqid    uint32     // never 0 with packet offload
	Mode     Mode
	Dir      Dir // In or Out; XFRMA_SA_DIR
	ESN      bool
	Window   uint32 // replay window of an inbound SA: 32, 64, 128 or 256; 0 outbound
	Key      Key    // only given to AddSA; a dump leaves it empty
	Offload  Offload

	// Filled by a dump.
	KeyPrint Fingerprint // of the key the kernel holds; empty when it is not AES-256-GCM-16 or the kernel hides it
	Stats    Stats
	Exotic   bool // it carries what AddSA cannot make: another protocol or algorithm, a mark, an if_id, a selector, limits, NAT-T
}

// ID returns the identity of the state in the kernel.
func (s SA) ID() SAID { return SAID{Dst: s.Dst, SPI: s.SPI} }

// Stats is what the kernel counted for a state; with packet offload the
// figures come from the NIC, about once a second.
type Stats struct {
	Bytes, Packets             uint64
	Replay, ReplayWindow, Auth uint32 // dropped packets: late or double, outside the window, bad ICV
	Added, Used                int64  // seconds since the epoch; Used is not kept by hardware traffic
}

// Selector says which packets a policy is for. Prefixes of 0 bits match every
// address. Before Linux 6.15 mlx5 ignores prefix lengths other than 0 and the
// full one, so use only those.
type Selector struct {
	Src, Dst         netip.Prefix
	Proto            uint8  // IP protocol, 0: any; mlx5 takes 0, 6 and 17
	SrcPort, DstPort uint16 // 0: any
}

// Template is what an Allow policy demands: an SA with this reqid.
type Template struct {
	Src, Dst netip.Addr
	Reqid    uint32
	Mode     Mode
}

// Policy is one entry of the security policy database.
type Policy struct {
	Dir      Dir
	Sel      Selector
	Priority uint32 // smaller wins
	Action   Action
	Tmpl     *Template // nil: let pass in clear text (Allow) or drop (Block)
	Offload  Offload
	Index    uint32 // filled by a dump
	Exotic   bool   // filled by a dump: it carries what this package does not model (mark, if_id, several templates)
}

// OpKind is the verb of an Op.
type OpKind uint8

// The verbs a Client can carry out.
const (
	AddSA OpKind = iota + 1 // NEWSA: fails with EEXIST when it exists
	DeleteSA
	AddPolicy    // NEWPOLICY: fails with EEXIST when the selector is taken in that direction
	UpdatePolicy // UPDPOLICY: replaces the policy of the same selector and direction, make before break
	DeletePolicy // by selector and direction
)

// Op is one change. SA is set for AddSA and DeleteSA, Policy for the others;
// DeleteSA needs only the identity, DeletePolicy only Dir and Sel.
type Op struct {
	Kind   OpKind
	SA     *SA
	Policy *Policy
}
