// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// smallLast is the highest reqid that can be given to libreswan
// (IPSEC_MANUAL_REQID_MAX in include/reqid.h). From there on it counts up by itself.
const smallLast = 0x3fff

// reqids are those that the child SAs of pairs have. Of an IKE daemon that takes any
// reqid they follow from the pair. libreswan takes small ones only, of which two pairs
// would often share one by chance, and mlx5 finds an outbound SA by its reqid alone:
// there a pair gets the first that is free, keeps it while it stands in the kernel, and
// is known by it as long.
type reqids struct {
	small bool
	known map[stream]uint32 // with small: by pair, and by the direction that the child SA carries
	owner map[uint32]Pair   // the same the other way round, once what stands is learned
}

// of returns the reqid of the child SA that carries overlay traffic of a pair in a
// direction, 0 if it has none yet.
func (r reqids) of(p Pair, d xfrm.Dir) uint32 {
	if r.small {
		return r.known[stream{p, d}]
	}
	return negotiatedReqid(p, carrier(d))
}

// carries tells whether a reqid is that of the child SA that carries overlay traffic of a
// pair in a direction.
func (r reqids) carries(reqid uint32, p Pair, d xfrm.Dir) bool {
	return reqid == r.of(p, d) || !r.small && reqid == negotiatedReqid(p, childBoth)
}

// choose returns the reqids for what carries a pair's overlay traffic out and in, which
// are one with one child. Those that the pair does not have yet nobody else has.
func (r reqids) choose(p Pair, oneChild bool, taken map[uint32]Pair) (out, in uint32) {
	if oneChild {
		both := negotiatedReqid(p, childBoth)
		return both, both
	}
	out = r.pick(p, xfrm.Out, taken, 0)
	return out, r.pick(p, xfrm.In, taken, out)
}

func (r reqids) pick(p Pair, d xfrm.Dir, taken map[uint32]Pair, other uint32) uint32 {
	if id := r.of(p, d); id != 0 {
		return id
	}
	used := map[uint32]bool{other: true}
	for _, id := range r.known {
		used[id] = true
	}
	first := uint64(pairHash(p, byte(carrier(d))))
	for n := range uint64(smallLast) {
		id := uint32((first+n)%smallLast) + 1
		if _, is := taken[id]; !is && !used[id] {
			return id
		}
	}
	return uint32(first%smallLast) + 1 // all are taken: the caller says so
}

// policy tells whether libreswan made p for overlay traffic of a pair. A trap is one of
// them: in the NIC it lets out clear text, since no SA has its reqid, 0.
func (r reqids) policy(p *xfrm.Policy) bool {
	if !r.small || p.Action != xfrm.Allow || p.Tmpl == nil || p.Sel.Proto != udp || p.Sel.SrcPort != 0 || p.Sel.DstPort == 0 {
		return false
	}
	return p.Sel.Src.IsSingleIP() && p.Sel.Dst.IsSingleIP() && p.Tmpl.Reqid <= smallLast && p.Offload.Ifindex != 0
}

// PriorityBar is that of a Bar: before all that libreswan makes for pairs, and behind
// what lets IKE pass.
const PriorityBar = 0x6f76

// Bar returns the policy that blocks overlay traffic to a peer whatever libreswan's
// policies say, as long as there is no SA. It has a selector that none of those have, nor
// any of ours: the kernel keeps one policy of each.
func Bar(peer netip.Addr, port uint16) xfrm.Policy {
	return xfrm.Policy{Dir: xfrm.Out, Action: xfrm.Block, Priority: PriorityBar,
		Sel: xfrm.Selector{Src: anyOf(peer), Dst: host(peer), Proto: udp, DstPort: port}}
}

// bars tells whether p is what blocks a pair's traffic while libreswan negotiates: a
// Bar, or what libreswan has for it.
func (r reqids) bars(p *xfrm.Policy) bool {
	if r.small && p.Action == xfrm.Block && p.Priority == PriorityBar {
		return true
	}
	if !r.small || p.Action != xfrm.Block || p.Dir != xfrm.Out || p.Sel.Proto != udp || p.Sel.SrcPort != 0 || p.Sel.DstPort == 0 {
		return false
	}
	_, is := pairOf(p)
	return is && !oursPolicy(p)
}

// learn returns r with what stands in the kernel.
func (r reqids) learn(ps []xfrm.Policy) reqids {
	if !r.small {
		return r
	}
	known := map[stream]uint32{}
	for s, id := range r.known {
		known[s] = id
	}
	for i := range ps {
		if p := &ps[i]; r.policy(p) && p.Tmpl.Reqid != 0 {
			pair, _ := pairOf(p)
			// What a pair was given goes before what stands: that may be a stranger's.
			if st := (stream{pair, p.Dir}); known[st] == 0 {
				known[st] = p.Tmpl.Reqid
			}
		}
	}
	owner := make(map[uint32]Pair, len(known))
	for st, id := range known {
		owner[id] = st.Pair
	}
	return reqids{small: true, known: known, owner: owner}
}

// sa returns the pair for which libreswan made an SA: the one that has its reqid, or any
// between its two addresses. It makes SAs before policies: an SA of unknown reqid would
// otherwise be taken for a stranger's until its policies appear.
func (r reqids) sa(s *xfrm.SA, snap *ovsdb.Snapshot) (Pair, bool) {
	if !r.small || s.Reqid == 0 || s.Reqid > smallLast {
		return Pair{}, false
	}
	local, remote := s.Src, s.Dst
	if s.Dir == xfrm.In {
		local, remote = remote, local
	}
	if p, is := r.owner[s.Reqid]; is && p.Local == local && p.Remote == remote {
		return p, true
	}
	for i := range snap.Tunnels {
		if t := &snap.Tunnels[i]; t.Remote == remote && (t.Local == local || !t.Local.IsValid()) {
			return Pair{Local: local, Remote: remote, Port: t.DstPort}, true
		}
	}
	return Pair{}, false
}

// keepReqids keeps the reqids of the pairs that IKE keys now.
func (d *Daemon) keepReqids(in *Intent) {
	if !d.cfg.SmallReqids {
		return
	}
	known := map[stream]uint32{}
	for i := range in.Pairs {
		if pi := &in.Pairs[i]; pi.IKE != nil {
			known[stream{pi.Pair, xfrm.Out}], known[stream{pi.Pair, xfrm.In}] = pi.IKE.ReqidOut, pi.IKE.ReqidIn
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reqids = known
}

// reqidsNow returns what is known of reqids before the kernel is read.
func (d *Daemon) reqidsNow() reqids {
	d.mu.Lock()
	defer d.mu.Unlock()
	return reqids{small: d.cfg.SmallReqids, known: d.reqids}
}
