// SPDX-License-Identifier: Apache-2.0

package fakehost

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
)

// Host is a hypervisor.
type Host struct {
	*fakenic.Host
	OVS    *OVS
	Keys   *Keys
	Ledger *Ledger
	Clock  *Clock
	IKE    *Charon
}

// New returns a hypervisor without NICs and ports, on which ovs-vswitchd runs
// and hw-offload is unset.
func New() *Host {
	nic := fakenic.New()
	h := &Host{Host: nic, OVS: newOVS(nic), Keys: newKeys(nic.Faults), Ledger: newLedger(nic.Faults), Clock: &Clock{now: start}}
	h.IKE = newCharon(h)
	return h
}

// start is when the clock of every hypervisor begins.
var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// Config returns the configuration of a daemon on this host: gate and guards
// automatic, reports on, an SA kept for five minutes when nobody wants it.
func (h *Host) Config() plugin.Config {
	return plugin.Config{
		Database: h.OVS, Kernel: h.Host, NIC: h.Host, Flows: h.Host, Keys: h.Keys, Ledger: h.Ledger, Gate: h, IKE: h.IKE, Credentials: h.IKE, Released: h.OVS.Purge,
		Settings:    plugin.Settings{GateAuto: true, GuardAuto: true, GuardPorts: []uint16{4789}},
		RetireAfter: 5 * time.Minute, AuditEvery: 30 * time.Second,
		Report: true, BootID: "boot-1", Version: "test",
		Log: slog.New(slog.DiscardHandler), Now: h.Clock.Now,
		Pause:  func(_ context.Context, d time.Duration) { h.Clock.Advance(d) },
		Jitter: func() float64 { return 0.5 },
		Rand:   rand.NewChaCha8([32]byte{1}),
	}
}

// Fence implements plugin.Gate.
func (h *Host) Fence(ctx context.Context, ifindexes []int, on bool) (changed []int, err error) {
	changed, err = h.Host.Fence(ctx, ifindexes, on)
	if e, ok := errors.AsType[*devlink.FenceError](err); ok {
		err = &plugin.Problem{Code: e.Code(), Text: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return changed, err
}

// Running implements plugin.Gate.
func (h *Host) Running(ctx context.Context) (bool, error) { return h.OVS.Running(ctx) }

// Clock is a clock that stands still until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
