// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/saved"
	"ovs-ipsec-offload/xfrm"
)

// bootInput is all that guardsOnly looks at.
type bootInput struct {
	Facts    devlink.Facts
	Settings Settings
	Saved    saved.State
	Policies []xfrm.Policy // ours that stand
	// NoPriority holds the PFs that have shown to have no policy priorities.
	NoPriority map[int]bool
	// Bypasses tells that the saved bypasses are wanted too.
	Bypasses bool
	// Parked tells that nothing may be put into a NIC.
	Parked bool
	// Anywhere puts a guard whose NIC is not there into the host's stack.
	Anywhere bool
}

// guardsOnly returns an intent of guards, and of bypasses in front of them: what
// can be said of a host without its database and without keys. The guards are
// those that stand, those that were saved and, with guard: auto, one for every
// address of a capable PF. The problems name the guards whose NIC cannot take
// them yet.
//
// A PF that is down gets its guards too: the kernel drops offloaded objects when
// a device goes down (xfrm_dev_down in net/xfrm/xfrm_device.c), not while it is,
// and at boot it often comes up after ovs-vswitchd.
func guardsOnly(in bootInput) (Intent, []Problem) {
	facts := in.Facts
	facts.PFs = slices.Clone(facts.PFs)
	for i := range facts.PFs {
		facts.PFs[i].Up = true
	}
	b := newBuilder(Input{Facts: facts, Settings: in.Settings, Guarded: vteps(in.Policies), NoPriority: in.NoPriority})
	b.noPriorities()
	b.out.Problems = nil // they keep no guard from standing
	for v := range b.Guarded {
		b.guard(v)
	}
	waiting := b.guardSaved(in)
	b.guardAddresses()
	b.list()
	if in.Bypasses {
		b.bypassSaved(in)
	}
	if in.Parked {
		park(&b.out)
		return b.out, nil
	}
	return b.out, waiting
}

// guardSaved asks for the saved guards: in the NIC that has the address now, else
// in the one where the guard stands, else in the one where it stood.
func (b *builder) guardSaved(in bootInput) (waiting []Problem) {
	for _, g := range in.Saved.Guards {
		v := vtepAt(g)
		_, refusal := devlink.PFOf(b.Facts, v.Local, "")
		if refusal == nil || g.PF == "" || b.standing(v) != 0 {
			b.guard(v)
			continue
		}
		home, _ := in.Saved.PF(g.PF)
		pf, why := b.savedPF(home)
		if b.NoPriority[pf] {
			pf = 0 // no guard can stand in it
		}
		_, stands := b.Guarded[v]
		if why == "" || in.Anywhere || stands {
			b.guards[v] = pf
		}
		if why != "" {
			waiting = append(waiting, Problem{"GUARD_WAIT", fmt.Sprintf("the guard of %s cannot stand in its NIC %s (%s): %s", v, home.Name, home.Handle, why)})
		}
	}
	return waiting
}

// savedPF finds a NIC by its handle, or by its name when none has the handle (it
// was put into another slot), and says why it cannot hold a guard.
func (b *builder) savedPF(home saved.PF) (ifindex int, why string) {
	i := slices.IndexFunc(b.Facts.PFs, func(p devlink.PF) bool { return p.Handle == home.Handle })
	if i < 0 {
		i = slices.IndexFunc(b.Facts.PFs, func(p devlink.PF) bool { return p.Name == home.Name })
	}
	if i < 0 {
		return 0, "there is no such NIC"
	}
	if rs := b.Facts.PFs[i].Refusals(); len(rs) > 0 {
		return 0, rs[0].Text + " [" + rs[0].Code + "]"
	}
	return b.Facts.PFs[i].Ifindex, ""
}

// bypassSaved asks for the saved bypasses, but not where a policy of the pair's
// own stands: it may encrypt.
func (b *builder) bypassSaved(in bootInput) {
	own := map[Pair]bool{}
	for i := range in.Policies {
		if p := &in.Policies[i]; p.Action != xfrm.Allow || p.Tmpl != nil {
			pair, _ := pairOf(p)
			own[pair] = true
		}
	}
	for _, y := range in.Saved.Bypasses {
		p := Pair{y.Local, y.Remote, y.Port}
		if pf, guarded := b.guards[p.VTEP()]; guarded && !own[p] {
			b.out.Pairs = append(b.out.Pairs, PairIntent{Pair: p, Want: Clear, PF: pf})
		}
	}
	slices.SortFunc(b.out.Pairs, func(x, y PairIntent) int { return x.Pair.Compare(y.Pair) })
}

// Boot stands guards up before ovs-vswitchd starts, when the daemon has not run
// yet, or cannot.
type Boot struct {
	Kernel   Kernel
	NIC      NIC
	Flows    Flows
	Settings Settings
	Saved    saved.State
	Bypasses bool // also the saved bypasses
	Parked   bool // nothing may be put into a NIC

	noPriority map[int]bool // PFs that have shown to have no policy priorities
}

// BootResult is what became of it.
type BootResult struct {
	Guards   []GuardStatus
	Steps    []string  // carried out, or with Preview those that would be, in iproute2's words
	Problems []Problem // that keep guards from standing in their NIC
}

// bootPoll is how often a host is looked at that says nothing: the kernel does not
// tell when an eswitch has changed its mode.
const bootPoll = 500 * time.Millisecond

// Run makes rounds until every guard stands in its NIC. It looks again whenever
// changed gets a value. When late does, what cannot be put into its NIC goes into
// the host's stack, and Run ends. An error means that something failed; with
// Problems alone the guards stand as well as they can.
func (b Boot) Run(ctx context.Context, changed <-chan struct{}, late <-chan time.Time) (BootResult, error) {
	var r BootResult
	var t trouble
	b.noPriority = map[int]bool{}
	for last := false; ; {
		s, err := b.look(ctx, last, &r)
		if err == nil && len(s.plan.Steps) > 0 {
			err = errors.Join(b.apply(ctx, s, &r), b.confirm(ctx, last, &r))
		}
		if fatal(err) || last || err == nil && len(r.Problems) == 0 {
			return r, err
		}
		wait := bootPoll
		if err != nil {
			t = t.after(time.Time{}, "boot", err)
			wait = t.until.Sub(time.Time{})
		}
		select {
		case <-ctx.Done():
			return r, errors.Join(err, ctx.Err())
		case <-changed:
		case <-time.After(wait):
		case <-late:
			last = true
		}
	}
}

// fatal tells whether trying again is of no use.
func fatal(err error) bool {
	if err == nil {
		return false
	}
	p := problemOf(err)
	return p.Code == "FLOWS_FIRST" || p.Code == "PLAN_REFUSED"
}

// Preview looks once, as Run would at its end, and changes nothing.
func (b Boot) Preview(ctx context.Context) (BootResult, error) {
	var r BootResult
	s, err := b.look(ctx, true, &r)
	if s != nil {
		r.Steps = linesOf(s.facts, s.plan)
	}
	return r, err
}

// look observes and plans, and checks the plan. It refuses a host where flows
// came first.
func (b Boot) look(ctx context.Context, anywhere bool, r *BootResult) (*scene, error) {
	s := &scene{}
	var err error
	if s.facts, err = b.NIC.Facts(ctx); err != nil {
		return nil, err
	}
	if s.observed, err = readKernel(ctx, b.Kernel, &ovsdb.Snapshot{}, reqids{}); err != nil {
		return nil, err
	}
	s.observed.GateOpen = true // nobody asked the database, so OVS may offload
	s.intent, r.Problems = guardsOnly(bootInput{Facts: s.facts, Settings: b.Settings, Saved: b.Saved,
		Policies: s.observed.Policies, NoPriority: b.noPriority, Bypasses: b.Bypasses, Parked: b.Parked, Anywhere: anywhere || b.Parked})
	if err := b.flows(ctx, s); err != nil {
		return nil, err
	}
	s.plan = MakePlan(s.intent, s.observed)
	s.plan.Steps = slices.DeleteFunc(s.plan.Steps, func(st Step) bool { return st.Phase != Anchor })
	m := statusMaker{scene: s, now: newView(&s.observed), name: pfNamesOf(s.facts).of}
	r.Guards = m.guards()
	for _, p := range s.plan.Problems {
		if p.Code == "FLOWS_FIRST" {
			return nil, &p
		}
		r.Problems = append(r.Problems, p)
	}
	if v := Check(s.intent, s.observed, s.plan); v != nil {
		return nil, &Problem{"PLAN_REFUSED", fmt.Sprintf("%v; nothing was changed: this is a defect, please report it", v)}
	}
	return s, nil
}

// flows counts what is in hardware of the PFs that get a guard.
func (b Boot) flows(ctx context.Context, s *scene) error {
	s.observed.Flows = map[int]int{}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		if !s.intent.Unguarded[pf.Ifindex] && !slices.ContainsFunc(s.intent.Guards, func(g GuardIntent) bool { return g.PF == pf.Ifindex }) {
			continue
		}
		rep, err := b.Flows.Offloaded(ctx, s.facts.RuleDevs(*pf))
		if err != nil {
			return fmt.Errorf("scan offloaded flows of %s: %w", pf.Name, err)
		}
		s.observed.Flows[pf.Ifindex] = rep.Total
	}
	return nil
}

// apply carries the plan out.
func (b Boot) apply(ctx context.Context, s *scene, r *BootResult) error {
	out := applier{kernel: newRetrying(Config{Kernel: b.Kernel})}.apply(ctx, s.facts, s.plan)
	if out.Done > 0 {
		r.Steps = append(r.Steps, linesOf(s.facts, s.plan)...)
	}
	for _, op := range out.Refused {
		if dev := deviceOf(op); dev != 0 && xfrm.CodeOf(out.Host) == xfrm.CodeNoPriority {
			b.noPriority[dev] = true // the next look does without
		}
	}
	err := out.Host
	for _, e := range out.Failed {
		err = errors.Join(err, e)
	}
	return err
}

// confirm looks whether what was done stands.
func (b Boot) confirm(ctx context.Context, anywhere bool, r *BootResult) error {
	s, err := b.look(ctx, anywhere, r)
	if err == nil && len(s.plan.Steps) > 0 {
		err = fmt.Errorf("stand guards up: the kernel still lacks: %s", linesOf(s.facts, s.plan)[0])
	}
	return err
}
