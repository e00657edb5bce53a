// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/ovsdb/unixctl"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/ike/pluto"
	"ovs-ipsec-offload/plugin/keys"
	"ovs-ipsec-offload/plugin/saved"
	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// host is the daemon with all its edges.
type host struct {
	cfg         config.Config
	log         *slog.Logger
	watch       *ovsdb.Watch
	xfrm        *xfrm.Client
	config      plugin.Config // of the daemon
	credentials credentials
	daemon      *plugin.Daemon
	ike         ikeRunner // nil: none is wanted
	mark        parkMark
	place       *unixctl.Place // of ovs-monitor-ipsec
}

// newHost connects the core with the edges of this machine.
func newHost(ctx context.Context, cfg config.Config, log *slog.Logger, ledger plugin.Ledger, boot string) (*host, error) {
	nic := devlink.NewReader()
	facts, err := nic.Facts(ctx)
	if err != nil {
		return nil, fmt.Errorf("read NIC facts: %w", err)
	}
	if err := facts.Kernel.Supported(); err != nil {
		return nil, &exitError{exitUnsupported, err}
	}
	h := &host{cfg: cfg, log: log, mark: parkMark(filepath.Join(cfg.StateDir, "parked"))}
	h.place = unixctl.NewPlace(h.runDir(), monitorName)
	isParked, err := h.mark.stands()
	if err != nil {
		return nil, fmt.Errorf("read whether the host is parked: %w", err)
	}
	if h.watch, err = ovsdb.New(ovsdb.Config{Endpoint: cfg.OVSDB, Logger: log}); err != nil {
		return nil, wrongUse(err)
	}
	if h.xfrm, err = xfrm.New(); err != nil {
		return nil, err
	}
	h.credentials = newCredentials(func() { h.daemon.Poke() })
	h.config = withFaultPoints(plugin.Config{
		Database: h.watch, Kernel: h.xfrm, NIC: nic, Flows: tc.Scanner{},
		Keys: newKeyStore(cfg.KeysDir, h.watch), Credentials: h.credentials, Ledger: ledger, Saved: saved.Dir(cfg.StateDir), Rivals: h.rivals,
		Prober: prober{},
		Gate:   gate{Vswitchd: h.vswitchd()}, Released: h.released, Beside: func(f func()) { go f() },
		Settings: settingsOf(cfg), RetireAfter: cfg.RetireAfter, AuditEvery: cfg.AuditEvery, Report: cfg.Report,
		Parked: isParked, BootID: boot, Version: version(), Log: log, Now: time.Now,
	})
	if h.ike = newIKE(cfg, facts.Kernel, log, func() { h.daemon.Poke() }); h.ike != nil {
		h.config.IKE = h.ike
		_, h.config.SmallReqids = h.ike.(*pluto.Runner)
	}
	h.daemon = plugin.New(h.config)
	return h, nil
}

// close ends what newHost opened.
func (h *host) close() error { return h.xfrm.Close() }

// settingsOf picks what bears on intent and plan.
func settingsOf(c config.Config) plugin.Settings {
	return plugin.Settings{GateAuto: c.Gate == config.GateAuto, GuardAuto: c.Guard == config.GuardAuto, GuardPorts: c.GuardPorts,
		Retrofit: plugin.Retrofit(c.Retrofit), DrainForSAs: c.StrictSA == config.StrictDrain, BlockLeaks: c.OnLeak == config.LeakBlock,
		Unguarded: c.Unguarded == config.UnguardedAllow}
}

// released makes OVS send its flows through the offload once more. The daemon
// must not wait for it, and a failure costs speed only.
func (h *host) released() { go h.purge(context.Background()) }

func (h *host) purge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := h.vswitchd().Purge(ctx); err != nil {
		h.log.Warn("flows from before stay in software until they end", "err", err)
	}
}

// vswitchd returns the way to ovs-vswitchd, whose files lie beside the socket
// of the database.
func (h *host) vswitchd() ovsdb.Vswitchd {
	return ovsdb.Vswitchd{RunDir: h.runDir()}
}

// gate keeps rules out of the NICs of this machine.
type gate struct {
	ovsdb.Vswitchd
	tc.Drain
	fence devlink.Fence
}

// Fence turns hw-tc-offload of devices off or on.
func (g gate) Fence(ctx context.Context, ifindexes []int, on bool) (changed []int, err error) {
	changed, err = g.fence.Set(ctx, ifindexes, on)
	return changed, coded(err)
}

// Offloading returns those of the devices whose hw-tc-offload is on.
func (g gate) Offloading(ctx context.Context, ifindexes []int) ([]int, error) {
	return g.fence.Offloading(ctx, ifindexes)
}

// bootID returns the id of this boot (random(4)).
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// keyStore gives the core the key sets of a directory.
type keyStore struct {
	database interface {
		Current() (ovsdb.Snapshot, ovsdb.State)
	}
	mu    sync.Mutex
	store *keys.Store
}

func newKeyStore(dir string, w *ovsdb.Watch) *keyStore {
	return &keyStore{store: keys.NewStore(dir), database: w}
}

// Lookup returns what may be known of a set, and refuses the other end's file.
func (k *keyStore) Lookup(name string) (plugin.KeySet, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set, err := k.store.Lookup(name)
	if err == nil {
		err = set.CheckHost(k.own()...)
	}
	if err != nil {
		return plugin.KeySet{}, coded(err)
	}
	return plugin.KeySet{
		Name: set.Name, InSPI: set.In.SPI, OutSPI: set.Out.SPI, InPrint: set.In.KeyPrint, OutPrint: set.Out.KeyPrint,
		Renew: keys.NewKeysCommand(set.Host, set.Peer),
	}, nil
}

// own returns the names of this host.
func (k *keyStore) own() []string {
	snapshot, _ := k.database.Current()
	name, _ := os.Hostname() // fails only where /proc is missing
	return []string{snapshot.Host.SystemID, snapshot.Host.Hostname, name}
}

// Material returns the two keys of a set.
func (k *keyStore) Material(name string) (in, out xfrm.Key, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set, err := k.store.Lookup(name)
	if err == nil {
		in, out, err = k.store.Material(set)
	}
	return in, out, coded(err)
}

// coded keeps the code of a refusal.
func coded(err error) error {
	if e, ok := errors.AsType[*keys.Error](err); ok {
		return &plugin.Problem{Code: e.Code, Text: e.Error()}
	}
	if e, ok := errors.AsType[*devlink.FenceError](err); ok {
		return &plugin.Problem{Code: e.Code(), Text: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return err
}

// ledger gives the core the ledger of outbound keys.
type ledger struct{ *keys.Ledger }

// Reserve records the keys before they are installed.
func (l ledger) Reserve(ctx context.Context, es []plugin.LedgerEntry) error {
	return coded(l.Ledger.Reserve(ctx, entriesOf(es)))
}

// Refused records that the kernel did not install the keys.
func (l ledger) Refused(_ context.Context, es []plugin.LedgerEntry) error {
	return coded(l.Ledger.Refused(entriesOf(es)))
}

func entriesOf(es []plugin.LedgerEntry) []keys.Entry {
	out := make([]keys.Entry, len(es))
	for i, e := range es {
		out[i] = keys.Entry{Key: e.Print, Name: e.Name, SPI: e.SPI, Pair: e.Pair.String()}
	}
	return out
}
