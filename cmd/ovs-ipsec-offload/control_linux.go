// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"ovs-ipsec-offload/plugin"
)

// controlSocket is the name of the daemon's socket in its run directory. It
// speaks HTTP; its paths are "/v1/status" and "/v1/plan", both GET, both JSON.
const controlSocket = "ctl.sock"

// listen makes the control socket, open to its owner only. The instance lock is
// held, so a socket that is there is left over.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("make control socket: %w", err), l.Close())
	}
	return l, nil
}

// preview is the answer of /v1/plan.
type preview struct {
	Steps    []string         `json:"steps"`
	Problems []plugin.Problem `json:"problems"`
	Verdict  string           `json:"verdict"` // "" when every invariant holds
}

// inspector is what the control socket shows of the daemon.
type inspector interface {
	Status(ctx context.Context) (plugin.Status, error)
	Preview(ctx context.Context) (steps []string, problems []plugin.Problem, verdict, err error)
}

// serveControl answers on the control socket until ctx ends.
func serveControl(ctx context.Context, l net.Listener, d inspector) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		s, err := d.Status(r.Context())
		answer(w, s, err)
	})
	mux.HandleFunc("GET /v1/plan", func(w http.ResponseWriter, r *http.Request) {
		p, err := previewOf(r.Context(), d)
		answer(w, p, err)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

func previewOf(ctx context.Context, d inspector) (preview, error) {
	steps, problems, verdict, err := d.Preview(ctx)
	p := preview{Steps: steps, Problems: problems}
	if verdict != nil {
		p.Verdict = verdict.Error()
	}
	return p, err
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the asker is gone
}

// ask fetches a path from the daemon of runDir.
func ask(ctx context.Context, runDir, path string, into any) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(runDir, controlSocket))
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://daemon"+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096)) // only for the message
		return fmt.Errorf("ask the daemon: %s", text)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}
