// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"slices"
	"time"
)

// young is how long charon may take to show what it was just told to do.
const young = time.Second

// peer is what is remembered of a wanted Conn. Its methods do no I/O: they see
// the daemon through a look, act through a plan, and change nothing but the peer.
type peer struct {
	conn   Conn
	known  *Conn // what was last loaded
	loaded bool  // the daemon has it, as far as is known: an audit looks

	mark, knownMark time.Duration // of conn's and known's Auth

	before   map[uint32]bool          // the children that there were at the last attempt
	made     map[string]time.Duration // the mark of the Auth that an IKE SA, by SPI, was made under
	tried    map[string]time.Time     // the children that charon is to set up, since when
	missing  map[string]time.Time     // the children that a live IKE SA lacks, since when
	doubled  map[string]time.Time     // the children that a live IKE SA has twice, since when
	twins    time.Time                // since when there is more than one IKE SA
	down     time.Time                // since when there is no IKE SA
	next     time.Time                // no attempt before
	failures int                      // in a row
	wasUp    bool

	renew, rekey bool // new SAs are asked for, see Desk
	eager        bool // do not wait for the end that leads

	reason *Problem // the last that the daemon gave
	given  time.Time

	installed map[uint32]time.Time // by inbound SPI
	state     ConnState
}

// look is what a step sees.
type look struct {
	now    time.Time
	sas    []sa // of this Conn
	slot   bool // one more Conn may be under way
	jitter float64
	o      Options
}

// verb is what an action does.
type verb string

// The verbs of an action.
const (
	doLoad           verb = "load"
	doInitiate       verb = "initiate"
	doRekey          verb = "rekey"
	doTerminate      verb = "terminate"
	doTerminateChild verb = "terminate-child"
)

// action is one command to the daemon.
type action struct {
	verb  verb
	child string // of doInitiate
	id    uint32 // of doTerminate, and of a child for doTerminateChild and doRekey
	why   string
}

// plan is what a step wants done, and when it wants to look again without an
// event. Zero means at the next audit.
type plan struct {
	do      []action
	wake    time.Time
	starved bool // it would initiate if it had a slot
}

func (p *plan) add(v verb, child string, id uint32, why string) {
	p.do = append(p.do, action{v, child, id, why})
}

func (p *plan) at(t time.Time) {
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
}

func newPeer(c Conn, now time.Time, o Options, jitter float64) *peer {
	return &peer{
		conn:    c,
		mark:    mark(c.Auth),
		tried:   map[string]time.Time{},
		missing: map[string]time.Time{},
		doubled: map[string]time.Time{},
		down:    now,
		next:    now.Add(time.Duration(jitter * float64(o.Spread))),
		state:   ConnState{Phase: Loading, Since: now},
	}
}

// want takes over a changed Conn.
func (p *peer) want(c Conn) {
	reload := p.conn
	if !c.OneChild {
		reload.Lead = c.Lead // the daemon is not told of it
	}
	p.loaded = p.loaded && reload.Equal(c)
	p.conn, p.mark = c, mark(c.Auth)
}

// step compares the daemon with what is wanted.
func (p *peer) step(l look) plan {
	var do plan
	p.remember(l)
	if !p.loaded {
		p.load(l, &do)
		p.tell(l, Loading)
		return do
	}
	if p.asked(l, &do) {
		p.tell(l, p.phase(l))
		return do
	}
	live := p.liveOf(l.sas)
	p.settleTries(l, live, &do)
	if len(live) == 0 {
		p.connect(l, &do)
	} else {
		if !p.down.IsZero() {
			p.down, p.next = time.Time{}, l.now // what failed until now is over
		}
		p.keep(l, live, &do)
	}
	p.tell(l, p.phase(l))
	return do
}

// load has the Conn loaded. IKE SAs for other traffic go at once; those that were made
// under another Auth are left to keep.
func (p *peer) load(l look, do *plan) {
	if l.now.Before(p.next) && p.failures > 0 && p.reason != nil && p.reason.Code == CodeRefused {
		do.at(p.next)
		return
	}
	if p.known != nil && !p.known.Auth.Equal(p.conn.Auth) {
		p.down, p.next, p.failures, p.reason = l.now, l.now, 0, nil
		clear(p.tried)
	}
	if p.known != nil && !p.known.sameTraffic(p.conn) {
		for _, s := range l.sas {
			do.add(doTerminate, "", s.ID, "it is for other traffic")
		}
	}
	do.add(doLoad, "", 0, "")
}

// ask notes that new SAs are asked for.
func (p *peer) ask(gone bool) {
	p.renew, p.rekey = p.renew || gone, p.rekey || !gone
}

// asked begins what was asked for, and tells whether that is to start over: IKE
// SAs whose children are gone from the kernel go first, because charon would put
// the new children into them. A rekey waits until there is what to rekey.
func (p *peer) asked(l look, do *plan) bool {
	if p.renew {
		for _, s := range l.sas {
			do.add(doTerminate, "", s.ID, "its children are gone from the kernel")
		}
		clear(p.tried)
		p.renew, p.rekey, p.eager, p.next = false, false, true, l.now
		do.at(l.now.Add(young))
		return true
	}
	for _, s := range p.liveOf(l.sas) {
		if out := s.has(p.conn.sends()); p.rekey && len(out) > 0 {
			p.rekey = false
			do.add(doRekey, p.conn.sends(), out[len(out)-1].ID, "it is asked for")
		}
	}
	return false
}

// lost notes that the connection to the daemon ended. Whether what answers next time
// still has the Conn is found by the audit that a connection begins with.
func (p *peer) lost(now time.Time) {
	clear(p.tried)
	if p.state.Phase != Loading {
		p.state = ConnState{Phase: Loading, Since: now}
	}
}

// hear takes what the daemon says about a failure. What the kernel said first
// is not replaced by what follows from it.
func (p *peer) hear(why *Problem, now time.Time) {
	if p.reason != nil && p.reason.Code == CodeInstall && now.Sub(p.given) < settle {
		return
	}
	p.reason, p.given = why, now
}

// hasLoaded notes that the daemon took the Conn.
func (p *peer) hasLoaded() {
	c := p.conn
	p.known, p.knownMark, p.loaded = &c, p.mark, true
}

// refused notes that it did not.
func (p *peer) refused(why *Problem, l look) {
	p.reason, p.given = why, l.now
	p.fail(l)
	p.tell(l, Failed)
}

// remember notes under which Auth the IKE SAs were made that are new, and drops
// what is gone.
func (p *peer) remember(l look) {
	under := p.mark
	if p.known != nil {
		under = p.knownMark
	}
	made := map[string]time.Duration{}
	for _, s := range l.sas {
		m, known := p.made[s.SPI]
		if !known {
			m = under
		}
		made[s.SPI] = m
	}
	p.made = made
	for _, s := range l.sas {
		if p.stale(s) && p.joined(s) {
			p.made[s.SPI] = p.mark // what was remembered of it was wrong
		}
	}
}

// joined tells whether charon put a child into an IKE SA that it was to set up.
func (p *peer) joined(s sa) bool {
	for child := range p.tried {
		if slices.ContainsFunc(s.has(child), func(c childSA) bool { return !p.before[c.ID] }) {
			return true
		}
	}
	return false
}

// stale tells whether an IKE SA was made under another Auth. charon puts no
// child of ours into such a one.
func (p *peer) stale(s sa) bool { return p.made[s.SPI] != p.mark }

// settleTries finds out what became of the children that charon was to set up.
func (p *peer) settleTries(l look, live []sa, do *plan) {
	coming := slices.ContainsFunc(l.sas, func(s sa) bool { return s.coming() && s.Initiator })
	busy := coming || slices.ContainsFunc(live, sa.busy)
	failed := false
	for _, child := range p.conn.Children() {
		since, tried := p.tried[child]
		switch end := since.Add(l.o.Attempt); {
		case !tried:
		case slices.ContainsFunc(live, func(s sa) bool { return len(s.has(child)) > 0 }):
			delete(p.tried, child)
		case l.now.Sub(since) < young:
			do.at(since.Add(young))
		case busy && l.now.Before(end):
			do.at(end)
		default:
			delete(p.tried, child)
			failed = true
		}
	}
	if failed {
		p.giveUp(l, busy, do)
	}
	if len(live) > 0 && live[0].complete(p.conn) {
		p.failures, p.reason = 0, nil
		p.wasUp, p.eager = true, false
	}
}

// giveUp ends an attempt that failed or took too long.
func (p *peer) giveUp(l look, busy bool, do *plan) {
	if busy && (p.reason == nil || p.given.Before(l.now.Add(-l.o.Attempt))) {
		p.reason, p.given = problem(CodeNoAnswer, "%s", noAnswer), l.now
	}
	for _, s := range l.sas {
		if s.coming() && s.Initiator {
			do.add(doTerminate, "", s.ID, "the peer does not answer")
		}
	}
	p.fail(l)
}

func (p *peer) fail(l look) {
	p.failures++
	p.next = l.now.Add(backoff(p.failures-1, l.o.RetryMin, l.o.RetryMax, l.jitter))
}

// connect has the IKE SA set up, with the outbound child.
func (p *peer) connect(l look, do *plan) {
	if p.down.IsZero() {
		p.down = l.now
	}
	clear(p.missing)
	clear(p.doubled)
	p.twins = time.Time{}
	start := p.next
	if wait := p.down.Add(l.o.TakeOver); !p.conn.Lead && !p.eager && wait.After(start) {
		start = wait
	}
	switch {
	case len(p.tried) > 0:
	case start.After(l.now):
		do.at(start)
	case !l.slot:
		do.starved = true
	default:
		p.initiate(l, p.conn.sends(), "there is no IKE SA", do)
	}
}

func (p *peer) initiate(l look, child, why string, do *plan) {
	p.tried[child], p.before = l.now, map[uint32]bool{}
	for _, s := range l.sas {
		for _, c := range s.Children {
			p.before[c.ID] = true
		}
	}
	if p.given.Before(l.now.Add(-l.o.Attempt)) {
		p.reason = nil // of an older attempt; the failure it explained is counted
	}
	do.add(doInitiate, child, 0, why)
	do.at(l.now.Add(young))
}

// underWay tells whether the Conn has one of the slots.
func (p *peer) underWay() bool { return len(p.tried) > 0 }

// attempting tells whether all that charon is to set up is within its time.
func (p *peer) attempting(now time.Time, o Options) bool {
	for _, since := range p.tried {
		if now.Sub(since) >= o.Attempt {
			return false
		}
	}
	return len(p.tried) > 0
}

func (p *peer) phase(l look) string {
	lacks := func(child string) bool {
		return !slices.ContainsFunc(l.sas, func(s sa) bool { return s.live() && len(s.has(child)) > 0 })
	}
	switch {
	case !slices.ContainsFunc(p.conn.Children(), lacks):
		return Up
	case p.underWay():
		return Connecting
	case p.failures > 0:
		return Failed
	}
	return Waiting
}

// tell writes down the state that others see.
func (p *peer) tell(l look, phase string) {
	s := ConnState{Phase: phase, Since: p.state.Since, Children: p.children(l)}
	if phase != p.state.Phase {
		s.Since = l.now
	}
	switch {
	case p.failures > 0 && p.reason == nil:
		s.Problem = problem(CodeFailed, "set up the tunnel with %s: no reason is known yet: see the log of the IKE daemon", p.conn.Remote)
	case p.reason != nil && (p.failures > 0 || phase != Up):
		s.Problem = problem(p.reason.Code, "set up the tunnel with %s: %s", p.conn.Remote, p.reason.Text)
	case phase == Up && slices.ContainsFunc(s.Children, func(c Child) bool { return !c.ESN && !c.Rekeyed }):
		s.Problem = problem(CodeNoESN, "the peer %s takes no extended sequence numbers: its SAs last for 2^32 packets, and mlx5 detects no replay; have it offer ESN", p.conn.Remote)
	}
	p.state = s
}

func (p *peer) children(l look) []Child {
	var all []Child
	installed := map[uint32]time.Time{}
	for _, s := range l.sas {
		for _, c := range s.Children {
			if !c.inKernel() {
				continue
			}
			at, known := p.installed[c.SPIIn]
			if !known {
				at = l.now.Add(-c.Installed)
			}
			installed[c.SPIIn] = at
			all = append(all, Child{Name: c.Name, SPIIn: c.SPIIn, SPIOut: c.SPIOut, Installed: at,
				RekeyIn: c.RekeyIn, ESN: c.ESN, Rekeyed: !c.stays()})
		}
	}
	p.installed = installed
	slices.SortFunc(all, ByAge)
	return all
}
