// SPDX-License-Identifier: Apache-2.0

package fakenic

import "ovs-ipsec-offload/xfrm"

// The directions, for short.
const (
	In  = xfrm.In
	Out = xfrm.Out
)

func (p *policy) passes() bool { return p.Action == xfrm.Allow && p.Tmpl == nil }
func (p *policy) blocks() bool { return p.Action == xfrm.Block }

// stackOut looks a packet up in the policy database. It returns the state that
// encrypts in software, or why the packet is dropped; neither when the packet
// goes on to the device as it is.
func (h *Host) stackOut(t tuple) (soft *state, drop string) {
	pol := h.lookup(Out, t)
	switch {
	case pol == nil || pol.passes():
		return nil, ""
	case pol.blocks():
		return nil, "XfrmOutPolBlock"
	}
	s := h.resolve(pol, t)
	switch {
	case s == nil:
		return nil, "XfrmOutNoStates"
	case s.dev != nil:
		return nil, ""
	}
	return s, ""
}

// resolve is xfrm_state_find: a policy in hardware takes states of the same
// NIC only, one in software takes none in hardware.
func (h *Host) resolve(pol *policy, t tuple) *state {
	src, dst := t.src, t.dst
	if pol.Tmpl.Mode == xfrm.Tunnel {
		src, dst = pol.Tmpl.Src, pol.Tmpl.Dst
	}
	var found *state
	for _, s := range h.sad {
		hard := s.dev != nil && !s.Crypto
		if s.Reqid != pol.Tmpl.Reqid || s.SA.Mode != pol.Tmpl.Mode || s.Src != src || s.Dst != dst || hard != (pol.dev != nil) {
			continue
		}
		if hard && s.dev.pf != pol.dev.pf || found != nil && found.order > s.order {
			continue
		}
		found = s // the newest
	}
	return found
}

// lookup is xfrm_policy_lookup_bytype: exact policies first, those in hardware
// at their head, and the rest by priority; a match in hardware ends the search.
func (h *Host) lookup(d xfrm.Dir, t tuple) *policy {
	var exact, rest *policy
	for _, p := range h.spd {
		switch {
		case p.Dir != d || !selects(p.Sel, t):
		case p.Sel.Src.IsSingleIP() && p.Sel.Dst.IsSingleIP():
			if exact == nil || p.ahead(exact) {
				exact = p
			}
		case rest == nil || p.Priority < rest.Priority || p.Priority == rest.Priority && p.ahead(rest):
			rest = p
		}
	}
	switch {
	case exact == nil:
		return rest
	case exact.dev != nil || rest == nil || exact.Priority <= rest.Priority:
		return exact
	}
	return rest
}

// ahead is the order of xfrm_policy_insert_list: what is in hardware is put at
// the head of its list whatever its priority; the rest is sorted by priority,
// the oldest first.
func (p *policy) ahead(q *policy) bool {
	switch {
	case (p.dev != nil) != (q.dev != nil):
		return p.dev != nil
	case p.dev != nil:
		return p.order > q.order
	case p.Priority != q.Priority:
		return p.Priority < q.Priority
	}
	return p.order < q.order
}

func selects(s xfrm.Selector, t tuple) bool {
	return s.Src.Contains(t.src) && s.Dst.Contains(t.dst) && upperOf(s).match(t)
}
