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
	d.hurry()
}

// hurry asks for a round that nothing is to hold up.
func (d *Daemon) hurry() {
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
// is roundRestTimes as long, and no longer than roundRestMost or than the round said that
// it may be: a round for every step of every pair would take from the IKE daemon the time
// that it needs, and show nothing. Pairs that failed and are tried again count only for a
// rest of failedRestTimes: their peers may be down for days. An alarm ends the rest, and so
// does a tunnel that cannot wait.
const (
	restAbove       = 4
	roundRestTimes  = 20
	failedRestTimes = 3
	roundRestMost   = 10 * time.Second
)

// rest lets what happens meanwhile come together in one round, but not while something
// failed or flows are held back, which a round is to end as soon as it can.
func (d *Daemon) rest(ctx context.Context, round, again time.Duration) {
	most := min(d.restTimes()*round, roundRestMost, again)
	if most <= 0 || d.pressing() {
		return
	}
	timer := time.NewTimer(most)
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
			if d.cannotWait() {
				d.hurry()
				return
			}
		}
	}
}

// pressing tells whether the last round left something that cannot wait.
func (d *Daemon) pressing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.host.count > 0 || d.seen != nil && d.seen.observed.Holding != ""
}

// cannotWait tells whether a tunnel that asks for IPsec may stand without the guard, or
// behind the bypass, that the last round left, or a plain one without the bypass that it
// needs, as what it sends to a guarded UDP port is blocked.
func (d *Daemon) cannotWait() bool {
	d.mu.Lock()
	seen := d.seen
	d.mu.Unlock()
	if seen == nil {
		return true
	}
	was := lastSeen(seen)
	now, _ := d.cfg.Database.Current()
	for p := range plainAlone(now.Tunnels) {
		if was.ports[p.Port] && p.Remote.IsValid() && !was.plain[p] {
			return true
		}
	}
	return slices.ContainsFunc(now.Tunnels, func(t ovsdb.Tunnel) bool { return t.IPsec && was.unguarded(&t) })
}

// seenTunnels is what the last round saw of tunnels.
type seenTunnels struct {
	secure   map[securePair]bool
	guarded  map[tunnelEnd]bool // where one asked for IPsec
	bypassed map[tunnelEnd]bool // remote ends of plain ones
	plain    map[Pair]bool      // see plainAlone
	ports    map[uint16]bool    // UDP ports of guards
}

// securePair are the ends of a tunnel that asks for IPsec.
type securePair struct {
	tunnelEnd
	remote netip.Addr
}

func lastSeen(s *scene) seenTunnels {
	was := seenTunnels{map[securePair]bool{}, map[tunnelEnd]bool{}, map[tunnelEnd]bool{}, plainAlone(s.snapshot.Tunnels), map[uint16]bool{}}
	for _, g := range s.intent.Guards {
		was.ports[g.Port] = true
	}
	for i := range s.snapshot.Tunnels {
		if t := &s.snapshot.Tunnels[i]; t.IPsec {
			was.secure[securePair{guardOf(t), t.Remote}], was.guarded[guardOf(t)] = true, true
		} else {
			was.bypassed[tunnelEnd{addr: t.Remote, port: t.DstPort}] = true
		}
	}
	return was
}

// plainAlone returns the pairs that have plain ports and no others, by which those would go.
func plainAlone(ts []ovsdb.Tunnel) map[Pair]bool {
	alone := map[Pair]bool{}
	for i := range ts {
		if !ts[i].IPsec {
			alone[rowPair(&ts[i])] = true
		}
	}
	for i := range ts {
		if ts[i].IPsec {
			delete(alone, rowPair(&ts[i]))
		}
	}
	return alone
}

// unguarded tells whether a tunnel that asks for IPsec is new, and was not foreseen.
func (was *seenTunnels) unguarded(t *ovsdb.Tunnel) bool {
	return !was.secure[securePair{guardOf(t), t.Remote}] && (!was.guarded[guardOf(t)] ||
		was.bypassed[tunnelEnd{addr: t.Remote, port: t.DstPort}] || was.bypassed[tunnelEnd{port: t.DstPort}])
}

// rowPair returns the pair as the row has it: without a local address if that names none.
func rowPair(t *ovsdb.Tunnel) Pair { return Pair{t.Local, t.Remote, t.DstPort} }

// tunnelEnd is one end of tunnels: the address, zero if it may be any, and the UDP port.
type tunnelEnd struct {
	addr netip.Addr
	port uint16
	dev  string // the NIC, if the port names it
}

// guardOf returns where the guard of a tunnel stands. One without local_ip has guards at
// all addresses that it may get.
func guardOf(t *ovsdb.Tunnel) tunnelEnd { return tunnelEnd{t.Local, t.DstPort, t.Dev} }

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

// restTimes returns how many times as long as a round the rest after it is to be, by what
// the IKE daemon is at. One that is down is at nothing.
func (d *Daemon) restTimes() time.Duration {
	if d.cfg.IKE == nil {
		return 0
	}
	st := d.cfg.IKE.State()
	if st.Problem != nil {
		return 0
	}
	coming, again := 0, 0
	for _, c := range st.Conns {
		switch {
		case c.Phase == ike.Failed, c.Problem != nil && c.Phase != ike.Up:
			again++
		case c.Phase == ike.Loading, c.Phase == ike.Waiting, c.Phase == ike.Connecting:
			coming++
		}
	}
	switch {
	case coming > restAbove:
		return roundRestTimes
	case coming+again > restAbove:
		return failedRestTimes
	}
	return 0
}
