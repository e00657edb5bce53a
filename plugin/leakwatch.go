// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/xfrm"
)

// counterLag is how old a counter of a NIC may be when it is read: mlx5 asks the
// firmware once a second (MLX5_FC_STATS_PERIOD in fs_counters.c).
const counterLag = 1250 * time.Millisecond

// leakWatch is what the daemon keeps for its Meter.
type leakWatch struct {
	meter   *Meter
	running bool           // rules are being read
	got     *TunnelReading // read, and not given to the meter yet
	err     error          // of the last reading of the rules
	retry   time.Time      // not before then is it tried again
	blocked map[Pair]LeakBlock
	again   bool                // the intent has changed: a round is needed at once
	witness map[int]xfrm.Policy // in each NIC; only rounds look at it
}

// LeakBlock keeps a pair that leaked from sending, for as long as it has the
// same keys.
type LeakBlock struct {
	Keys    string
	Problem Problem
}

// measure gives the meter what the round has seen, reads what the meter wants,
// and tells what it found.
func (d *Daemon) measure(ctx context.Context, s *scene) {
	if len(s.facts.PFs) == 0 {
		return
	}
	sample := d.sample(s)
	if d.wishes(WishMark) {
		sample.NICs = d.counters(ctx, s)
		sample.Read.To = d.cfg.Now()
	}
	d.step(s, func(m *Meter) []Finding { return m.Step(sample) })
	if d.wishes(WishTunnels) {
		d.readTunnels(ctx, s)
	}
	d.step(s, func(m *Meter) []Finding {
		r := d.leak.got
		if d.leak.got = nil; r == nil {
			return nil
		}
		return m.Take(r)
	})
}

// glance tells the meter what was seen before something was done at once, so that
// it knows who was exposed.
func (d *Daemon) glance(s *scene) {
	sample := d.sample(s)
	d.step(s, func(m *Meter) []Finding { m.Glance(sample); return nil })
}

// step lets the meter do something, and tells what it found.
func (d *Daemon) step(s *scene, do func(*Meter) []Finding) {
	d.mu.Lock()
	found := do(d.leak.meter)
	d.block(s, found)
	d.mu.Unlock()
	for _, f := range found {
		d.cfg.Log.Error("clear text", "code", f.Code, "pair", f.Pair.String(), "packets_at_least", f.Packets, "exposed_at_most", f.Exposed)
	}
}

// wishes tells whether the meter wants that to be read now.
func (d *Daemon) wishes(what Wish) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	wish, at := d.leak.next(d.cfg.AuditEvery, d.cfg.Now())
	return wish == what && !at.After(d.cfg.Now())
}

func (w *leakWatch) next(every time.Duration, now time.Time) (Wish, time.Time) {
	wish, at := w.meter.Next()
	if w.got != nil {
		return 0, now
	}
	if wish == WishTunnels && w.running {
		return 0, now.Add(every)
	}
	if wish == WishTunnels && w.retry.After(at) {
		at = w.retry
	}
	return wish, at
}

// sample is what the scene says to the meter.
func (d *Daemon) sample(s *scene) Sample {
	out := Sample{Read: s.read, SAs: s.observed.SAs, Courses: make(map[Pair]Course, len(s.intent.Pairs)), Guards: map[VTEP]int{}}
	b := statusMaker{scene: s, now: s.now}
	for i := range s.intent.Pairs {
		pi := &s.intent.Pairs[i]
		way := map[string]course{StateEncrypted: toSA, StateBlocked: toGuard, StateClear: toWish, StateUnprotected: toNowhere}[b.stateOf(pi)]
		if way == toNowhere && downNIC(s.facts, pi.Local) {
			way = toWish // rules may count there, but nothing leaves
		}
		out.Courses[pi.Pair] = Course{pi.PF, way}
	}
	for _, g := range s.intent.Guards {
		if p := b.now.policies[place{xfrm.Out, g.selector(xfrm.Out)}]; p != nil && p.Action == xfrm.Block {
			out.Guards[g.VTEP] = p.Offload.Ifindex
		}
	}
	out.Off = d.leak.off(s, b.now)
	return out
}

// off returns the PFs that are down, or were since the last time: then the kernel
// has dropped all that they held (xfrm_dev_down in net/xfrm/xfrm_device.c). One
// policy in each stands for all.
func (w *leakWatch) off(s *scene, now *view) map[int]bool {
	off := map[int]bool{}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		old, had := w.witness[pf.Ifindex]
		p := now.policies[placeOf(&old)]
		stands := had && p != nil && p.Index == old.Index && p.Offload.Ifindex == pf.Ifindex
		if !pf.Up || had && !stands {
			off[pf.Ifindex] = true
		}
		if !stands {
			w.swear(pf.Ifindex, s.observed.Policies)
		}
	}
	return off
}

// swear takes a policy for a witness: a guard if there is one, which stays longest.
func (w *leakWatch) swear(pf int, ps []xfrm.Policy) {
	if w.witness == nil {
		w.witness = map[int]xfrm.Policy{}
	}
	delete(w.witness, pf)
	for i := range ps {
		if ps[i].Offload.Ifindex != pf {
			continue
		}
		w.witness[pf] = ps[i]
		if _, is := vtepOf(&ps[i]); is {
			return
		}
	}
}

// downNIC tells whether the NIC that has the address of a VTEP is down.
func downNIC(facts devlink.Facts, local netip.Addr) bool {
	return slices.ContainsFunc(facts.PFs, func(p devlink.PF) bool { return !p.Up && p.Ifindex == facts.Addrs[local].Ifindex })
}

// counters reads the counters of all PFs. One that cannot be read is left out,
// and the meter then compares nothing of it.
func (d *Daemon) counters(ctx context.Context, s *scene) map[int]NICCount {
	counts := map[int]NICCount{}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		c, err := d.cfg.NIC.Counters(ctx, pf.Name)
		if err != nil {
			d.cfg.Log.Debug("leak meter", "err", err)
			continue
		}
		counts[pf.Ifindex] = NICCount{Encrypted: c["ipsec_tx_pkts"], Dropped: c["ipsec_tx_drop_pkts"]}
	}
	return counts
}

// readTunnels reads what rules have counted, beside the rounds if it may: a round
// may have to stop a leak meanwhile.
func (d *Daemon) readTunnels(ctx context.Context, s *scene) {
	devs := map[int]int{}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		for _, dev := range s.facts.RuleDevs(*pf) {
			if _, known := devs[dev]; !known {
				devs[dev] = 0
			}
		}
		devs[pf.Ifindex] = pf.Ifindex
		for _, r := range pf.Representors {
			devs[r.Ifindex] = pf.Ifindex
		}
	}
	d.mu.Lock()
	d.leak.running = true
	d.mu.Unlock()
	d.beside(func() {
		r := &TunnelReading{Read: Span{From: d.cfg.Now()}, Devs: devs}
		var err error
		r.Rules, err = d.cfg.Flows.Tunnels(ctx, slices.Sorted(maps.Keys(devs)))
		r.Read.To = d.cfg.Now()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.leak.running, d.leak.err = false, err
		if err == nil {
			d.leak.got = r
		} else {
			d.leak.retry = d.cfg.Now().Add(d.cfg.AuditEvery)
		}
	})
}

// beside runs f beside the rounds, and asks for one when it is done.
func (d *Daemon) beside(f func()) {
	if d.cfg.Beside == nil {
		f()
		return
	}
	d.cfg.Beside(func() { f(); d.Poke() })
}

// block keeps pairs that leaked from sending, if the operator wants it. The lock
// is held.
func (d *Daemon) block(s *scene, found []Finding) {
	if !d.settings.BlockLeaks {
		return
	}
	for _, f := range found {
		pi := s.intent.pair(f.Pair)
		if pi == nil || pi.Want != Encrypt && pi.Want != Negotiate {
			continue
		}
		text := "the pair leaked and on_leak is block: it stays blocked until ovs-ipsec-offload is started again"
		if pi.Want == Encrypt {
			text += " or the pair gets new keys"
		}
		d.leak.blocked[f.Pair] = LeakBlock{pi.Keys.Name, Problem{f.Code, text}}
		d.leak.again = true
	}
}

// leaked returns the pairs that stay blocked since they leaked.
func (d *Daemon) leaked() map[Pair]LeakBlock {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.settings.BlockLeaks {
		return nil
	}
	return maps.Clone(d.leak.blocked)
}

// leakRound returns when the meter wants a round. The lock is held.
func (d *Daemon) leakRound(now time.Time, s *scene) time.Time {
	if d.leak.again {
		d.leak.again = false
		return now
	}
	if len(s.facts.PFs) == 0 {
		return now.Add(d.cfg.AuditEvery)
	}
	_, at := d.leak.next(d.cfg.AuditEvery, now)
	return at
}

// LeakStatus tells what leaked of a pair since the daemon started. Counters of a
// NIC give bounds, no exact figure.
type LeakStatus struct {
	Out        uint64    `json:"out"`             // packets that left without the pair's SA, at least
	Exposed    uint64    `json:"exposed_at_most"` // packets that left while the pair was neither encrypted nor blocked, at most; Out holds what is certain of them
	In         uint64    `json:"in"`              // packets in clear text that flows took from the wire, at least
	Since      time.Time `json:"since"`           // first found
	Last       time.Time `json:"last"`            // last found
	LeakingOut bool      `json:"leaking_out"`     // it grew lately
	LeakingIn  bool      `json:"leaking_in"`
}

// MeterStatus is what the leak meter counted on a PF since the daemon started.
type MeterStatus struct {
	Encap     uint64    `json:"encap"`     // packets that flows of pairs that ask for IPsec put into tunnels
	Encrypted uint64    `json:"encrypted"` // packets that the NIC encrypted, also those of the slow path
	Dropped   uint64    `json:"dropped"`   // packets that a policy dropped on their way out
	Leaked    uint64    `json:"leaked"`    // packets that were neither, at least
	Compared  time.Time `json:"compared"`  // when flows were last compared with the rest
}

// leakStatus adds what the meter says to the status. The lock is held.
func (w *leakWatch) leakStatus(s *scene, st *Status) {
	for i := range st.PFs {
		st.PFs[i].Meter = w.meter.status(s.facts.PFs[i].Ifindex)
	}
	for i := range st.Pairs {
		w.pairLeak(s.intent.Pairs[i].Pair, &st.Pairs[i])
	}
	if w.err != nil {
		st.Problems = append(st.Problems, Problem{"LEAK_BLIND", "leaks are not seen: " + flat(w.err)})
	}
}

func (m *Meter) status(pf int) *MeterStatus {
	if m.prev == nil {
		return nil
	}
	n := m.nics[pf]
	st := &MeterStatus{Encap: m.prev.all[pf], Encrypted: n.Encrypted, Dropped: n.Dropped, Compared: m.prev.read.To}
	if g := m.nic[pf]; g != nil {
		st.Leaked = g.told + g.blocked.told + g.all.told
	}
	return st
}

func (w *leakWatch) pairLeak(p Pair, st *PairStatus) {
	l, now := w.meter.Leak(p)
	if l.Since.IsZero() {
		return
	}
	st.Leak = &LeakStatus{Out: l.Out, Exposed: l.Exposed, In: l.In, Since: l.Since, Last: l.Last, LeakingOut: now.Out, LeakingIn: now.In}
	last := l.Last.UTC().Format(time.RFC3339)
	if now.Out && st.State != StateUnprotected {
		st.State = StateLeaking
	}
	switch {
	case st.Problem != nil && !(now.Out && st.State == StateLeaking):
	case now.Out:
		st.Problem = &Problem{LeakOut, fmt.Sprintf("%s packets left the NIC without the pair's SA, the last seen at %s: look for policies of others in front of ours (ip xfrm policy), "+
			"flows from before the tables, or a fault of the NIC; stop the traffic or set on_leak=block", bounds(l), last)}
	case now.In:
		st.Problem = &Problem{LeakIn, fmt.Sprintf("at least %d packets came from the wire in clear text and were taken by a flow, the last seen at %s: "+
			"the peer leaks, or somebody sends in its name", l.In, last)}
	case now.Mended:
		st.Problem = &Problem{LeakOut, fmt.Sprintf("%s packets left the NIC in clear text while the pair was neither encrypted nor blocked, the last seen at %s; that is over", bounds(l), last)}
	}
}

// bounds says how many packets leaked outbound.
func bounds(l Leak) string {
	if l.Out == 0 && l.Exposed == 0 {
		return "some of its and other pairs'"
	}
	if l.Out == 0 {
		return fmt.Sprintf("up to %d", l.Exposed)
	}
	return fmt.Sprintf("at least %d", l.Out)
}
