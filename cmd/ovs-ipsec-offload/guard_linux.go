// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/saved"
	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// newBoot connects plugin.Boot with the edges of this machine. done ends them.
func newBoot(cfg config.Config, state saved.State) (b plugin.Boot, done func(), err error) {
	nic := devlink.NewReader()
	// The facts may be incomplete so early; the version of the kernel is not.
	if facts, _ := nic.Facts(context.Background()); facts.Kernel.Release != "" {
		if err := facts.Kernel.Supported(); err != nil {
			return b, nil, &exitError{exitUnsupported, err}
		}
	}
	parked, err := parkMark(filepath.Join(cfg.StateDir, "parked")).stands()
	if err != nil {
		return b, nil, fmt.Errorf("read whether the host is parked: %w", err)
	}
	client, err := xfrm.New()
	if err != nil {
		return b, nil, err
	}
	b = plugin.Boot{Parked: parked, Kernel: client, NIC: nic, Flows: tc.Scanner{}, Settings: settingsOf(cfg), Saved: state,
		// A daemon that runs knows better which pairs are plain by now.
		Bypasses: !daemonRuns(cfg.RunDir)}
	return b, func() { _ = client.Close() }, nil
}

// daemonRuns tells whether somebody answers on the control socket.
func daemonRuns(runDir string) bool {
	c, err := net.Dial("unix", filepath.Join(runDir, controlSocket))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// standUp runs b, which looks again whenever the kernel tells of a change, and
// for the last time after timeout.
func standUp(ctx context.Context, b plugin.Boot, timeout time.Duration) (r plugin.BootResult, err error) {
	events, err := devlink.NewMonitor()
	if err != nil {
		return r, err
	}
	watching, stop := context.WithCancel(ctx)
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- events.Run(watching, func(devlink.Event) {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	late := time.NewTimer(timeout)
	defer late.Stop()
	r, err = b.Run(ctx, changed, late.C)
	if err != nil {
		err = fmt.Errorf("stand guards up: %w", err)
	}
	return r, err
}
