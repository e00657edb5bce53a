// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelSA is an IKE SA between the two ends, which both have unless one forgot it.
type modelSA struct {
	id       uint32
	by       int // the end that began it
	born     time.Time
	up       time.Time // when it is established, if it comes to that
	psk      [2]string
	has      [2]bool   // false: that end has lost it
	dead     time.Time // since when one end alone has it
	children []modelChild
}

// modelChild is a child, named as the end that began it does.
type modelChild struct {
	id   uint32
	name string
	by   int
	up   time.Time
}

// silent is how long charon sends a request again that nobody answers, be it the
// first one or a look whether the peer is alive (165 s by default), and how long it
// is until there is one (Options.DPDDelay).
const silent = 175 * time.Second

// model is two ends with one pair, and a wire that may be cut. Time passes in
// steps, and what an end asks for comes about later.
type model struct {
	now    time.Time
	serial uint32
	sas    []*modelSA
	ends   [2]*peer
	cut    bool
	o      Options
}

func newModel(o Options, oneChild bool) *model {
	m := &model{now: day, o: o.WithDefaults()}
	for i := range m.ends {
		c := testConn(i == 0)
		c.OneChild = oneChild
		if i == 1 {
			c.Local, c.Remote = c.Remote, c.Local
		}
		m.ends[i] = newPeer(c, m.now, m.o, 0)
	}
	return m
}

// psk returns what an end's daemon has.
func (m *model) psk(end int) string {
	if m.ends[end].known == nil {
		return ""
	}
	return string(m.ends[end].known.Auth.PSK.Bytes())
}

// pass lets time pass, and what is under way come about.
func (m *model) pass(d time.Duration) {
	m.now = m.now.Add(d)
	m.sas = slices.DeleteFunc(m.sas, func(s *modelSA) bool {
		failed := !s.up.After(m.now) && s.psk[0] != s.psk[1]
		return failed || !s.has[0] && !s.has[1]
	})
	for _, s := range m.sas {
		switch {
		case s.has[0] == s.has[1]:
		case s.dead.IsZero():
			s.dead = m.now
		case m.now.Sub(s.dead) > silent:
			s.has = [2]bool{} // charon gives up
		}
	}
}

func (m *model) established(s *modelSA) bool { return !s.up.After(m.now) && s.psk[0] == s.psk[1] }

// see returns the IKE SAs as list-sas tells them to an end.
func (m *model) see(end int) []sa {
	var all []sa
	for _, s := range m.sas {
		if !s.has[end] {
			continue
		}
		v := sa{Conn: "oio-1", ID: s.id, SPI: fmt.Sprintf("%032x", s.id), State: "CONNECTING", Initiator: s.by == end}
		if m.established(s) {
			v.State, v.Established = "ESTABLISHED", m.now.Sub(s.up).Truncate(time.Second)
		} else if s.by != end {
			continue // it has no name yet
		}
		for _, c := range s.children {
			if c.up.After(m.now) {
				if c.by == end {
					v.Tasks = append(v.Tasks, "CHILD_CREATE")
				}
				continue
			}
			name := c.name
			if c.by != end {
				name = map[string]string{Out: In, In: Out, Both: Both}[c.name]
			}
			v.Children = append(v.Children, childSA{Name: name, ID: c.id, State: "INSTALLED", SPIIn: c.id<<1 | uint32(end), SPIOut: c.id<<1 | uint32(1-end), ESN: true})
		}
		all = append(all, v)
	}
	return all
}

// turn lets an end look and act.
func (m *model) turn(end int) {
	p := m.ends[end]
	for range 2 {
		do := p.step(look{now: m.now, sas: m.see(end), slot: true, jitter: 0.5, o: m.o})
		for _, a := range do.do {
			switch a.verb {
			case doLoad:
				p.hasLoaded()
			case doInitiate:
				m.initiate(end, a.child)
			case doTerminate:
				m.terminate(end, a.id)
			case doTerminateChild:
				for _, s := range m.sas {
					s.children = slices.DeleteFunc(s.children, func(c modelChild) bool { return c.id == a.id })
				}
			}
		}
		if !slices.ContainsFunc(do.do, func(a action) bool { return a.verb == doLoad }) {
			return
		}
	}
}

// initiate does as charon: into an IKE SA of the same configuration if it has
// one, whichever that is, else into a new one.
func (m *model) initiate(end int, child string) {
	m.serial++
	c := modelChild{id: m.serial, name: child, by: end, up: m.now.Add(150 * time.Millisecond)}
	if m.cut {
		c.up = m.now.Add(time.Hour)
	}
	for _, s := range m.sas {
		if s.has[end] && m.established(s) && s.psk[end] == m.psk(end) {
			if !s.has[1-end] {
				c.up = m.now.Add(time.Hour) // nobody is there to answer
			}
			s.children = append(s.children, c)
			return
		}
	}
	m.serial++
	s := &modelSA{id: m.serial, by: end, born: m.now, up: c.up, psk: [2]string{m.psk(0), m.psk(1)}, has: [2]bool{true, true}, children: []modelChild{c}}
	if m.cut {
		s.has[1-end] = false
	}
	m.sas = append(m.sas, s)
}

func (m *model) terminate(end int, id uint32) {
	for _, s := range m.sas {
		if s.id == id {
			s.has[end] = false
			if !m.cut {
				s.has[1-end] = false
			}
		}
	}
}

// mend lets through what charon sends again until somebody answers.
func (m *model) mend() {
	m.cut = false
	for _, s := range m.sas {
		for i := range s.children {
			if c := &s.children[i]; s.has[0] && s.has[1] && c.up.Sub(m.now) > time.Minute {
				c.up = m.now.Add(4 * time.Second)
			}
		}
	}
}

// kill is what kill -9 and a new start of an end's daemon do.
func (m *model) kill(end int) {
	for _, s := range m.sas {
		s.has[end] = false
	}
	m.ends[end].lost(m.now)
	m.ends[end].loaded = false // the audit finds that the new daemon has nothing
}

func (m *model) change(end int, psk string) {
	c := m.ends[end].conn
	c.Auth.PSK = NewSecret([]byte(psk))
	m.ends[end].want(c)
}

// run lets both ends work for d, first at short intervals.
func (m *model) run(d time.Duration) {
	for begin, end := m.now, m.now.Add(d); m.now.Before(end); {
		tick := 50 * time.Millisecond
		if m.now.Sub(begin) > 5*time.Second {
			tick = 250 * time.Millisecond
		}
		m.pass(tick)
		for i := range m.ends {
			m.turn(i)
		}
	}
}

// whole tells what keeps the pair from being one IKE SA with its two children.
func (m *model) whole() string {
	if len(m.sas) != 1 {
		return fmt.Sprintf("%d IKE SAs", len(m.sas))
	}
	for i, p := range m.ends {
		v := m.see(i)
		if len(v) != 1 || slices.ContainsFunc(p.conn.Children(), func(c string) bool { return len(v[0].has(c)) != 1 }) {
			return fmt.Sprintf("end %d sees %+v", i, v)
		}
		if p.state.Phase != Up || p.state.Problem != nil {
			return fmt.Sprintf("end %d says %+v", i, p.state)
		}
	}
	return ""
}

// TestBothEndsComeToOneIKESA does to both ends whatever may happen, and wants one
// IKE SA with all its children afterwards, that stays.
func TestBothEndsComeToOneIKESA(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(Options{}, rapid.Bool().Draw(t, "one child"))
		for range rapid.IntRange(0, 6).Draw(t, "events") {
			end := rapid.IntRange(0, 1).Draw(t, "end")
			switch rapid.SampledFrom([]string{"kill", "cut", "mend", "renew", "psk", "both begin", "both children"}).Draw(t, "event") {
			case "kill":
				m.kill(end)
			case "cut":
				m.cut = true
			case "mend":
				m.mend()
			case "renew":
				m.ends[end].ask(true)
			case "psk":
				m.change(0, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "psk"))
				m.run(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms between")) * time.Millisecond)
				m.change(1, string(m.ends[0].conn.Auth.PSK.Bytes()))
			case "both begin":
				m.initiate(0, m.ends[0].conn.sends())
				m.initiate(1, m.ends[1].conn.sends())
			case "both children":
				for _, child := range m.ends[end].conn.Children() {
					m.initiate(end, child)
				}
				m.initiate(1-end, m.ends[1-end].conn.sends())
			}
			m.run(time.Duration(rapid.IntRange(0, 20000).Draw(t, "ms")) * time.Millisecond)
		}
		m.mend()
		m.run(4 * time.Minute)
		if why := m.whole(); why != "" {
			t.Fatalf("not whole after four minutes: %s", why)
		}
		id := m.sas[0].id
		m.run(time.Minute)
		if why := m.whole(); why != "" || m.sas[0].id != id {
			t.Fatalf("it does not stay whole: %s", why)
		}
	})
}

// TestAnotherPSKLosesNothing has both ends change theirs at different times. At
// no time after the first is there no child for a direction.
func TestAnotherPSKLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(Options{}, rapid.Bool().Draw(t, "one child"))
		m.run(10 * time.Second)
		m.run(time.Duration(rapid.IntRange(0, 60000).Draw(t, "ms before")) * time.Millisecond)
		first := rapid.IntRange(0, 1).Draw(t, "first")
		m.change(first, "b")
		old := m.sas[0].id
		change := m.now.Add(time.Duration(rapid.IntRange(0, 60000).Draw(t, "ms between")) * time.Millisecond)
		for end := change.Add(2 * time.Minute); m.now.Before(end); {
			if !m.now.Before(change) && m.psk(1-first) != "b" {
				m.change(1-first, "b")
			}
			m.run(50 * time.Millisecond)
			for i, p := range m.ends {
				if p.state.Phase != Up && p.loaded {
					t.Fatalf("end %d was %s %v after the start", i, p.state.Phase, m.now.Sub(day))
				}
			}
		}
		if why := m.whole(); why != "" || m.sas[0].id == old {
			t.Fatalf("not whole with the new psk: %s", why)
		}
	})
}
