// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// ProbeSPI is the SPI of the first SA that only tries a NIC.
const ProbeSPI = probeSPI

// Round makes one round and returns how long the next may wait.
func (d *Daemon) Round(ctx context.Context) time.Duration { return d.round(ctx) }

// Rest rests as after a round that took so long and lets the next one wait for again.
func (d *Daemon) Rest(ctx context.Context, round, again time.Duration) { d.rest(ctx, round, again) }

// Gather waits as before a round that was asked for, when the last one took so long.
func (d *Daemon) Gather(ctx context.Context, round time.Duration) { d.gather(ctx, round) }

// Asked tells whether a round is asked for.
func (d *Daemon) Asked() bool { return len(d.dirty) > 0 }

// Look observes and plans, and changes nothing.
func (d *Daemon) Look(ctx context.Context) (Intent, Observed, Plan, error) {
	s, err := d.look(ctx, d.consents())
	if err != nil {
		return Intent{}, Observed{}, Plan{}, err
	}
	return s.intent, s.observed, s.plan, nil
}

// Apply carries out a plan with the hands of cfg, for PFs of those names.
func Apply(ctx context.Context, cfg Config, p Plan, links map[int]string) Outcome {
	facts, err := cfg.NIC.Facts(ctx)
	if err != nil {
		return Outcome{Host: err}
	}
	a := newApplier(cfg, facts)
	a.links = links
	return a.apply(ctx, facts, p)
}

// Fenced returns the devices whose hw-tc-offload a hold has to give back.
func Fenced(facts devlink.Facts, h *ovsdb.Hold) []int { return fenced(facts, h) }

// Audit is what the daemon knows of what SAs refused.
type Audit = audit

// Look returns what SAs refused since the last look.
func (a *audit) Look(sas []xfrm.SA) []AuditEvent { return a.look(sas) }

// CodeOf returns the code that an operator is told of an error.
func CodeOf(err error) string { return problemOf(err).Code }

// Saw makes s what the last round saw, with flows held back for that reason, if any.
// There is a guard where a tunnel asks for IPsec.
func (d *Daemon) Saw(s ovsdb.Snapshot, holding Why) {
	d.seen = &scene{snapshot: s, observed: Observed{Holding: holding}}
	for _, t := range s.Tunnels {
		if t.IPsec {
			d.seen.intent.Guards = append(d.seen.intent.Guards, GuardIntent{VTEP: VTEP{t.Local, t.DstPort}})
		}
	}
}

// Failed books a failure of host scope.
func (d *Daemon) Failed(err error) { d.hostTrouble(err) }
