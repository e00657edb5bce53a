// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/plugin/keys"
	"ovs-ipsec-offload/xfrm"
)

// follow runs everything that asks the daemon for a round, until ctx ends.
func (h *host) follow(ctx context.Context, g *errgroup.Group) error {
	states, err := xfrm.NewMonitor()
	if err != nil {
		return err
	}
	links, err := devlink.NewMonitor()
	if err != nil {
		_ = states.Close()
		return err
	}
	g.Go(func() error { h.watch.Run(ctx); return nil })
	g.Go(func() error { defer states.Close(); return h.followStates(ctx, states) })
	g.Go(func() error {
		defer links.Close()
		return ended(ctx, links.Run(ctx, func(devlink.Event) { h.daemon.Alarm() }))
	})
	g.Go(func() error { h.followKeys(ctx); return nil })
	if h.ike != nil {
		g.Go(func() error { return ended(ctx, h.ike.Run(ctx)) })
	}
	g.Go(func() error { h.followFiles(ctx); return nil })
	return nil
}

// followStates asks for a round when somebody else changed a state or policy.
func (h *host) followStates(ctx context.Context, m *xfrm.Monitor) error {
	for {
		e, err := m.Receive(ctx)
		if err != nil {
			return ended(ctx, fmt.Errorf("watch states and policies: %w", err))
		}
		if e.PortID != h.xfrm.PortID() {
			h.log.Debug("foreign change", "event", e.Kind.String())
			h.foreign(e)
		}
	}
}

// foreign asks for a round. What somebody adds that encrypts takes nothing of ours away,
// and an IKE daemon adds much of it: a round is soon enough. Anything else may let clear
// text out, such as a policy in front of a guard.
func (h *host) foreign(e xfrm.Event) {
	switch {
	case e.Kind == xfrm.SAAdded, e.Kind == xfrm.SAUpdated, e.Kind == xfrm.PolicyAdded && e.Policy.Tmpl != nil && e.Policy.Tmpl.Reqid != 0:
		h.daemon.Poke()
	default:
		h.daemon.Alarm()
	}
}

// retryKeys is how often a missing key directory is looked for.
const retryKeys = 5 * time.Second

// followKeys asks for a round when a key file changes. The directory may come
// later: a round looks at the files itself, so nothing is lost but time.
func (h *host) followKeys(ctx context.Context) {
	if err := os.MkdirAll(h.cfg.KeysDir, 0o700); err != nil {
		h.log.Debug("make directory of key sets", "err", err)
	}
	for ctx.Err() == nil {
		if err := keys.Watch(ctx, h.cfg.KeysDir, h.daemon.Poke); err != nil {
			h.log.Debug("key sets are looked at in every round only", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryKeys):
		}
	}
}

// ended forgives an error that only says that ctx ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
