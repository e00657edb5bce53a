// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// waveSize bounds the operations, and so the keys in memory, of one batch.
const waveSize = 512

// Outcome is what became of a plan.
type Outcome struct {
	Done   int            // steps that were carried out
	Failed map[Pair]error // pairs that met an error; their later steps were left out
	Host   error          // an error of host scope: the rest of the plan was left out
	Opened bool           // the gate was opened
	Gate   error          // it could not be opened
	// Refused holds the first operation that failed, by pair; that of the zero
	// Pair is the host's.
	Refused map[Pair]xfrm.Op
	NoRoom  []Pair // of Failed: the NIC has no ids left for their SAs
	// Retired counts the inbound SAs that were deleted, after all that were added, by PF.
	Retired map[int]int
	Held    *HoldStatus // flows were taken out of hardware
	Freed   bool        // a hold was ended
	// Made is the hold that was begun; Unrecorded tells that it could not be
	// written into the database.
	Made       *ovsdb.Hold
	Unrecorded bool
	// Cfg is the CurCfg from which on ovs-vswitchd knows that it may offload,
	// when Opened or Freed.
	Cfg int64
}

// applier carries out plans. It holds no state between them.
type applier struct {
	kernel Kernel
	ledger Ledger
	keys   Keys
	nic    NIC
	links  pfNames // of the PFs that the plan is for
	drain  drainer
}

// newApplier returns the hands of cfg, for a plan for the PFs of facts.
func newApplier(cfg Config, facts devlink.Facts) applier {
	return applier{kernel: newRetrying(cfg), ledger: cfg.Ledger, keys: cfg.Keys, nic: cfg.NIC, links: pfNamesOf(facts), drain: newDrainer(cfg)}
}

// apply carries out a plan wave by wave: steps of one kind that do not depend
// on each other go to the kernel in one batch. A step that fails takes its pair
// out of the rest of the plan and undoes the pair's steps so far, newest first;
// a step of host scope ends the plan. Whatever happens, what is left is blocked
// by the guards.
func (a applier) apply(ctx context.Context, facts devlink.Facts, plan Plan) Outcome {
	r := run{applier: a, facts: facts, out: Outcome{Failed: map[Pair]error{}, Refused: map[Pair]xfrm.Op{}, Retired: map[int]int{}}, encrypted: plan.Encrypted}
	// A wave that was begun is finished, and once keys are reserved or flows held
	// so is the plan: a key that is reserved and not installed is lost.
	steady := context.WithoutCancel(ctx)
	for i := 0; i < len(plan.Steps) && r.out.Host == nil; {
		if ctx.Err() != nil && !r.committed {
			r.out.Host = ctx.Err()
			break
		}
		n := wave(plan.Steps[i:])
		r.wave(steady, plan.Steps[i:i+n])
		i += n
	}
	r.undo(steady)
	return r.out
}

// wave returns how many steps at the head of steps may go together.
func wave(steps []Step) int {
	n := 1
	for n < len(steps) && n < waveSize && alike(&steps[0], &steps[n]) {
		n++
	}
	return n
}

func alike(a, b *Step) bool {
	if a.Phase != b.Phase || a.Verb != b.Verb || a.Guard != b.Guard || a.Hosts() != b.Hosts() {
		return false
	}
	if a.Verb != Change {
		return a.Verb == Reserve
	}
	return a.Op.Kind == b.Op.Kind && (a.Op.SA == nil || a.Op.SA.Dir == b.Op.SA.Dir)
}

type run struct {
	applier
	out   Outcome
	done  []Step // that have an inverse
	facts devlink.Facts
	// committed tells that keys were written into the ledger, or flows held.
	committed bool
	// unproven is the drain that was not looked at again since.
	unproven *Drain
	// encrypted counts pairs that are; without any there is no use in opening
	// the gate yet.
	encrypted int
}

func (r *run) wave(ctx context.Context, steps []Step) {
	steps = r.healthy(steps)
	if len(steps) == 0 {
		return
	}
	switch steps[0].Verb {
	case Reserve:
		r.reserve(ctx, steps)
	case OpenGate:
		r.openGate(ctx, &steps[0])
	case HoldFlows:
		r.hold(ctx, &steps[0])
	case FreeFlows:
		r.free(ctx, &steps[0])
	default:
		r.change(ctx, steps)
		r.prove(ctx)
	}
}

func (r *run) hold(ctx context.Context, s *Step) {
	r.committed = true
	began := r.drain.now()
	made, recorded, err := r.drain.hold(ctx, r.facts, s.Drain)
	r.out.Made, r.out.Unrecorded = made, made != nil && !recorded
	r.drain.made = cmp.Or(made, r.drain.made) // the plan may end it as well
	if err == nil {
		r.unproven = s.Drain
		r.out.Held = &HoldStatus{Why: s.Drain.Why, At: began, Drained: r.drain.now().Sub(began).Seconds()}
	}
	r.settle(s, err)
}

// prove looks at the hardware once more, after the first object that a drain was for.
func (r *run) prove(ctx context.Context) {
	if r.unproven == nil {
		return
	}
	if err := r.drain.proven(ctx, r.facts, r.unproven); err != nil {
		r.out.Host = errors.Join(r.out.Host, err)
	}
	r.unproven = nil
}

func (r *run) free(ctx context.Context, s *Step) {
	cfg, err := r.drain.free(ctx, r.facts)
	if err == nil {
		r.out.Freed, r.out.Cfg = true, cfg
	}
	r.settle(s, err)
}

func (r *run) openGate(ctx context.Context, s *Step) {
	if r.encrypted == 0 {
		return
	}
	cfg, err := r.drain.db.SetHWOffload(ctx, "true")
	if err != nil {
		r.out.Gate = &Problem{"GATE_SET", fmt.Sprintf("open the gate: %v", err)}
		return
	}
	r.out.Opened, r.out.Cfg = true, cfg
	r.settle(s, nil)
}

// healthy leaves out the steps of pairs that failed before, but never a step
// that blocks.
func (r *run) healthy(steps []Step) []Step {
	if len(r.out.Failed) == 0 || steps[0].Phase == Block {
		return steps
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return r.out.Failed[s.Pair] != nil })
}

// settle books the result of one step.
func (r *run) settle(s *Step, err error) {
	if _, known := r.out.Refused[s.Pair]; err != nil && !known {
		r.out.Refused[s.Pair] = s.Op
	}
	switch {
	case err == nil:
		r.out.Done++
		if s.Op.Kind == xfrm.DeleteSA && s.Op.SA.Dir == xfrm.In {
			r.out.Retired[s.Op.SA.Offload.Ifindex]++
		}
		if lets(s) {
			r.encrypted++
		}
		if _, can := Undo(*s); can {
			r.done = append(r.done, *s)
		}
	case s.Phase == Hold && s.Verb == Change:
		// What stands in the host's stack helps until the NIC has it; the flows
		// have to leave the hardware all the same.
	case s.Hosts():
		r.out.Host = errors.Join(r.out.Host, err)
	default:
		r.out.Failed[s.Pair] = errors.Join(r.out.Failed[s.Pair], err)
	}
}

// lets tells whether a step sends a pair's traffic to its SA.
func lets(s *Step) bool {
	p := s.Op.Policy
	return s.Phase == Send && p != nil && p.Dir == xfrm.Out && p.Tmpl != nil
}

// reserve writes all keys of a wave into the ledger with one fsync.
func (r *run) reserve(ctx context.Context, steps []Step) {
	r.committed = true
	err := r.ledger.Reserve(ctx, entries(steps))
	for i := range steps {
		r.settle(&steps[i], err)
	}
}

func entries(steps []Step) []LedgerEntry {
	es := make([]LedgerEntry, len(steps))
	for i, s := range steps {
		es[i] = LedgerEntry{Print: s.Keys.OutPrint, Name: s.Keys.Name, SPI: s.Keys.OutSPI, Pair: s.Pair}
	}
	return es
}

// change sends a wave of XFRM operations. Keys are read just before and wiped
// just after.
func (r *run) change(ctx context.Context, steps []Step) {
	ops := make([]xfrm.Op, 0, len(steps))
	sent := make([]*Step, 0, len(steps))
	var back []Step // whose keys the kernel does not have
	gone := r.stale(ctx, steps)
	for i := range steps {
		op, err := steps[i].Op, gone[deviceOf(steps[i].Op)]
		if err == nil {
			op, err = r.armed(&steps[i])
		}
		if err != nil {
			if outbound(&steps[i]) {
				back = append(back, steps[i])
			}
			r.settle(&steps[i], err)
			continue
		}
		ops, sent = append(ops, op), append(sent, &steps[i])
	}
	errs := r.kernel.Do(ctx, ops)
	for i, s := range sent {
		if ops[i].SA != nil {
			ops[i].SA.Key.Wipe()
		}
		err := tolerated(s, errs[i])
		if err != nil && outbound(s) && refused(err) {
			back = append(back, *s)
		}
		r.settle(s, err)
	}
	r.giveBack(ctx, back)
}

// armed returns the step's operation with its key, on a copy of the SA so that
// the plan never holds one.
func (r *run) armed(s *Step) (xfrm.Op, error) {
	op := s.Op
	if op.Kind != xfrm.AddSA {
		return s.real(), nil
	}
	in, out, err := r.keys.Material(s.Keys.Name)
	if err != nil {
		return op, fmt.Errorf("read key set %s: %w", s.Keys.Name, err)
	}
	key, other, want := in, out, s.Keys.InPrint
	if op.SA.Dir == xfrm.Out {
		key, other, want = out, in, s.Keys.OutPrint
	}
	other.Wipe()
	if key.Fingerprint() != want {
		key.Wipe()
		return op, fmt.Errorf("read key set %s: the file was changed meanwhile", s.Keys.Name)
	}
	sa := *op.SA
	sa.Key = key
	op.SA = &sa
	return op, nil
}

// refused tells whether the kernel definitely said no. After a lost answer, or
// when the SA stood in software for a moment, the key counts as used.
func refused(err error) bool {
	var op *xfrm.OpError
	return errors.As(err, &op) && op.Errno != 0 && op.Err == nil && !op.NotOffloaded
}

// tolerated forgives a deletion of what is gone already.
func tolerated(s *Step, err error) error {
	if err != nil && (s.Op.Kind == xfrm.DeletePolicy || s.Op.Kind == xfrm.DeleteSA) && xfrm.CodeOf(err) == xfrm.CodeNotFound {
		return nil
	}
	return err
}

func outbound(s *Step) bool { return s.Op.Kind == xfrm.AddSA && s.Op.SA.Dir == xfrm.Out }

// giveBack notes in the ledger that the kernel refused these keys, so that they
// were never sent with and may be tried again. If that cannot be written they
// count as used, which is safe.
func (r *run) giveBack(ctx context.Context, refused []Step) {
	if len(refused) == 0 {
		return
	}
	if err := r.ledger.Refused(ctx, entries(refused)); err != nil {
		for _, s := range refused {
			r.out.Failed[s.Pair] = errors.Join(r.out.Failed[s.Pair], err)
		}
	}
}

// undo takes back the finished steps of failed pairs, newest first.
func (r *run) undo(ctx context.Context) {
	var ops []xfrm.Op
	for i := len(r.done) - 1; i >= 0; i-- {
		if r.out.Failed[r.done[i].Pair] == nil {
			continue
		}
		if back, can := Undo(r.done[i]); can {
			ops = append(ops, back.Op)
		}
	}
	if len(ops) > 0 {
		r.kernel.Do(ctx, ops)
	}
}
