// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/saved"
	"ovs-ipsec-offload/xfrm"
)

// strictRest is how long flows are left in hardware before they are taken out
// for SAs again.
const strictRest = 10 * time.Second

// holdTries is how often the guards of a retrofit, or the proof that no flow is left
// for an SA's sake, may fail before the flows are given back.
const holdTries = 3

// holding is what the daemon remembers about flows held back. The hold itself
// stands in the database.
type holding struct {
	last   *HoldStatus
	gaveUp bool
	// made is the hold that this daemon made, until it ends: the record of it may
	// never have got into the database, or may go with a database that is replaced.
	made      *ovsdb.Hold
	safe      map[string]bool // handles of PFs whose guards stood in this boot
	strictEnd time.Time       // of the last drain for SAs
	unproven  time.Time       // when one was given up, since flows did not leave the hardware
	vain      time.Time       // when one for an IKE daemon was given up
	// purge tells that OVS has to look at its flows again once CurCfg is cfg, or
	// the row of the database another one than row.
	purge bool
	cfg   int64
	row   string
}

// HoldStatus tells about a time in which flows were held back.
type HoldStatus struct {
	Why     Why       `json:"why"`
	At      time.Time `json:"at"`
	Drained float64   `json:"drained_seconds"` // from the start until no flow was in hardware
	Total   float64   `json:"total_seconds"`   // in which traffic went by the slow path; 0: not over
}

// recall adds to what was observed what is known of holds; kept is what was saved
// in an earlier life. The caller holds mu.
func (d *Daemon) recall(s *scene, kept saved.State) {
	ob, h := &s.observed, &d.hold
	if rec := cmp.Or(s.snapshot.Host.Hold, h.made); rec != nil {
		if ob.Holding = Why(rec.Why); ob.Holding == "" {
			ob.Holding = WhyLost // a record that cannot be read: nothing is known, so nothing is taken lightly
		}
	}
	ob.Loose = s.state.Connected && ob.Holding != "" && (s.snapshot.Host.Hold == nil || s.snapshot.Host.FlowLimit != "0")
	if !s.peeked && ob.Holding == WhyRetrofit && d.host.count >= holdTries {
		h.gaveUp = true
	}
	ob.GaveUp = h.gaveUp
	now := d.cfg.Now()
	if !s.peeked && ob.Holding == WhyStrict && d.host.count >= holdTries {
		h.unproven = now
	}
	ob.Resting = now.Before(h.strictEnd.Add(strictRest)) || now.Before(h.unproven.Add(windowRest))
	ob.Protected, ob.Strict = map[int]bool{}, map[int]bool{}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		if (h.safe[pf.Handle] || kept.ProtectedIn(pf.Handle, d.cfg.BootID)) && inUse(s, pf.Ifindex) {
			ob.Protected[pf.Ifindex] = true
		}
		if d.cardOf(pf).isStrict(d.cfg.Now()) {
			ob.Strict[pf.Ifindex] = true
		}
	}
}

// inUse tells whether tunnels can begin at a PF, or their flows get into it: then a
// guard is to stand there, as for a VTEP on the loopback device.
func inUse(s *scene, ifindex int) bool {
	if slices.ContainsFunc(s.intent.Guards, func(g GuardIntent) bool { return g.PF == ifindex }) {
		return true
	}
	for a, l := range s.facts.Addrs {
		if l.Ifindex == ifindex && a.IsGlobalUnicast() {
			return true
		}
	}
	return false
}

// protect notes the PFs whose guards all stand now.
func (d *Daemon) protect(s *scene) {
	k := stateMaker{scene: s, now: s.now}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range s.facts.PFs {
		if pf := &s.facts.PFs[i]; k.protected(pf.Ifindex) {
			d.hold.safe[pf.Handle] = true
		}
	}
}

// busy tells whether the kernel refused an SA with EBUSY.
func busy(err error) bool {
	var op *xfrm.OpError
	return errors.As(err, &op) && op.Kind == xfrm.AddSA && op.Errno == unix.EBUSY
}

// bookStrict lets pairs try again at once whose SAs a PF refused that has just
// shown that it takes none beside flows: the next round knows what to do. The
// caller holds mu.
func (d *Daemon) bookStrict(s *scene) (shown bool) {
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		if s.observed.Strict[pf.Ifindex] || !d.cardOf(pf).isStrict(d.cfg.Now()) {
			continue
		}
		shown = true
		d.cfg.Log.Info("this kernel takes no SA while flows are in hardware", "pf", pf.Name)
		for j := range s.intent.Pairs {
			if pi := &s.intent.Pairs[j]; pi.PF == pf.Ifindex && busy(d.pairs[pi.Pair].err) {
				delete(d.pairs, pi.Pair)
			}
		}
	}
	return shown
}

// bookGate books what became of the gate. The caller holds mu.
func (d *Daemon) bookGate(s *scene, out Outcome) {
	h := &d.hold
	if out.Gate != nil {
		d.gate = d.gate.after(d.cfg.Now(), "gate", out.Gate)
		d.cfg.Log.Warn(out.Gate.Error())
	}
	if out.Opened {
		d.gate = trouble{}
		d.cfg.Log.Info("gate opened", "set", "other_config:hw-offload=true")
	}
	if out.Made != nil {
		h.made = out.Made
	}
	if out.Unrecorded {
		d.cfg.Log.Warn("flows are held back by hw-tc-offload alone: the database cannot be written")
	}
	if out.Held != nil {
		h.last = out.Held
		d.cfg.Log.Warn("flows are held back: traffic goes by the slow path", "why", out.Held.Why, "drained_seconds", out.Held.Drained)
	}
	if out.Freed {
		d.bookFreed(s.snapshot.Host.Hold)
	}
	if out.Opened || out.Freed {
		h.purge, h.cfg, h.row = true, out.Cfg, s.snapshot.Host.UUID
	}
}

// bookFreed books the end of a hold, which may have been begun by a daemon before
// this one: then rec is all that is known of it. The caller holds mu.
func (d *Daemon) bookFreed(rec *ovsdb.Hold) {
	h, now := &d.hold, d.cfg.Now()
	var last HoldStatus
	switch {
	case h.last != nil && h.last.Total == 0:
		last = *h.last
	case rec != nil:
		last = HoldStatus{Why: Why(rec.Why), At: rec.Since}
	default:
		last = HoldStatus{At: now}
	}
	last.Total = now.Sub(last.At).Seconds()
	h.last, h.made, d.consent = &last, nil, time.Time{}
	if last.Why == WhyStrict {
		h.strictEnd = now
	}
	d.cfg.Log.Info("flows may be offloaded again", "why", last.Why, "total_seconds", last.Total)
}

// purge makes OVS look at its flows again once it knows that it may offload:
// those that it put into its own datapath meanwhile would stay there.
func (d *Daemon) purge(s *scene) {
	d.mu.Lock()
	due := d.hold.purge && (s.snapshot.Host.CurCfg >= d.hold.cfg || s.snapshot.Host.UUID != d.hold.row)
	d.hold.purge = d.hold.purge && !due
	d.mu.Unlock()
	if due && d.cfg.Released != nil {
		d.cfg.Released()
	}
}
