// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// answered is told the answer to a command, or why it was refused.
type answered func(answer vici.Message, refused error)

// request is one of several commands that are sent at once.
type request struct {
	vici.Request
	done answered // nil: it may be refused, because what it is about is gone by itself
}

func ask(command string, m vici.Message, done answered) request {
	return request{vici.Request{Command: command, Message: m}, done}
}

// send sends commands without waiting for each answer: charon wakes several threads for a
// message, and that once for many that come together.
func (d daemon) send(ctx context.Context, rs []request) error {
	if len(rs) == 0 {
		return nil
	}
	commands := make([]vici.Request, len(rs))
	for i, r := range rs {
		commands[i] = r.Request
	}
	ctx, heard, end := d.patient(ctx)
	defer end()
	return d.session.Calls(ctx, commands, func(i int, answer vici.Message, refused error) {
		heard()
		if done := rs[i].done; done != nil {
			done(answer, refused)
		}
	})
}

// steps steps the named Conns, those that wait for a slot first. One that needs loading
// is stepped once more afterwards.
func (p *pass) steps(ctx context.Context, names []string) error {
	for names = p.queued(names); len(names) > 0; {
		rs, ls := p.decide(names)
		var err error
		if names, err = p.load(ctx, rs, ls); err != nil {
			return err
		}
	}
	free := p.r.cfg.Options.Parallel - p.busy()
	for _, name := range p.starved {
		if free > 0 && !p.stale[name] {
			p.ready[name] = true
			free--
		}
	}
	return nil
}

// queued returns names in the order in which they wait for a slot, then the others. What
// waits keeps its place until it has a slot, or peers that are dead would have all of them.
func (p *pass) queued(names []string) []string {
	p.starved = slices.DeleteFunc(p.starved, func(name string) bool { return p.r.peers[name] == nil })
	waits := make(map[string]bool, len(p.starved))
	for _, name := range p.starved {
		waits[name] = true
	}
	named := make(map[string]bool, len(names))
	for _, name := range names {
		named[name] = true
	}
	first := slices.DeleteFunc(slices.Clone(p.starved), func(name string) bool { return !named[name] })
	return append(first, slices.DeleteFunc(names, func(name string) bool { return waits[name] })...)
}

// place returns where in the queue for a slot a Conn is, or comes: those that failed wait
// behind those that did not, since their peers may be down for days.
func (p *pass) place(name string) int {
	if at := slices.Index(p.starved, name); at >= 0 {
		return at
	}
	if p.r.peers[name].failures == 0 {
		if at := slices.IndexFunc(p.starved, func(s string) bool { return p.r.peers[s].failures > 0 }); at >= 0 {
			return at
		}
	}
	return len(p.starved)
}

// ahead returns how many wait for a slot before a Conn, and can take it now.
func (p *pass) ahead(name string) (n int) {
	for _, s := range p.starved[:p.place(name)] {
		if !p.stale[s] {
			n++
		}
	}
	return n
}

// busy returns how many Conns are under way.
func (p *pass) busy() (n int) {
	for _, q := range p.r.peers {
		if q.underWay() {
			n++
		}
	}
	return n
}

// decide steps the named Conns. It returns the commands for that, and whom to load.
func (p *pass) decide(names []string) (rs []request, ls []loading) {
	busy := p.busy()
	for _, name := range names {
		q := p.r.peers[name]
		if q.underWay() {
			busy--
		}
		free := p.r.cfg.Options.Parallel - busy
		l := p.look(name, free > 0 && free > p.ahead(name)) // mostly there is none
		do := q.step(l)
		p.note(name, do)
		if q.underWay() {
			busy++
		}
		for _, a := range do.do {
			p.r.cfg.Log.Debug("IKE daemon", "conn", name, "do", a.verb, "child", a.child, "id", a.id, "why", a.why)
			if a.verb == doLoad {
				ls = append(ls, loading{q: q, l: l})
			} else {
				rs = append(rs, p.carryOut(q, l, a))
			}
		}
	}
	return rs, ls
}

// carryOut returns the command for an action, other than to load.
func (p *pass) carryOut(q *peer, l look, a action) request {
	switch a.verb {
	case doInitiate:
		return ask("initiate", initiate(q.conn.Name, a.child), func(_ vici.Message, refused error) {
			if refused != nil {
				q.loaded = false // somebody has unloaded it
				p.wakes[q.conn.Name] = l.now.Add(young)
			}
		})
	case doRekey:
		return ask("rekey", childID(a.id), nil)
	case doTerminateChild:
		return ask("terminate", terminateChild(a.id), nil)
	case doTerminate:
		return ask("terminate", terminateIKE(a.id), nil)
	}
	panic("ike: no command for " + string(a.verb))
}

// loading is a Conn that is being loaded.
type loading struct {
	q       *peer
	l       look
	refusal error // of its secret or key
}

// load sends commands, then loads Conns with what they need, and returns who are loaded. A
// Conn is loaded when charon has its secret and key: what it has of it already goes on with
// the old ones if it refuses them. Conns that are loaded together each bring the key that
// they share, of which charon keeps one.
func (p *pass) load(ctx context.Context, rs []request, ls []loading) (loaded []string, err error) {
	for i := range ls {
		rs = append(rs, p.secrets(&ls[i])...)
	}
	if err := p.d.send(ctx, rs); err != nil {
		return nil, err
	}
	var conns []request
	for i := range ls {
		if l := &ls[i]; l.refusal != nil {
			p.refused(l)
		} else {
			conns = append(conns, ask("load-conn", loadConn(l.q.conn, p.r.cfg.Options), func(_ vici.Message, refused error) {
				if l.refusal = refused; refused != nil {
					p.refused(l)
					return
				}
				l.q.hasLoaded()
				p.r.cfg.Log.Debug("loaded into the IKE daemon", "conn", l.q.conn.Name)
				loaded = append(loaded, l.q.conn.Name)
			}))
		}
	}
	err = p.d.send(ctx, conns)
	return loaded, err
}

// secrets returns the commands that load what a Conn proves with who this end is.
func (p *pass) secrets(l *loading) (rs []request) {
	auth := l.q.conn.Auth
	if !auth.PSK.Empty() {
		rs = append(rs, ask("load-shared", loadShared(l.q.conn), func(_ vici.Message, refused error) {
			l.refusal = cmp.Or(l.refusal, refused)
		}))
	}
	if !p.hasKey(auth.Key) {
		rs = append(rs, ask("load-key", loadKey(auth.Key), func(m vici.Message, refused error) {
			if l.refusal = cmp.Or(l.refusal, refused); refused == nil {
				p.keys[sha256.Sum256(auth.Key.Bytes())] = m.Get("id")
			}
		}))
	}
	return rs
}

// refused makes a refusal the peer's problem.
func (p *pass) refused(l *loading) {
	l.q.refused(problem(CodeRefused, "the IKE daemon refuses the configuration: %v: check psk, certificate and key of this tunnel", l.refusal), l.l)
	p.wakes[l.q.conn.Name] = l.q.next
}
