// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
	"ovs-ipsec-offload/xfrm"
)

// Want is how a pair's traffic is to be treated.
type Want uint8

// The treatments. There is no "maybe": what cannot be encrypted is blocked.
const (
	Encrypt   Want = iota + 1
	Blocked        // asked for IPsec, but cannot have it
	Clear          // no port of the pair asks for IPsec
	Negotiate      // an IKE daemon encrypts it, above the guard
	Standing       // its new keys cannot be used: it goes on with those that stand
)

// encrypts tells whether a pair's traffic is to be encrypted.
func (w Want) encrypts() bool { return w == Encrypt || w == Negotiate || w == Standing }

// PairIntent is what one pair is to get, and why.
type PairIntent struct {
	Pair
	NoPriority bool // its PF knows no priorities
	Want       Want
	PF         int // ifindex; 0: no PF can carry it
	Mode       xfrm.Mode
	Keys       KeySet
	Ports      []string  // names of its ports, sorted
	Asked      string    // name of the key set that its ports ask for
	Problem    *Problem  // why it is blocked
	IKE        *ike.Conn // for Negotiate
	Notes      []Problem // what is weak, or will be wrong soon
}

// ids returns the identities of the pair's inbound and outbound SAs.
func (pi *PairIntent) ids() (rx, tx xfrm.SAID) {
	return pi.Keys.ids(pi.Pair)
}

// pairs decides what each pair gets, in the order of the pairs.
func (b *builder) pairs() {
	all := make([]Pair, 0, len(b.groups))
	for p := range b.groups {
		all = append(all, p)
	}
	slices.SortFunc(all, Pair.Compare)
	b.between = make(map[ends][]Pair, len(all))
	for _, p := range all {
		if len(b.groups[p].secure) > 0 {
			b.between[ends{p.Local, p.Remote}] = append(b.between[ends{p.Local, p.Remote}], p)
		}
	}
	for _, p := range b.claimFirst(all) {
		g := b.groups[p]
		if len(g.secure) == 0 {
			b.clear(p, g)
			continue
		}
		b.secure(p, g)
	}
	slices.SortFunc(b.out.Pairs, func(x, y PairIntent) int { return x.Pair.Compare(y.Pair) })
	for _, t := range b.lost {
		b.ports = append(b.ports, PortIntent{Name: t.Name, Outlet: b.outlet(t), Problems: problemsOf(t, noPair(t)), Reported: t.Reported})
	}
	for _, t := range b.flows {
		b.blockedFlow(t)
	}
}

// claimFirst puts pairs whose SAs stand in the kernel in front, so that a key
// set that two pairs name stays with the pair that has it.
func (b *builder) claimFirst(all []Pair) []Pair {
	rank := func(p Pair) int {
		for _, t := range b.groups[p].secure {
			if k, is := b.Keys[t.Keys]; is && k.Problem == nil && b.stands(p, k.Set) {
				return 0
			}
		}
		return 1
	}
	ranks := make(map[Pair]int, len(all))
	for _, p := range all {
		ranks[p] = rank(p)
	}
	slices.SortStableFunc(all, func(x, y Pair) int { return ranks[x] - ranks[y] })
	return all
}

// stands tells whether the outbound SA of set is installed for p.
func (b *builder) stands(p Pair, set KeySet) bool {
	s, is := b.Installed(xfrm.SAID{Dst: p.Remote, SPI: set.OutSPI})
	return is && s.Src == p.Local && holds(s, set.OutPrint)
}

// holds tells whether s can be the SA with key f. A kernel under lockdown shows
// no keys; the SPI, 32 random bits, must do there.
func holds(s *xfrm.SA, f xfrm.Fingerprint) bool {
	return s.KeyPrint == f || s.KeyPrint == xfrm.Fingerprint{}
}

// clear gives a plain pair a bypass where a guard stands.
func (b *builder) clear(p Pair, g *group) {
	pf, guarded := b.guards[p.VTEP()]
	if !guarded {
		return
	}
	b.out.Pairs = append(b.out.Pairs, PairIntent{Pair: p, Want: Clear, PF: pf, Ports: names(g.plain)})
}

// blockedFlow names a plain flow-based port that a guard stops.
func (b *builder) blockedFlow(t *ovsdb.Tunnel) {
	for _, v := range slices.SortedFunc(maps.Keys(b.guards), VTEP.Compare) {
		if b.flowOf(t, v) {
			b.ports = append(b.ports, PortIntent{Name: t.Name, Outlet: Outlet{VTEPs: []VTEP{v}, Plain: true}, Reported: t.Reported, Problems: []Problem{{"PLAIN_FLOW",
				"port chooses its peers by flow and asks for no encryption, beside encrypted tunnels of " + v.String() +
					": its traffic is blocked; give it another VTEP or dst_port"}}})
			return
		}
	}
}

// secure decides about a pair of which at least one port asks for IPsec.
func (b *builder) secure(p Pair, g *group) {
	pi := PairIntent{Pair: p, Want: Blocked, PF: b.exit(p.VTEP()), Ports: names(append(slices.Clone(g.secure), g.plain...))}
	lead := b.lead(p, g.secure)
	for _, t := range g.secure {
		var own []Problem
		if t != lead && lead != nil && (t.Keys != lead.Keys || !t.Auth.Equal(lead.Auth) || t.IKE != lead.IKE || t.Mode != lead.Mode || t.Dev != lead.Dev) {
			own = append(own, Problem{"PAIR_CONFLICT", fmt.Sprintf(
				"port shares %s with port %s but asks for other ipsec options: the pair follows %s; make them equal", p, lead.Name, lead.Name)})
		}
		b.ports = append(b.ports, PortIntent{Name: t.Name, Pair: p, Problems: append(problemsOf(t, nil), own...), Reported: t.Reported})
	}
	leader := g.secure[0].Name
	pi.Asked = g.secure[0].Keys
	if lead != nil {
		leader, pi.Asked = lead.Name, lead.Keys
	}
	for _, t := range g.plain {
		b.ports = append(b.ports, PortIntent{Name: t.Name, Pair: p, Reported: t.Reported, Problems: []Problem{{"PAIR_CONFLICT",
			fmt.Sprintf("port asks for no encryption but shares %s with port %s, which does: it is treated like %s", p, leader, leader)}}})
	}
	if lead == nil {
		pi.Problem = first(problemsOf(g.secure[0], nil))
	} else {
		pi.Problem = b.fill(&pi, lead)
		if l, is := b.Leaked[p]; is && l.Keys == lead.Keys && pi.Problem == nil {
			pi.Problem = &l.Problem
		}
	}
	switch {
	case pi.Problem != nil && b.goesOn(&pi):
		pi.Want = Standing
	case pi.Problem != nil:
	case pi.IKE != nil:
		pi.Want = Negotiate
	default:
		pi.Want = Encrypt
	}
	pi.NoPriority = b.out.Unguarded[pi.PF]
	b.out.Pairs = append(b.out.Pairs, pi)
}

// goesOn tells whether a pair is encrypted and only its key set cannot be used.
func (b *builder) goesOn(pi *PairIntent) bool {
	pf, is := b.Carried[pi.Pair]
	return is && pf == pi.PF && strings.HasPrefix(pi.Problem.Code, "KEY_")
}

// lead returns the port whose options the pair follows: the valid one whose
// keys are installed, else the first valid one by name; nil when none is valid.
func (b *builder) lead(p Pair, ts []*ovsdb.Tunnel) *ovsdb.Tunnel {
	var lead *ovsdb.Tunnel
	for _, t := range ts {
		if len(t.Problems) > 0 {
			continue
		}
		if k, is := b.Keys[t.Keys]; is && k.Problem == nil && b.stands(p, k.Set) {
			return t
		}
		if lead == nil {
			lead = t
		}
	}
	return lead
}

// fill completes a pair's intent from its leading port, or says why it cannot.
func (b *builder) fill(pi *PairIntent, t *ovsdb.Tunnel) *Problem {
	pf, refusal := devlink.PFOf(b.Facts, pi.Local, t.Dev)
	if refusal != nil {
		return &Problem{refusal.Code, refusal.Text}
	}
	pi.PF = pf.Ifindex
	if p := b.refuseNoPriority(pf.Ifindex, pf.Name, t); p != nil {
		return p
	}
	if p := b.crowded(pi.Pair, t); p != nil {
		return p
	}
	if t.Auth.Method != "" {
		return b.negotiate(pi, t)
	}
	if t.Mode == ovsdb.Tunneled {
		pi.Mode = xfrm.Tunnel
		if refusal := pf.TunnelMode(); refusal != nil {
			return &Problem{refusal.Code, refusal.Text}
		}
	}
	k, is := b.Keys[t.Keys]
	if !is {
		return &Problem{"KEY_MISSING", "key set " + t.Keys + " was not looked up yet"}
	}
	if k.Problem != nil {
		return k.Problem
	}
	// What stands of ours goes on: taking it away would help nobody.
	if p := b.Strangers.Of(pi.Pair); p != nil && !b.stands(pi.Pair, k.Set) {
		return p
	}
	return b.claim(pi, k.Set)
}

// claim takes a key set for the pair, unless it is another pair's or spent.
func (b *builder) claim(pi *PairIntent, set KeySet) *Problem {
	if owner, is := b.keyOwner[set.Name]; is && owner != pi.Pair {
		return &Problem{"KEY_SHARED", fmt.Sprintf("key set %s is in use for %s: every pair needs keys of its own: %s", set.Name, owner, set.Renew)}
	}
	rx, tx := set.ids(pi.Pair)
	for _, owner := range []Pair{b.keys[set.OutPrint], b.spis[tx], b.keys[set.InPrint], b.spis[rx]} {
		if (owner != Pair{}) && owner != pi.Pair {
			return &Problem{"KEY_SHARED", fmt.Sprintf("key set %s has a key or an SPI of %s: every pair needs keys of its own: %s", set.Name, owner, set.Renew)}
		}
	}
	pi.Keys = set
	stands, wrong := b.adopts(pi, tx, pi.Local, set.OutPrint)
	switch {
	case wrong != nil:
		return wrong
	case !stands && b.Spent(set.OutPrint):
		return &Problem{"KEY_USED", fmt.Sprintf("the outbound key of set %s was installed before and its SA is gone (reboot, flush or removal); "+
			"sending with it again would repeat nonces, so the pair stays blocked until it has new keys: %s", set.Name, set.Renew)}
	}
	if _, wrong := b.adopts(pi, rx, pi.Remote, set.InPrint); wrong != nil {
		return wrong
	}
	b.keyOwner[set.Name] = pi.Pair
	b.keys[set.OutPrint], b.keys[set.InPrint] = pi.Pair, pi.Pair
	b.spis[rx], b.spis[tx] = pi.Pair, pi.Pair
	return nil
}

// adopts tells whether an SA stands by that identity, and why it is not the one
// that the pair is to have.
func (b *builder) adopts(pi *PairIntent, id xfrm.SAID, src netip.Addr, key xfrm.Fingerprint) (stands bool, wrong *Problem) {
	s, stands := b.Installed(id)
	if !stands || s.Src == src && holds(s, key) && s.Offload.Ifindex == pi.PF && s.Mode == pi.Mode {
		return stands, nil
	}
	return true, &Problem{"SA_MISMATCH", fmt.Sprintf("an SA with SPI 0x%08x to %s stands in the kernel and is not the one of key set %s: new keys are needed: %s",
		id.SPI, id.Dst, pi.Keys.Name, pi.Keys.Renew)}
}

// problemsOf gives the refusals that stand in the row itself, and then p.
func problemsOf(t *ovsdb.Tunnel, p *Problem) []Problem {
	ps := problemsIn(t.Problems)
	if p != nil && len(ps) == 0 {
		ps = append(ps, *p)
	}
	return ps
}

func noPair(t *ovsdb.Tunnel) *Problem {
	return &Problem{"NO_ROUTE", fmt.Sprintf("there is no route to remote_ip %s, so the local VTEP is not known: set local_ip or add the route", t.Remote)}
}

func first(ps []Problem) *Problem {
	if len(ps) == 0 {
		return &Problem{"OPT_INVALID", "port is not valid"}
	}
	return &ps[0]
}

func names(ts []*ovsdb.Tunnel) []string {
	ns := make([]string, len(ts))
	for i, t := range ts {
		ns[i] = t.Name
	}
	slices.Sort(ns)
	return ns
}
