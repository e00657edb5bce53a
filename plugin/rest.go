// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
)

// Alarm asks for a round because something of ours may have gone from the kernel.
// What stops clear text comes first then, before the rest of the host is looked at.
func (d *Daemon) Alarm() {
	d.alarm.Store(true)
	signal(d.haste)
	d.Poke()
}

// Poke asks for a round; what happened is found by looking.
func (d *Daemon) Poke() { signal(d.dirty) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// While more than restAbove pairs are being keyed, a round is followed by a rest that
// is roundRestTimes as long, and no longer than roundRestMost: a round for every step of every
// pair would take from the IKE daemon the time that it needs, and show nothing. An
// alarm ends the rest, and so does a tunnel whose VTEP may have no guard yet.
const (
	restAbove      = 4
	roundRestTimes = 20
	roundRestMost  = 10 * time.Second
)

// rest lets what happens meanwhile come together in one round.
func (d *Daemon) rest(ctx context.Context, round time.Duration) {
	if d.coming() <= restAbove {
		return
	}
	timer := time.NewTimer(min(roundRestTimes*round, roundRestMost))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.haste:
			return
		case <-timer.C:
			return
		case <-d.cfg.Database.Changed():
			d.Poke() // the change is still to be seen
			if d.hasNewEnd() {
				return
			}
		}
	}
}

// hasNewEnd tells whether a tunnel may need a guard, or a NIC, that the last round did not
// give its VTEP.
func (d *Daemon) hasNewEnd() bool {
	d.mu.Lock()
	seen := d.seen
	d.mu.Unlock()
	if seen == nil {
		return true
	}
	known := map[tunnelEnd]bool{}
	for i := range seen.snapshot.Tunnels {
		known[endOf(&seen.snapshot.Tunnels[i])] = true
	}
	now, _ := d.cfg.Database.Current()
	return slices.ContainsFunc(now.Tunnels, func(t ovsdb.Tunnel) bool { return !known[endOf(&t)] })
}

// tunnelEnd is a VTEP as the database names it, with what a round does about it. Routing
// gives a tunnel without local_ip the address that others to its peer have.
type tunnelEnd struct {
	local, remote netip.Addr
	port          uint16
	dev           string // the NIC, if the port names it
	ipsec         bool   // a plain tunnel has no guard
}

func endOf(t *ovsdb.Tunnel) tunnelEnd {
	e := tunnelEnd{local: t.Local, port: t.DstPort, dev: t.Dev, ipsec: t.IPsec}
	if !t.Local.IsValid() {
		e.remote = t.Remote
	}
	return e
}

// What happens seldom comes alone: an IKE daemon makes the SAs and policies of a pair one
// by one. So a round that was asked for, other than by an alarm, waits for a part of what
// the last one took, and no longer than gatherMost, for what else is coming.
const (
	gatherPart = 4
	gatherMost = 250 * time.Millisecond
)

// gather lets what happens at once come together in one round.
func (d *Daemon) gather(ctx context.Context, round time.Duration) {
	if d.alarm.Load() {
		round = 0 // a rest that it ended took the haste
	}
	timer := time.NewTimer(min(round/gatherPart, gatherMost))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-d.haste:
	case <-timer.C:
	}
	select {
	case <-d.dirty: // for what this round will see
	default:
	}
}

// coming returns how many pairs the IKE daemon is at, without those whose last attempt has
// failed: a peer may be down for days.
func (d *Daemon) coming() int {
	if d.cfg.IKE == nil {
		return 0
	}
	n := 0
	for _, c := range d.cfg.IKE.State().Conns {
		if c.Problem == nil && (c.Phase == ike.Loading || c.Phase == ike.Waiting || c.Phase == ike.Connecting) {
			n++
		}
	}
	return n
}
