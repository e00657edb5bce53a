// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
	"ovs-ipsec-offload/xfrm"
)

// scene is everything one round works on.
type scene struct {
	snapshot ovsdb.Snapshot
	state    ovsdb.State
	facts    devlink.Facts
	intent   Intent
	observed Observed
	plan     Plan
	now      *view // of observed
	read     Span  // when states and policies were read
	ike      ike.State
	notes    []Problem // on the host
	peeked   bool      // no round looks: nothing is remembered (see peek)
}

// waiting says that the database was never read, so nothing may be concluded.
type waiting struct{ err error }

func (w *waiting) Error() string {
	if w.err == nil {
		return "wait for the database: not read yet"
	}
	return "wait for the database: " + w.err.Error()
}

// Unwrap returns why the database was not read; nil when nothing failed.
func (w *waiting) Unwrap() error { return w.err }

// look observes everything and plans, as if the operator had asked for a repair
// when repair is set.
func (d *Daemon) look(ctx context.Context, repair bool) (*scene, error) {
	return d.see(ctx, &scene{}, repair)
}

// peek is look beside the rounds, for somebody who asks: what the rounds remember
// stays theirs, since this look may be older than that of the round that goes on.
func (d *Daemon) peek(ctx context.Context, repair bool) (*scene, error) {
	return d.see(ctx, &scene{peeked: true}, repair)
}

// see is look for a scene that says who looks.
func (d *Daemon) see(ctx context.Context, s *scene, repair bool) (*scene, error) {
	s.snapshot, s.state = d.cfg.Database.Current()
	if !s.state.Known {
		return nil, &waiting{s.state.Err}
	}
	var err error
	if s.facts, err = d.cfg.NIC.Facts(ctx); err != nil {
		return nil, fmt.Errorf("read NIC facts: %w", err)
	}
	for i := range s.facts.PFs {
		_, s.facts.PFs[i].OVSPort = slices.BinarySearch(s.snapshot.Systems, s.facts.PFs[i].Name)
	}
	keys := d.lookup(s.snapshot)
	spent := d.spentBefore(keys)
	s.read.From = d.cfg.Now()
	if err := d.kernelState(ctx, s); err != nil {
		return nil, err
	}
	s.read.To = d.cfg.Now()
	if d.cfg.IKE != nil {
		s.ike = d.cfg.IKE.State()
	}
	sas := make(map[xfrm.SAID]*xfrm.SA, len(s.observed.SAs))
	for i := range s.observed.SAs {
		sas[s.observed.SAs[i].ID()] = &s.observed.SAs[i]
	}
	auths, notes := d.auths(&s.snapshot)
	s.notes = append(problemsIn(s.snapshot.Host.Notes), notes...)
	s.intent = BuildIntent(Input{
		Snapshot: s.snapshot, Facts: s.facts, Settings: d.current(), Consent: repair, Parked: d.isParked(),
		Sources: d.sources(ctx, s.snapshot), Keys: keys, Auths: auths,
		Installed: func(id xfrm.SAID) (*xfrm.SA, bool) { sa, is := sas[id]; return sa, is },
		Spent:     spent, Carried: s.now.carried(), Guarded: vteps(s.observed.Policies), Strangers: s.observed.Strangers, Leaked: d.leaked(), NoPriority: d.withoutPriorities(s),
		ids: s.observed.ids,
	})
	if !s.peeked {
		d.keepReqids(&s.intent)
	}
	if d.cfg.Rivals != nil {
		s.intent.Problems = append(s.intent.Problems, d.cfg.Rivals()...)
	}
	var wait []Pair
	s.intent, wait = admit(s.intent, s.observed.SAs, d.rooms(s))
	d.memory(s)
	for _, p := range wait {
		s.observed.PutOff[p] = true
	}
	if err := d.flows(ctx, s); err != nil {
		return nil, err
	}
	s.plan = MakePlan(s.intent, s.observed)
	return s, nil
}

// observe refreshes what stands in the kernel, for the intent as it is.
func (d *Daemon) observe(ctx context.Context, s *scene) error {
	if err := d.kernelState(ctx, s); err != nil {
		return err
	}
	d.memory(s)
	return d.flows(ctx, s)
}

func (d *Daemon) current() Settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settings
}

// kernelState reads states and policies and keeps ours.
func (d *Daemon) kernelState(ctx context.Context, s *scene) (err error) {
	s.observed, err = readKernel(ctx, d.cfg.Kernel, &s.snapshot, d.reqidsNow())
	s.now = newView(&s.observed)
	return err
}

// readKernel reads states and policies and tells ours from those of others.
func readKernel(ctx context.Context, k Kernel, snap *ovsdb.Snapshot, ids reqids) (Observed, error) {
	sas, err := k.SAs(ctx)
	if err != nil {
		return Observed{}, fmt.Errorf("read SAs: %w", err)
	}
	policies, err := k.Policies(ctx)
	if err != nil {
		return Observed{}, fmt.Errorf("read policies: %w", err)
	}
	ports := overlayPorts(snap, policies)
	wide, aside := narrow(policies, ports)
	if unserved(policies, sas, ids) {
		// The IKE daemon may have made both in between. It makes SAs first.
		if sas, err = k.SAs(ctx); err != nil {
			return Observed{}, fmt.Errorf("read SAs once more: %w", err)
		}
	}
	ob := Observed{Foreign: map[int]Refs{}, Inbound: map[int]int{}, Wide: wide, ids: ids.learn(policies)}
	foreign := func(pf int, dir xfrm.Dir) {
		if pf != 0 {
			r := ob.Foreign[pf]
			r.add(dir, 1)
			ob.Foreign[pf] = r
		}
	}
	ob.SAs, ob.Policies, ob.Negotiated = sas[:0], policies[:0], map[xfrm.SAID]Pair{}
	for i := range sas {
		if sas[i].Dir == xfrm.In {
			ob.Inbound[sas[i].Offload.Ifindex]++
		}
		ours := oursSA(&sas[i])
		if !ours {
			var pair Pair
			if pair, ours = ob.madeBy(&sas[i], ports, snap); ours {
				ob.Negotiated[sas[i].ID()] = pair
			}
		}
		if ours {
			ob.SAs = append(ob.SAs, sas[i])
		} else {
			foreign(sas[i].Offload.Ifindex, sas[i].Dir)
			ob.Strangers.addSA(&sas[i])
		}
	}
	for i := range policies {
		pair, isAside := aside[i]
		switch {
		case isAside:
			ob.Aside = append(ob.Aside, Aside{pair, policies[i]})
			foreign(policies[i].Offload.Ifindex, policies[i].Dir)
		case ob.ours(&policies[i]):
			ob.Policies = append(ob.Policies, policies[i])
		default:
			foreign(policies[i].Offload.Ifindex, policies[i].Dir)
			if !ob.ids.bars(&policies[i]) {
				ob.Strangers.addPolicy(&policies[i])
			}
		}
	}
	ob.carriers = carriersOf(&ob)
	return ob, nil
}

// vteps returns the VTEPs that any policy of ours is for, with the PF that holds
// one (0: none does). They have to be guarded there: one policy is left of more.
func vteps(ps []xfrm.Policy) map[VTEP]int {
	vs := map[VTEP]int{}
	for i := range ps {
		v, is := vtepOf(&ps[i])
		if p, paired := pairOf(&ps[i]); paired && !isAnchor(p) {
			v, is = p.VTEP(), true
		}
		if is {
			vs[v] = max(vs[v], ps[i].Offload.Ifindex)
		}
	}
	return vs
}

// sources finds the local address of tunnels that name none.
func (d *Daemon) sources(ctx context.Context, snap ovsdb.Snapshot) map[netip.Addr]netip.Addr {
	m := map[netip.Addr]netip.Addr{}
	for i := range snap.Tunnels {
		t := &snap.Tunnels[i]
		if t.Local.IsValid() || !t.Remote.IsValid() {
			continue
		}
		if _, done := m[t.Remote]; done {
			continue
		}
		local, err := d.cfg.NIC.Source(ctx, t.Remote)
		if err != nil {
			d.cfg.Log.Debug("no local address", "remote", t.Remote, "err", err)
			continue
		}
		m[t.Remote] = local
	}
	return m
}

// lookup reads the metadata of every key set that a port names.
func (d *Daemon) lookup(snap ovsdb.Snapshot) map[string]KeyResult {
	m := map[string]KeyResult{}
	for i := range snap.Tunnels {
		t := &snap.Tunnels[i]
		if _, done := m[t.Keys]; done || t.Keys == "" {
			continue
		}
		set, err := d.cfg.Keys.Lookup(t.Keys)
		r := KeyResult{Set: set}
		if err != nil {
			p := problemOf(err)
			r.Problem = &p
		}
		m[t.Keys] = r
	}
	return m
}

// spentBefore tells which outbound keys were installed before now, when the kernel has not
// been read yet: a status is asked for beside a round, which may install one meanwhile, and
// what was seen of the kernel must not lack what is known to be used.
func (d *Daemon) spentBefore(keys map[string]KeyResult) func(xfrm.Fingerprint) bool {
	used := make(map[xfrm.Fingerprint]bool, len(keys))
	for _, k := range keys {
		used[k.Set.OutPrint] = k.Problem == nil && d.cfg.Ledger.Used(k.Set.OutPrint)
	}
	return func(f xfrm.Fingerprint) bool {
		if was, known := used[f]; known {
			return was
		}
		return d.cfg.Ledger.Used(f)
	}
}

// flows counts the rules in hardware of every PF whose tables do not stand, and where
// flows are held, parked or in the way: elsewhere the answer has no bearing on the plan.
func (d *Daemon) flows(ctx context.Context, s *scene) error {
	s.observed.Flows, s.observed.OnPF = map[int]int{}, map[int]int{}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		r, f := s.now.refs[pf.Ifindex], s.observed.Foreign[pf.Ifindex]
		stands := r.TX+f.TX > 0 && r.RX+f.RX > 0
		if stands && !s.intent.Parked && s.observed.Holding == "" && !s.observed.Remake[pf.Ifindex] && !s.observed.Strict[pf.Ifindex] {
			continue
		}
		n, err := d.flowsOf(ctx, s, pf)
		if err != nil {
			return err
		}
		s.observed.Flows[pf.Ifindex] = n
	}
	return nil
}

// flowsOf counts the rules in hardware that can be a PF's.
func (d *Daemon) flowsOf(ctx context.Context, s *scene, pf *devlink.PF) (int, error) {
	rep, err := d.cfg.Flows.Offloaded(ctx, s.facts.RuleDevs(*pf))
	if err != nil {
		return 0, fmt.Errorf("scan offloaded flows of %s: %w", pf.Name, err)
	}
	if n := rep.ByDev[pf.Ifindex]; n > 0 {
		s.observed.OnPF[pf.Ifindex] = n
	}
	return rep.Total, nil
}

// problemOf gives an error its stable code.
func problemOf(err error) Problem {
	var p *Problem
	if errors.As(err, &p) {
		return *p
	}
	var w *waiting
	if errors.As(err, &w) {
		return Problem{"DB_WAIT", err.Error()}
	}
	var op *xfrm.OpError
	if !errors.As(err, &op) {
		return Problem{"HOST_ERROR", flat(err)}
	}
	code, text := xfrm.CodeOf(err), flat(err)
	if remedy := code.Remedy(); remedy != "" {
		text += ". " + remedy
	}
	return Problem{string(code), text}
}
