// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"slices"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// rotations is what a daemon sees of changes of keys over time. Nothing in it is
// needed to go on after a restart: what it waited for is waited for anew.
type rotations struct {
	pushed map[Pair]push
	tries  map[Pair]*try
	heard  map[xfrm.SAID]hearing // of SAs of both directions
}

// push is the operator's word that a pair is to turn to a key set without proof.
type push struct {
	keys  string
	until time.Time
}

// hearing is what an SA counted, and when that was seen to grow: at all, and by more
// than a probe.
type hearing struct {
	packets  uint64
	at, busy time.Time
}

// try is a pair of which probes are sent, or counters looked at, again and again.
type try struct {
	keys        string
	stage       Stage
	began, next time.Time
	sent        int       // probes
	last        time.Time // when the last one was sent
	shown       time.Time // when the last of enoughProbes was
}

// enoughProbes is how many are sent before a peer counts as having had one.
const enoughProbes = 3

func newRotations() rotations {
	return rotations{pushed: map[Pair]push{}, tries: map[Pair]*try{}, heard: map[xfrm.SAID]hearing{}}
}

// listen notes which SAs took packets since the last look.
func (r *rotations) listen(sas []xfrm.SA, now time.Time) {
	last := r.heard
	r.heard = make(map[xfrm.SAID]hearing, len(last))
	for i := range sas {
		s := &sas[i]
		h, known := last[s.ID()]
		if known && s.Stats.Packets > h.packets {
			h.at = now
		}
		if known && s.Stats.Packets > h.packets+1 {
			h.busy = now
		}
		h.packets = s.Stats.Packets
		r.heard[s.ID()] = h
	}
}

// draining holds, by the ends of their inbound SAs, the pairs whose older ones stay
// until their peer sends by the new ones.
type draining struct {
	pairs map[ends][]drained
	heard map[xfrm.SAID]hearing
	short map[int]bool // NICs, by ifindex, for whose room pairs wait
}

// drained is a pair that sends by its new keys.
type drained struct {
	rx    xfrm.SAID
	shown time.Time // to its peer, by probes; zero: not yet
	mute  bool      // nothing can send probes
}

// drains returns the pairs of a scene.
func (d *Daemon) drains(s *scene) draining {
	m := draining{pairs: map[ends][]drained{}, heard: d.rot.heard, short: map[int]bool{}}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if pi.Problem != nil && pi.Problem.Code == codeLimit {
			m.short[pi.PF] = true
		}
		if pi.Want != Encrypt {
			continue
		}
		x := drained{mute: d.cfg.Prober == nil}
		x.rx, _ = pi.ids()
		if t := d.rot.tries[pi.Pair]; t != nil && t.keys == pi.Keys.Name && t.stage == Settled {
			x.shown = t.shown
		}
		m.pairs[ends{pi.Remote, pi.Local}] = append(m.pairs[ends{pi.Remote, pi.Local}], x)
	}
	return m
}

// since returns since when an SA that is not wanted was of no use, and how long that
// is. An older inbound SA of a pair is of use while packets come by it. That none
// come may be chance: the peer must have been heard by the new one well after it was
// shown that this host sends by it, for then it has turned as well. Until then the
// older one counts as used a moment ago, but where others wait for its room.
func (m draining) since(sa *xfrm.SA, unwanted, now time.Time, retire time.Duration) (time.Time, time.Duration) {
	pairs := m.pairs[ends{sa.Src, sa.Dst}]
	if sa.Dir != xfrm.In || len(pairs) == 0 {
		return unwanted, now.Sub(unwanted)
	}
	if at := m.heard[sa.ID()].at; at.After(unwanted) {
		unwanted = at
	}
	idle := now.Sub(unwanted)
	if m.short[sa.Offload.Ifindex] {
		return unwanted, idle
	}
	for _, p := range pairs {
		from := unwanted
		if p.shown.After(from) {
			from = p.shown
		}
		if p.shown.IsZero() && !p.mute || m.heard[p.rx].at.Before(from.Add(retire/2)) {
			idle = min(idle, retire-1)
		}
	}
	return unwanted, idle
}

// How often probes are sent and counters looked at: the NIC's are a second old, and
// a peer that was not there for long is asked less often.
const (
	probeFirst  = time.Second
	probeShare  = 8  // a pause is that part of the time that probes were sent for
	listenShare = 1  // the same of one without probes
	probesMost  = 64 // in one round
)

// probePeers sends probes of the pairs that are due.
func (d *Daemon) probePeers(ctx context.Context, s *scene) {
	if s.intent.Parked {
		return
	}
	for _, p := range d.due(s) {
		if d.cfg.Prober == nil {
			return
		}
		if err := d.cfg.Prober.Probe(ctx, p); err != nil {
			d.tell("probe "+p.String(), "send a probe: "+flat(err))
		}
	}
}

// due returns the pairs whose probes are to be sent now, and books them.
func (d *Daemon) due(s *scene) (ps []Pair) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, view, older, tries := d.cfg.Now(), s.now, olderInbound(s), map[Pair]*try{}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if pi.Want != Encrypt || s.observed.Strangers.opens(pi.Pair) {
			continue // nothing, or its probes would go out in clear text
		}
		stage := view.stageOf(pi, s.observed.Pushed)
		t := d.rot.tries[pi.Pair]
		if t == nil || t.keys != pi.Keys.Name || t.stage != stage {
			t = &try{keys: pi.Keys.Name, stage: stage, began: at, next: at}
		}
		tries[pi.Pair] = t
		switch send := view.asks(pi, stage, older[ends{pi.Remote, pi.Local}] || d.rot.answers(pi, t, at)); {
		case at.Before(t.next):
		case send:
			ps = append(ps, pi.Pair)
		case view.listens(pi, stage) && at.Sub(t.began) < d.cfg.AuditEvery:
			t.pause(at, listenShare, d.cfg.AuditEvery)
		default:
			t.next = time.Time{}
		}
	}
	d.rot.tries = tries
	slices.SortFunc(ps, func(a, b Pair) int { return cmp.Or(tries[a].next.Compare(tries[b].next), a.Compare(b)) })
	for i, p := range ps {
		if tries[p].next = at.Add(probeFirst); i < probesMost {
			tries[p].book(at, d.cfg.AuditEvery)
		}
	}
	return ps[:min(len(ps), probesMost)]
}

// book notes that a probe is sent.
func (t *try) book(at time.Time, longest time.Duration) {
	t.last = at
	if t.sent++; t.sent == enoughProbes {
		t.shown = at
	}
	t.pause(at, probeShare, longest)
}

// pause sets when the pair is due again.
func (t *try) pause(at time.Time, share int, longest time.Duration) {
	t.next = at.Add(max(min(at.Sub(t.began)/time.Duration(share), longest), probeFirst))
}

// asks tells whether probes of a pair have a purpose, and go by its new keys: a proof
// is waited for, or there is another reason to be heard (due).
func (v *view) asks(pi *PairIntent, stage Stage, due bool) bool {
	rx, tx := pi.ids()
	in, out := v.sas[rx], v.sas[tx]
	if in == nil || out == nil || v.fateOf(pi.Pair, pi.PF) != encrypted {
		return false
	}
	switch stage {
	case Prove:
		sel := pi.selector(xfrm.Out)
		sel.SrcPort = ProbePort
		p, is := v.policies[place{xfrm.Out, sel}]
		return is && p.Tmpl != nil && p.Tmpl.Reqid == out.Reqid && p.Offload.Ifindex == pi.PF
	case Settled:
		return due
	}
	return false
}

// answersMost is how many probes answer a peer by one key set.
const answersMost = 16

// quiet is how long a pair sends no traffic until its peer counts as hearing none.
const quiet = 5 * time.Second

// answers tells whether a pair's peer was heard since the last probe, and hears
// nothing. It may wait for a proof by keys that this host, having lost its older ones,
// turned to at once.
func (r *rotations) answers(pi *PairIntent, t *try, now time.Time) bool {
	rx, tx := pi.ids()
	return t.sent < answersMost && r.heard[rx].at.After(t.last) && now.Sub(r.heard[tx].busy) > quiet
}

// listens tells whether counters of a pair may tell soon that it is asked for.
func (v *view) listens(pi *PairIntent, stage Stage) bool {
	rx, _ := pi.ids()
	in := v.sas[rx]
	return stage == Prove || stage == Settled && in != nil && !heard(in)
}

// turns returns the key sets that pairs are to turn to without proof, and forgets
// what was said too long ago.
func (r *rotations) turns(now time.Time) map[Pair]string {
	m := make(map[Pair]string, len(r.pushed))
	for p, w := range r.pushed {
		if m[p] = w.keys; !now.Before(w.until) {
			delete(r.pushed, p)
			delete(m, p)
		}
	}
	return m
}

// olderInbound returns the ends between which an inbound SA stands that is not
// wanted and not yet retired.
func olderInbound(s *scene) map[ends]bool {
	m := map[ends]bool{}
	for i := range s.observed.SAs {
		sa := &s.observed.SAs[i]
		if _, unwanted := s.observed.UnwantedFor[sa.ID()]; unwanted && sa.Dir == xfrm.In {
			m[ends{sa.Src, sa.Dst}] = true
		}
	}
	return m
}
