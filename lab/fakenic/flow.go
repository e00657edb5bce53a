// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"ovs-ipsec-offload/tc"
)

// Rule is a TC flower rule on the ingress of a device. What is zero is not
// matched.
type Rule struct {
	Dev     int
	Pref    uint16 // smaller goes first
	Family  int    // 4, 6
	Dst     netip.Addr
	Outer   *Tunnel // on a tunnel device: Src is the peer's address, Dst ours
	Actions []Action
	SkipSW  bool
}

// Action is what a rule does: one of the fields is set, or none for drop.
type Action struct {
	Encap    *Tunnel // what the next output to a tunnel device puts around a frame
	Decap    bool
	Redirect int // to this device
	Mirror   int // a copy to this device
}

// EncapRule returns the rule by which OVS sends a VM's frames into a tunnel.
func EncapRule(representor, tunnelDev int, t Tunnel) Rule {
	return Rule{Dev: representor, Actions: []Action{{Encap: &t}, {Redirect: tunnelDev}}}
}

// DecapRule returns the rule by which OVS hands a tunnel's frames to a VM.
func DecapRule(tunnelDev, representor int, t Tunnel) Rule {
	return Rule{Dev: tunnelDev, Outer: &t, Actions: []Action{{Decap: true}, {Redirect: representor}}}
}

// encap returns what the rule puts around a frame, or nil.
func (r *Rule) encap() *Tunnel {
	for _, a := range r.Actions {
		if a.Encap != nil {
			return a.Encap
		}
	}
	return nil
}

func (r *Rule) outputs() (n int) {
	for _, a := range r.Actions {
		if a.Redirect != 0 || a.Mirror != 0 {
			n++
		}
	}
	return n
}

func (r *Rule) match(f Frame) bool {
	switch {
	case r.Family == 4 && !f.Dst.Is4() || r.Family == 6 && !f.Dst.Is6():
		return false
	case r.Dst.IsValid() && r.Dst != f.Dst:
		return false
	case r.Outer == nil:
		return true
	}
	return f.VXLAN && *r.Outer == Tunnel{f.Src, f.Dst, f.DstPort, f.VNI}
}

// flow is a rule in software, with what the NICs made of it.
type flow struct {
	Rule
	id    int
	on    []*PF // that have it in hardware
	ipsec bool  // its encap leads to the IPsec tables

	packets uint64 // that it forwarded in hardware
}

// FlowID names a rule.
type FlowID int

// AddRule adds a rule, to software and to every NIC that takes it. It returns
// how many took it. An error means that the rule is not there at all, which
// only SkipSW brings about.
func (h *Host) AddRule(r Rule) (id FlowID, inHW int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nextFlow++
	f := &flow{Rule: r, id: h.nextFlow}
	last := &refusal{errno: unix.EOPNOTSUPP}
	for _, p := range h.takers(r.Dev) {
		if no := p.offload(f); no != nil {
			p.refused("flow add", no)
			last = no
			continue
		}
		f.on = append(f.on, p)
	}
	if r.SkipSW && len(f.on) == 0 {
		return 0, 0, last.errno
	}
	h.flows = append(h.flows, f)
	slices.SortStableFunc(h.flows, func(a, b *flow) int { return cmp.Compare(a.Pref, b.Pref) })
	return FlowID(f.id), len(f.on), nil
}

// takers returns the NICs that are offered the rules of a device: a tunnel's
// go to every NIC (flow_indr_dev_register).
func (h *Host) takers(dev int) []*PF {
	if p := h.pf(dev); p != nil {
		return []*PF{p}
	}
	switch l := h.links[dev]; {
	case l.pf != nil:
		return []*PF{l.pf}
	case l.kind == "vxlan":
		return h.pfs
	}
	return nil
}

// offload is mlx5e_configure_flower; nil when the NIC takes the rule.
func (p *PF) offload(f *flow) *refusal {
	l, onPF := p.host.links[f.Dev], f.Dev == p.ifindex
	switch {
	case l.pf == nil && !p.tc, l.pf != nil && l.tcOff:
		return &refusal{errno: unix.EOPNOTSUPP, why: "hw-tc-offload is off"}
	case !p.knows(&f.Rule):
		return &refusal{errno: unix.EOPNOTSUPP, why: "not in this device's words"}
	case onPF && p.blockTC > 0:
		return &refusal{errno: unix.EBUSY, why: "IPsec is offloaded on this device"}
	case !onPF && !p.switchdev:
		return &refusal{errno: unix.EOPNOTSUPP, why: "eswitch mode is legacy"}
	case !p.encap && f.reformats():
		return &refusal{errno: unix.EOPNOTSUPP, why: "encap mode is none"}
	}
	f.ipsec = f.encap() != nil && p.switchdev && p.tables[tableTX].refs > 0
	if f.ipsec && f.outputs() > 1 { // esw_flow_dests_fwd_ipsec_check
		return &refusal{errno: unix.EOPNOTSUPP, why: "encap beside another destination"}
	}
	p.countFlow(f, 1)
	return nil
}

// reformats tells whether the rule puts a tunnel header on or takes one off.
func (r *Rule) reformats() bool {
	return slices.ContainsFunc(r.Actions, func(a Action) bool { return a.Encap != nil || a.Decap })
}

// knows tells whether the NIC can carry out a rule's actions: no output to a
// device that is not on its switch.
func (p *PF) knows(r *Rule) bool {
	encap := false
	for _, a := range r.Actions {
		encap = encap || a.Encap != nil
		dev := cmp.Or(a.Redirect, a.Mirror)
		l := p.host.links[dev]
		if dev != 0 && dev != p.ifindex && l.pf != p && !(l.kind == "vxlan" && encap) {
			return false
		}
	}
	return true
}

// countFlow is mlx5_esw_get and mlx5_esw_put, and block B.
func (p *PF) countFlow(f *flow, n int) {
	was := p.users
	p.users += n
	if p.host.links[f.Dev].pf == nil {
		p.uplinkUsers += n
	}
	if f.Dev == p.ifindex {
		p.blockIPsec += n
	}
	switch {
	case was == 0:
		p.tell("first flow offloaded")
	case p.users == 0:
		p.tell("last flow gone")
	}
}

// DeleteRule deletes a rule.
func (h *Host) DeleteRule(id FlowID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flows {
		if f.id == int(id) {
			h.deleteFlow(f)
			return nil
		}
	}
	return unix.ENOENT
}

// Rule tells whether a rule is there, and how many NICs have it in hardware.
func (h *Host) Rule(id FlowID) (found bool, inHW int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flows {
		if f.id == int(id) {
			return true, len(f.on)
		}
	}
	return false, 0
}

// DeleteRules deletes the rules of a device with that pref, 0 for all.
func (h *Host) DeleteRules(dev int, pref uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range slices.Clone(h.flows) {
		if f.Dev == dev && (pref == 0 || f.Pref == pref) {
			h.deleteFlow(f)
		}
	}
}

func (h *Host) deleteFlow(f *flow) {
	h.flows = slices.DeleteFunc(h.flows, func(x *flow) bool { return x == f })
	for _, p := range f.on {
		p.countFlow(f, -1)
	}
}

// Evict takes the rules of devices out of the hardware, device by device in their
// order, as tc.Drain does: those that may stay in software.
func (h *Host) Evict(ctx context.Context, ifindexes []int) (taken int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = h.Faults.Run("evict "+h.names(ifindexes), func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, dev := range ifindexes {
			for _, f := range slices.Clone(h.flows) {
				if f.Dev == dev && len(f.on) > 0 {
					h.evict(f)
					taken++
				}
			}
		}
		return nil
	})
	return taken, err
}

// evict is a change of a rule to skip_hw.
func (h *Host) evict(f *flow) {
	if f.SkipSW {
		h.deleteFlow(f)
		return
	}
	for _, p := range f.on {
		p.countFlow(f, -1)
	}
	f.on, f.ipsec = nil, false
}

// flowsToWire is mlx5_esw_ipsec_restore_dest_uplink.
func (p *PF) flowsToWire() {
	n := 0
	for _, f := range p.host.flows {
		if f.ipsec && slices.Contains(f.on, p) {
			f.ipsec = false
			n++
		}
	}
	if n > 0 {
		p.tell("%d encap rules pointed back at the wire", n)
	}
}

// Offloaded says how many rules of the devices are in hardware.
func (h *Host) Offloaded(ctx context.Context, ifindexes []int) (tc.Report, error) {
	r := tc.Report{ByDev: map[int]int{}}
	if err := h.ask(ctx, "dump flows"); err != nil {
		return r, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flows {
		if !slices.Contains(ifindexes, f.Dev) {
			continue
		}
		r.Rules++
		if len(f.on) > 0 {
			r.Total++
			r.ByDev[f.Dev]++
		}
	}
	return r, nil
}

// Tunnels says what the rules of the devices in hardware did with tunnels.
func (h *Host) Tunnels(ctx context.Context, ifindexes []int) ([]tc.TunnelRule, error) {
	if err := h.ask(ctx, "dump tunnels"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var rs []tc.TunnelRule
	for _, f := range h.flows {
		r := tc.TunnelRule{ID: tc.RuleID{Ifindex: int32(f.Dev), Handle: uint32(f.id)}, Dev: f.Dev, Packets: f.packets}
		t := f.encap()
		if r.Encap = t != nil; t == nil {
			t = f.Outer
		}
		if t != nil && len(f.on) > 0 && slices.Contains(ifindexes, f.Dev) {
			r.Src, r.Dst, r.Port = t.Src, t.Dst, t.Port
			rs = append(rs, r)
		}
	}
	return rs, nil
}

// Counters reads the counters of a PF that `ethtool -S` shows.
func (h *Host) Counters(ctx context.Context, name string) (map[string]uint64, error) {
	if err := h.ask(ctx, "read counters "+name); err != nil {
		return nil, err
	}
	p := h.PF(name)
	if p == nil {
		return nil, unix.ENODEV
	}
	c := p.Counters()
	return map[string]uint64{"ipsec_tx_pkts": uint64(c.TXESP), "ipsec_tx_drop_pkts": uint64(c.TXBlocked),
		"ipsec_rx_pkts": uint64(c.RXESP), "ipsec_rx_drop_pkts": uint64(c.RXBlocked)}, nil
}

// Encaps returns what the encap rules in hardware put around frames, in the
// order of the rules.
func (h *Host) Encaps() []Tunnel {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ts []Tunnel
	for _, f := range h.flows {
		if t := f.encap(); t != nil && len(f.on) > 0 {
			ts = append(ts, *t)
		}
	}
	return ts
}

// Representor returns the index of the representor behind which a VM sends from
// src: on the NIC that holds the address, else on the first one; 0 if there is none.
func (h *Host) Representor(src netip.Addr) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	first, holder := 0, 0
	for _, a := range h.addrs {
		if a.prefix.Addr() == src {
			holder = a.dev
		}
	}
	for i, l := range h.links {
		switch {
		case l.pf == nil:
		case l.pf.ifindex == holder:
			return i
		case first == 0 || i < first:
			first = i
		}
	}
	return first
}
