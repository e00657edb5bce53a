// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
	"ovs-ipsec-offload/xfrm"
)

// A pair whose ports name a psk or certificates is keyed by an IKE daemon, which
// makes its SAs and its policies itself, above our guards: it takes its policy
// away before its SA, so that the guard catches what is sent then. An allow policy
// of ours over its SAs could not: they go first. So nothing is made for such a
// pair but its guard; taken away is what a dead daemon or another key source has left.
// What is found of it in the kernel says how it stands, not what the daemon believes.
// Its word counts where the kernel cannot tell: which SA a dead daemon has left
// (orphan), that a NIC refused one (refused).
//
// What the daemon makes is told from everything else by its reqids, which it is
// told: they follow from the pair.

// childSA is one of a pair's child SAs; each is a state in either direction. Of the
// two that there are usually one state each carries traffic.
type childSA byte

const (
	childOut  childSA = 'o' // carries what this host sends
	childIn   childSA = 'i' // carries what the peer sends
	childBoth childSA = 'b' // carries both: the only one (ipsec_children=one)
)

// negotiatedReqid returns the reqid of a child SA of a pair.
func negotiatedReqid(p Pair, c childSA) uint32 {
	return pairHash(p, byte(c)).reqid()
}

// pairHash is the hash of a pair and a byte.
func pairHash(p Pair, salt byte) fnv1a {
	return fnvOffset.addr(p.Local).addr(p.Remote).byte(byte(p.Port >> 8)).byte(byte(p.Port)).byte(salt)
}

// connName is what the IKE daemon calls a pair's connection.
func connName(p Pair) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(pairHash(p, 'n')))
	return ike.Prefix + hex.EncodeToString(b[:])
}

// negotiatedPolicy tells whether an IKE daemon made p for overlay traffic of a pair
// that we told it of. Its templates name an SPI, for which this program has no
// words, so it may be Exotic.
func negotiatedPolicy(p *xfrm.Policy) bool {
	if p.Action != xfrm.Allow || p.Tmpl == nil || p.Sel.Proto != udp || p.Sel.SrcPort != 0 || p.Sel.DstPort == 0 {
		return false
	}
	pair, is := pairOf(p)
	return is && reqids{}.carries(p.Tmpl.Reqid, pair, p.Dir)
}

// carrier returns the child SA that carries overlay traffic in a direction, unless one
// does for both.
func carrier(d xfrm.Dir) childSA {
	if d == xfrm.Out {
		return childOut
	}
	return childIn
}

// negotiatedSA returns the pair for which an IKE daemon made s. An SA knows no
// port: those of the overlay are tried.
func negotiatedSA(s *xfrm.SA, ports map[uint16]bool) (Pair, bool) {
	if s.Reqid&^reqidMask != reqidFirst {
		return Pair{}, false
	}
	p := Pair{Local: s.Src, Remote: s.Dst}
	if s.Dir == xfrm.In {
		p.Local, p.Remote = p.Remote, p.Local
	}
	for port := range ports {
		p.Port = port
		for _, c := range []childSA{childOut, childIn, childBoth} {
			if s.Reqid == negotiatedReqid(p, c) {
				return p, true
			}
		}
	}
	return Pair{}, false
}

// unserved tells whether an IKE daemon made a policy for which there is no SA.
func unserved(policies []xfrm.Policy, sas []xfrm.SA, ids reqids) bool {
	type end struct {
		reqid uint32
		dir   xfrm.Dir
	}
	lacks := map[end]bool{}
	for i := range policies {
		if p := &policies[i]; negotiatedPolicy(p) || ids.policy(p) && p.Tmpl.Reqid != 0 {
			lacks[end{p.Tmpl.Reqid, p.Dir}] = true
		}
	}
	for i := range sas {
		delete(lacks, end{sas[i].Reqid, sas[i].Dir})
	}
	return len(lacks) > 0
}

// overlayPorts returns the UDP ports that tunnels or policies of ours name.
func overlayPorts(snap *ovsdb.Snapshot, ps []xfrm.Policy) map[uint16]bool {
	ports := map[uint16]bool{}
	for i := range snap.Tunnels {
		ports[snap.Tunnels[i].DstPort] = true
	}
	for i := range ps {
		if oursPolicy(&ps[i]) {
			ports[ps[i].Sel.DstPort] = true
		}
	}
	delete(ports, 0)
	return ports
}

// AuthResult is what is known of a port's credentials.
type AuthResult struct {
	Auth    ike.Auth
	Notes   []Problem // weaknesses, and what will be wrong soon
	Problem *Problem
}

// negotiate completes the intent of a pair that IKE keys, or says why it cannot.
func (b *builder) negotiate(pi *PairIntent, t *ovsdb.Tunnel) *Problem {
	a := b.Auths[t.Name]
	pi.Notes = append(problemsIn(t.Notes), a.Notes...)
	if a.Problem != nil {
		return a.Problem
	}
	if p := b.Strangers.Of(pi.Pair); p != nil {
		return p
	}
	c := &ike.Conn{Name: connName(pi.Pair), Local: pi.Local, Remote: pi.Remote, Port: pi.Port, Auth: a.Auth, Stock: t.StockPeer,
		Own:  ike.Own{RekeyTime: t.IKE.RekeyTime, IKERekeyTime: t.IKE.IKERekeyTime, DPDDelay: t.IKE.DPDDelay, ReplayWindow: t.IKE.ReplayWindow},
		Lead: pi.Local.Less(pi.Remote), OneChild: t.IKE.OneChild}
	c.ReqidOut, c.ReqidIn = b.ids.choose(pi.Pair, c.OneChild, b.reqids)
	for _, r := range []uint32{c.ReqidOut, c.ReqidIn} {
		if owner, taken := b.reqids[r]; taken && owner != pi.Pair {
			return problem("REQID_TAKEN", "reqid 0x%x, by which the NIC would find the SAs of %s, is that of %s: give one of them another address or dst_port", r, pi.Pair, owner)
		}
	}
	b.reqids[c.ReqidOut], b.reqids[c.ReqidIn] = pi.Pair, pi.Pair
	pi.IKE = c
	return nil
}

// conns returns what the IKE daemon is to hold: the pairs that it keys whose
// guards stand in their NIC. One that it was given already stays while a guard
// is put back: nothing is won by taking its SAs away.
func (s *scene) conns(before map[Pair]bool) ([]ike.Conn, map[Pair]bool) {
	given := map[Pair]bool{}
	var cs []ike.Conn
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if pi.Want != Negotiate || s.plan.Stuck[pi.PF] {
			continue
		}
		g := GuardIntent{VTEP: pi.VTEP(), PF: pi.PF}
		if before[pi.Pair] || s.now.guardStands(g, xfrm.Out) && s.now.guardStands(g, xfrm.In) {
			cs, given[pi.Pair] = append(cs, *pi.IKE), true
		}
	}
	return cs, given
}

// hand gives the IKE daemon what it is to hold.
func (d *Daemon) hand(s *scene) {
	if d.cfg.IKE == nil {
		return
	}
	d.mu.Lock()
	cs, given := s.conns(d.given)
	d.given = given
	d.mu.Unlock()
	d.cfg.IKE.Want(cs)
	s.ike = d.cfg.IKE.State()
	d.replenish(s)
	for _, name := range d.lapses(s) {
		d.cfg.Log.Warn("what IKE made is gone from the kernel: it makes new SAs", "conn", name)
		d.cfg.IKE.Renew(name)
	}
}

// renewAfter is how long the kernel must lack what the IKE daemon says to have made.
// What is read of both is not of one moment, and a rekey may lie between.
const renewAfter = 2 * time.Second

// lapses returns the connections whose SAs or policies are gone from the kernel
// though the IKE daemon says that they are up: it hears of no flush.
func (d *Daemon) lapses(s *scene) (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	carriers, now := s.observed.carriers, d.cfg.Now()
	lapsed := map[Pair]time.Time{}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if pi.Want != Negotiate || !d.given[pi.Pair] || !complete(pi.IKE, s.ike.Conns[pi.IKE.Name]) {
			continue
		}
		if s.now.fateOf(pi.Pair, pi.PF) == encrypted && carriers[stream{pi.Pair, xfrm.In}] != nil {
			continue
		}
		since, is := d.lapsed[pi.Pair]
		switch {
		case !is:
			since = now
		case now.Sub(since) >= renewAfter:
			names, since = append(names, pi.IKE.Name), now
		}
		lapsed[pi.Pair] = since
	}
	d.lapsed = lapsed
	return names
}

// auths looks up the credentials of every port that IKE is to key.
func (d *Daemon) auths(snap *ovsdb.Snapshot) (map[string]AuthResult, []Problem) {
	if d.cfg.IKE != nil {
		return d.cfg.Credentials.Auths(snap)
	}
	m := map[string]AuthResult{}
	for i := range snap.Tunnels {
		m[snap.Tunnels[i].Name] = AuthResult{Problem: problem("IKE_OFF", "the port is to be keyed by IKE, and ike=none turns that off: set ike: auto, or use ipsec_keys")}
	}
	return m, nil
}

// ageSlack is how far the ages may be apart that the kernel and an IKE daemon give.
const ageSlack = 2 * time.Second

// orphan tells whether an SA that IKE made for a pair is of a daemon that is gone:
// the one that runs does not know it, and has a younger child in its place.
func orphan(s *xfrm.SA, st *ike.State, pi *PairIntent) bool {
	name := ike.In
	if s.Reqid == pi.IKE.ReqidOut {
		name = pi.IKE.Children()[0]
	}
	replaced := false
	for _, k := range st.Conns[pi.IKE.Name].Children {
		if k.SPIIn == s.SPI || k.SPIOut == s.SPI {
			return false
		}
		replaced = replaced || k.Name == name && time.Unix(s.Stats.Added, 0).Before(k.Installed.Add(-ageSlack))
	}
	return replaced
}

// complete tells whether the IKE daemon says that all children of a connection are
// installed.
func complete(conn *ike.Conn, c ike.ConnState) bool {
	lacks := func(name string) bool {
		return !slices.ContainsFunc(c.Children, func(k ike.Child) bool { return k.Name == name })
	}
	return !slices.ContainsFunc(conn.Children(), lacks)
}

// newest returns when the youngest child of a connection was installed, to the second.
func newest(c ike.ConnState) (t time.Time) {
	for _, k := range c.Children {
		if k.Installed.After(t) {
			t = k.Installed
		}
	}
	return t
}

// keying says what keeps a pair from being encrypted by IKE. given is whether the IKE
// daemon was given it, which that need not have taken yet. What it has just made the round
// may have come too early to see.
func keying(pi *PairIntent, st *ike.State, given bool, now time.Time) *Problem {
	c := st.Conns[pi.IKE.Name]
	switch {
	case st.Problem != nil:
		return &Problem{st.Problem.Code, st.Problem.Text}
	case c.Problem != nil:
		return &Problem{c.Problem.Code, c.Problem.Text}
	case !given:
		return &Problem{"IKE_WAITS", "the pair was not given to the IKE daemon yet: its guards come first"}
	case complete(pi.IKE, c) && now.Sub(newest(c)) >= renewAfter:
		return &Problem{"IKE_NOT_OFFLOADED", fmt.Sprintf("%s says that the SAs are up, but they are not in the NIC (ip xfrm state): restart it after this daemon, so that it finds the NIC's tables there", st.Daemon)}
	}
	return &Problem{"IKE_CONNECTING", "no SAs with " + pi.Remote.String() + " yet: the pair is blocked until there are"}
}

// ours tells whether a policy belongs to this program, or an IKE daemon made it for a
// pair of ours.
func (ob *Observed) ours(p *xfrm.Policy) bool { return oursPolicy(p) || ob.ids.policy(p) }

// madeBy returns the pair for which an IKE daemon made s.
func (ob *Observed) madeBy(s *xfrm.SA, ports map[uint16]bool, snap *ovsdb.Snapshot) (Pair, bool) {
	if ob.ids.small {
		return ob.ids.sa(s, snap)
	}
	return negotiatedSA(s, ports)
}

// negotiated tells whether an IKE daemon made s.
func (ob *Observed) negotiated(s *xfrm.SA) bool {
	_, is := ob.Negotiated[s.ID()]
	return is
}

// keyedByIKE returns the pair that IKE is to key and made s for, or nil.
func (s *scene) keyedByIKE(sa *xfrm.SA) *PairIntent {
	p, is := s.observed.Negotiated[sa.ID()]
	if !is {
		return nil
	}
	if pi := s.intent.pair(p); pi != nil && pi.Want == Negotiate {
		return pi
	}
	return nil
}

// pair returns what a pair is to get, or nil.
func (in *Intent) pair(p Pair) *PairIntent {
	// Not by slices.BinarySearchFunc, which would copy a whole PairIntent for each look.
	i := sort.Search(len(in.Pairs), func(i int) bool { return in.Pairs[i].Compare(p) >= 0 })
	if i == len(in.Pairs) || in.Pairs[i].Pair != p {
		return nil
	}
	return &in.Pairs[i]
}

// stream is overlay traffic of a pair in one direction.
type stream struct {
	Pair
	Dir xfrm.Dir
}

// carriersOf returns the newest of the SAs that IKE made for each stream.
func carriersOf(ob *Observed) map[stream]*xfrm.SA {
	m := make(map[stream]*xfrm.SA, len(ob.Negotiated)/2)
	for i := range ob.SAs {
		sa := &ob.SAs[i]
		p, is := ob.Negotiated[sa.ID()]
		if !is || !ob.ids.carries(sa.Reqid, p, sa.Dir) {
			continue
		}
		if old := m[stream{p, sa.Dir}]; old == nil || sa.Stats.Added > old.Stats.Added {
			m[stream{p, sa.Dir}] = sa
		}
	}
	return m
}

// negotiated fills in what the kernel and the IKE daemon say of a pair.
func (b *statusMaker) negotiated(pi *PairIntent, p *PairStatus) {
	p.Mode = "transport"
	if sa := b.ike[stream{pi.Pair, xfrm.In}]; sa != nil {
		p.SPIIn, p.In = spi(sa.SPI), b.traffic(sa.ID())
	}
	if sa := b.ike[stream{pi.Pair, xfrm.Out}]; sa != nil {
		p.SPIOut, p.Out = spi(sa.SPI), b.traffic(sa.ID())
		b.budget(p, sa)
	}
	c := b.scene.ike.Conns[pi.IKE.Name]
	if p.State == StateEncrypted && c.Problem != nil {
		p.Notes = append(slices.Clone(p.Notes), Problem{c.Problem.Code, c.Problem.Text})
	}
	p.IKE = &IKEStatus{Daemon: b.scene.ike.Daemon, Auth: authName(pi.IKE.Auth), Phase: cmp.Or(c.Phase, "waiting"), Since: c.Since}
}

// authName says how the ends of a connection know each other.
func authName(a ike.Auth) string {
	switch {
	case !a.PSK.Empty():
		return "psk"
	case len(a.RemoteCert) > 0:
		return "self-signed"
	default:
		return "ca"
	}
}

// problemsIn returns what package ovsdb has to say.
func problemsIn(ps []ovsdb.Problem) (out []Problem) {
	for _, p := range ps {
		out = append(out, Problem{p.Code, p.Text})
	}
	return out
}
