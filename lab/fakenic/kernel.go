// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"context"
	"errors"

	"ovs-ipsec-offload/xfrm"
)

// SAs lists the states, newest first and without keys.
func (h *Host) SAs(ctx context.Context) ([]xfrm.SA, error) {
	if err := h.ask(ctx, "dump SAs"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]xfrm.SA, 0, len(h.sad))
	for _, s := range h.states() {
		a := s.dump()
		if h.lockdown {
			a.KeyPrint = xfrm.Fingerprint{}
		}
		all = append(all, a)
	}
	return all, nil
}

// Policies lists the policies, newest first.
func (h *Host) Policies(ctx context.Context) ([]xfrm.Policy, error) {
	if err := h.ask(ctx, "dump policies"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]xfrm.Policy, 0, len(h.spd))
	for _, p := range h.policyList() {
		q := p.Policy
		if q.Tmpl != nil {
			t := *q.Tmpl
			q.Tmpl = &t
		}
		all = append(all, q)
	}
	return all, nil
}

// ask is one question that a fault may strike. Questions are not counted as
// operations: a fault must name them.
func (h *Host) ask(ctx context.Context, label string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.Faults.Ask(label)
}

// Do carries out operations in their order, as xfrm.Client does: it goes on
// after a failure, and when ctx ends the rest gets its error.
func (h *Host) Do(ctx context.Context, ops []xfrm.Op) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		if err := ctx.Err(); err != nil {
			errs[i] = &xfrm.OpError{Kind: op.Kind, Subject: subject(op), Err: err}
			continue
		}
		errs[i] = h.do(op)
	}
	return errs
}

// do carries out one operation under the faults.
func (h *Host) do(op xfrm.Op) error {
	if op.Kind == xfrm.AddSA && op.SA.Key.Empty() {
		return &xfrm.OpError{Kind: op.Kind, Subject: subject(op), Err: errors.New("it has no key")}
	}
	label := op.String()
	fault := h.Faults.Next(label)
	if fault == nil {
		return h.carryOut(op)
	}
	switch fault.Effect {
	case Before:
		panic(Crash{"before " + label})
	case After:
		_ = h.carryOut(op)
		panic(Crash{"after " + label})
	case Lose:
		_ = h.carryOut(op)
		return &xfrm.OpError{Kind: op.Kind, Subject: subject(op), Err: errUnanswered}
	case NotOffload:
		return h.notOffload(op)
	}
	return &xfrm.OpError{Kind: op.Kind, Subject: subject(op), Errno: fault.Errno, Ext: fault.Text}
}

// carryOut does what an op says and tells Changed.
func (h *Host) carryOut(op xfrm.Op) error {
	h.mu.Lock()
	r := h.change(op)
	h.mu.Unlock()
	if r == nil && h.Changed != nil {
		h.Changed(op)
	}
	return opError(op, r)
}

func (h *Host) change(op xfrm.Op) *refusal {
	switch op.Kind {
	case xfrm.AddSA:
		return h.addState(&State{SA: h.copyKey(*op.SA)})
	case xfrm.DeleteSA:
		return h.deleteState(op.SA.ID())
	case xfrm.DeletePolicy:
		return h.deletePolicy(place{op.Policy.Dir, op.Policy.Sel})
	}
	p := *op.Policy
	if p.Tmpl != nil {
		t := *p.Tmpl
		p.Tmpl = &t
	}
	return h.addPolicy(&Request{Policy: p}, op.Kind == xfrm.UpdatePolicy)
}

// copyKey takes the key over: the caller wipes its own.
func (h *Host) copyKey(s xfrm.SA) xfrm.SA {
	s.Key, _ = xfrm.NewKey(s.Key.AppendTo(nil))
	return s
}

// notOffload is what xfrm.Client makes of a kernel that takes an object and
// does not offload it: the object stands in software for a moment and is then
// removed again. Operations that add nothing are carried out.
func (h *Host) notOffload(op xfrm.Op) error {
	soft, back := op, xfrm.Op{Kind: xfrm.DeletePolicy, Policy: op.Policy}
	switch op.Kind {
	case xfrm.AddSA:
		s := *op.SA
		s.Offload = xfrm.Offload{}
		soft.SA, back = &s, xfrm.Op{Kind: xfrm.DeleteSA, SA: op.SA}
	case xfrm.AddPolicy:
		p := *op.Policy
		p.Offload = xfrm.Offload{}
		soft.Policy = &p
	default:
		return h.carryOut(op)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.change(soft); r != nil {
		return opError(op, r)
	}
	_ = h.change(back)
	return &xfrm.OpError{Kind: op.Kind, Subject: subject(op), NotOffloaded: true}
}
