// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"slices"
	"strings"
	"sync"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// eventNames are the events that say that something is to be looked at. alert
// came with 6.0.3; log says why something failed, in every version.
var eventNames = []string{"ike-updown", "ike-rekey", "child-updown", "child-rekey", "alert", "log"}

// heard is what the events said since it was last taken.
type heard struct {
	mu   sync.Mutex
	news chan struct{} // holds a value when there is something
	tidings
}

// tidings are what events said.
type tidings struct {
	names   map[string]bool // the Conns to look at
	seen    []sa            // what came up, as it was then: of each IKE SA one child at the most
	reasons []heardReason
}

type heardReason struct {
	conn string
	why  *Problem
}

func newHeard() *heard {
	return &heard{tidings: tidings{names: map[string]bool{}}, news: make(chan struct{}, 1)}
}

// take returns what was said, in its order.
func (h *heard) take() tidings {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tidings
	h.tidings = tidings{names: map[string]bool{}}
	return t
}

// event takes one event in. What came up is told in the words of list-sas; of anything
// else nothing is believed but which Conn it is about, and why something failed.
func (h *heard) event(name string, m vici.Message) {
	conn, why := aboutConn(name, m)
	if !strings.HasPrefix(conn, Prefix) || name == "log" && why == nil && !failed(m.Get("msg")) {
		return
	}
	h.mu.Lock()
	if up := cameUp(name, m); len(up) > 0 {
		h.seen = append(h.seen, up...)
	} else {
		h.names[conn] = true
	}
	if why != nil {
		h.reasons = append(h.reasons, heardReason{conn, why})
	}
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// cameUp returns the IKE SA that came up, or whose child did.
func cameUp(event string, m vici.Message) []sa {
	if (event != "ike-updown" && event != "child-updown") || m.Get("up") != "yes" {
		return nil
	}
	return slices.DeleteFunc(readSAs(m), func(s sa) bool { return s.ID == 0 })
}

func aboutConn(event string, m vici.Message) (string, *Problem) {
	switch event {
	case "log":
		return m.Get("ikesa-name"), readLog(m.Get("msg"))
	case "alert":
		return firstSection(m.Sub("ike-sa")), readAlert(m.Get("type"))
	}
	return firstSection(m), nil
}

func firstSection(m vici.Message) string {
	for _, e := range m {
		if e.Kind == vici.IsSection {
			return e.Name
		}
	}
	return ""
}

// listen takes events in over a connection of their own until it fails. The
// error comes over the channel, nil once the daemon has confirmed them all.
func (r *Runner) listen(ctx context.Context, h *heard) (<-chan error, error) {
	conn, err := r.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	s := vici.NewSession(conn)
	states := make(chan error, 2)
	go func() {
		defer close(states)
		err := s.Listen(ctx, eventNames, func() { states <- nil }, h.event)
		_ = s.Close()
		states <- err
	}()
	return states, nil
}
