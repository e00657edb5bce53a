// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/keys"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon in the foreground",
		Long: `Run the daemon in the foreground. SIGHUP reads the configuration again; SIGTERM
and SIGINT end it and leave the data plane as it is: the next start adopts it.

Start it after ovsdb-server and before ovs-vswitchd, so that the NIC's IPsec
tables stand before the first flow is offloaded.`,
		Args: noArgs,
	}
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		load := func() (config.Config, error) {
			return config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
		}
		return run(cmd.Context(), load, cmd.ErrOrStderr())
	}
	return cmd
}

// run is the daemon's life: lock, ledger, edges, rounds.
func run(ctx context.Context, load func() (config.Config, error), stderr io.Writer) (err error) {
	cfg, err := load()
	if err != nil {
		return wrongUse(err)
	}
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel)
	log := newLog(cfg.LogFormat, level, stderr)
	lock, err := lockInstance(cfg.RunDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := alone(cfg.OVSDB); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	book, err := keys.OpenLedger(cfg.StateDir, time.Now, boot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	h, err := newHost(ctx, cfg, log, ledger{book}, boot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	return h.serve(ctx, load, level)
}

// serve makes rounds and answers questions until ctx ends or a part fails.
func (h *host) serve(ctx context.Context, load func() (config.Config, error), level *slog.LevelVar) error {
	notify := newNotifier()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	control, err := listen(filepath.Join(h.cfg.RunDir, controlSocket))
	if err != nil {
		return err
	}
	g.Go(func() error { return serveControl(ctx, control, h.daemon, h.mark) })
	if err := h.follow(ctx, g); err != nil {
		_ = control.Close()
		return err
	}
	g.Go(func() error { h.reloads(ctx, load, level, notify); return nil })
	g.Go(func() error { <-ctx.Done(); return notify.send("STOPPING=1") })
	noted := func() {}
	if h.cfg.MonitorSocket {
		m := newMonitorSocket(h, level, stop)
		noted = m.note
		g.Go(func() error { m.run(ctx); return nil })
	}
	heap := newCollector()
	heap.adapt()
	g.Go(func() error {
		h.log.Info("started", "version", version(), "ovsdb", h.cfg.OVSDB)
		return h.daemon.Run(ctx, func(s plugin.Status) { h.tellSystemd(notify, s); noted(); heap.adapt() })
	})
	err = g.Wait()
	h.log.Info("ended; states, policies and traffic stay as they are")
	return err
}

// tellSystemd reports that the daemon lives and how the host stands. It is
// ready when the database was read and a round was made.
func (h *host) tellSystemd(n notifier, s plugin.Status) {
	// A round is made at least every audit_every, so each is a sign of life.
	lines := []string{"STATUS=" + s.State, "WATCHDOG=1"}
	if s.State != plugin.Waiting {
		lines = append(lines, "READY=1")
	}
	if err := n.send(lines...); err != nil {
		h.log.Debug("systemd was not told", "err", err)
	}
}

// reloads reads the configuration again at every SIGHUP. What is wrong changes
// nothing.
func (h *host) reloads(ctx context.Context, load func() (config.Config, error), level *slog.LevelVar, n notifier) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			h.reload(load, level, n)
		}
	}
}

func (h *host) reload(load func() (config.Config, error), level *slog.LevelVar, n notifier) {
	if err := n.reloading(); err != nil {
		h.log.Debug("systemd was not told", "err", err)
	}
	next, err := load()
	if err != nil {
		h.log.Error("configuration stays as it was", "err", err)
	} else {
		if names := h.cfg.NeedsRestart(next); len(names) > 0 {
			h.log.Warn("settings that need a restart stay as they were", "settings", names)
		}
		level.Set(next.LogLevel)
		h.daemon.SetSettings(settingsOf(next))
		h.log.Info("configuration read again")
	}
	if err := n.send("READY=1"); err != nil {
		h.log.Debug("systemd was not told", "err", err)
	}
}

// newLog returns the daemon's logger.
func newLog(format config.LogFormat, level *slog.LevelVar, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

var errNotRunning = errors.New("ovs-ipsec-offload is not running: start it with \"ovs-ipsec-offload run\" or its systemd unit")

// unreachable gives an error of the control socket its exit code.
func unreachable(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = errNotRunning
	case errors.Is(err, os.ErrPermission):
		err = fmt.Errorf("%w; run it as root", os.ErrPermission)
	default:
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // its address is no place that one could go to
		}
	}
	return &exitError{exitUnreachable, fmt.Errorf("ask the daemon: %w", err)}
}
