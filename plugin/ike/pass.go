// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"maps"
	"slices"
	"time"
)

// few is how many Conns are looked at one by one; more are listed all at once, since
// charon goes over all of them for each.
const few = 4

// atOnce is how many Conns are loaded in one run.
const atOnce = 16

// After a list charon is not asked for one for listRestTimes as long as that took, at most
// listRestMost: it goes over all its IKE SAs for every list, also of one, asks the kernel
// about each child, and waits for the IKE SAs that it is working at, so lists could take
// all the time that many need to come up. An audit, which lists everything, takes at most
// 1/auditShare of the time, and while many come up it waits, at most auditLate longer.
const (
	listRestTimes = 3
	listRestMost  = 5 * time.Second
	auditShare    = 10
	auditLate     = time.Minute
)

// Many are coming up while more than manyAbove Conns are not up and have not failed, and
// one came up within manyRest. calmEvents are not listened to then: charon's log alone
// costs it a fifth of its time, and what fails says so again at its next attempt.
const (
	manyAbove = 8
	manyRest  = 3 * time.Second
)

// pass brings the daemon to the wanted set, as long as one connection to it lasts: each
// run goes over the Conns that there is news of.
type pass struct {
	r       *Runner
	d       daemon
	version version

	keys map[[32]byte]string // private keys loaded, by hash, with the daemon's id

	// What follows is by Conn's name.
	sas     map[string][]sa      // as last listed, and what came up since; true unless the name is in stale
	stale   map[string]bool      // to be listed before they are stepped; list and audit empty it
	ready   map[string]bool      // to be stepped, unless stale; take empties it
	wakes   map[string]time.Time // when a peer wants to be listed and stepped; each step replaces it
	starved []string             // peers that wait for a slot, each once, in their order

	nextAudit, nextList time.Time // not before
	lastUp              time.Time // when something came up
}

func newPass(r *Runner, d daemon, v version) *pass {
	return &pass{r: r, d: d, version: v, keys: map[[32]byte]string{}, sas: map[string][]sa{},
		ready: map[string]bool{}, stale: map[string]bool{}, wakes: map[string]time.Time{}}
}

// run has every Conn stepped that there is news of, and tells when to come
// again. Its error is one of the connection.
func (p *pass) run(ctx context.Context, t tidings) (time.Time, error) {
	now := p.r.cfg.Now()
	more := p.adopt(now)
	p.hear(t, now)
	p.wake(now)
	var err error
	switch {
	case !now.Before(p.auditAt(p.manyUntil())):
		err = p.audit(ctx)
	case !now.Before(p.nextList):
		err = p.list(ctx)
	}
	if err != nil {
		return time.Time{}, err
	}
	if more { // not before: a daemon that is stuck answers no list
		p.r.publish(p.version.String(), nil)
	}
	if err := p.steps(ctx, p.take()); err != nil {
		return time.Time{}, err
	}
	p.r.publish(p.version.String(), nil)
	return p.next(), nil
}

// wake has those Conns listed whose time has come. One whose attempt is within its time is
// left alone until charon has been quiet for young: while others come up it is at work, and
// the attempt waits for its turn there.
func (p *pass) wake(now time.Time) {
	quiet := p.lastUp.Add(young)
	for name, at := range p.wakes {
		q := p.r.peers[name]
		switch {
		case at.After(now):
		case q != nil && quiet.After(now) && q.attempting(now, p.r.cfg.Options):
			p.wakes[name] = quiet
		default:
			p.stale[name] = true
		}
	}
}

// take takes what may be stepped in this run: of Conns that are not loaded atOnce at most,
// since no event is heeded before a run is over. The next one follows at once.
func (p *pass) take() []string {
	var names []string
	loading := 0
	for _, name := range slices.Sorted(maps.Keys(p.ready)) {
		q := p.r.peers[name]
		switch {
		case q == nil:
			delete(p.ready, name)
			continue
		case p.stale[name]:
			continue
		case !q.loaded:
			loading++
		}
		if q.loaded || loading <= atOnce {
			names = append(names, name)
			delete(p.ready, name)
		}
	}
	return names
}

// adopt takes over the wanted set, and tells whether a Conn is new.
func (p *pass) adopt(now time.Time) (more bool) {
	wanted, asked := p.r.Take()
	for name, gone := range asked {
		if q := p.r.peers[name]; q != nil {
			q.ask(gone)
			p.stale[name] = true
		}
	}
	for name, c := range wanted {
		q := p.r.peers[name]
		switch {
		case q == nil:
			p.r.peers[name] = newPeer(c, now, p.r.cfg.Options, p.r.cfg.Jitter())
			p.ready[name], more = true, true
			if len(p.sas[name]) > 0 {
				p.stale[name] = true // known from when it was wanted before
			}
		case !q.conn.Equal(c):
			q.want(c)
			p.stale[name] = true
		}
	}
	for name := range p.r.peers {
		if _, ok := wanted[name]; !ok {
			delete(p.r.peers, name)
			delete(p.wakes, name)
			p.nextAudit = time.Time{} // which unloads it
		}
	}
	return more
}

// hear takes in what the events said. What came up is as good as listed, unless there are
// two IKE SAs then: their ages would not be of one moment.
func (p *pass) hear(t tidings, now time.Time) {
	maps.Copy(p.stale, t.names)
	for _, r := range t.reasons {
		if q := p.r.peers[r.conn]; q != nil {
			q.hear(r.why, now)
		}
	}
	if len(t.seen) > 0 {
		p.lastUp = now
	}
	for _, s := range t.seen {
		known := p.sas[s.Conn]
		switch {
		case len(known) == 0:
			p.sas[s.Conn] = []sa{s}
		case len(known) == 1 && known[0].ID == s.ID:
			p.sas[s.Conn] = []sa{known[0].with(s)}
		default:
			p.stale[s.Conn] = true
		}
		if len(s.Children) > 0 {
			p.ready[s.Conn] = true
		} else if q := p.r.peers[s.Conn]; q != nil && q.underWay() {
			p.wakeBy(s.Conn, now.Add(young)) // its child comes, or fails without a word
		} else {
			p.ready[s.Conn] = true
		}
	}
}

// wakeBy has a Conn listed and stepped at a time, if not earlier.
func (p *pass) wakeBy(name string, at time.Time) {
	if was, is := p.wakes[name]; !is || at.Before(was) {
		p.wakes[name] = at
	}
}

// list looks up the IKE SAs of the Conns that are to be listed.
func (p *pass) list(ctx context.Context) error {
	began := p.r.cfg.Now()
	maps.DeleteFunc(p.stale, func(name string, _ bool) bool { return p.r.peers[name] == nil })
	switch n := len(p.stale); {
	case n == 0:
		return nil
	case n > few:
		all, err := p.d.list(ctx, "")
		if err != nil {
			return err
		}
		p.sas = all
	default:
		for name := range p.stale {
			found, err := p.d.list(ctx, name)
			if err != nil {
				return err
			}
			p.sas[name] = found[name]
		}
	}
	maps.Copy(p.ready, p.stale)
	clear(p.stale)
	p.listed(began)
	return nil
}

// listed notes that there was a list, and returns how long it took.
func (p *pass) listed(began time.Time) time.Duration {
	now := p.r.cfg.Now()
	took := now.Sub(began)
	p.nextList = now.Add(min(listRestTimes*took, listRestMost))
	return took
}

// many tells whether many are coming up.
func (p *pass) many() bool { return p.r.cfg.Now().Before(p.manyUntil()) }

// manyUntil returns when many no longer count as coming up, unless another one does until
// then: zero, or a time that is past, if they do not now.
func (p *pass) manyUntil() time.Time {
	coming := 0
	for _, q := range p.r.peers {
		if q.state.Phase != Up && q.failures == 0 {
			coming++
		}
	}
	if coming <= manyAbove || p.lastUp.IsZero() {
		return time.Time{}
	}
	return p.lastUp.Add(manyRest)
}

// auditAt returns when the next audit is due: at nextAudit, or once many are no longer
// coming up, but auditLate after nextAudit at the latest.
func (p *pass) auditAt(manyUntil time.Time) time.Time {
	at := p.nextAudit
	if manyUntil.After(at) {
		at = manyUntil
	}
	if latest := p.nextAudit.Add(auditLate); latest.Before(at) {
		at = latest
	}
	return at
}

func (p *pass) look(name string, slot bool) look {
	return look{now: p.r.cfg.Now(), sas: p.sas[name], slot: slot, jitter: p.r.cfg.Jitter(), o: p.r.cfg.Options}
}

func (p *pass) note(name string, do plan) {
	delete(p.wakes, name)
	if !do.wake.IsZero() {
		p.wakes[name] = do.wake
	}
	switch waits := slices.Contains(p.starved, name); {
	case do.starved && !waits:
		p.starved = slices.Insert(p.starved, p.place(name), name)
	case !do.starved && waits:
		at := p.place(name)
		p.starved = slices.Delete(p.starved, at, at+1)
	}
}

// next returns when to run again without an event.
func (p *pass) next() time.Time {
	for name := range p.ready {
		if !p.stale[name] {
			return p.r.cfg.Now()
		}
	}
	many := p.manyUntil()
	at := p.auditAt(many)
	for _, wake := range p.wakes {
		if wake.Before(at) {
			at = wake
		}
	}
	if many.After(p.r.cfg.Now()) && many.Before(at) {
		at = many
	}
	if len(p.stale) > 0 || at.Before(p.nextList) {
		return p.nextList
	}
	return at
}
