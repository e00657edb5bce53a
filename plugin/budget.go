// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"math"
	"slices"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// What one key may be used for. AES-GCM loses its margin with the data under one
// key: after 2^45 bytes an attacker's advantage is still below 2^-40, and that is
// 47 minutes at 100 Gbit/s (SP 800-38D; advantage as in draft-irtf-cfrg-aead-limits).
// Sequence numbers end at 2^32 without ESN, and at 2^64 with it.
const (
	budgetBytes    = 1 << 45
	budgetShortSeq = 1 << 32
)

// budgetAsk is the used share of a budget at which new keys are asked for: what is
// left is time to get them.
const budgetAsk = 0.75

// Budget is how much of what one key may be used for is used.
type Budget struct {
	Used float64 `json:"used"` // share, 1 is all
	Of   string  `json:"of"`   // "bytes" or "sequence numbers", whichever ends first
	Age  float64 `json:"age_seconds"`
	// Left is in how many seconds it ends if traffic goes on as it was on average;
	// 0 when that is longer than ten years.
	Left float64 `json:"left_seconds,omitempty"`
}

// tenYears is beyond any forecast, in seconds.
const tenYears = 10 * 365 * 24 * 3600

// BudgetOf returns the budget of an outbound SA at a time, from the NIC's counts.
func BudgetOf(s *xfrm.SA, now time.Time) *Budget {
	b := &Budget{Used: float64(s.Stats.Bytes) / budgetBytes, Of: "bytes", Age: max(0, now.Sub(time.Unix(s.Stats.Added, 0)).Seconds())}
	seq := math.Exp2(64)
	if !s.ESN {
		seq = budgetShortSeq
	}
	if u := float64(s.Stats.Packets) / seq; u > b.Used {
		b.Used, b.Of = u, "sequence numbers"
	}
	if left := b.Age * (1 - b.Used) / b.Used; b.Used > 0 && left < tenYears {
		b.Left = max(0, left)
	}
	return b
}

// short tells whether new keys should be there soon.
func (b *Budget) short() bool { return b != nil && b.Used >= budgetAsk }

// note says so to the operator of a one-shot key set.
func (b *Budget) note(keys string) *Problem {
	return problem("KEY_BUDGET", "%.0f %% of the %s that key set %s is good for are used, and the rest lasts for %s: rotate it to new keys",
		100*b.Used, b.Of, keys, fmt.Sprint((time.Duration(b.Left) * time.Second).Round(time.Minute)))
}

// replenish asks the IKE daemon for new keys where a budget runs short, and tells
// of the others. Nothing stops by itself: an outbound SA has no hard limit.
func (d *Daemon) replenish(s *scene) {
	carriers, now := s.observed.carriers, d.cfg.Now()
	asked := map[xfrm.SAID]bool{}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		sa := carriers[stream{pi.Pair, xfrm.Out}]
		if pi.Want != Negotiate || sa == nil {
			continue
		}
		b := BudgetOf(sa, now)
		if !b.short() {
			continue
		}
		d.mu.Lock()
		again := d.asked[sa.ID()]
		d.mu.Unlock()
		if asked[sa.ID()] = true; !again {
			d.cfg.Log.Info("keys are used up soon: new ones are asked for", "pair", pi.Pair.String(), "used", b.Used, "of", b.Of)
			d.cfg.IKE.Rekey(pi.IKE.Name)
		}
	}
	d.mu.Lock()
	d.asked = asked
	d.mu.Unlock()
}

// budget says how much of a pair's outbound key is used. New keys of IKE come by
// themselves.
func (b *statusMaker) budget(p *PairStatus, out *xfrm.SA) {
	if out == nil {
		return
	}
	p.Budget = BudgetOf(out, b.at)
	if p.Budget.short() && p.Keys != "" && (p.Rotation == nil || p.Rotation.Stage == StageDrain) {
		p.Notes = append(slices.Clone(p.Notes), *p.Budget.note(p.Keys))
	}
}
