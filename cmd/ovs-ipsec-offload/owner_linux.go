// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"ovs-ipsec-offload/ovsdb/unixctl"
	"ovs-ipsec-offload/plugin"
)

// rival returns the problem that ovs-monitor-ipsec runs, or nil. Like every daemon
// of Open vSwitch it holds a lock on its pid file as long as it lives
// (python/ovs/daemon.py). One of this process is no rival.
func rival(place *unixctl.Place) (*plugin.Problem, error) {
	pid, err := place.Other()
	if err != nil {
		return nil, fmt.Errorf("look for ovs-monitor-ipsec: %w", err)
	}
	if pid == 0 {
		return nil, nil
	}
	return &plugin.Problem{Code: "OWNER_RIVAL", Text: fmt.Sprintf(
		"ovs-monitor-ipsec runs (process %d holds %s), and both would make states and policies for the same tunnels: "+
			"`ovs-appctl -t ovs-monitor-ipsec exit --no-cleanup && systemctl disable openvswitch-ipsec.service`, since stopping its unit tears tunnels down into clear text", pid, place.PIDFile())}, nil
}

// runDir returns Open vSwitch's run directory: where the socket of its database is.
func (h *host) runDir() string { return runDirOf(h.cfg.OVSDB) }

func runDirOf(endpoint string) string {
	if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		return filepath.Dir(path)
	}
	return "/run/openvswitch"
}

// alone refuses a host on which ovs-monitor-ipsec runs.
func alone(endpoint string) error {
	p, err := rival(unixctl.NewPlace(runDirOf(endpoint), monitorName))
	if err != nil {
		return err
	}
	if p != nil {
		return fmt.Errorf("start: %w", p)
	}
	return nil
}

// rivals looks who else is at work, for every round.
func (h *host) rivals() []plugin.Problem {
	p, err := rival(h.place)
	if err != nil {
		h.log.Debug(err.Error())
	}
	if p == nil {
		return nil
	}
	return []plugin.Problem{*p}
}
