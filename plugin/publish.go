// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
)

// publish makes the status of the round and reports it into the database.
func (d *Daemon) publish(ctx context.Context, s *scene) {
	st := d.status(s)
	d.mu.Lock()
	d.last, d.seen = st, s
	d.shown.Store(&Seen{Status: st, SAs: s.observed.SAs, Policies: s.observed.Policies, Device: pfNamesOf(s.facts).of})
	d.mu.Unlock()
	d.tellProblems(st.Problems)
	d.tellPorts(st.Ports, st.Pairs)
	if !d.cfg.Report || !s.state.Connected {
		return
	}
	if rs := reports(s, st, d.cfg.BootID); len(rs) > 0 {
		if err := d.cfg.Database.Report(ctx, rs); err != nil {
			d.tell("report", fmt.Sprintf("report state to the database: %v", err))
		}
	}
}

// Status looks at the host now, without changing anything, and returns its
// status with fresh counters and flow counts.
func (d *Daemon) Status(ctx context.Context) (Status, error) {
	s, err := d.peek(ctx, d.consents())
	if err != nil {
		return unseen(d.Last(), d.cfg.Version, d.cfg.Now(), err), nil
	}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		if _, done := s.observed.Flows[pf.Ifindex]; done {
			continue
		}
		n, err := d.flowsOf(ctx, s, pf)
		if err != nil {
			return Status{}, err
		}
		s.observed.Flows[pf.Ifindex] = n
	}
	return d.status(s), nil
}

// Preview returns the plan that a round would apply now, or that a repair would,
// in iproute2's words, and the verdict of the invariants. It changes nothing.
func (d *Daemon) Preview(ctx context.Context, repair bool) (steps []string, problems []Problem, verdict error, err error) {
	s, err := d.peek(ctx, repair || d.consents())
	if err != nil {
		return nil, nil, nil, err
	}
	if v := Check(s.intent, s.observed, s.plan); v != nil {
		verdict = v
	}
	return linesOf(s.facts, s.plan), s.plan.Problems, verdict, nil
}

// linesOf returns the steps of a plan in iproute2's words.
func linesOf(f devlink.Facts, plan Plan) []string {
	names := pfNamesOf(f)
	lines := make([]string, len(plan.Steps))
	for i, st := range plan.Steps {
		lines[i] = st.Text(names.of)
	}
	return lines
}

// tellProblems logs host problems that are new and forgets those that are over.
func (d *Daemon) tellProblems(ps []Problem) {
	now := map[string]bool{}
	for _, p := range ps {
		line := p.Text + " [" + p.Code + "]"
		now["host: "+line] = true
		d.tell("host: "+line, line)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.told, func(subject, _ string) bool { return strings.HasPrefix(subject, "host: ") && !now[subject] })
}

// reports returns what has to be written into external_ids: only what differs
// from what stands there.
func reports(s *scene, st Status, boot string) []ovsdb.Report {
	var rs []ovsdb.Report
	add := func(tunnel string, now, want map[string]string) {
		if !maps.Equal(now, want) {
			rs = append(rs, ovsdb.Report{Tunnel: tunnel, Values: want})
		}
	}
	seen := map[string]bool{}
	for i, p := range st.Ports {
		want := map[string]string{"state": p.State, "boot": boot}
		if len(p.Problems) > 0 {
			want["code"], want["reason"] = p.Problems[0].Code, p.Problems[0].Text
		}
		seen[p.Name] = true
		add(p.Name, s.intent.Ports[i].Reported, want)
	}
	for i := range s.snapshot.Tunnels {
		if t := &s.snapshot.Tunnels[i]; !seen[t.Name] && len(t.Reported) > 0 {
			add(t.Name, t.Reported, nil)
		}
	}
	want := map[string]string{"state": st.State, "boot": boot}
	if len(st.Problems) > 0 {
		want["code"], want["reason"] = st.Problems[0].Code, st.Problems[0].Text
	}
	add("", s.snapshot.Host.Reported, want)
	return rs
}
