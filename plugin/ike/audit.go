// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"

	"ovs-ipsec-offload/plugin/ike/vici"
)

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

// auditKeys forgets the private keys that the daemon has no more. One without get-keys
// (before 5.5.2) is believed to keep them.
func (p *pass) auditKeys(ctx context.Context) error {
	m, err := p.d.call(ctx, "get-keys", nil)
	if vici.IsRefusal(err) {
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
