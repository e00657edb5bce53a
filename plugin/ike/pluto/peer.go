// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"slices"
	"time"

	"ovs-ipsec-offload/plugin/ike"
)

// peer is what is remembered of a wanted Conn. Its methods do no I/O: step sees pluto
// through a look and returns what to do.
type peer struct {
	conn   ike.Conn
	loaded map[string]string // what pluto has of it: the configuration, by half

	down     time.Time            // since when there is no IKE SA
	missing  map[string]time.Time // halves without a child SA, since when there is an IKE SA
	busy     bool                 // an attempt of ours is under way
	next     time.Time            // no attempt before
	failures int                  // in a row
	eager    bool                 // do not wait for the end that leads
	renew    bool                 // new SAs are asked for, because the old are gone
	renewed  time.Time            // when that was done last
	rekey    bool
	problem  *ike.Problem
	state    ike.ConnState
}

// look is what a step sees.
type look struct {
	now    time.Time
	sas    []*sa // of this Conn
	slot   bool  // one more attempt may be under way
	o      ike.Options
	run    string // Config.Updown
	softRX bool   // Config.SoftRX
}

// verb is what an action does to a half of a Conn.
type verb string

// The verbs.
const (
	doAdd      verb = "add"      // replaces what pluto has
	doDelete   verb = "delete"   // with its SAs
	doInitiate verb = "initiate" // takes long
	doRekey    verb = "rekey"
)

type action struct {
	verb verb
	half string
	text string // of doAdd
}

func newPeer(c ike.Conn, now time.Time) *peer {
	return &peer{conn: c, loaded: map[string]string{}, missing: map[string]time.Time{}, down: now,
		state: ike.ConnState{Phase: ike.Loading, Since: now}}
}

// step compares pluto with what is wanted.
func (p *peer) step(l look) (do []action) {
	if why := unable(p.conn); why != nil {
		do = p.unload()
		p.problem = why
		p.tell(l, ike.Failed)
		return do
	}
	if p.renew {
		p.renew, p.rekey, p.eager, p.renewed = false, false, true, l.now
		p.next, p.failures = l.now, 0
		do = p.unload()
		l.sas = nil
	}
	loads := p.load(l)
	do = append(do, loads...)
	if len(loads) == 0 {
		do = append(do, p.connect(l)...)
	}
	p.tell(l, p.phase(l))
	return do
}

// unload has pluto forget the Conn.
func (p *peer) unload() (do []action) {
	for _, half := range connNames(p.conn.Name) {
		if _, is := p.loaded[half]; is {
			do = append(do, action{verb: doDelete, half: half})
		}
	}
	return do
}

// load has the halves added that pluto does not have as they are wanted.
func (p *peer) load(l look) (do []action) {
	if l.now.Before(p.next) && p.failures > 0 {
		return nil
	}
	for _, half := range connNames(p.conn.Name) {
		_, child, _ := split(half)
		if text := render(p.conn, child, l.o, l.run); p.loaded[half] != text {
			do = append(do, action{doAdd, half, text})
		}
	}
	return do
}

// connect has the child SAs set up that are missing: the outbound one by this end,
// and the inbound one by the peer unless that does not do it. The first one brings the
// IKE SA with it, and is up to the end that leads.
func (p *peer) connect(l look) (do []action) {
	established := slices.ContainsFunc(l.sas, func(s *sa) bool { return s.ike && s.up })
	switch {
	case established:
		p.down = time.Time{}
	case p.down.IsZero():
		p.down = l.now
		clear(p.missing)
	}
	for _, half := range connNames(p.conn.Name) {
		_, child, _ := split(half)
		if p.has(l, child) {
			delete(p.missing, child)
			if p.rekey && child == ike.Out {
				p.rekey = false
				do = append(do, action{verb: doRekey, half: half})
			}
			continue
		}
		if p.due(l, child, established) && !p.busy && l.slot {
			p.busy = true
			return append(do, action{verb: doInitiate, half: half})
		}
	}
	if p.has(l, ike.Out) && p.has(l, ike.In) {
		p.failures, p.problem, p.eager = 0, nil, false
	}
	return do
}

// tries tells whether pluto is at an attempt of a half. One that was given up here is not
// over: pluto sends again for retransmit-timeout, and then begins anew by itself at once
// (revival.c). Beside a second one each would leave SAs of its own when the peer comes. It
// is never cut: the peer may have answered already, and would have SAs that this end lacks.
func (l look) tries(child string) bool {
	return slices.ContainsFunc(l.sas, func(s *sa) bool { return s.tries && s.child == child })
}

// due tells whether this end is to set up a child SA now, and notes since when it is
// missing.
func (p *peer) due(l look, child string, established bool) bool {
	start := p.next
	if !established {
		if child == ike.In || l.tries(child) {
			return false
		}
		if wait := p.down.Add(l.o.TakeOver); !p.conn.Lead && !p.eager && wait.After(start) {
			start = wait
		}
	} else {
		if p.missing[child].IsZero() {
			p.missing[child] = l.now
		}
		if wait := p.missing[child].Add(l.o.TakeOver); child == ike.In && wait.After(start) {
			start = wait
		}
	}
	return !l.now.Before(start)
}

// has tells whether there is a child SA that carries traffic.
func (p *peer) has(l look, child string) bool {
	return slices.ContainsFunc(l.sas, func(s *sa) bool { return !s.ike && s.up && s.child == child && s.spiOut != 0 })
}

// attempted takes what came of an attempt.
func (p *peer) attempted(why *ike.Problem, l look) {
	p.busy = false
	if why == nil {
		p.next = l.now.Add(l.o.RetryMin) // until what came of it has been seen
		return
	}
	p.fail(why, l)
}

func (p *peer) fail(why *ike.Problem, l look) {
	p.problem = &ike.Problem{Code: why.Code, Text: "set up the tunnel with " + p.conn.Remote.String() + ": " + why.Text}
	wait := l.o.RetryMax
	if p.failures < 10 {
		wait = min(wait, l.o.RetryMin<<p.failures)
	}
	p.failures++
	p.next = l.now.Add(wait)
	p.tell(l, ike.Failed)
}

func (p *peer) phase(l look) string {
	switch {
	case p.has(l, ike.Out) && p.has(l, ike.In):
		return ike.Up
	case len(p.loaded) < 2:
		return ike.Loading
	case p.busy:
		return ike.Connecting
	case p.failures > 0:
		return ike.Failed
	}
	return ike.Waiting
}

// tell writes down the state that others see.
func (p *peer) tell(l look, phase string) {
	s := ike.ConnState{Phase: phase, Since: p.state.Since, Problem: p.problem}
	if l.softRX && phase == ike.Up && s.Problem == nil {
		s.Problem = &ike.Problem{Code: CodeSoftRX, Text: softRX}
	}
	if phase != p.state.Phase {
		s.Since = l.now
	}
	for _, a := range l.sas {
		if !a.ike && a.up && a.spiOut != 0 {
			s.Children = append(s.Children, ike.Child{Name: a.child, SPIIn: a.spiIn, SPIOut: a.spiOut,
				Installed: a.installed, RekeyIn: a.rekeyIn, ESN: !p.conn.Stock, Rekeyed: !a.newest})
		}
	}
	slices.SortFunc(s.Children, ike.ByAge)
	p.state = s
}
