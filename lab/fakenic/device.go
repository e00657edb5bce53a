// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"ovs-ipsec-offload/xfrm"
)

// devSA is a state in a NIC.
type devSA struct {
	pf       *PF
	out      bool
	src, dst netip.Addr
	spi      uint32
	reqid    uint32
	tunnel   bool
	upper    Upper
	key      xfrm.Fingerprint
	table    *table
	strict   bool // holds blockMode itself
	replay   replay
	order    int
	stats    xfrm.Stats
}

// devPolicy is a policy in a NIC.
type devPolicy struct {
	pf       *PF
	out      bool
	sel      xfrm.Selector
	priority uint32
	reqid    uint32 // 0: no template
	block    bool
	table    *table
	order    int
}

// addSA adds a state, or says in the NIC's log why not.
func (p *PF) addSA(s *State) (*devSA, *refusal) {
	a, no := p.tryAddSA(s)
	if no != nil {
		p.refused("state add", no)
		return nil, no.or(noState)
	}
	return a, nil
}

// tryAddSA is mlx5e_xfrm_add_state: what the NIC itself can tell first, then
// functions with IPsec, flows, rules on the PF, the table, and what the table
// has room for.
func (p *PF) tryAddSA(s *State) (*devSA, *refusal) {
	if text := p.stateFault(s); text != "" {
		return nil, &refusal{errno: unix.EINVAL, text: text}
	}
	a := &devSA{pf: p, out: s.Dir == xfrm.Out, src: s.Src, dst: s.Dst, spi: s.SPI, reqid: s.Reqid, tunnel: s.SA.Mode == xfrm.Tunnel,
		upper: s.Upper, key: s.print(), order: p.host.tick()}
	if s.ESN && s.Dir == xfrm.In {
		a.replay.window = uint64(s.Window)
	}
	if r := p.getObject(); r != nil {
		return nil, r
	}
	if r := p.claim(a); r != nil {
		p.putObject()
		return nil, r
	}
	p.sas = append(p.sas, a)
	return a, nil
}

// or gives a refusal the general text if it has none of its own.
func (r *refusal) or(text string) *refusal {
	if r.text == "" {
		r.text = text
	}
	return r
}

func (p *PF) claim(a *devSA) *refusal {
	if p.knobs.StrictSA {
		if r := p.tryLock(); r != nil {
			return r
		}
		a.strict = true
		p.blockMode++
	}
	r := p.takeTable(a)
	if r != nil && a.strict {
		p.blockMode--
	}
	return r
}

func (p *PF) takeTable(a *devSA) *refusal {
	if r := p.getNoPFRules(); r != nil {
		return r
	}
	t, r := p.getTable(a.out, a.dst.Is6())
	if r != nil {
		p.putNoPFRules()
		return r
	}
	a.table = t
	if r := p.admit(a); r != nil {
		p.putTable(t)
		p.putNoPFRules()
		return r
	}
	return nil
}

// admit judges what needs the table. Tunnel mode depends on what the switch
// did when the table was made, not on what it does now.
func (p *PF) admit(a *devSA) *refusal {
	inbound := 0
	for _, x := range p.sas {
		if !x.out {
			inbound++
		}
	}
	switch {
	case !a.out && p.switchdev && p.knobs.MaxRXSA > 0 && inbound >= p.knobs.MaxRXSA:
		return &refusal{errno: unix.EBUSY, why: "no free RX SA id"}
	case a.tunnel && !a.table.allowTunnel:
		return &refusal{errno: unix.EINVAL, text: tunnelOff}
	}
	return nil
}

func (p *PF) deleteSA(a *devSA) {
	p.sas = slices.DeleteFunc(p.sas, func(x *devSA) bool { return x == a })
	p.putTable(a.table)
	p.putNoPFRules()
	if a.strict {
		p.blockMode--
	}
	p.putObject()
}

// addPolicy adds a policy, or says in the NIC's log why not.
func (p *PF) addPolicy(r *Request) (*devPolicy, *refusal) {
	a, no := p.tryAddPolicy(r)
	if no != nil {
		p.refused("policy add", no)
		return nil, no.or(noPolicy)
	}
	return a, nil
}

// tryAddPolicy is mlx5e_xfrm_add_policy.
func (p *PF) tryAddPolicy(r *Request) (*devPolicy, *refusal) {
	if text := p.policyFault(r); text != "" {
		return nil, &refusal{errno: unix.EINVAL, text: text}
	}
	if no := p.getObject(); no != nil {
		return nil, no
	}
	if no := p.getNoPFRules(); no != nil {
		p.putObject()
		return nil, no
	}
	t, no := p.getTable(r.Dir == xfrm.Out, r.v6())
	if no != nil {
		p.putNoPFRules()
		p.putObject()
		return nil, no
	}
	a := &devPolicy{pf: p, out: r.Dir == xfrm.Out, sel: r.Sel, priority: r.Priority, reqid: r.reqid(), block: r.Action == xfrm.Block,
		table: t, order: p.host.tick()}
	p.policies = append(p.policies, a)
	return a, nil
}

func (p *PF) deletePolicy(a *devPolicy) {
	p.policies = slices.DeleteFunc(p.policies, func(x *devPolicy) bool { return x == a })
	p.putTable(a.table)
	p.putNoPFRules()
	p.putObject()
}
