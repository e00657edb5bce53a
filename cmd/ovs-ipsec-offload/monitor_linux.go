// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/ovsdb/unixctl"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/monitor"
)

// monitorName is the program in whose place ovs-appctl may be answered.
const monitorName = "ovs-monitor-ipsec"

// placeCheck is how often it is looked whether ovs-appctl still finds us, and how
// long after a failure the place is tried again.
const placeCheck = 5 * time.Second

// monitored is what the answers need of the daemon.
type monitored interface {
	Seen() plugin.Seen
	Refresh() plugin.Round
	Await(ctx context.Context, from plugin.Round, is func(plugin.Status) bool) (plugin.Status, bool)
}

// monitorSocket answers ovs-appctl as ovs-monitor-ipsec does. What it says is what
// the last round saw: no answer waits for the kernel, the database or a round but
// that of refresh, which is asked to.
type monitorSocket struct {
	place    *unixctl.Place
	daemon   monitored
	database interface {
		Current() (ovsdb.Snapshot, ovsdb.State)
	}
	versions *monitor.Versions
	certs    *certNames
	level    *slog.LevelVar
	check    time.Duration // placeCheck
	stop     func()        // ends the daemon in order
	log      *slog.Logger
}

// newMonitorSocket returns the answers about h.
func newMonitorSocket(h *host, level *slog.LevelVar, stop func()) *monitorSocket {
	return &monitorSocket{place: h.place, daemon: h.daemon, database: h.watch, versions: monitor.NewVersions(), certs: newCertNames(),
		level: level, check: placeCheck, stop: stop, log: h.log}
}

// run answers until ctx ends. A place that cannot be had, or is taken away, is
// tried again: tunnels do not depend on it.
func (m *monitorSocket) run(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		err := m.once(ctx)
		if err == nil {
			told = ""
			continue
		}
		if text := err.Error(); text != told {
			m.log.Warn("ovs-appctl is not answered", "target", monitorName, "err", text)
			told = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(m.check):
		}
	}
}

// once takes the place and answers until it is lost or ctx ends.
func (m *monitorSocket) once(ctx context.Context) error {
	l, err := m.place.Take()
	if err != nil {
		return err
	}
	m.log.Info("ovs-appctl is answered", "target", monitorName, "pidfile", m.place.PIDFile())
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); defer cancel(); m.keep(ctx) }()
	err = unixctl.New(monitorName+" (ovs-ipsec-offload) "+version(), m.commands()...).Serve(ctx, l)
	cancel()
	<-watched
	if left := m.place.Leave(); left != nil {
		m.log.Warn("pid file stays", "err", left)
	}
	return err
}

// keep returns when the place is lost, or ctx has ended.
func (m *monitorSocket) keep(ctx context.Context) {
	t := time.NewTicker(m.check)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !m.place.Stands() {
			m.log.Warn("pid file or socket was taken away; it is made again", "target", monitorName)
			return
		}
	}
}

// note takes notice of what tunnels are configured with now. It is called after
// each round, of which every change of the database makes one.
func (m *monitorSocket) note() {
	snapshot, _ := m.database.Current()
	m.versions.Note(snapshot, m.certs.of)
}

// commands are those of ovs-monitor-ipsec.
func (m *monitorSocket) commands() []unixctl.Command {
	shown := func(name string, show func(monitor.View) string) unixctl.Command {
		return unixctl.Command{Name: name, Run: func(context.Context, []string) (string, error) { return show(m.view()), nil }}
	}
	return append([]unixctl.Command{
		{Name: "tunnels/show", Run: m.tunnels},
		shown("ipsec/status", monitor.View.Connections),
		shown("xfrm/policies", monitor.View.Policies),
		shown("xfrm/state", monitor.View.States),
		{Name: "refresh", Run: m.refresh},
		{Name: "exit", Usage: "[--no-cleanup]", Max: 1, Run: m.exit},
	}, m.logging()...)
}

func (m *monitorSocket) view() monitor.View {
	snapshot, _ := m.database.Current()
	return monitor.View{Snapshot: snapshot, Seen: m.daemon.Seen(), Version: m.versions.Of, Name: m.certs.of}
}

// tunnels does not say that there are none when it does not know.
func (m *monitorSocket) tunnels(context.Context, []string) (string, error) {
	if _, state := m.database.Current(); !state.Known {
		return "", fmt.Errorf("the database was not read since the start: %w", state.Err)
	}
	return m.view().Tunnels(), nil
}

// refresh has the daemon look at everything, and waits for it.
func (m *monitorSocket) refresh(ctx context.Context, _ []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, operateLimit)
	defer cancel()
	if _, done := m.daemon.Await(ctx, m.daemon.Refresh(), func(plugin.Status) bool { return true }); !done {
		return "", fmt.Errorf("refresh: not over within %s; it goes on", operateLimit)
	}
	return "", nil
}

// exit ends the daemon. It takes nothing out of the NIC, whether asked to or not:
// without its policies a tunnel that asks for IPsec would send clear text.
func (m *monitorSocket) exit(_ context.Context, args []string) (string, error) {
	if len(args) == 1 && args[0] != "--no-cleanup" {
		return "", fmt.Errorf("unrecognized parameter: %s", args[0])
	}
	m.log.Info("asked to end", "by", "ovs-appctl exit")
	m.stop()
	if len(args) == 1 {
		return "", nil
	}
	return "ovs-ipsec-offload ends and tears nothing down: what is encrypted stays encrypted, what is blocked stays blocked.\n" +
		"To take it away, start it again and see `ovs-ipsec-offload park --help` and `uninstall --help`.", nil
}

// logging are the commands about the log, which goes to standard error only.
func (m *monitorSocket) logging() []unixctl.Command {
	const noFile = "Logging to file not configured"
	return []unixctl.Command{
		{Name: "vlog/list", Run: func(context.Context, []string) (string, error) {
			return monitor.LogLevels(monitorName, m.level.Level()), nil
		}},
		{Name: "vlog/set", Usage: "spec", Min: 1, Max: math.MaxInt, Run: m.setLevel},
		{Name: "vlog/reopen", Run: func(context.Context, []string) (string, error) { return noFile, nil }},
		{Name: "vlog/close", Run: func(context.Context, []string) (string, error) { return "", nil }},
	}
}

// setLevel takes a level until the configuration is read again.
func (m *monitorSocket) setLevel(_ context.Context, specs []string) (string, error) {
	for _, spec := range specs {
		level, err := monitor.ParseLogLevel(monitorName, spec)
		if err != nil {
			return "", err
		}
		if level != nil {
			m.level.Set(*level)
			m.log.Info("log level set", "level", level.String(), "by", "ovs-appctl vlog/set")
		}
	}
	return "", nil
}
