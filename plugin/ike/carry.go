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

// steps steps the named Conns. One that needs loading is stepped once more
// afterwards.
func (p *pass) steps(ctx context.Context, names []string) error {
	p.starved = slices.DeleteFunc(p.starved, func(name string) bool { return p.r.peers[name] == nil || slices.Contains(names, name) })
	for len(names) > 0 {
		rs, loading := p.decide(names)
		if err := p.d.send(ctx, rs); err != nil {
			return err
		}
		names = slices.DeleteFunc(loading, func(name string) bool { return !p.r.peers[name].loaded })
	}
	for _, name := range p.starved[:min(len(p.starved), max(0, p.r.cfg.Options.Parallel-p.busy()))] {
		p.ready[name] = true
	}
	return nil
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

// decide steps the named Conns. It returns the commands for that, and whom they load.
// Loads come last, so that charon begins with Conns that have their slot before it takes
// others in.
func (p *pass) decide(names []string) (rs []request, loading []string) {
	var loads []request
	busy := p.busy()
	for _, name := range names {
		q := p.r.peers[name]
		if q.underWay() {
			busy--
		}
		l := p.look(name, busy < p.r.cfg.Options.Parallel)
		do := q.step(l)
		p.note(name, do)
		if q.underWay() {
			busy++
		}
		for _, a := range do.do {
			p.r.cfg.Log.Debug("IKE daemon", "conn", name, "do", a.verb, "child", a.child, "id", a.id, "why", a.why)
			if a.verb == doLoad {
				loading, loads = append(loading, name), append(loads, p.load(q, l)...)
			} else {
				rs = append(rs, p.carryOut(q, l, a))
			}
		}
	}
	return append(rs, loads...), loading
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

// load returns the commands that load a Conn: its secret or key, then itself. All are sent
// even if charon refuses the first, which is the peer's problem then. Conns that are loaded
// together each bring the key that they share, of which charon keeps one.
func (p *pass) load(q *peer, l look) (rs []request) {
	var refusal error
	heed := func(done func(vici.Message)) answered {
		return func(answer vici.Message, refused error) {
			if refusal = cmp.Or(refusal, refused); refused == nil {
				done(answer)
			}
		}
	}
	c := q.conn
	if !c.Auth.PSK.Empty() {
		rs = append(rs, ask("load-shared", loadShared(c), heed(func(vici.Message) {})))
	}
	if !p.hasKey(c.Auth.Key) {
		sum := sha256.Sum256(c.Auth.Key.Bytes())
		rs = append(rs, ask("load-key", loadKey(c.Auth.Key), heed(func(m vici.Message) { p.keys[sum] = m.Get("id") })))
	}
	return append(rs, ask("load-conn", loadConn(c, p.r.cfg.Options), func(_ vici.Message, refused error) {
		p.loaded(q, l, cmp.Or(refusal, refused))
	}))
}

// loaded notes what came of loading a Conn.
func (p *pass) loaded(q *peer, l look, refusal error) {
	if refusal == nil {
		q.hasLoaded()
		p.r.cfg.Log.Debug("loaded into the IKE daemon", "conn", q.conn.Name)
		return
	}
	q.refused(problem(CodeRefused, "the IKE daemon refuses the configuration: %v: check psk, certificate and key of this tunnel", refusal), l)
	p.wakes[q.conn.Name] = q.next
}
