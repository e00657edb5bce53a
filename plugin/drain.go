// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
)

// Limits of a drain. Open vSwitch withdraws its flows within a second when its
// flow-limit is 0; what is left then is taken out for it.
const (
	drainPatience = 2 * time.Second
	drainLimit    = 10 * time.Second
	drainPause    = 10 * time.Millisecond
)

// drainer takes flows out of hardware and lets them in again.
type drainer struct {
	db    Database
	nic   NIC
	flows Flows
	gate  Gate
	now   func() time.Time
	pause func(ctx context.Context, d time.Duration)
	boot  string // id of this boot
	// made is the hold that this daemon made, if one stands: the database may not
	// know of it, or know it no more.
	made *ovsdb.Hold
}

func newDrainer(cfg Config) drainer {
	return drainer{db: cfg.Database, nic: cfg.NIC, flows: cfg.Flows, gate: cfg.Gate, now: cfg.Now, pause: cfg.Pause, boot: cfg.BootID}
}

// hold drains the flows of PFs and keeps new ones out, until free. It proves by a
// look at the hardware that none is left. What it changes is recorded in the
// database, so that whoever comes after a crash can take it back: before it is
// changed, or where every moment leaks just after; a record that cannot be written
// then is no failure. What it made is returned as soon as anything was changed.
// Whatever fails, flows stay held: the slow path is blocked or encrypted by the
// host's stack.
func (d drainer) hold(ctx context.Context, facts devlink.Facts, what *Drain) (made *ovsdb.Hold, recorded bool, err error) {
	if what.Why.Fast() {
		// Whatever this gives, it is looked at again below. OVS does not notice
		// that its rules are out, so the fence may come a moment later.
		_, _ = d.gate.Evict(ctx, ruleDevs(facts, pfsOf(facts, what.PFs)))
	}
	entry, err := d.entry(ctx, facts, what)
	if err != nil {
		return nil, false, fmt.Errorf("hold flows: %w", err)
	}
	_, err = d.db.Hold(ctx, entry)
	if err != nil && !what.Why.Fast() {
		return nil, false, fmt.Errorf("hold flows: %w", err)
	}
	return &entry, err == nil, d.empty(ctx, facts, what)
}

// entry is the record of a hold: it names the devices whose hw-tc-offload is on
// and will be turned off, and those that this daemon turned off before.
func (d drainer) entry(ctx context.Context, facts devlink.Facts, what *Drain) (ovsdb.Hold, error) {
	h := ovsdb.Hold{Why: string(what.Why), Since: d.now(), Boot: d.boot, Fenced: map[int]string{}}
	pfs := pfsOf(facts, what.PFs)
	if d.made != nil {
		maps.Copy(h.Fenced, d.made.Fenced)
	}
	on, err := d.gate.Offloading(ctx, append(representors(pfs), what.PFs...))
	for _, l := range links(pfs) {
		if slices.Contains(on, l.Ifindex) {
			h.Fenced[l.Ifindex] = l.Name
		}
	}
	return h, err
}

// empty fences the devices and waits until no flow is left in hardware. What OVS
// does not withdraw is taken out for it: at once where it leaks or OVS does not run,
// else after a while.
func (d drainer) empty(ctx context.Context, facts devlink.Facts, what *Drain) error {
	began := d.now()
	fast := what.Why.Fast()
	if !fast {
		runs, err := d.gate.Running(ctx)
		fast = err == nil && !runs
	}
	for {
		pfs := pfsOf(facts, what.PFs)
		left, err := d.press(ctx, facts, pfs, fast || d.now().Sub(began) >= drainPatience)
		switch {
		case err != nil:
			return fmt.Errorf("hold flows: %w", err)
		case left == 0:
			return nil
		case d.now().Sub(began) >= drainLimit:
			return &Problem{"HOLD_TIMEOUT", fmt.Sprintf("%d flows are still in hardware after %s with flow-limit=0 and hw-tc-offload off: something else than Open vSwitch offloads them; "+
				"see `tc -s filter show dev DEV ingress` for each representor and tunnel device", left, drainLimit)}
		}
		if d.pause(ctx, drainPause); ctx.Err() != nil {
			return fmt.Errorf("hold flows: %w", ctx.Err())
		}
		// Representors may have come meanwhile, and they come without the fence.
		if facts, err = d.nic.Facts(ctx); err != nil {
			return fmt.Errorf("hold flows: read NIC facts: %w", err)
		}
	}
}

// press fences representors, takes flows out if it has to, and returns how many are
// left. When there are none it fences the PFs as well, which the driver refuses
// while tunnel flows are there, and counts again.
func (d drainer) press(ctx context.Context, facts devlink.Facts, pfs []devlink.PF, remove bool) (int, error) {
	open := d.fence(ctx, representors(pfs))
	devs := ruleDevs(facts, pfs)
	if remove { // also when the fence failed: what is out leaks no more
		if _, err := d.gate.Evict(ctx, devs); err != nil {
			return 0, errors.Join(open, fmt.Errorf("take flows out of hardware: %w", err))
		}
	}
	rep, err := d.flows.Offloaded(ctx, devs)
	if err = errors.Join(open, err); err != nil || rep.Total > 0 {
		return rep.Total, err
	}
	if err := d.fence(ctx, ifindexes(pfs)); fenceCode(err) == "GATE_FENCE_BUSY" {
		return 1, nil // a tunnel flow came in meanwhile
	} else if err != nil {
		return 0, err
	}
	rep, err = d.flows.Offloaded(ctx, devs)
	return rep.Total, err
}

// fence turns hw-tc-offload of devices off. Where it cannot be switched flow-limit
// alone keeps flows out.
func (d drainer) fence(ctx context.Context, devs []int) error {
	_, err := d.gate.Fence(ctx, devs, false)
	if fenceCode(err) == "GATE_FENCE_FIXED" {
		return nil
	}
	return err
}

func fenceCode(err error) string {
	var p *Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

// proven looks again after the first object was made: a flow that is there now
// came in through the fence.
func (d drainer) proven(ctx context.Context, facts devlink.Facts, what *Drain) error {
	rep, err := d.flows.Offloaded(ctx, ruleDevs(facts, pfsOf(facts, what.PFs)))
	if err != nil {
		return fmt.Errorf("prove the drain: %w", err)
	}
	if rep.Total > 0 {
		return &Problem{"HOLD_RACED", fmt.Sprintf("%d flows came into hardware although they were held back; they are taken out again", rep.Total)}
	}
	return nil
}

// free ends a hold: it lifts the fence and gives OVS its flow-limit back. It
// returns the CurCfg from which on ovs-vswitchd knows it.
func (d drainer) free(ctx context.Context, facts devlink.Facts) (cfg int64, err error) {
	snap, _ := d.db.Current()
	for _, h := range []*ovsdb.Hold{snap.Host.Hold, d.made} {
		if h == nil || h.Boot != d.boot {
			continue
		}
		if _, err := d.gate.Fence(ctx, fenced(facts, h), true); err != nil {
			return 0, fmt.Errorf("free flows: turn hw-tc-offload on: %w", err)
		}
	}
	if cfg, err = d.db.Unhold(ctx); err != nil && snap.Host.Hold != nil {
		return 0, fmt.Errorf("free flows: %w", err)
	}
	return cfg, nil
}

// pfsOf returns the PFs of those ifindexes that exist.
func pfsOf(facts devlink.Facts, ifindexes []int) []devlink.PF {
	return slices.DeleteFunc(slices.Clone(facts.PFs), func(p devlink.PF) bool { return !slices.Contains(ifindexes, p.Ifindex) })
}

func ifindexes(pfs []devlink.PF) []int {
	var all []int
	for i := range pfs {
		all = append(all, pfs[i].Ifindex)
	}
	return all
}

func representors(pfs []devlink.PF) []int {
	var devs []int
	for i := range pfs {
		for _, r := range pfs[i].Representors {
			devs = append(devs, r.Ifindex)
		}
	}
	return devs
}

// ruleDevs returns the devices whose rules can be in one of the PFs, representors
// first: what their rules let in leaves by the wire.
func ruleDevs(facts devlink.Facts, pfs []devlink.PF) []int {
	devs := representors(pfs)
	for i := range pfs {
		for _, dev := range facts.RuleDevs(pfs[i]) {
			if !slices.Contains(devs, dev) {
				devs = append(devs, dev)
			}
		}
	}
	return devs
}

// links returns the devices that a fence of the PFs is made of.
func links(pfs []devlink.PF) []devlink.Link {
	var ls []devlink.Link
	for i := range pfs {
		ls = append(append(ls, pfs[i].Link), pfs[i].Representors...)
	}
	return ls
}

// fenced returns the devices of a record that are still there. Within a boot an
// ifindex is not given twice, while a name may change.
func fenced(facts devlink.Facts, h *ovsdb.Hold) []int {
	var devs []int
	for _, l := range links(facts.PFs) {
		if _, is := h.Fenced[l.Ifindex]; is {
			devs = append(devs, l.Ifindex)
		}
	}
	return devs
}
