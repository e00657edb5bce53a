// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// AuditEvent is something that an auditor wants to hear of (RFC 4301, section 5.2;
// RFC 4303, section 3.4): packets that an inbound SA refused.
type AuditEvent struct {
	Event string // AuditIntegrity, AuditReplay or AuditLate
	SA    xfrm.SAID
	Pair  Pair // of what is known of it: the port may be 0
	Count uint32
}

// The kinds of AuditEvent.
const (
	AuditIntegrity = "integrity" // forged or damaged: bad ICV
	AuditReplay    = "replay"    // seen before
	AuditLate      = "late"      // older than the replay window
)

// audit keeps what SAs had refused at the last look.
type audit map[xfrm.SAID]xfrm.Stats

// look returns what SAs refused since the last look. An SA that was not there then
// has refused all that it counts.
func (a *audit) look(sas []xfrm.SA) (events []AuditEvent) {
	now := make(audit, len(*a))
	for i := range sas {
		s := &sas[i]
		if s.Dir != xfrm.In {
			continue
		}
		was := (*a)[s.ID()]
		if was.Added != s.Stats.Added {
			was = xfrm.Stats{}
		}
		now[s.ID()] = s.Stats
		for _, c := range []struct {
			event     string
			was, that uint32
		}{{AuditIntegrity, was.Auth, s.Stats.Auth}, {AuditReplay, was.Replay, s.Stats.Replay}, {AuditLate, was.ReplayWindow, s.Stats.ReplayWindow}} {
			if c.that > c.was {
				events = append(events, AuditEvent{c.event, s.ID(), Pair{Local: s.Dst, Remote: s.Src}, c.that - c.was})
			}
		}
	}
	*a = now
	slices.SortStableFunc(events, func(x, y AuditEvent) int {
		return cmp.Or(x.SA.Dst.Compare(y.SA.Dst), cmp.Compare(x.SA.SPI, y.SA.SPI))
	})
	return events
}

// record writes a record of each event. Only rounds keep them, and only one at a time.
func (d *Daemon) record(s *scene) {
	for _, e := range d.audit.look(s.observed.SAs) {
		d.cfg.Log.Warn("audit", "event", e.Event, "local", e.Pair.Local, "remote", e.Pair.Remote, "spi", spi(e.SA.SPI), "packets", e.Count)
	}
}
