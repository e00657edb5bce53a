// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// alwaysEvents are the events that say that something is to be looked at. alert came with
// 6.0.3.
//
// calmEvents are listened to but while many are coming up. log, which is in every version,
// says why something failed: it brings every line of charon's log, two dozen for a tunnel
// that comes up. ike-updown tells little that child-updown does not, which charon raises
// for each child of an IKE SA that ends: only one without a child is missed, until its
// attempt's time is over.
var (
	alwaysEvents = []string{"ike-rekey", "child-updown", "child-rekey", "alert"}
	calmEvents   = []string{"log", "ike-updown"}
)

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

// ear takes events in over a connection of its own.
type ear struct {
	failed <-chan error // gets what the connection failed with
	close  func()       // leaves no goroutine behind
}

// listen returns an ear for those of the events that the daemon has.
func (r *Runner) listen(ctx context.Context, events []string, h *heard) (*ear, error) {
	conn, err := r.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, failed, ended := make(chan struct{}), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		s := vici.NewSession(conn)
		err := s.Listen(ctx, events, func() { close(ready) }, h.event)
		_ = s.Close()
		failed <- err
	}()
	e := &ear{failed: failed, close: func() { cancel(); <-ended }}
	timer := time.NewTimer(r.cfg.Options.Timeout)
	defer timer.Stop()
	select {
	case <-ready:
		return e, nil
	case err = <-failed:
	case <-timer.C:
		err = silence(r.cfg.Options.Timeout)
	}
	e.close()
	return nil, err
}

// calmEar listens to calmEvents while that is wanted.
type calmEar struct {
	r *Runner
	h *heard
	*ear
}

// want begins to listen, or ends it.
func (l *calmEar) want(ctx context.Context, yes bool) (err error) {
	switch {
	case yes && l.ear == nil:
		l.ear, err = l.r.listen(ctx, calmEvents, l.h)
	case !yes && l.ear != nil:
		l.close()
		l.ear = nil
	}
	return err
}

// end ends it.
func (l *calmEar) end() { _ = l.want(context.Background(), false) }

// lost gets what the connection failed with.
func (l *calmEar) lost() <-chan error {
	if l.ear == nil {
		return nil
	}
	return l.failed
}
