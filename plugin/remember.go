// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/plugin/saved"
	"ovs-ipsec-offload/xfrm"
)

// Store keeps what the next boot needs; *saved.Dir is one.
type Store interface {
	Load() (saved.State, error)
	// Save writes the state, and batch, which says the same for "ip -batch".
	Save(s saved.State, batch string) error
}

// keeper is what the daemon knows of its store.
type keeper struct {
	state  saved.State
	loaded bool
	err    error // the last writing failed
}

// Saved returns what is kept for the next boot. A file that cannot be read says
// nothing: it is replaced after the round.
func (d *Daemon) Saved() saved.State {
	d.mu.Lock()
	done, s := d.keep.loaded, d.keep.state
	d.mu.Unlock()
	if done || d.cfg.Saved == nil {
		return s
	}
	s, err := d.cfg.Saved.Load()
	if err != nil {
		d.tell("saved", err.Error()+": it is written anew [SAVED_STATE]")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep.state, d.keep.loaded = s, true
	return s
}

// remember keeps for the next boot what this round left. A parked host has
// nothing in its NICs, and keeps what it had there before.
func (d *Daemon) remember(s *scene) {
	if d.cfg.Saved == nil || s.intent.Parked {
		return
	}
	prev := d.Saved()
	next := nextState(prev, s, d.cfg.BootID)
	d.mu.Lock()
	failed := d.keep.err != nil
	d.mu.Unlock()
	if next.Equal(prev) && !failed {
		return
	}
	err := d.cfg.Saved.Save(next, batch(next))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep.err = err
	if err == nil {
		d.keep.state = next
	}
}

// saveProblem returns why the next boot would not be guarded as it should, or nil.
func (d *Daemon) saveProblem() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keep.err == nil {
		return nil
	}
	return &Problem{"SAVED_STATE", d.keep.err.Error() + ": the next boot is guarded as the files say that are there; see that state_dir can be written"}
}

// bootsAbsent is how many boots in a row may miss the address or the NIC of a
// guard before it is forgotten: both may come late, and a NIC may be away for
// repair.
const bootsAbsent = 3

// nextState returns what to keep after a round in which prev was kept before.
func nextState(prev saved.State, s *scene, boot string) saved.State {
	next := saved.State{Boot: boot}
	k := stateMaker{scene: s, now: s.now, used: map[string]bool{}, home: map[VTEP]string{}}
	for _, g := range prev.Guards {
		k.home[vtepAt(g)] = g.PF
	}
	for _, g := range s.intent.Guards {
		if !g.Idle {
			next.Guards = append(next.Guards, saved.Guard{Local: g.Local, Port: g.Port, PF: k.handle(g.PF, g.VTEP)})
		}
	}
	for _, g := range prev.Guards {
		if g, keep := k.absent(g, prev.Boot != boot); keep && !slices.ContainsFunc(next.Guards, func(h saved.Guard) bool { return vtepAt(h) == vtepAt(g) }) {
			next.Guards = append(next.Guards, g)
			k.used[g.PF] = true
		}
	}
	for i := range s.intent.Pairs {
		if pi := &s.intent.Pairs[i]; pi.Want == Clear {
			next.Bypasses = append(next.Bypasses, saved.Bypass{Local: pi.Local, Remote: pi.Remote, Port: pi.Port, PF: k.handle(pi.PF, pi.VTEP())})
		}
	}
	slices.SortFunc(next.Guards, func(g, h saved.Guard) int { return vtepAt(g).Compare(vtepAt(h)) })
	next.PFs = k.pfs(prev, boot)
	return next
}

func vtepAt(g saved.Guard) VTEP { return VTEP{g.Local, g.Port} }

// stateMaker makes one state.
type stateMaker struct {
	*scene
	now  *view
	used map[string]bool // handles that the state names
	home map[VTEP]string // where guards were before
}

// handle returns the lasting name of the PF that guards v, and notes that it is
// used. A PF that is down or cannot encrypt for another reason keeps its guards.
func (k *stateMaker) handle(pf int, v VTEP) string {
	for i := range k.facts.PFs {
		if k.facts.PFs[i].Ifindex == pf {
			h := k.facts.PFs[i].Handle
			k.used[h] = true
			return h
		}
	}
	if h := k.home[v]; h != "" && !k.capable(h) {
		k.used[h] = true
		return h
	}
	return ""
}

// absent tells whether a guard that this round knows nothing of is kept: the
// host may still be on its way up.
func (k *stateMaker) absent(g saved.Guard, newBoot bool) (saved.Guard, bool) {
	_, hasAddr := k.facts.Addrs[g.Local]
	if hasAddr && (g.PF == "" || k.capable(g.PF)) {
		return g, false
	}
	if newBoot {
		g.Absent++
	}
	return g, g.Absent <= bootsAbsent
}

func (k *stateMaker) capable(handle string) bool {
	return slices.ContainsFunc(k.facts.PFs, func(p devlink.PF) bool { return p.Handle == handle && len(p.Refusals()) == 0 })
}

// pfs lists the NICs that the state names, and those that are protected in
// this boot, with the boot in which they were.
func (k *stateMaker) pfs(prev saved.State, boot string) (ps []saved.PF) {
	for i := range k.facts.PFs {
		pf := &k.facts.PFs[i]
		old, _ := prev.PF(pf.Handle)
		if k.protected(pf.Ifindex) {
			old.Protected = boot
		}
		if k.used[pf.Handle] || old.Protected == boot && boot != "" {
			ps = append(ps, saved.PF{Handle: pf.Handle, Name: pf.Name, Protected: old.Protected})
		}
	}
	for _, old := range prev.PFs {
		gone := !slices.ContainsFunc(ps, func(p saved.PF) bool { return p.Handle == old.Handle })
		if gone && (k.used[old.Handle] || old.Protected == boot) {
			ps = append(ps, old)
		}
	}
	slices.SortFunc(ps, func(p, q saved.PF) int { return strings.Compare(p.Handle, q.Handle) })
	return ps
}

// protected tells whether every guard of a PF stands in it, or what it has instead.
func (k *stateMaker) protected(pf int) bool {
	found := k.intent.Unguarded[pf]
	if found && !k.now.tablesHeld(pf) {
		return false
	}
	for _, g := range k.intent.Guards {
		if g.PF != pf {
			continue
		}
		found = true
		if !k.now.guardStands(g, xfrm.Out) || !k.now.guardStands(g, xfrm.In) {
			return false
		}
	}
	return found && !k.plan.Stuck[pf]
}

// batch returns what s asks for in iproute2's words, for "ip -force -batch":
// bypasses first, then guards. It only adds, so that what stands is never
// weakened. Comments give the devlink handle of each NIC. iproute2 knows offloaded
// policies from its release 6.2.
func batch(s saved.State) string {
	index := func(handle string) int {
		return 1 + slices.IndexFunc(s.PFs, func(p saved.PF) bool { return p.Handle == handle })
	}
	name := func(ifindex int) string { return s.PFs[ifindex-1].Name }
	var b strings.Builder
	for _, p := range s.PFs {
		fmt.Fprintf(&b, "# %s is %s\n", p.Name, p.Handle)
	}
	add := func(p *xfrm.Policy) {
		op := xfrm.Op{Kind: xfrm.AddPolicy, Policy: p}
		fmt.Fprintln(&b, strings.TrimPrefix(op.IP(name), "ip "))
	}
	for _, y := range s.Bypasses {
		pi := PairIntent{Pair: Pair{y.Local, y.Remote, y.Port}, PF: index(y.PF)}
		add(bypass(&pi, xfrm.Out))
		add(bypass(&pi, xfrm.In))
	}
	for _, g := range s.Guards {
		gi := GuardIntent{VTEP: vtepAt(g), PF: index(g.PF)}
		add(guard(gi, xfrm.Out))
		add(guard(gi, xfrm.In))
	}
	return b.String()
}
