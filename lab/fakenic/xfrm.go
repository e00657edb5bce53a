// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"ovs-ipsec-offload/xfrm"
)

// state is an entry of the kernel's state database.
type state struct {
	State
	dev   *devSA // nil: in software
	order int
}

// policy is an entry of the kernel's policy database.
type policy struct {
	Request
	dev   *devPolicy // nil: in software
	order int
}

// place is where a policy stands.
type place struct {
	dir xfrm.Dir
	sel xfrm.Selector
}

// fresh says what the kernel would say of a state just added.
func (s *state) dump() xfrm.SA {
	a := s.SA
	a.Key = xfrm.Key{}
	a.KeyPrint = s.print()
	a.Exotic = s.Odd != Odd{}
	if s.dev != nil {
		a.Stats = s.dev.stats
	}
	return a
}

// addState is xfrm_add_sa: the device is asked first, the state database after.
func (h *Host) addState(s *State) *refusal {
	n := &state{State: *s, order: h.tick()}
	if s.Offload.Ifindex != 0 {
		p, r := h.offloader(s)
		if r != nil {
			return r
		}
		if p != nil {
			if n.dev, r = p.addSA(s); r != nil {
				return r
			}
			n.Offload.Ifindex = p.ifindex
		}
	}
	if _, is := h.sad[s.ID()]; is {
		h.dropState(n)
		return &refusal{errno: unix.EEXIST}
	}
	h.sad[s.ID()] = n
	if s.Dir == xfrm.Out {
		h.sent[n.print()]++
	}
	return nil
}

// offloader is the head of xfrm_dev_state_add: an index that is not there makes
// the kernel look for another device by the route, and crypto offload that a
// device has not falls back to software.
func (h *Host) offloader(s *State) (*PF, *refusal) {
	p := h.pf(s.Offload.Ifindex)
	if _, is := h.links[s.Offload.Ifindex]; p == nil && !is {
		p = h.pf(h.exit(s.Src, s.Dst))
	}
	if p == nil || !p.esp {
		if s.Crypto {
			return nil, nil
		}
		return nil, &refusal{errno: unix.EINVAL}
	}
	return p, nil
}

// updateState is xfrm_state_update: a new state goes to the device and is thrown
// away, and the one that stands keeps its key.
func (h *Host) updateState(s *State) *refusal {
	if s.Offload.Ifindex != 0 {
		p, r := h.offloader(s)
		if r == nil && p != nil {
			var a *devSA
			if a, r = p.addSA(s); r == nil {
				p.deleteSA(a)
			}
		}
		if r != nil {
			return r
		}
	}
	if _, is := h.sad[s.ID()]; !is {
		return &refusal{errno: unix.ESRCH}
	}
	return nil
}

func (h *Host) dropState(s *state) {
	if s.dev != nil {
		s.dev.pf.deleteSA(s.dev)
	}
}

func (h *Host) deleteState(id xfrm.SAID) *refusal {
	s, is := h.sad[id]
	if !is {
		return &refusal{errno: unix.ESRCH}
	}
	delete(h.sad, id)
	h.dropState(s)
	return nil
}

// addPolicy is xfrm_add_policy: the device is asked first, and a policy that is
// replaced leaves it after the new one is there.
func (h *Host) addPolicy(r *Request, replace bool) *refusal {
	n := &policy{Request: *r, order: h.tick()}
	if r.Offload.Ifindex != 0 {
		p := h.pf(r.Offload.Ifindex)
		switch _, is := h.links[r.Offload.Ifindex]; {
		case p == nil && !is:
			return &refusal{errno: unix.EINVAL}
		case p == nil || !p.esp:
			return &refusal{errno: unix.EINVAL, text: "Policy offload is not supported"}
		}
		var no *refusal
		if n.dev, no = p.addPolicy(r); no != nil {
			return no
		}
	}
	at := place{r.Dir, r.Sel}
	old, is := h.spd[at]
	if is && !replace {
		h.dropPolicy(n)
		return &refusal{errno: unix.EEXIST}
	}
	if is {
		h.dropPolicy(old)
	}
	n.Index = uint32(n.order)<<3 | uint32(r.Dir)
	h.spd[at] = n
	return nil
}

func (h *Host) dropPolicy(p *policy) {
	if p.dev != nil {
		p.dev.pf.deletePolicy(p.dev)
	}
}

func (h *Host) deletePolicy(at place) *refusal {
	p, is := h.spd[at]
	if !is {
		return &refusal{errno: unix.ENOENT}
	}
	delete(h.spd, at)
	h.dropPolicy(p)
	return nil
}

// states returns the database as the kernel dumps it, newest first.
func (h *Host) states() []*state {
	all := make([]*state, 0, len(h.sad))
	for _, s := range h.sad {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *state) int { return cmp.Compare(b.order, a.order) })
	return all
}

// policyList returns the database as the kernel dumps it, newest first.
func (h *Host) policyList() []*policy {
	all := make([]*policy, 0, len(h.spd))
	for _, p := range h.spd {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *policy) int { return cmp.Compare(b.order, a.order) })
	return all
}

// AddState adds a state of any kind, as `ip xfrm state add` does.
func (h *Host) AddState(s State) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return opError(xfrm.Op{Kind: xfrm.AddSA, SA: &s.SA}, h.addState(&s))
}

// UpdateState is `ip xfrm state update`.
func (h *Host) UpdateState(s State) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return opError(xfrm.Op{Kind: xfrm.AddSA, SA: &s.SA}, h.updateState(&s))
}

// AddPolicy adds a policy of any kind, as `ip xfrm policy add` does.
func (h *Host) AddPolicy(r Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return opError(xfrm.Op{Kind: xfrm.AddPolicy, Policy: &r.Policy}, h.addPolicy(&r, false))
}

// UpdatePolicy adds a policy or takes the place of one, as `ip xfrm policy
// update` does.
func (h *Host) UpdatePolicy(r Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return opError(xfrm.Op{Kind: xfrm.UpdatePolicy, Policy: &r.Policy}, h.addPolicy(&r, true))
}

// FlushStates is `ip xfrm state flush`.
func (h *Host) FlushStates() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.states() {
		_ = h.deleteState(s.ID())
	}
}

// FlushPolicies is `ip xfrm policy flush`.
func (h *Host) FlushPolicies() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.policyList() {
		_ = h.deletePolicy(place{p.Dir, p.Sel})
	}
}

// Sent returns how often a key was installed for sending.
func (h *Host) Sent(f xfrm.Fingerprint) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent[f]
}

// opError says a refusal in the words of package xfrm.
func opError(op xfrm.Op, r *refusal) error {
	if r == nil {
		return nil
	}
	return &xfrm.OpError{Kind: op.Kind, Subject: subject(op), Errno: r.errno, Ext: r.text}
}

// subject names the object of an op.
func subject(op xfrm.Op) string {
	if op.SA != nil {
		return fmt.Sprintf("%s > %s spi %#x", op.SA.Src, op.SA.Dst, op.SA.SPI)
	}
	return fmt.Sprintf("%s %s > %s priority %d", op.Policy.Dir, op.Policy.Sel.Src, op.Policy.Sel.Dst, op.Policy.Priority)
}
