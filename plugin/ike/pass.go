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

// pass goes over the Conns. It lives as long as the connection to the daemon.
type pass struct {
	r       *Runner
	d       daemon
	version version

	keys    map[[32]byte]string // private keys loaded, by hash, with the daemon's id
	sas     map[string][]sa     // as last listed
	wakes   map[string]time.Time
	starved []string // wait for a slot, in turn
	audited time.Time
}

// run has every Conn stepped that there is news of, and tells when to come
// again. Its error is one of the connection.
func (p *pass) run(ctx context.Context, names map[string]bool, reasons []heardReason) (time.Time, error) {
	now, o := p.r.cfg.Now(), p.r.cfg.Options
	for name := range p.adopt(now) {
		names[name] = true
	}
	for _, h := range reasons {
		if q := p.r.peers[h.conn]; q != nil {
			q.hear(h.why, now)
		}
	}
	for name, at := range p.wakes {
		if !at.After(now) {
			names[name] = true
		}
	}
	if first := p.audited.IsZero(); first || now.Sub(p.audited) >= o.Audit {
		if err := p.audit(ctx); err != nil {
			return time.Time{}, err
		}
		p.audited = now
		maps.Copy(names, keysOf(p.r.peers))
		p.putOff(names, now)
	} else {
		p.putOff(names, now)
		if err := p.list(ctx, names); err != nil {
			return time.Time{}, err
		}
	}
	if err := p.steps(ctx, names); err != nil {
		return time.Time{}, err
	}
	p.r.publish(p.version.String(), nil)
	return p.next(), nil
}

// putOff leaves all but a few of the Conns that are not loaded to the next passes,
// which follow at once: until all were loaded nobody would hear that those that came
// first are up, and give their slots to others.
func (p *pass) putOff(names map[string]bool, now time.Time) {
	var late []string
	for name := range names {
		if q := p.r.peers[name]; q != nil && !q.loaded {
			late = append(late, name)
		}
	}
	if len(late) <= atOnce {
		return
	}
	slices.Sort(late)
	for _, name := range late[atOnce:] {
		delete(names, name)
		p.note(name, plan{wake: now})
	}
}

// adopt takes over the wanted set, and returns the Conns that are new or changed.
func (p *pass) adopt(now time.Time) map[string]bool {
	wanted, asked := p.r.Take()
	changed := map[string]bool{}
	for name, gone := range asked {
		if q := p.r.peers[name]; q != nil {
			q.ask(gone)
			changed[name] = true
		}
	}
	for name, c := range wanted {
		q := p.r.peers[name]
		switch {
		case q == nil:
			p.r.peers[name] = newPeer(c, now, p.r.cfg.Options, p.r.cfg.Jitter())
			changed[name] = true
		case !q.conn.Equal(c):
			q.want(c)
			changed[name] = true
		}
	}
	for name := range p.r.peers {
		if _, ok := wanted[name]; !ok {
			delete(p.r.peers, name)
			delete(p.wakes, name)
			p.audited = time.Time{} // which unloads it
		}
	}
	return changed
}

// audit looks at everything: it unloads what nobody wants, and finds what
// somebody else has unloaded.
func (p *pass) audit(ctx context.Context) error {
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
	return p.endUnwanted(ctx)
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

// list looks up the IKE SAs of some Conns.
func (p *pass) list(ctx context.Context, names map[string]bool) error {
	if len(names) > few {
		all, err := p.d.list(ctx, "")
		p.sas = all
		return err
	}
	for name := range names {
		found, err := p.d.list(ctx, name)
		if err != nil {
			return err
		}
		p.sas[name] = found[name]
	}
	return nil
}

// steps steps the named Conns. One that needs loading is stepped once more
// afterwards.
func (p *pass) steps(ctx context.Context, names map[string]bool) error {
	p.starved = slices.DeleteFunc(p.starved, func(name string) bool { return names[name] || p.r.peers[name] == nil })
	busy := 0
	for _, q := range p.r.peers {
		if q.underWay() {
			busy++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		q := p.r.peers[name]
		for again := q != nil; again; {
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
		p.wakes[name] = p.r.cfg.Now()
	}
	return nil
}

func (p *pass) look(name string, slot bool) look {
	return look{now: p.r.cfg.Now(), sas: p.sas[name], slot: slot, jitter: p.r.cfg.Jitter(), o: p.r.cfg.Options}
}

func (p *pass) note(name string, do plan) {
	if p.wakes == nil {
		p.wakes = map[string]time.Time{}
	}
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
	at := p.audited.Add(p.r.cfg.Options.Audit)
	for _, wake := range p.wakes {
		if wake.Before(at) {
			at = wake
		}
	}
	return at
}

func keysOf(peers map[string]*peer) map[string]bool {
	all := make(map[string]bool, len(peers))
	for name := range peers {
		all[name] = true
	}
	return all
}
