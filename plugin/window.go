// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"time"

	"ovs-ipsec-offload/plugin/ike"
	"ovs-ipsec-offload/xfrm"
)

// A strict kernel takes no SA while a flow is in hardware, and an IKE daemon adds
// its SAs when the peer has answered. So flows are held back until it has got
// through, or for a while: it tries again by itself. strongSwan does so without end
// and answers nobody meanwhile, which is how it is noticed.

// windowMost is how long flows are held back for an IKE daemon's SAs; windowRest
// how long they are left alone after that was in vain.
const (
	windowMost = 10 * time.Second
	windowRest = 5 * time.Minute
)

// window tells whether flows are to stay held back for an IKE daemon.
func (p *planner) window() bool {
	if p.ob.HeldFor >= windowMost {
		return false
	}
	for i := range p.in.Pairs {
		if pi := &p.in.Pairs[i]; p.ob.Strict[pi.PF] && p.ob.Refused[pi.Pair] {
			return true
		}
	}
	return false
}

// refused notes the pairs of which the NIC refused an SA of the IKE daemon, or may
// have: any, when it is stuck. After a hold that was in vain none is noted for
// windowRest, so that flows are not held again. The caller holds mu.
func (d *Daemon) refused(s *scene) {
	now, ob, h := d.cfg.Now(), &s.observed, &d.hold
	ob.Refused = map[Pair]bool{}
	if rec := s.snapshot.Host.Hold; rec != nil {
		ob.HeldFor = now.Sub(rec.Since)
	} else if h.made != nil {
		ob.HeldFor = now.Sub(h.made.Since)
	}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if pi.Want != Negotiate {
			continue
		}
		if p := s.ike.Conns[pi.IKE.Name].Problem; stuck(&s.ike) || p != nil && p.Code == ike.CodeInstall {
			ob.Refused[pi.Pair] = true
		}
	}
	if !s.peeked && ob.Holding == WhyStrict && len(ob.Refused) > 0 && ob.HeldFor >= windowMost {
		h.vain = now
	}
	if ob.Holding == "" && now.Before(h.vain.Add(windowRest)) {
		ob.Refused = nil
	}
}

// askForIKE finds out why a NIC refuses SAs of the IKE daemon, whose answers are not
// ours to see: because it is strict, or because it has no room. It tells whether one has
// shown either.
func (d *Daemon) askForIKE(ctx context.Context, s *scene) (shown bool) {
	asked := map[int]bool{}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		if !s.observed.Refused[pi.Pair] || s.observed.Strict[pi.PF] || asked[pi.PF] {
			continue
		}
		asked[pi.PF] = true
		ev, err := d.evidence(ctx, pi.PF)
		if err != nil {
			d.tell("evidence", err.Error())
			continue
		}
		d.findStrict(ctx, pi.PF, &ev)
		shown = shown || ev.Strict == StrictYes || stuck(&s.ike) && d.findFull(ctx, pi.PF, &ev)
	}
	return shown
}

// stuck tells whether the IKE daemon took a command and answers nobody since.
func stuck(st *ike.State) bool { return st.Problem != nil && st.Problem.Code == ike.CodeStuck }

// findFull finds out whether a NIC that is not strict takes no more inbound SAs, by
// one that is of no use to anybody, and tells whether that is news.
func (d *Daemon) findFull(ctx context.Context, ifindex int, ev *Evidence) bool {
	if ev.Held.RX == 0 || ev.Flows > 0 && ev.Strict != StrictNo || xfrm.CodeOf(d.probe(ctx, ifindex, xfrm.In)) != xfrm.CodeBusy {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.cards[cardName{ev.Handle, ifindex}]
	if c == nil || c.limit.refused == ev.Inbound {
		return false
	}
	d.cfg.Log.Warn("the IKE daemon waits for room in the NIC", "pf", ev.PF, "inbound_sas", ev.Inbound)
	return c.limit.learn(ev.Inbound, d.cfg.Now())
}
