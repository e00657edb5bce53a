// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ovs-ipsec-offload/plugin/ike"
)

// see asks pluto how it stands, and begins anew with another pluto.
func (r *Runner) see(ctx context.Context) (map[string][]*sa, *ike.Problem) {
	pid, err := r.cfg.Hands.PID(ctx)
	if err != nil {
		return nil, down(err)
	}
	if pid != r.pid {
		if why := r.meet(ctx, pid); why != nil {
			return nil, why
		}
	}
	states, err := r.list(ctx, "--showstates")
	if err != nil {
		return nil, down(err)
	}
	traffic, err := r.list(ctx, "--trafficstatus")
	if err != nil {
		return nil, down(err)
	}
	sas := map[string][]*sa{}
	for _, s := range readStates(states, traffic) {
		sas[s.conn] = append(sas[s.conn], s)
	}
	for _, list := range sas {
		slices.SortFunc(list, func(a, b *sa) int { return cmp.Compare(a.id, b.id) })
	}
	return sas, nil
}

// meet learns what a pluto is that was not there before, and which of our connections it
// has: this program may have been started anew.
func (r *Runner) meet(ctx context.Context, pid int) *ike.Problem {
	text, err := r.list(ctx, "--status")
	if err != nil {
		return down(err)
	}
	v := readVersion(text)
	if !offloads(v) && !r.cfg.Options.NoOffload {
		return &ike.Problem{Code: ike.CodeOld, Text: fmt.Sprintf("libreswan %q cannot offload IPsec to a NIC: install 5.0 or later", v)}
	}
	has, kept := readConns(text), r.cfg.Hands.Kept(pid)
	r.peers = map[string]*peer{}
	for half := range has {
		name, _, _ := split(half)
		if r.peers[name] == nil {
			r.peers[name] = newPeer(ike.Conn{Name: name}, r.cfg.Now())
		}
		r.peers[name].loaded[half] = kept[half] // "": it is not known how pluto has it
	}
	r.pid, r.name, r.untold = pid, "libreswan "+v, true
	return nil
}

// audit finds connections that somebody has deleted: now and then, where attempts fail.
func (r *Runner) audit(ctx context.Context) *ike.Problem {
	fails := func(p *peer) bool { return p.failures > 0 }
	if r.cfg.Now().Before(r.audited.Add(r.cfg.Options.Audit)) || !slices.ContainsFunc(slices.Collect(maps.Values(r.peers)), fails) {
		return nil
	}
	r.audited = r.cfg.Now()
	text, err := r.list(ctx, "--status")
	if err != nil {
		return down(err)
	}
	has := readConns(text)
	for _, p := range r.peers {
		maps.DeleteFunc(p.loaded, func(half, _ string) bool { return !has[half] })
	}
	return nil
}

// list asks pluto for a list, each of which may take its time.
func (r *Runner) list(ctx context.Context, what string) (string, error) {
	c, cancel := context.WithTimeout(ctx, r.cfg.Options.Timeout)
	defer cancel()
	return r.cfg.Hands.Whack(c, what)
}

func (r *Runner) whack(ctx context.Context, args ...string) (string, error) {
	c, cancel := context.WithTimeout(ctx, r.cfg.Options.Timeout)
	defer cancel()
	out, _ := r.cfg.Hands.Whack(c, args...)
	if c.Err() != nil {
		return out, fmt.Errorf("whack %s: %w", args[0], errTimeout)
	}
	return out, nil // that pluto refuses is in the text, and shows in what it has
}

var errTimeout = errors.New("no answer in time")

func down(err error) *ike.Problem {
	if errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return &ike.Problem{Code: ike.CodeStuck, Text: fmt.Sprintf("ask pluto: %v; what stands goes on", err)}
	}
	return &ike.Problem{Code: ike.CodeDown, Text: fmt.Sprintf("ask pluto: %v: is libreswan (ipsec.service) running?", err)}
}

func lastLine(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return all[len(all)-1]
}
