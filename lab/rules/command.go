// SPDX-License-Identifier: Apache-2.0

package rules

import "net/netip"

// Command is something an operator does to a host. String gives it in the
// words of ip, tc, devlink or ethtool, with pf0 for the devlink handle.
type Command interface {
	String() string
	command()
}

// StateAdd is ip xfrm state add, or update.
type StateAdd struct {
	Update   bool
	Src, Dst netip.Addr
	Proto    string // "esp"
	SPI      uint32
	Reqid    uint32
	Mode     string // "transport", "tunnel", "beet"
	Algs     []Alg
	ESN      bool
	Window   uint32
	Sel      *Upper // selector's upper layer; nil: none
	Encap    *Encap
	Limits   []Limit
	Offload  *Offload // nil: none
}

// Alg is an algorithm of a state. Type is "aead", "enc" or "auth"; ICV is in
// bits, for aead only.
type Alg struct {
	Type, Name string
	Key        string // hexadecimal with 0x
	ICV        int
}

// Upper is the part of a selector above IP. A port of 0 matches any.
type Upper struct {
	Proto        string
	SPort, DPort uint16
}

// Encap is ESP in UDP.
type Encap struct {
	Type         string
	SPort, DPort uint16
	Addr         netip.Addr
}

// Limit is a lifetime; Kind is "byte-soft", "byte-hard", "packet-soft" or
// "packet-hard". A limit that is not given is none.
type Limit struct {
	Kind  string
	Value uint64
}

// Offload asks for offload on a device. Packet false is crypto offload. Dir is
// "in" or "out"; policies have it from their own.
type Offload struct {
	Packet bool
	Dev    string
	Dir    string
}

// StateDelete is ip xfrm state delete.
type StateDelete struct {
	Src, Dst netip.Addr
	SPI      uint32
}

// StateFlush is ip xfrm state flush.
type StateFlush struct{}

// PolicyAdd is ip xfrm policy add, or update.
type PolicyAdd struct {
	Update   bool
	Src, Dst netip.Prefix
	Upper    Upper // no protocol: any
	Dir      string
	Sub      bool // ptype sub
	Block    bool
	Priority uint32
	Offload  *Offload
	Tmpls    []Tmpl
}

// Tmpl is a template of a policy.
type Tmpl struct {
	Src, Dst netip.Addr
	Reqid    uint32
	Mode     string
}

// PolicyDelete is ip xfrm policy delete.
type PolicyDelete struct {
	Src, Dst netip.Prefix
	Upper    Upper
	Dir      string
}

// PolicyFlush is ip xfrm policy flush.
type PolicyFlush struct{}

// FilterAdd is tc filter add … ingress … flower.
type FilterAdd struct {
	Dev     string
	Pref    uint16
	SkipSW  bool
	Family  int // of the frames: 4 or 6
	Dst     netip.Addr
	Tunnel  *Tunnel // match on the outer header
	Actions []Action
}

// Tunnel is an outer VXLAN header, to match or to set.
type Tunnel struct {
	Src, Dst netip.Addr
	ID       uint32
	DPort    uint16
}

// Action is an action of a filter. Set goes with "encap", Dev with "redirect"
// and "mirror".
type Action struct {
	Kind string // "encap", "decap", "redirect", "mirror", "drop"
	Set  *Tunnel
	Dev  string
}

// FilterDel is tc filter del. Pref 0 deletes all filters of the device.
type FilterDel struct {
	Dev  string
	Pref uint16
}

// LinkSet is ip link set DEV up or down.
type LinkSet struct {
	Dev string
	Up  bool
}

// EswitchSet is devlink dev eswitch set. Key is "mode" or "encap-mode".
type EswitchSet struct{ Key, Value string }

// SteeringSet is devlink dev param set for flow_steering_mode.
type SteeringSet struct{ Value string }

// FunctionSet is devlink port function set. Cap is "ipsec_packet" or
// "ipsec_crypto".
type FunctionSet struct {
	VF  int
	Cap string
	On  bool
}

// FeatureSet is ethtool -K DEV hw-tc-offload.
type FeatureSet struct {
	Dev string
	On  bool
}

// KnobSet changes a parameter of the NIC while it runs.
type KnobSet struct{ Param }

func (StateAdd) command()     {}
func (StateDelete) command()  {}
func (StateFlush) command()   {}
func (PolicyAdd) command()    {}
func (PolicyDelete) command() {}
func (PolicyFlush) command()  {}
func (FilterAdd) command()    {}
func (FilterDel) command()    {}
func (LinkSet) command()      {}
func (EswitchSet) command()   {}
func (SteeringSet) command()  {}
func (FunctionSet) command()  {}
func (FeatureSet) command()   {}
func (KnobSet) command()      {}
