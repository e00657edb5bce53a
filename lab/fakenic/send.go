// SPDX-License-Identifier: Apache-2.0

package fakenic

import "slices"

// SendVF sends a VM's frame into a tunnel: a rule in hardware takes it, else
// the host's stack.
func (h *Host) SendVF(t Tunnel) Fate {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flows {
		if e := f.encap(); e == nil || *e != t || len(f.on) == 0 {
			continue
		}
		if fates, done := f.on[0].carry(f, Frame{}); done {
			return fates[len(fates)-1]
		}
		break
	}
	return h.sendHost(t.Frame())
}

// SendInner sends a frame of the VM behind a representor and returns what
// became of it on the wire; nothing when no rule in hardware sends it there.
func (h *Host) SendInner(representor int, inner Frame) []Fate {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flows {
		if f.Dev == representor && len(f.on) > 0 && f.match(inner) {
			fates, _ := f.on[0].carry(f, inner)
			return fates
		}
	}
	return nil
}

// carry carries out a rule's actions on a frame from a VF. It returns what went
// to the wire, and false when the frame is left to the host's stack.
func (p *PF) carry(f *flow, inner Frame) (fates []Fate, done bool) {
	var encap *Tunnel
	for _, a := range f.Actions {
		dev := max(a.Redirect, a.Mirror)
		switch {
		case a.Encap != nil:
			encap = a.Encap
			continue
		case dev == p.ifindex:
			fates = append(fates, p.transmit(inner, false))
		case dev != 0 && p.host.links[dev].kind == "vxlan":
			if !p.knobs.AnyRoute && p.host.exit(encap.Src, encap.Dst) != p.ifindex {
				return fates, done
			}
			p.count.FDBEncap++
			fates = append(fates, p.transmit(encap.Frame(), f.ipsec))
		default:
			continue
		}
		done = true
	}
	for i := range fates {
		fates[i].Offload = true
	}
	if done {
		f.packets++
	}
	return fates, done
}

// SendHost sends a tunnel's frame by the host's stack.
func (h *Host) SendHost(t Tunnel) Fate {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sendHost(t.Frame())
}

// SendFrame sends a frame of the host itself.
func (h *Host) SendFrame(f Frame) Fate {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sendHost(f)
}

// sendHost looks at the policy database first; what passes goes to the device,
// and a NIC looks for itself.
func (h *Host) sendHost(f Frame) Fate {
	t, _ := f.tuple()
	soft, drop := h.stackOut(t)
	if drop != "" {
		return Fate{Way: Dropped, Why: drop}
	}
	dev := h.exit(f.Src, f.Dst)
	p := h.pf(dev)
	switch {
	case dev == 0:
		return Fate{Way: Dropped, Why: "no route"}
	case soft != nil:
		return Fate{Way: Crypted, SPI: soft.SPI, Why: "in software"}
	case p == nil:
		return Fate{Way: Clear, Why: "out of " + h.links[dev].Name}
	}
	return p.transmit(f, true)
}

// Transmit sends a frame out of the PF, past the host's own policies.
func (p *PF) Transmit(f Frame) Fate {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return p.transmit(f, true)
}

// transmit sends a frame to the wire, by way of the IPsec tables or not.
func (p *PF) transmit(f Frame, ipsec bool) Fate {
	if !p.up {
		return Fate{Way: Dropped, Why: "link down"}
	}
	fate := Fate{Way: Clear, Why: "the rule leads to the wire"}
	if ipsec {
		fate = p.steerOut(f)
	}
	fate.Frame = f
	switch fate.Way {
	case Crypted:
		p.count.TXESP++
	case Blocked:
		p.count.TXBlocked++
	case Clear:
		if p.clear(f, true) {
			if p.count.TXClearVXLAN++; p.count.TXClearVXLAN == 1 {
				p.tell("first clear VXLAN packet out")
			}
		}
	}
	return fate
}

// Receive takes a frame from the wire.
func (p *PF) Receive(f Frame) Fate {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	if !p.up {
		return Fate{Way: Dropped, Why: "link down"}
	}
	clear := p.clear(f, false)
	fate := p.steerIn(f)
	if fate.Way == Blocked || fate.Way == Dropped {
		return fate
	}
	if clear {
		if p.count.RXClearVXLAN++; p.count.RXClearVXLAN == 1 {
			p.tell("first clear VXLAN packet in")
		}
	}
	if fate.Way == Crypted || f.ESP == nil {
		if p.decap(f) {
			fate.Offload, fate.In = true, ToVF
			return fate
		}
	}
	return p.host.receive(f, fate)
}

// decap tells whether a rule of a tunnel device in hardware takes a frame.
func (p *PF) decap(f Frame) bool {
	for _, r := range p.host.flows {
		if r.Outer != nil && slices.Contains(r.on, p) && r.match(f) && f.Frag == Whole && !f.Options && f.VLAN == 0 {
			p.count.FDBDecap++
			r.packets++
			return true
		}
	}
	return false
}

// receive is the host's stack: it decrypts what no NIC did, and looks at its
// policies for what came in clear text.
func (h *Host) receive(f Frame, fate Fate) Fate {
	fate.In = ToHost
	if fate.Way == Crypted {
		return fate
	}
	if f.ESP != nil {
		return h.softIn(f, fate)
	}
	t, _ := f.tuple()
	pol := h.lookup(In, t)
	switch {
	case pol == nil || pol.passes():
		return fate
	case pol.blocks():
		return Fate{Way: Dropped, In: ToHost, Why: "XfrmInPolBlock"}
	}
	return Fate{Way: Dropped, In: ToHost, Why: "XfrmInTmplMismatch"}
}

// softIn decrypts ESP in software.
func (h *Host) softIn(f Frame, fate Fate) Fate {
	for _, s := range h.sad {
		if s.dev == nil && s.SPI == f.ESP.SPI && s.Dst == f.Dst && s.print() == f.ESP.Key {
			fate.Way, fate.SPI, fate.Why = Crypted, s.SPI, "in software"
			return fate
		}
	}
	return Fate{Way: Dropped, In: ToHost, Why: "XfrmInNoStates"}
}
