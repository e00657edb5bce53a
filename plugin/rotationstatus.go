// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// The stages of a change of keys, for RotationStatus.
const (
	StageReceive = "receive" // the new SAs are to be installed
	StageProve   = "prove"   // they stand; the peer has not shown that it has the new keys
	StageSwitch  = "switch"  // it has; traffic turns to them now
	StageDrain   = "drain"   // traffic goes by them; what comes by the old ones is taken still
)

// RotationStatus tells how far a pair has come with a change of keys.
type RotationStatus struct {
	Stage string `json:"stage"` // StageReceive to StageDrain
	Keys  string `json:"keys"`  // the set that it changes to
	// WaitsFor is what has to happen before the next stage.
	WaitsFor string `json:"waits_for,omitempty"`
	// OldSPIs are those of the older SAs between its two ends.
	OldSPIs []string `json:"old_spis,omitempty"`
}

// rotation returns how far a pair has come, or nil when it changes no keys.
func (b *statusMaker) rotation(pi *PairIntent) *RotationStatus {
	r := &RotationStatus{Keys: pi.Asked, OldSPIs: b.oldSPIs(pi)}
	switch stage := b.now.stageOf(pi, b.observed.Pushed); {
	case pi.Want == Standing:
		r.Stage, r.WaitsFor = StageReceive, "a key set that can be used; traffic goes on with the keys that stand"
	case stage == Receive:
		r.Stage, r.WaitsFor = StageReceive, "its new SAs"
	case stage == Prove:
		r.Stage, r.WaitsFor = StageProve, fmt.Sprintf("the first packet of %s by set %s: is it installed there, and does its port name it?", pi.Remote, r.Keys)
	case stage == Turn:
		r.Stage = StageSwitch
	case pi.Want == Encrypt && len(r.OldSPIs) > 0:
		r.Stage, r.WaitsFor = StageDrain, b.drainWaits(pi)
	default:
		return nil
	}
	return r
}

// sender returns the outbound SA by which a pair's traffic goes: its own, or an older
// one until it has turned. It is nil when none does.
func (b *statusMaker) sender(pi *PairIntent) *xfrm.SA {
	if pi.Want != Standing && b.now.stageOf(pi, b.observed.Pushed) == Settled {
		_, tx := pi.ids()
		return b.now.sas[tx]
	}
	own, is := b.now.policies[place{xfrm.Out, pi.selector(xfrm.Out)}]
	if !is || own.Tmpl == nil {
		return nil
	}
	i := slices.IndexFunc(b.observed.SAs, func(s xfrm.SA) bool {
		return s.Dir == xfrm.Out && s.Reqid == own.Tmpl.Reqid && s.Offload.Ifindex == own.Offload.Ifindex
	})
	if i < 0 {
		return nil
	}
	return &b.observed.SAs[i]
}

// drainWaits says why older inbound SAs of a pair stay.
func (b *statusMaker) drainWaits(pi *PairIntent) string {
	rx, _ := pi.ids()
	if in := b.now.sas[rx]; in == nil || !heard(in) {
		return fmt.Sprintf("the first packet of %s by set %s", pi.Remote, pi.Keys.Name)
	}
	return fmt.Sprintf("nothing to come by the old keys for %s", b.observed.RetireAfter)
}

// oldSPIs returns the SPIs of inbound SAs of ours between the ends of a pair that no
// pair wants. Another pair of the same two ends, to another port, may have left them.
func (b *statusMaker) oldSPIs(pi *PairIntent) (spis []string) {
	if b.older == nil {
		b.older = map[ends][]*xfrm.SA{}
		wanted := wantedSAs(b.intent)
		for i := range b.observed.SAs {
			if s := &b.observed.SAs[i]; s.Dir == xfrm.In && !wanted[s.ID()] && !b.observed.negotiated(s) {
				b.older[ends{s.Src, s.Dst}] = append(b.older[ends{s.Src, s.Dst}], s)
			}
		}
	}
	for _, s := range b.older[ends{pi.Remote, pi.Local}] {
		spis = append(spis, spi(s.SPI))
	}
	return spis
}
