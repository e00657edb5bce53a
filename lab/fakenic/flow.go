// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"ovs-ipsec-offload/tc"
)

// Tunnel is what a VXLAN packet carries outside: the pair's addresses and port.
type Tunnel struct {
	Src, Dst netip.Addr
	Port     uint16
	VNI      uint32
}

// Rule is a TC flower rule. Dev is the device whose ingress it is on.
//
// A rule on a representor with Encap sends out of the tunnel device; one on a
// tunnel device with Decap takes the header off; one on the PF itself does
// neither.
type Rule struct {
	Dev     int
	Encap   *Tunnel
	Decap   *Tunnel // Src is the peer's address, Dst ours
	Outputs int     // 0: one
	SkipSW  bool
}

// flow is a rule in software, with what the NICs made of it.
type flow struct {
	Rule
	id    int
	on    []*PF // that have it in hardware
	ipsec bool  // its encap leads to the IPsec tables
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
	last := unix.Errno(unix.EOPNOTSUPP)
	for _, p := range h.takers(r.Dev) {
		if errno := p.offload(f); errno != 0 {
			last = errno
		} else {
			f.on = append(f.on, p)
		}
	}
	if r.SkipSW && len(f.on) == 0 {
		return 0, 0, last
	}
	h.flows = append(h.flows, f)
	return FlowID(f.id), len(f.on), nil
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

// offload is mlx5e_configure_flower: 0 when the NIC takes the rule.
func (p *PF) offload(f *flow) unix.Errno {
	onPF := f.Dev == p.ifindex
	l := p.host.links[f.Dev]
	switch {
	case l.pf == nil && !p.tc, l.pf != nil && l.tcOff:
		return unix.EOPNOTSUPP
	case (f.Encap != nil || f.Decap != nil) && !p.encap:
		return unix.EOPNOTSUPP
	case onPF && p.blockTC > 0:
		return unix.EBUSY
	case !onPF && !p.switchdev:
		return unix.EOPNOTSUPP
	}
	f.ipsec = f.Encap != nil && p.switchdev && p.tables[tableTX].refs > 0
	if f.ipsec && f.Outputs > 1 {
		return unix.EOPNOTSUPP // esw_flow_dests_fwd_ipsec_check
	}
	if p.users++; p.users == 1 {
		p.tell("first flow offloaded")
	}
	if onPF {
		p.blockIPsec++
	}
	return 0
}

// DeleteRule deletes a rule.
func (h *Host) DeleteRule(id FlowID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.flows, func(f *flow) bool { return f.id == int(id) })
	if i < 0 {
		return unix.ENOENT
	}
	h.deleteFlow(h.flows[i])
	return nil
}

// DeleteRules deletes every rule, as the end of ovs-vswitchd's datapath does.
func (h *Host) DeleteRules() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range slices.Clone(h.flows) {
		h.deleteFlow(f)
	}
}

func (h *Host) deleteFlow(f *flow) {
	h.flows = slices.DeleteFunc(h.flows, func(x *flow) bool { return x == f })
	for _, p := range f.on {
		if p.users--; p.users == 0 {
			p.tell("last flow gone")
		}
		if f.Dev == p.ifindex {
			p.blockIPsec--
		}
	}
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

// Tunnels returns what the offloaded encap rules send, in the order in which
// the rules were made.
func (h *Host) Tunnels() []Tunnel {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ts []Tunnel
	for _, f := range h.flows {
		if f.Encap != nil && len(f.on) > 0 {
			ts = append(ts, *f.Encap)
		}
	}
	return ts
}
