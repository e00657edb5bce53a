// SPDX-License-Identifier: Apache-2.0

// Package monitor says how tunnels stand in the words of ovs-monitor-ipsec(8),
// for those who ask it by ovs-appctl: people, probes and scripts that know its
// answers. It is text made of data; no answer holds a key or a psk.
package monitor

import (
	"net/netip"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// View is what answers are made of.
type View struct {
	Snapshot ovsdb.Snapshot
	Seen     plugin.Seen
	// Version tells how often the configuration of a tunnel changed, from 1.
	Version func(tunnel string) int
	// Name returns the common name of a certificate, by its path, and "" where there
	// is none.
	Name func(cert string) string
}

// ends are the two addresses of a tunnel, in an order of their own.
type ends [2]netip.Addr

func endsOf(a, b netip.Addr) ends {
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return ends{a, b}
}

// index finds what belongs to a tunnel. Policies and SAs with the same ends form
// a chain each: many maps and slices would cost more than the answer itself.
type index struct {
	pairs    map[string]*plugin.PairStatus // by port
	ports    map[string]*plugin.PortStatus
	first    map[ends]links
	policies []int // next in the chain of each policy
	sas      []int
}

// links are numbers of the first policy and the first SA of a chain, from 1: 0
// ends a chain.
type links struct{ policy, sa int }

func (v View) index() index {
	x := index{
		pairs: make(map[string]*plugin.PairStatus, len(v.Seen.Status.Ports)),
		ports: make(map[string]*plugin.PortStatus, len(v.Seen.Status.Ports)),
	}
	for i := range v.Seen.Status.Pairs {
		p := &v.Seen.Status.Pairs[i]
		for _, port := range p.Ports {
			x.pairs[port] = p
		}
	}
	for i := range v.Seen.Status.Ports {
		x.ports[v.Seen.Status.Ports[i].Name] = &v.Seen.Status.Ports[i]
	}
	return x
}

// chain makes the chains, backwards, so that they have the order of the lists.
func (x *index) chain(policies []xfrm.Policy, sas []xfrm.SA) {
	x.first = make(map[ends]links, len(x.pairs))
	x.policies, x.sas = make([]int, len(policies)), make([]int, len(sas))
	for i := len(policies) - 1; i >= 0; i-- {
		e := endsOf(policies[i].Sel.Src.Addr(), policies[i].Sel.Dst.Addr())
		at := x.first[e]
		x.policies[i], at.policy = at.policy, i+1
		x.first[e] = at
	}
	for i := len(sas) - 1; i >= 0; i-- {
		e := endsOf(sas[i].Src, sas[i].Dst)
		at := x.first[e]
		x.sas[i], at.sa = at.sa, i+1
		x.first[e] = at
	}
}

// local returns the local address of a tunnel: without local_ip that of its pair.
func (x index) local(t *ovsdb.Tunnel) netip.Addr {
	p := x.pairs[t.Name]
	if t.Local.IsValid() || p == nil {
		return t.Local
	}
	a, _ := netip.ParseAddr(p.Local) // the zero Addr has nothing installed
	return a
}
