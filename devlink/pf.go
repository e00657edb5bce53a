// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Refusal is a reason why a NIC or an address cannot be used.
type Refusal struct {
	Code string // stable, as "NIC_ESWITCH_LEGACY"
	Text string // what is wrong and the command that mends it
}

// Note is something the operator should know of a NIC that is used all the same.
type Note struct {
	Code string // stable
	Text string
}

// PFOf returns the PF that carries the VTEP address local, or the reason why
// there is none that can encrypt. dev, if not "", is the name of the PF that the
// operator demands.
//
// The address must stand on the PF itself: from anywhere else (a bridge, a
// bond, a VLAN, the loopback device) packets may leave by a port whose eswitch
// holds no policy, that is in clear text.
func PFOf(facts Facts, local netip.Addr, dev string) (PF, *Refusal) {
	if dev != "" && !facts.hasPF(dev) {
		return PF{}, refuse("NIC_DEV", "%s is not a PF with an eswitch on this host, which has %s: change options:ipsec_dev or remove it", dev, facts.pfNames())
	}
	owner, found := facts.Addrs[local]
	switch {
	case !local.IsValid():
		return PF{}, refuse("NIC_ADDR_NONE", "there is no local address: set options:local_ip")
	case !found:
		return PF{}, refuse("NIC_ADDR_ABSENT", "%s is on no device of this host: `ip address add %s/LEN dev PF`, or set options:local_ip to an address of a PF", local, local)
	case len(facts.Shared[local]) > 1:
		return PF{}, refuse("NIC_ADDR_SHARED", "%s is on several devices (%s), so packets could leave by the wrong one: keep it on the PF only", local, names(facts.Shared[local]))
	}
	pf := facts.pf(owner.Ifindex)
	switch {
	case pf == nil:
		return PF{}, notOnPF(local, owner, facts.Kinds[owner.Ifindex])
	case dev != "" && dev != pf.Name:
		return PF{}, refuse("NIC_DEV_ADDR", "%s is on %s, and options:ipsec_dev says %s: move the address, or remove options:ipsec_dev", local, pf.Name, dev)
	}
	if rs := pf.Refusals(); len(rs) > 0 {
		return PF{}, &rs[0]
	}
	return *pf, nil
}

// Refusals returns every reason why p cannot encrypt, the weightiest first;
// none when it can. The rules are those of mlx5 (en_accel/ipsec.c,
// eswitch_offloads.c); other drivers are held to the same.
func (p PF) Refusals() []Refusal {
	var rs []Refusal
	switch {
	case p.OVSPort || p.Master == "ovs-system":
		rs = append(rs, *refuse("NIC_PF_OVS", "%s is a port of an Open vSwitch bridge, and filters offloaded on the PF itself exclude IPsec: "+
			"`ovs-vsctl del-port %s`, and put the tunnel address on %s", p.Name, p.Name, p.Name))
	case p.Master != "":
		rs = append(rs, *refuse("NIC_PF_SLAVE", "%s is enslaved to %s, which offloads no IPsec policy: `ip link set %s nomaster`", p.Name, p.Master, p.Name))
	}
	if p.Multiport {
		rs = append(rs, *refuse("NIC_MULTIPORT", "%s is part of a multiport eswitch, where flows can leave by a port without IPsec tables: "+
			"`devlink dev param set %s name esw_multiport value false cmode runtime`", p.Name, p.Handle))
	}
	rs = append(rs, p.refuseModes()...)
	if len(p.VFIPsec) > 0 {
		rs = append(rs, *refuse("NIC_VF_IPSEC", "functions of %s use IPsec offload themselves, which excludes the PF: for each of %s "+
			"`devlink port function set PORT ipsec_packet disable ipsec_crypto disable`", p.Name, strings.Join(p.VFIPsec, ", ")))
	}
	if !p.ESPOffload {
		rs = append(rs, *refuse("NIC_ESP_OFF", "%s has esp-hw-offload off: the card or its firmware cannot do it, or its driver started with another steering mode than dmfs: "+
			"see `ethtool -k %s`", p.Name, p.Name))
	}
	if !p.Up {
		rs = append(rs, *refuse("NIC_DOWN", "%s is down, and the kernel drops every offloaded object of a device that is down: `ip link set %s up`", p.Name, p.Name))
	}
	return rs
}

// refuseModes judges the modes of the eswitch.
func (p PF) refuseModes() []Refusal {
	const switchdev = "`devlink dev eswitch set %s mode switchdev`"
	var rs []Refusal
	switch p.EswitchMode {
	case "switchdev":
	case "legacy":
		rs = append(rs, *refuse("NIC_ESWITCH_LEGACY", "the eswitch of %s is in legacy mode: "+switchdev+
			" (a card that is one netdev for several PFs, Socket Direct, has no switchdev mode)", p.Name, p.Handle))
	case "":
		rs = append(rs, *refuse("NIC_ESWITCH_UNKNOWN", "the eswitch mode of %s cannot be read: run as root, and see `devlink dev eswitch show %s`", p.Name, p.Handle))
	default:
		rs = append(rs, *refuse("NIC_ESWITCH_MODE", "the eswitch of %s is in mode %s: "+switchdev, p.Name, p.EswitchMode, p.Handle))
	}
	if p.Steering != "" && p.Steering != "dmfs" {
		rs = append(rs, *refuse("NIC_STEERING", "%s uses the steering mode %s, which offloads no IPsec in switchdev mode: `devlink dev eswitch set %s mode legacy`, "+
			"`devlink dev param set %s name flow_steering_mode value dmfs cmode runtime`, "+switchdev, p.Name, p.Steering, p.Handle, p.Handle, p.Handle))
	}
	return rs
}

// TunnelMode returns nil when p can offload IPsec tunnel mode, or the reason
// why not: mlx5 refuses it unless the eswitch does no encapsulation.
func (p PF) TunnelMode() *Refusal {
	if p.EncapMode == "none" {
		return nil
	}
	return refuse("NIC_TUNNEL_ENCAP", "tunnel mode needs encap-mode none, and %s has %q: set options:ipsec_mode=transport, "+
		"or `devlink dev eswitch set %s encap-mode none` (then no tunnel flow is offloaded)", p.Name, p.EncapMode, p.Handle)
}

// Notes returns what the operator should know of p although it is usable.
func (p PF) Notes() []Note {
	var ns []Note
	if p.EncapMode == "none" {
		ns = append(ns, Note{"NIC_ENCAP_NONE", fmt.Sprintf("%s has encap-mode none: VXLAN is encrypted, but its flows are not offloaded: "+
			"`devlink dev eswitch set %s encap-mode basic`", p.Name, p.Handle)})
	}
	if !p.TCOffload {
		ns = append(ns, Note{"NIC_TC_OFF", fmt.Sprintf("%s has hw-tc-offload off: no tunnel flow is offloaded: `ethtool -K %s hw-tc-offload on`", p.Name, p.Name)})
	}
	if p.RXPolicyAfterDecrypt {
		ns = append(ns, Note{"NIC_RX_CLEAR", fmt.Sprintf("%s looks at inbound policies only after decryption: "+
			"no IPsec policy can stop clear-text VXLAN that comes in from the wire", p.Name)})
	}
	return ns
}

// notOnPF says why the device that holds a VTEP address cannot encrypt.
func notOnPF(local netip.Addr, l Link, kind string) *Refusal {
	const move = ": `ip address del %s/LEN dev %s`, `ip address add %s/LEN dev PF`"
	switch kind {
	case "openvswitch":
		return refuse("NIC_ADDR_OVS", "%s is on %s, an internal port of Open vSwitch, whose flows on the PF exclude IPsec"+move, local, l.Name, local, l.Name, local)
	case "bond", "team":
		return refuse("NIC_ADDR_BOND", "%s is on the bond %s, and a bond offloads no IPsec policy"+move, local, l.Name, local, l.Name, local)
	case "vlan":
		return refuse("NIC_ADDR_VLAN", "%s is on the VLAN device %s, which offloads no IPsec policy"+move, local, l.Name, local, l.Name, local)
	case "bridge":
		return refuse("NIC_ADDR_BRIDGE", "%s is on the bridge %s, which offloads no IPsec policy"+move, local, l.Name, local, l.Name, local)
	}
	return refuse("NIC_ADDR_DEV", "%s is on %s, which is not a PF with an eswitch and IPsec offload"+move, local, l.Name, local, l.Name, local)
}

func refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...)}
}

// pf returns the PF of that ifindex, or nil.
func (f Facts) pf(ifindex int) *PF {
	for i := range f.PFs {
		if f.PFs[i].Ifindex == ifindex {
			return &f.PFs[i]
		}
	}
	return nil
}

func (f Facts) hasPF(name string) bool {
	return slices.ContainsFunc(f.PFs, func(p PF) bool { return p.Name == name })
}

// pfNames returns the PFs for a text.
func (f Facts) pfNames() string {
	if len(f.PFs) == 0 {
		return "none"
	}
	ls := make([]Link, len(f.PFs))
	for i, p := range f.PFs {
		ls[i] = p.Link
	}
	return names(ls)
}

func names(ls []Link) string {
	ns := make([]string, len(ls))
	for i, l := range ls {
		ns[i] = l.Name
	}
	return strings.Join(ns, ", ")
}
