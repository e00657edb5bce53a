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
	"slices"
	"time"

	"ovs-ipsec-offload/plugin"
)

// controlSocket is the name of the daemon's socket in its run directory. It
// speaks HTTP, with JSON in its answers: GET /v1/status, GET /v1/plan[?repair=1],
// POST /v1/repair, /v1/park and /v1/unpark, which wait for what they ask for, and
// POST /v1/rotate?port=PORT&keys=NAME[&now=1].
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
	Preview(ctx context.Context, repair bool) (steps []string, problems []plugin.Problem, verdict, err error)
}

// controlled is what the control socket needs of the daemon.
type controlled interface {
	inspector
	operated
}

// operated is what the control socket has the daemon do.
type operated interface {
	Repair() plugin.Round
	Park(parked bool) plugin.Round
	Rotate(ctx context.Context, port, keys string, now bool) (plugin.Rotation, error)
	Await(ctx context.Context, from plugin.Round, is func(plugin.Status) bool) (plugin.Status, bool)
}

// outcome is the answer to a request that changes something.
type outcome struct {
	Done   bool          `json:"done"` // what was asked for has come about
	Status plugin.Status `json:"status"`
}

// serveControl answers on the control socket until ctx ends.
func serveControl(ctx context.Context, l net.Listener, d controlled, mark parkMark) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		s, err := d.Status(r.Context())
		answer(w, s, err)
	})
	mux.HandleFunc("GET /v1/plan", func(w http.ResponseWriter, r *http.Request) {
		p, err := previewOf(r.Context(), d, r.URL.Query().Get("repair") != "")
		answer(w, p, err)
	})
	mux.HandleFunc("POST /v1/repair", func(w http.ResponseWriter, r *http.Request) {
		answer(w, await(r.Context(), d, d.Repair(), whole), nil)
	})
	mux.HandleFunc("POST /v1/park", func(w http.ResponseWriter, r *http.Request) {
		if err := mark.set(); err != nil {
			answer(w, nil, err)
			return
		}
		answer(w, await(r.Context(), d, d.Park(true), parked), nil)
	})
	mux.HandleFunc("POST /v1/unpark", func(w http.ResponseWriter, r *http.Request) {
		if err := mark.remove(); err != nil {
			answer(w, nil, err)
			return
		}
		answer(w, await(r.Context(), d, d.Park(false), whole), nil)
	})
	mux.HandleFunc("POST /v1/rotate", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		rot, err := d.Rotate(r.Context(), q.Get("port"), q.Get("keys"), q.Get("now") != "")
		answer(w, rot, err)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

// await waits until a request has come about, or for operateLimit.
func await(ctx context.Context, d operated, from plugin.Round, is func(plugin.Status) bool) outcome {
	ctx, cancel := context.WithTimeout(ctx, operateLimit)
	defer cancel()
	s, done := d.Await(ctx, from, is)
	return outcome{done, s}
}

// operateLimit is how long a request may take: a drain of 10 s, and what follows.
const operateLimit = 30 * time.Second

// parked tells whether a host is parked.
func parked(s plugin.Status) bool { return s.State == plugin.Parked }

// whole tells whether nothing holds flows back and no PF was left alone.
func whole(s plugin.Status) bool {
	held := slices.ContainsFunc(s.Problems, func(p plugin.Problem) bool {
		return slices.Contains([]string{"FLOWS_FIRST", "GUARD_HELD", "TABLES_STALE", "HOLD_TIMEOUT", "HOLD_RACED"}, p.Code)
	})
	return s.Gate.Held == "" && s.State != plugin.Parked && s.State != plugin.Unseen && !held
}

func previewOf(ctx context.Context, d inspector, repair bool) (preview, error) {
	steps, problems, verdict, err := d.Preview(ctx, repair)
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
	return request(ctx, http.MethodGet, runDir, path, into)
}

// request sends a request to the daemon of runDir.
func request(ctx context.Context, method, runDir, path string, into any) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(runDir, controlSocket))
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, nil)
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
