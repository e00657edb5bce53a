// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// few is how many Conns are looked at one by one; more are listed all at once, since
// charon goes over all of them for each.
const few = 4

// atOnce is how many Conns are loaded in one pass.
const atOnce = 16

// After a list there is none for restTimes as long as it took, and no longer than
// restMost. charon goes over all its IKE SAs for every list, also of one, asks the kernel
// about each child, and waits for those that it is at: while many come up lists could take
// all the time that setting them up needs. An audit, which lists everything, takes at most
// one part of auditShare.
const (
	restTimes  = 3
	restMost   = 5 * time.Second
	auditShare = 10
)

// pass goes over the Conns. It lives as long as the connection to the daemon.
type pass struct {
	r       *Runner
	d       daemon
	version version

	keys    map[[32]byte]string // private keys loaded, by hash, with the daemon's id
	sas     map[string][]sa     // as last listed, and what came up since
	ready   map[string]bool     // to be stepped
	stale   map[string]bool     // to be listed, and then stepped
	wakes   map[string]time.Time
	starved []string // wait for a slot, in turn

	nextAudit, nextList time.Time // not before
	heard               time.Time // when something came up
}

func newPass(r *Runner, d daemon, v version) *pass {
	return &pass{r: r, d: d, version: v, keys: map[[32]byte]string{}, sas: map[string][]sa{},
		ready: map[string]bool{}, stale: map[string]bool{}, wakes: map[string]time.Time{}}
}

// run has every Conn stepped that there is news of, and tells when to come
// again. Its error is one of the connection.
func (p *pass) run(ctx context.Context, t tidings) (time.Time, error) {
	now := p.r.cfg.Now()
	if p.adopt(now) {
		p.r.publish(p.version.String(), nil) // a pass with much to load takes its time
	}
	p.hear(t, now)
	p.wake(now)
	var err error
	switch {
	case !now.Before(p.nextAudit):
		err = p.audit(ctx)
	case !now.Before(p.nextList):
		err = p.list(ctx)
	}
	if err != nil {
		return time.Time{}, err
	}
	if err := p.steps(ctx, p.take()); err != nil {
		return time.Time{}, err
	}
	p.r.publish(p.version.String(), nil)
	return p.next(), nil
}

// wake has those Conns listed whose time has come. While others come up charon is at
// work, and the attempts that are under way wait their turn: those are left to their end.
func (p *pass) wake(now time.Time) {
	quiet := p.heard.Add(young)
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

// take takes what may be stepped in this pass. All but a few of the Conns that are not
// loaded are left to the next passes, which follow at once: until all were loaded nobody
// would hear that those that came first are up, and give their slots to others.
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
		p.heard = now
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
		p.ready[s.Conn] = true
	}
}

// audit looks at everything: it unloads what nobody wants, and finds what
// somebody else has unloaded.
func (p *pass) audit(ctx context.Context) error {
	began := p.r.cfg.Now()
	conns, err := p.d.ours(ctx, "get-conns", "conns")
	if err != nil {
		return err
	}
	secrets, err := p.d.ours(ctx, "get-shared", "keys")
	if err != nil {
		return err
	}
	if err := p.auditKeys(ctx); err != nil {
		return err
	}
	for name, q := range p.r.peers {
		lacks := !conns[name] || !q.conn.Auth.PSK.Empty() && !secrets[name] || !p.hasKey(q.conn.Auth.Key)
		q.loaded = q.loaded && !lacks
	}
	if err := p.unload(ctx, "unload-conn", conns, named); err != nil {
		return err
	}
	if err := p.unload(ctx, "unload-shared", secrets, byID); err != nil {
		return err
	}
	if err := p.unloadKeys(ctx); err != nil {
		return err
	}
	p.sas, err = p.d.list(ctx, "")
	if err != nil {
		return err
	}
	clear(p.stale)
	for name := range p.r.peers {
		p.ready[name] = true
	}
	if err := p.endUnwanted(ctx); err != nil {
		return err
	}
	took := p.listed(began)
	p.nextAudit = began.Add(max(p.r.cfg.Options.Audit, auditShare*took))
	return nil
}

// listed notes that there was a list, and returns how long it took.
func (p *pass) listed(began time.Time) time.Duration {
	now := p.r.cfg.Now()
	took := now.Sub(began)
	p.nextList = now.Add(min(restTimes*took, restMost))
	return took
}

// auditKeys forgets the private keys that the daemon has no more. One without get-keys
// (before 5.5.2) is believed to keep them.
func (p *pass) auditKeys(ctx context.Context) error {
	m, err := p.d.call(ctx, "get-keys", nil)
	if isRefusal(err) {
		return nil
	}
	has := m.Items("keys")
	maps.DeleteFunc(p.keys, func(_ [32]byte, id string) bool { return !slices.Contains(has, id) })
	return err
}

// hasKey tells whether this connection loaded a private key; the zero one needs none.
func (p *pass) hasKey(key Secret) bool {
	return key.Empty() || p.keys[sha256.Sum256(key.Bytes())] != ""
}

func (p *pass) unload(ctx context.Context, command string, loaded map[string]bool, message func(string) vici.Message) error {
	for _, name := range slices.Sorted(maps.Keys(loaded)) {
		q := p.r.peers[name]
		if q != nil && (command != "unload-shared" || !q.conn.Auth.PSK.Empty()) {
			continue
		}
		p.r.cfg.Log.Info("unload from the IKE daemon", "conn", name, "command", command)
		if err := p.d.may(ctx, command, message(name)); err != nil {
			return err
		}
	}
	return nil
}

// unloadKeys unloads the private keys that this connection loaded and nobody
// wants any more.
func (p *pass) unloadKeys(ctx context.Context) error {
	used := map[[32]byte]bool{}
	for _, q := range p.r.peers {
		used[sha256.Sum256(q.conn.Auth.Key.Bytes())] = true
	}
	for sum, id := range p.keys {
		if used[sum] {
			continue
		}
		if err := p.d.may(ctx, "unload-key", byID(id)); err != nil {
			return err
		}
		delete(p.keys, sum)
	}
	return nil
}

// endUnwanted ends the IKE SAs of Conns that nobody wants.
func (p *pass) endUnwanted(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(p.sas)) {
		if p.r.peers[name] != nil {
			continue
		}
		for _, s := range p.sas[name] {
			p.r.cfg.Log.Info("end an IKE SA", "conn", name, "why", "nobody wants it")
			if err := p.d.may(ctx, "terminate", terminateIKE(s.ID)); err != nil {
				return err
			}
		}
	}
	return nil
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

// steps steps the named Conns. One that needs loading is stepped once more
// afterwards.
func (p *pass) steps(ctx context.Context, names []string) error {
	p.starved = slices.DeleteFunc(p.starved, func(name string) bool { return p.r.peers[name] == nil || slices.Contains(names, name) })
	busy := 0
	for _, q := range p.r.peers {
		if q.underWay() {
			busy++
		}
	}
	for _, name := range names {
		q := p.r.peers[name]
		for again := true; again; {
			was := q.underWay()
			l := p.look(name, busy < p.r.cfg.Options.Parallel)
			do := q.step(l)
			p.note(name, do)
			if now := q.underWay(); now && !was {
				busy++
			} else if was && !now {
				busy--
			}
			loading, err := p.carryOut(ctx, q, l, do)
			if err != nil {
				return err
			}
			again = loading && q.loaded
		}
	}
	for _, name := range p.starved[:min(len(p.starved), max(0, p.r.cfg.Options.Parallel-busy))] {
		p.ready[name] = true
	}
	return nil
}

func (p *pass) look(name string, slot bool) look {
	return look{now: p.r.cfg.Now(), sas: p.sas[name], slot: slot, jitter: p.r.cfg.Jitter(), o: p.r.cfg.Options}
}

func (p *pass) note(name string, do plan) {
	delete(p.wakes, name)
	if !do.wake.IsZero() {
		p.wakes[name] = do.wake
	}
	if do.starved {
		p.starved = append(p.starved, name)
	}
}

// carryOut does what a step wants, and tells whether that was to load the Conn.
func (p *pass) carryOut(ctx context.Context, q *peer, l look, do plan) (loading bool, err error) {
	for _, a := range do.do {
		p.r.cfg.Log.Debug("IKE daemon", "conn", q.conn.Name, "do", a.verb, "child", a.child, "id", a.id, "why", a.why)
		switch a.verb {
		case doLoad:
			loading = true
			err = p.load(ctx, q, l)
		case doInitiate:
			if _, err = p.d.call(ctx, "initiate", initiate(q.conn.Name, a.child)); isRefusal(err) {
				q.loaded, err = false, nil // somebody has unloaded it
				p.wakes[q.conn.Name] = l.now.Add(young)
			}
		case doRekey:
			err = p.d.may(ctx, "rekey", childID(a.id))
		case doTerminate:
			err = p.d.may(ctx, "terminate", terminateIKE(a.id))
		case doTerminateChild:
			err = p.d.may(ctx, "terminate", terminateChild(a.id))
		}
		if err != nil {
			return false, err
		}
	}
	return loading, nil
}

// load loads a Conn with what it needs. A refusal becomes the peer's problem.
func (p *pass) load(ctx context.Context, q *peer, l look) error {
	err := p.loadAll(ctx, q.conn)
	switch {
	case err == nil:
		q.hasLoaded()
		p.r.cfg.Log.Debug("loaded into the IKE daemon", "conn", q.conn.Name)
		return nil
	case isRefusal(err):
		q.refused(problem(CodeRefused, "the IKE daemon refuses the configuration: %v: check psk, certificate and key of this tunnel", err), l)
		p.wakes[q.conn.Name] = q.next
		return nil
	}
	return err
}

func (p *pass) loadAll(ctx context.Context, c Conn) error {
	if !c.Auth.PSK.Empty() {
		if _, err := p.d.call(ctx, "load-shared", loadShared(c)); err != nil {
			return err
		}
	}
	if !p.hasKey(c.Auth.Key) {
		m, err := p.d.call(ctx, "load-key", loadKey(c.Auth.Key))
		if err != nil {
			return err
		}
		p.keys[sha256.Sum256(c.Auth.Key.Bytes())] = m.Get("id")
	}
	_, err := p.d.call(ctx, "load-conn", loadConn(c, p.r.cfg.Options))
	return err
}

// next returns when to run again without an event.
func (p *pass) next() time.Time {
	for name := range p.ready {
		if !p.stale[name] {
			return p.r.cfg.Now()
		}
	}
	at := p.nextAudit
	for _, wake := range p.wakes {
		if wake.Before(at) {
			at = wake
		}
	}
	if len(p.stale) > 0 || at.Before(p.nextList) {
		return p.nextList
	}
	return at
}
