// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"log/slog"
	"maps"
	"sync"
)

// Desk is where a Runner, of whichever IKE daemon, and those who ask it for something
// meet. Its methods may be called from any goroutine, and none waits for the IKE daemon.
type Desk struct {
	log     *slog.Logger
	changed func()
	news    chan struct{} // holds a value when something is asked for

	mu     sync.Mutex
	wanted map[string]Conn // nil: nobody has said
	asked  map[string]bool // new SAs are asked for: true because the old are gone
	state  State
}

// NewDesk returns a Desk that says why until the first Publish. changed is called, from
// any goroutine, when State gives something new that matters: see ConnState.news.
func NewDesk(log *slog.Logger, changed func(), why *Problem) *Desk {
	return &Desk{log: log, changed: changed, news: make(chan struct{}, 1), state: State{Problem: why}}
}

// Want replaces the whole set of wanted Conns and returns at once. A set equal
// to the last one does nothing. The Conns' contents must not be written to
// afterwards.
func (d *Desk) Want(conns []Conn) {
	set := make(map[string]Conn, len(conns))
	for _, c := range conns {
		set[c.Name] = c
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wanted != nil && maps.EqualFunc(d.wanted, set, Conn.Equal) {
		return
	}
	d.wanted = set
	d.wake()
}

// Renew makes new SAs for a Conn: those that the daemon believes to have are gone
// from the kernel, and it hears of no flush. It returns at once.
func (d *Desk) Renew(name string) { d.ask(name, true) }

// Rekey replaces the outbound child of a Conn by a new one. It returns at once.
func (d *Desk) Rekey(name string) { d.ask(name, false) }

func (d *Desk) ask(name string, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = map[string]bool{}
	}
	d.asked[name] = d.asked[name] || gone
	d.wake()
}

func (d *Desk) wake() {
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// State returns what was last published.
func (d *Desk) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// News gets a value when something is asked for.
func (d *Desk) News() <-chan struct{} { return d.news }

// Wanted returns the wanted Conns by name. It is nil until somebody has said: before that
// nothing is known to be unwanted, and after a restart of this program everything goes on
// meanwhile. The map must not be written to.
func (d *Desk) Wanted() map[string]Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wanted
}

// Take returns the wanted Conns as Wanted does, and takes the names for which new SAs
// are asked for: true because the old are gone.
func (d *Desk) Take() (wanted map[string]Conn, asked map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted, asked = d.wanted, d.asked
	d.asked = nil
	return wanted, asked
}

// Publish makes a state known, and logs what is new in it. It must not be written to
// afterwards.
func (d *Desk) Publish(now State) {
	d.mu.Lock()
	was := d.state
	d.state = now
	d.mu.Unlock()
	if d.report(was, now) {
		d.changed()
	}
}

// report logs what is new, and tells whether anything is that matters: that a Conn begins
// to come up does not, since who wants it knows.
func (d *Desk) report(was, now State) bool {
	news := false
	for name := range was.Conns {
		_, still := now.Conns[name]
		news = news || !still
	}
	if was.Daemon != now.Daemon || !was.Problem.equal(now.Problem) {
		news = true
		if now.Problem != nil {
			d.log.Warn("no work with the IKE daemon", "code", now.Problem.Code, "reason", now.Problem.Text)
		} else {
			d.log.Info("connected to the IKE daemon", "daemon", now.Daemon)
		}
	}
	for name, s := range now.Conns {
		before, known := was.Conns[name]
		news = news || before.news(s) && (known || !coming(s.Phase) || s.Problem != nil || len(s.Children) > 0)
		if before.Phase == s.Phase && before.Problem.equal(s.Problem) {
			continue
		}
		if s.Problem != nil {
			d.log.Warn("tunnel", "conn", name, "phase", s.Phase, "code", s.Problem.Code, "reason", s.Problem.Text)
		} else {
			d.log.Info("tunnel", "conn", name, "phase", s.Phase)
		}
	}
	return news
}
