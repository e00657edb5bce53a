// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// Rotation is what an operator has to do for a change of keys.
type Rotation struct {
	Pair  Pair     `json:"pair"`
	Ports []string `json:"ports"` // all that have to name the new set, at once
}

// Rotate tells which ports have to name a key set so that the pair of a port changes
// to it, or why it could not be used; it is a *Problem then. With now set the pair
// turns to it as soon as it can receive, within the next minute, whatever its peer
// has shown. The ports are not touched: that is the operator's act.
func (d *Daemon) Rotate(ctx context.Context, port, keys string, now bool) (Rotation, error) {
	set, refused := d.cfg.Keys.Lookup(keys)
	used := refused == nil && d.cfg.Ledger.Used(set.OutPrint) // before the kernel is read: a round may install it now
	s, err := d.peek(ctx, d.consents())
	if err != nil {
		return Rotation{}, err
	}
	i := slices.IndexFunc(s.intent.Pairs, func(pi PairIntent) bool { return slices.Contains(pi.Ports, port) })
	if i < 0 || s.intent.Pairs[i].Want == Clear {
		return Rotation{}, problem("ROTATE_PORT", "rotate keys of %s: no tunnel port of that name asks for IPsec and has a peer; see `ovs-ipsec-offload status`", port)
	}
	pi := &s.intent.Pairs[i]
	if refused != nil {
		return Rotation{}, refused
	}
	if err := usable(s, pi, set, used); err != nil {
		return Rotation{}, err
	}
	if now {
		d.act(func() { d.rot.pushed[pi.Pair] = push{keys, d.cfg.Now().Add(consentLasts)} })
	}
	return Rotation{pi.Pair, pi.Ports}, nil
}

// usable returns why a pair could not use a key set, or nil.
func usable(s *scene, pi *PairIntent, set KeySet, used bool) error {
	_, tx := set.ids(pi.Pair)
	own := slices.ContainsFunc(s.observed.SAs, func(sa xfrm.SA) bool { return sa.ID() == tx && sa.Src == pi.Local && holds(&sa, set.OutPrint) })
	if !own && used {
		return problem("KEY_USED", "rotate keys of %s: the outbound key of set %s was installed before, and must not be again: %s", pi.Pair, set.Name, set.Renew)
	}
	for i := range s.intent.Pairs {
		o := &s.intent.Pairs[i]
		if o.Pair != pi.Pair && o.Asked == set.Name {
			return fmt.Errorf("rotate keys of %s: %w", pi.Pair, problem("KEY_SHARED", "key set %s is named for %s: every pair needs keys of its own: %s", set.Name, o.Pair, set.Renew))
		}
	}
	return nil
}
