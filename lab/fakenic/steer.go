// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"net/netip"
	"slices"
)

// steerOut is the way through the outbound tables: policy, then SA by the
// reqid. No policy, or no SA for the reqid: clear text.
func (p *PF) steerOut(f Frame) Fate {
	t, parsed := f.tuple()
	if !parsed {
		return Fate{Way: Clear, Why: "no table matches it"}
	}
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
		if a.out && a.reqid == pol.reqid && a.upper.match(t) && !p.knobs.LoseTXSA {
			a.tally()
			return Fate{Way: Crypted, SPI: a.spi}
		}
	}
	p.count.TXSAMiss++
	return Fate{Way: Clear, Why: "no SA"}
}

// packetBytes is what a packet counts for.
const packetBytes = 100

func (a *devSA) tally() {
	a.stats.Packets++
	a.stats.Bytes += packetBytes
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

// selects is the match of the NIC. A policy without addresses holds for both
// families, unless the family has a table of its own.
func (p *PF) selects(a *devPolicy, t tuple) bool {
	anyAddr := a.sel.Src.Addr().IsUnspecified() && a.sel.Dst.Addr().IsUnspecified()
	if a.sel.Dst.Addr().Is6() != t.dst.Is6() && (!anyAddr || !a.out && !p.switchdev) {
		return false
	}
	return p.within(a.sel.Src, t.src) && p.within(a.sel.Dst, t.dst) && upperOf(a.sel).match(t)
}

// within compares an address. Up to 6.14 the NIC does not look at the length
// of a prefix.
func (p *PF) within(rule netip.Prefix, a netip.Addr) bool {
	switch {
	case rule.Addr().IsUnspecified():
		return true
	case p.knobs.AfterDecrypt:
		return rule.Contains(a)
	}
	return rule.Addr() == a
}

// steerIn is the way through the inbound tables: up to 6.14 policy, then SA;
// from 6.15 SA, its own selector, then policy, and clear text meets neither.
// ESP that no SA is for comes out as it is.
func (p *PF) steerIn(f Frame) Fate {
	t, parsed := f.tuple()
	if !parsed {
		return Fate{Way: Clear}
	}
	stands := p.tables[tableRX].refs+p.tables[tableRX6].refs > 0
	if stands && !p.knobs.AfterDecrypt && p.blocks(t) {
		return Fate{Way: Blocked}
	}
	if f.ESP == nil {
		return Fate{Way: Clear}
	}
	var a *devSA
	if stands {
		a = p.findIn(f)
	}
	if a == nil {
		p.count.RXSAMiss++
		return Fate{Way: Clear}
	}
	return p.decrypt(a, f)
}

// decrypt is what an SA makes of a frame.
func (p *PF) decrypt(a *devSA, f Frame) Fate {
	switch {
	case a.replay.old(f.ESP.Seq):
		p.count.RXReplay++
		a.stats.Replay++
		return Fate{Way: Dropped, Why: "replay"}
	case f.ESP.BadICV || a.key != f.ESP.Key:
		p.count.RXAuthFail++
		a.stats.Auth++
		return Fate{Way: Dropped, Why: "bad ICV"}
	}
	a.replay.take(f.ESP.Seq)
	a.tally()
	p.count.RXESP++
	inner := f
	inner.ESP = nil
	t, _ := inner.tuple()
	switch {
	case !p.knobs.AfterDecrypt:
	case !a.upper.match(t):
		p.count.RXMismatch++
		return Fate{Way: Dropped, Why: "selector of the SA"}
	case p.blocks(t):
		return Fate{Way: Blocked, SPI: a.spi}
	}
	return Fate{Way: Crypted, SPI: a.spi}
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
func (p *PF) findIn(f Frame) *devSA {
	for _, a := range slices.Backward(p.sas) {
		if !a.out && a.spi == f.ESP.SPI && a.dst == f.Dst && a.src == f.Src && (a.upper.Proto == 0 || p.knobs.AfterDecrypt) {
			return a
		}
	}
	return nil
}
