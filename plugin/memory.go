// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// memory adds what only time tells: holds, pairs in back-off, and what nobody
// wants any more.
func (d *Daemon) memory(s *scene) {
	kept := d.Saved()
	d.mu.Lock()
	defer d.mu.Unlock()
	ob := &s.observed
	ob.GateOpen = strings.EqualFold(s.snapshot.Host.HWOffload, "true") // as OVS reads it (smap_get_bool)
	ob.Spent, ob.RetireAfter = d.cfg.Ledger.Used, d.cfg.RetireAfter
	d.recall(s, kept)
	d.refused(s)
	d.backedOff(s)
	if !s.peeked {
		d.rot.listen(ob.SAs, d.cfg.Now())
	}
	ob.Pushed = d.rot.turns(d.cfg.Now())
	d.unwantedSAs(s)
	d.idleBlocks(s)
}

// backedOff notes the pairs that wait for their next try, and the NICs whose
// tables one that waited needs anew. The caller holds mu.
func (d *Daemon) backedOff(s *scene) {
	now, ob := d.cfg.Now(), &s.observed
	ob.PutOff, ob.Remake = map[Pair]bool{}, map[int]bool{}
	for p, t := range d.pairs {
		if now.Before(t.until) {
			ob.PutOff[p] = true
		}
	}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if t, is := d.pairs[pi.Pair]; is && !ob.PutOff[pi.Pair] && pi.Want == Encrypt && xfrm.CodeOf(t.err) == xfrm.CodeTunnelEncap {
			ob.Remake[pi.PF] = true
		}
	}
}

// unwantedSAs notes how long SAs stand that nobody wants. The caller holds mu.
func (d *Daemon) unwantedSAs(s *scene) {
	now, ob := d.cfg.Now(), &s.observed
	wanted, kept, seen, drains := wantedSAs(s.intent), keptEnds(s), map[xfrm.SAID]time.Time{}, d.drains(s)
	ob.UnwantedFor = map[xfrm.SAID]time.Duration{}
	for i := range ob.SAs {
		sa := &ob.SAs[i]
		if pi := s.keyedByIKE(sa); pi != nil && !orphan(sa, &s.ike, pi) {
			continue
		}
		if wanted[sa.ID()] || s.intent.Named[sa.KeyPrint] || kept[ends{sa.Src, sa.Dst}] {
			continue
		}
		since, is := d.unwanted[sa.ID()]
		if !is {
			since = now
		}
		seen[sa.ID()], ob.UnwantedFor[sa.ID()] = drains.since(sa, since, now, ob.RetireAfter)
	}
	if !s.peeked {
		d.unwanted = seen
	}
}

// keptEnds returns the addresses between which SAs stay, wanted or not. Those of
// a blocked pair do nothing without a policy, and if they went the pair would need
// new keys once its trouble is over; the old ones of a pair are in use until it
// has turned to its new ones, or until those that IKE makes are there.
func keptEnds(s *scene) map[ends]bool {
	kept, carriers := map[ends]bool{}, s.observed.carriers
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if s.now.keeps(pi, s.observed.Pushed) || pi.Want == Negotiate && carriers[stream{pi.Pair, xfrm.In}] == nil {
			kept[ends{pi.Local, pi.Remote}], kept[ends{pi.Remote, pi.Local}] = true, true
		}
	}
	return kept
}
