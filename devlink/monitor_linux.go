// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Monitor listens for changes of links, addresses and devlink objects in the
// network namespace of the thread that made it.
type Monitor struct {
	route   *netlink.Conn
	devlink *genetlink.Conn // nil when the kernel has no devlink
}

// NewMonitor subscribes; events are kept from now on, until Run takes them.
func NewMonitor() (*Monitor, error) {
	route, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR})
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	dl, err := watchDevlink()
	if err != nil {
		_ = route.Close()
		return nil, fmt.Errorf("watch devlink: %w", err)
	}
	return &Monitor{route: route, devlink: dl}, nil
}

// watchDevlink joins devlink's only multicast group.
func watchDevlink() (*genetlink.Conn, error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil, err
	}
	family, err := conn.GetFamily(unix.DEVLINK_GENL_NAME)
	if err != nil {
		_ = conn.Close()
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	for _, g := range family.Groups {
		if g.Name == unix.DEVLINK_GENL_MCGRP_CONFIG_NAME {
			err = conn.JoinGroup(g.ID)
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// Close ends the subscription, and a running Run.
func (m *Monitor) Close() error {
	err := m.route.Close()
	if m.devlink != nil {
		err = errors.Join(err, m.devlink.Close())
	}
	return err
}

// Run calls handle for every event, one at a time, until ctx ends, which is no
// error, or a socket fails. It closes m. handle must not wait for m.
func (m *Monitor) Run(ctx context.Context, handle func(Event)) error {
	var mu sync.Mutex
	serial := func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		handle(e)
	}
	g, gctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(gctx, func() { _ = m.Close() })
	g.Go(func() error { return listen(m.route.Receive, routeEvent, serial) })
	if m.devlink != nil {
		g.Go(func() error { return listen(m.receiveDevlink, devlinkEvent, serial) })
	}
	err := g.Wait()
	if stop() {
		_ = m.Close()
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch NICs: %w", err)
}

func (m *Monitor) receiveDevlink() ([]genetlink.Message, error) {
	msgs, _, err := m.devlink.Receive()
	return msgs, err
}

// listen hands on events until receive fails for another reason than a full
// socket buffer.
func listen[M any](receive func() ([]M, error), decode func(M) (Event, bool), handle func(Event)) error {
	for {
		msgs, err := receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			handle(Event{Kind: Overrun})
		case err != nil:
			return err
		}
		for _, m := range msgs {
			if e, ok := decode(m); ok {
				handle(e)
			}
		}
	}
}
