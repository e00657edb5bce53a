// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// Uninstall takes away what park left: guards and bypasses in the host's stack, the
// hold and our reports in the database. No daemon may run. It is refused, with a
// *Problem, while something of ours is still in a NIC, and while ports ask for
// IPsec, unless clear is set: nothing blocks them any more afterwards. It returns
// what it did, in iproute2's words.
func Uninstall(ctx context.Context, cfg Config, clear bool) ([]string, error) {
	snap, state := cfg.Database.Current()
	if !state.Known {
		return nil, &waiting{state.Err}
	}
	if asking := asking(snap); len(asking) > 0 && !clear {
		return nil, problem("UNINSTALL_ASKED", "ports ask for IPsec and would send clear text: %s; remove them or their ipsec options, or say --leave-clear", strings.Join(asking, ", "))
	}
	ops, err := leftovers(ctx, cfg.Kernel)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(cfg.Kernel.Do(ctx, ops)...); err != nil {
		return nil, fmt.Errorf("uninstall: %w", err)
	}
	done := make([]string, len(ops))
	for i := range ops {
		done[i] = ops[i].IP(pfNames(nil).of)
	}
	if snap.Host.Hold != nil {
		if err := letIn(ctx, cfg); err != nil {
			return done, err
		}
		done = append(done, Step{Verb: FreeFlows}.Text(nil))
	}
	return done, cfg.Database.Report(ctx, withdrawn(snap))
}

// asking returns the names of the ports that ask for IPsec.
func asking(snap ovsdb.Snapshot) (names []string) {
	for i := range snap.Tunnels {
		if snap.Tunnels[i].IPsec {
			names = append(names, snap.Tunnels[i].Name)
		}
	}
	return names
}

// leftovers returns the operations that delete everything of ours. Bypasses go
// after guards, so that no plain tunnel is cut in between.
func leftovers(ctx context.Context, kernel Kernel) ([]xfrm.Op, error) {
	sas, err := kernel.SAs(ctx)
	if err != nil {
		return nil, fmt.Errorf("read SAs: %w", err)
	}
	policies, err := kernel.Policies(ctx)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	inNIC := slices.ContainsFunc(sas, func(s xfrm.SA) bool { return oursSA(&s) }) ||
		slices.ContainsFunc(policies, func(p xfrm.Policy) bool { return oursPolicy(&p) && p.Offload.Ifindex != 0 })
	if inNIC {
		return nil, problem("UNINSTALL_PARK", "states or policies of this program are in a NIC still: start the daemon, `ovs-ipsec-offload park`, and stop it again")
	}
	var guards, rest []xfrm.Op
	for i := range policies {
		if p := &policies[i]; oursPolicy(p) {
			op := xfrm.Op{Kind: xfrm.DeletePolicy, Policy: p}
			if p.Action == xfrm.Block {
				guards = append(guards, op)
			} else {
				rest = append(rest, op)
			}
		}
	}
	return append(guards, rest...), nil
}

// letIn ends the hold and has OVS look at its flows again.
func letIn(ctx context.Context, cfg Config) error {
	facts, err := cfg.NIC.Facts(ctx)
	if err != nil {
		return fmt.Errorf("read NIC facts: %w", err)
	}
	if _, err := newDrainer(cfg).free(ctx, facts); err != nil {
		return err
	}
	if cfg.Released != nil {
		cfg.Released()
	}
	return nil
}

// withdrawn returns the reports that take ours out of the database.
func withdrawn(snap ovsdb.Snapshot) (rs []ovsdb.Report) {
	if len(snap.Host.Reported) > 0 {
		rs = append(rs, ovsdb.Report{})
	}
	for i := range snap.Tunnels {
		if t := &snap.Tunnels[i]; len(t.Reported) > 0 {
			rs = append(rs, ovsdb.Report{Tunnel: t.Name})
		}
	}
	return rs
}
