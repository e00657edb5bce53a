// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"net/netip"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// Way is what became of a packet.
type Way uint8

// The ways of a packet.
const (
	Clear   Way = iota + 1 // out on the wire, or in from it, in clear text
	ESP                    // out on the wire encrypted, or in and decrypted
	Blocked                // by a policy in the NIC
	Dropped                // by the host's stack, or for want of a link
)

var ways = [...]string{"", "clear", "esp", "blocked", "dropped"}

// String gives the way in lower case.
func (w Way) String() string { return ways[w] }

// Fate is what became of a packet.
type Fate struct {
	Way     Way
	SPI     uint32 // of the SA that encrypted or decrypted it
	Offload bool   // a flow rule in hardware forwarded it
	Why     string
}

// Packet is a packet from the wire: VXLAN in clear, or in ESP if SPI is set.
type Packet struct {
	Tunnel
	SPI uint32
	Key xfrm.Fingerprint // with which the peer encrypted it
}

func (t Tunnel) tuple() tuple {
	return tuple{src: t.Src, dst: t.Dst, proto: protoUDP, sport: 49152, dport: t.Port}
}

// SendVF sends a packet of a VM: a flow rule in hardware takes it, else the
// host's stack.
func (h *Host) SendVF(t Tunnel) Fate {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flows {
		if f.Encap == nil || *f.Encap != t || len(f.on) == 0 {
			continue
		}
		p := f.on[0]
		if !p.knobs.AnyRoute && h.exit(t.Src, t.Dst) != p.ifindex {
			break
		}
		p.count.FDBEncap++
		if !p.up {
			return Fate{Way: Dropped, Offload: true, Why: "link down"}
		}
		if !f.ipsec {
			return p.toWire(Fate{Way: Clear, Offload: true, Why: "the rule leads to the wire"})
		}
		fate := p.steerOut(t.tuple())
		fate.Offload = true
		return p.toWire(fate)
	}
	return h.sendHost(t)
}

// SendHost sends a packet by the host's stack.
func (h *Host) SendHost(t Tunnel) Fate {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sendHost(t)
}

// sendHost looks at the policy database first; what passes goes to the device,
// and a NIC looks for itself.
func (h *Host) sendHost(t Tunnel) Fate {
	soft, drop := h.stackOut(t.tuple())
	if drop != "" {
		return Fate{Way: Dropped, Why: drop}
	}
	dev := h.exit(t.Src, t.Dst)
	p := h.pf(dev)
	switch {
	case dev == 0:
		return Fate{Way: Dropped, Why: "no route"}
	case soft != nil:
		return Fate{Way: ESP, SPI: soft.SPI, Why: "in software"}
	case p == nil:
		return Fate{Way: Clear, Why: "out of " + h.links[dev].Name}
	case !p.up:
		return Fate{Way: Dropped, Why: "link down"}
	}
	return p.toWire(p.steerOut(t.tuple()))
}

// toWire counts what reaches the wire.
func (p *PF) toWire(f Fate) Fate {
	switch f.Way {
	case ESP:
		p.count.TXESP++
	case Blocked:
		p.count.TXBlocked++
	case Clear:
		if p.count.TXClearVXLAN++; p.count.TXClearVXLAN == 1 {
			p.tell("first clear VXLAN packet out")
		}
	}
	return f
}

// stackOut looks a packet up in the policy database. It returns the state that
// encrypts in software, or why the packet is dropped; neither when the packet
// goes on to the device as it is.
func (h *Host) stackOut(t tuple) (soft *state, drop string) {
	pol := h.lookup(xfrm.Out, t)
	switch {
	case pol == nil || pol.Action == xfrm.Allow && pol.Tmpl == nil:
		return nil, ""
	case pol.Action == xfrm.Block:
		return nil, "XfrmOutPolBlock"
	}
	s := h.resolve(pol, t)
	switch {
	case s == nil:
		return nil, "XfrmOutNoStates"
	case s.dev != nil:
		return nil, ""
	}
	return s, ""
}

// resolve is xfrm_state_find: a policy in hardware takes states of the same
// NIC only, one in software takes none in hardware.
func (h *Host) resolve(pol *policy, t tuple) *state {
	src, dst := t.src, t.dst
	if pol.Tmpl.Mode == xfrm.Tunnel {
		src, dst = pol.Tmpl.Src, pol.Tmpl.Dst
	}
	var found *state
	for _, s := range h.sad {
		hard := s.dev != nil && !s.Crypto
		if s.Reqid != pol.Tmpl.Reqid || s.SA.Mode != pol.Tmpl.Mode || s.Src != src || s.Dst != dst || hard != (pol.dev != nil) {
			continue
		}
		if hard && s.dev.pf != pol.dev.pf || found != nil && found.order > s.order {
			continue
		}
		found = s // the newest
	}
	return found
}

// lookup is xfrm_policy_lookup_bytype: exact policies first, those in hardware
// at their head, and the rest by priority; a match in hardware ends the search.
func (h *Host) lookup(d xfrm.Dir, t tuple) *policy {
	var exact, rest *policy
	for _, p := range h.spd {
		switch {
		case p.Dir != d || !selects(p.Sel, t):
		case p.Sel.Src.IsSingleIP() && p.Sel.Dst.IsSingleIP():
			if exact == nil || p.ahead(exact) {
				exact = p
			}
		case rest == nil || p.Priority < rest.Priority || p.Priority == rest.Priority && p.ahead(rest):
			rest = p
		}
	}
	switch {
	case exact == nil:
		return rest
	case exact.dev != nil || rest == nil || exact.Priority <= rest.Priority:
		return exact
	}
	return rest
}

// ahead is the order of xfrm_policy_insert_list: what is in hardware is put at
// the head of its list whatever its priority; the rest is sorted by priority,
// the oldest first.
func (p *policy) ahead(q *policy) bool {
	switch {
	case (p.dev != nil) != (q.dev != nil):
		return p.dev != nil
	case p.dev != nil:
		return p.order > q.order
	case p.Priority != q.Priority:
		return p.Priority < q.Priority
	}
	return p.order < q.order
}

func selects(s xfrm.Selector, t tuple) bool {
	return s.Src.Contains(t.src) && s.Dst.Contains(t.dst) && upperOf(s).match(t)
}

// steerOut is the way through the outbound tables: policy, then SA by the
// reqid. No policy, or no SA for the reqid: clear text.
func (p *PF) steerOut(t tuple) Fate {
	if p.tables[tableTX].refs == 0 {
		return Fate{Way: Clear, Why: "no IPsec tables"}
	}
	pol := p.find(true, t)
	switch {
	case pol == nil:
		return Fate{Way: Clear, Why: "no policy"}
	case pol.block:
		return Fate{Way: Blocked}
	case pol.reqid == 0:
		return Fate{Way: Clear, Why: "bypass"}
	}
	for _, a := range slices.Backward(p.sas) { // which of two wins is not specified: the newest
		if a.out && a.reqid == pol.reqid && a.upper.match(t) {
			a.stats.Packets++
			a.stats.Bytes += 100
			return Fate{Way: ESP, SPI: a.spi}
		}
	}
	p.count.TXSAMiss++
	return Fate{Way: Clear, Why: "no SA"}
}

// find returns the best policy in the NIC: by priority, then the oldest.
func (p *PF) find(out bool, t tuple) *devPolicy {
	var best *devPolicy
	for _, a := range p.policies {
		if a.out != out || !p.selects(a, t) || best != nil && (best.priority < a.priority || best.priority == a.priority && best.order < a.order) {
			continue
		}
		best = a
	}
	return best
}

// selects is the match of the NIC. Up to 6.14 it does not look at prefix
// lengths; a policy without addresses holds for both families, unless the
// family has a table of its own.
func (p *PF) selects(a *devPolicy, t tuple) bool {
	anyAddr := a.sel.Src.Addr().IsUnspecified() && a.sel.Dst.Addr().IsUnspecified()
	if a.sel.Dst.Addr().Is6() != t.dst.Is6() && (!anyAddr || !a.out && !p.switchdev) {
		return false
	}
	return p.within(a.sel.Src, t.src) && p.within(a.sel.Dst, t.dst) && upperOf(a.sel).match(t)
}

func (p *PF) within(rule netip.Prefix, a netip.Addr) bool {
	switch {
	case rule.Addr().IsUnspecified():
		return true
	case p.knobs.AfterDecrypt:
		return rule.Contains(a)
	}
	return rule.Addr() == a
}

// Receive takes a packet from the wire.
func (p *PF) Receive(k Packet) Fate {
	h := p.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if !p.up {
		return Fate{Way: Dropped, Why: "link down"}
	}
	t := k.tuple()
	if k.SPI != 0 {
		t = tuple{src: k.Src, dst: k.Dst, proto: protoESP, spi: k.SPI}
	}
	fate := p.steerIn(k, t)
	if fate.Way == Clear {
		if p.count.RXClearVXLAN++; p.count.RXClearVXLAN == 1 {
			p.tell("first clear VXLAN packet in")
		}
	}
	if fate.Way != Clear && fate.Way != ESP {
		return fate
	}
	return h.deliver(p, k, fate)
}

// steerIn is the way through the inbound tables: up to 6.14 policy, then SA;
// from 6.15 SA, its own selector, then policy, and clear text meets neither.
func (p *PF) steerIn(k Packet, t tuple) Fate {
	stands := p.tables[tableRX].refs+p.tables[tableRX6].refs > 0
	if stands && !p.knobs.AfterDecrypt && p.blocks(t) {
		return Fate{Way: Blocked}
	}
	if k.SPI == 0 {
		return Fate{Way: Clear}
	}
	a := p.findIn(t)
	switch {
	case !stands || a == nil:
		p.count.RXSAMiss++
		return Fate{Way: Dropped, Why: "XfrmInNoStates"}
	case a.key != k.Key:
		p.count.RXAuthFail++
		a.stats.Auth++
		return Fate{Way: Dropped, Why: "bad ICV"}
	}
	a.stats.Packets++
	a.stats.Bytes += 100
	if p.knobs.AfterDecrypt && !a.upper.match(k.tuple()) {
		p.count.RXMismatch++
		return Fate{Way: Dropped, Why: "selector of the SA"}
	}
	if p.knobs.AfterDecrypt && p.blocks(k.tuple()) {
		return Fate{Way: Blocked, SPI: k.SPI}
	}
	p.count.RXESP++
	return Fate{Way: ESP, SPI: k.SPI}
}

// blocks tells whether an inbound policy drops a packet, and counts it.
func (p *PF) blocks(t tuple) bool {
	pol := p.find(false, t)
	if pol == nil || !pol.block {
		return false
	}
	p.count.RXBlocked++
	return true
}

// findIn is rx_add_rule: addresses and SPI; before 6.15 a protocol in the
// state's selector spoils the match.
func (p *PF) findIn(t tuple) *devSA {
	for _, a := range slices.Backward(p.sas) {
		if !a.out && a.spi == t.spi && a.dst == t.dst && a.src == t.src && (a.upper.Proto == 0 || p.knobs.AfterDecrypt) {
			return a
		}
	}
	return nil
}

// deliver takes a packet past the tables: a decap rule in hardware forwards
// it, else the host's stack looks at its policies. What was decrypted by a NIC
// passes them.
func (h *Host) deliver(p *PF, k Packet, fate Fate) Fate {
	for _, f := range h.flows {
		if f.Decap != nil && *f.Decap == k.Tunnel && slices.Contains(f.on, p) {
			p.count.FDBDecap++
			fate.Offload = true
			return fate
		}
	}
	if fate.Way == ESP {
		return fate
	}
	pol := h.lookup(xfrm.In, k.tuple())
	switch {
	case pol == nil || pol.Action == xfrm.Allow && pol.Tmpl == nil:
		return fate
	case pol.Action == xfrm.Block:
		return Fate{Way: Dropped, Why: "XfrmInPolBlock"}
	}
	return Fate{Way: Dropped, Why: "XfrmInTmplMismatch"}
}
