// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/plugin"
)

// daemonSays is a daemon that answers with what it holds.
type daemonSays struct {
	status  plugin.Status
	steps   []string
	verdict error
	err     error
}

func (d daemonSays) Status(context.Context) (plugin.Status, error) { return d.status, d.err }

func (d daemonSays) Preview(context.Context, bool) ([]string, []plugin.Problem, error, error) {
	return d.steps, nil, d.verdict, d.err
}

func (d daemonSays) Repair() plugin.Round { return 1 }

func (d daemonSays) Rotate(_ context.Context, port, _ string, _ bool) (plugin.Rotation, error) {
	return plugin.Rotation{Ports: []string{port}}, d.err
}

func (d daemonSays) Park(bool) plugin.Round { return 1 }

func (d daemonSays) Await(_ context.Context, _ plugin.Round, is func(plugin.Status) bool) (plugin.Status, bool) {
	return d.status, is(d.status)
}

// serve answers on a control socket until the test ends and returns its directory.
func serve(t *testing.T, d controlled) string {
	t.Helper()
	dir := t.TempDir()
	l, err := listen(filepath.Join(dir, controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveControl(ctx, l, d, parkMark(filepath.Join(dir, "parked"))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestControlAnswers(t *testing.T) {
	d := daemonSays{
		status: plugin.Status{State: plugin.OK, Pairs: []plugin.PairStatus{{Local: "10.0.0.1", Remote: "10.0.0.2", Port: 4789}}},
		steps:  []string{"ip xfrm policy add"}, verdict: errors.New("I1 broken"),
	}
	dir := serve(t, d)
	info, err := os.Stat(filepath.Join(dir, controlSocket))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	var s plugin.Status
	if err := ask(t.Context(), dir, "/v1/status", &s); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.status, s); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	var p preview
	if err := ask(t.Context(), dir, "/v1/plan", &p); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(preview{Steps: d.steps, Verdict: "I1 broken"}, p); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	var o outcome
	if err := request(t.Context(), http.MethodPost, dir, "/v1/park", &o); err != nil || o.Done {
		t.Errorf("park: %+v, %v", o, err)
	}
	if is, err := parkMark(filepath.Join(dir, "parked")).stands(); !is || err != nil {
		t.Errorf("no mark that the host is parked: %v", err)
	}
	if err := request(t.Context(), http.MethodPost, dir, "/v1/unpark", &o); err != nil || !o.Done {
		t.Errorf("unpark: %+v, %v", o, err)
	}
	if is, err := parkMark(filepath.Join(dir, "parked")).stands(); is || err != nil {
		t.Errorf("the mark that the host is parked stays: %v", err)
	}
	if err := ask(t.Context(), dir, "/v1/keys", &p); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("unknown path: %v", err)
	}
}

func TestControlTellsFailure(t *testing.T) {
	dir := serve(t, daemonSays{err: errors.New("dump policies: no buffer space")})
	var s plugin.Status
	err := ask(t.Context(), dir, "/v1/status", &s)
	if err == nil || !strings.Contains(err.Error(), "no buffer space") || exitCode(err) != exitFailure {
		t.Errorf("got %v, exit code %d", err, exitCode(err))
	}
}

func TestControlWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	var s plugin.Status
	gone := ask(t.Context(), dir, "/v1/status", &s)
	l, err := listen(filepath.Join(dir, controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	// As after a crash: the socket's file is there and nobody listens.
	l.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	l.Close()
	for _, err := range []error{gone, ask(t.Context(), dir, "/v1/status", &s)} {
		if !errors.Is(err, errNotRunning) || exitCode(err) != exitUnreachable {
			t.Errorf("got %v, exit code %d", err, exitCode(err))
		}
	}
	if l, err = listen(filepath.Join(dir, controlSocket)); err != nil {
		t.Errorf("a socket that was left over is in the way: %v", err)
	} else {
		l.Close()
	}
}
