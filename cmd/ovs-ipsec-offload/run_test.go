// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
)

// reloaded returns the level and the log after a reload that gives these settings.
func reloaded(t *testing.T, change func(*config.Config), err error) (level *slog.LevelVar, log string) {
	t.Helper()
	cfg, cerr := config.Load(config.Source{File: "/dev/null"})
	if cerr != nil {
		t.Fatal(cerr)
	}
	next := cfg
	change(&next)
	level = new(slog.LevelVar)
	level.Set(cfg.LogLevel)
	var buf bytes.Buffer
	h := &host{cfg: cfg, log: newLog(config.LogText, level, &buf), daemon: plugin.New(plugin.Config{})}
	h.reload(func() (config.Config, error) { return next, err }, level, notifier{})
	return level, buf.String()
}

func TestReload(t *testing.T) {
	level, log := reloaded(t, func(c *config.Config) { c.LogLevel = slog.LevelDebug }, nil)
	if level.Level() != slog.LevelDebug || !strings.Contains(log, "configuration read again") {
		t.Errorf("level %v, log %s", level.Level(), log)
	}
	_, log = reloaded(t, func(c *config.Config) { c.StateDir = "/elsewhere" }, nil)
	if !strings.Contains(log, "need a restart") || !strings.Contains(log, "state_dir") {
		t.Errorf("log %s", log)
	}
}

func TestReloadKeepsOldSettingsOnError(t *testing.T) {
	level, log := reloaded(t, func(c *config.Config) { c.LogLevel = slog.LevelDebug }, errors.New(`unknown setting "guardd"`))
	if level.Level() != slog.LevelInfo || !strings.Contains(log, "configuration stays as it was") || !strings.Contains(log, "guardd") {
		t.Errorf("level %v, log %s", level.Level(), log)
	}
}

func TestUnreachable(t *testing.T) {
	inHTTP := func(err error) error { return &url.Error{Op: "Get", URL: "http://daemon/v1/status", Err: err} }
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "connect", Path: "ctl.sock", Err: fs.ErrPermission}, "ask the daemon: permission denied; run it as root"},
		{&fs.PathError{Op: "connect", Path: "ctl.sock", Err: fs.ErrNotExist}, "ask the daemon: " + errNotRunning.Error()},
		{errors.New("unexpected EOF"), "ask the daemon: unexpected EOF"},
	} {
		if err := unreachable(inHTTP(tt.err)); describe(err) != tt.want || exitCode(err) != exitUnreachable {
			t.Errorf("got %q, exit code %d; want %q", describe(err), exitCode(err), tt.want)
		}
	}
}
