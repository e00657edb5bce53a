// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/xfrm"
)

// unseen is the status of a host that cannot be looked at: what was last known,
// under a state that says so, with the reason in front.
func unseen(last Status, version string, now time.Time, err error) Status {
	st := last
	st.Version, st.At, st.State = version, now, Unseen
	var w *waiting
	if errors.As(err, &w) {
		st.State, st.Host.Database = Waiting, err.Error()
	}
	st.Problems = []Problem{problemOf(err)}
	return st
}

// status says how everything stands.
func (d *Daemon) status(s *scene) Status {
	d.mu.Lock()
	host, gate, pairs, given, last := d.host, d.gate, maps.Clone(d.pairs), d.given, d.hold.last
	d.mu.Unlock()
	b := statusMaker{scene: s, now: s.now, name: pfNamesOf(s.facts).of, at: d.cfg.Now(), pairs: pairs, ike: s.observed.carriers, given: given, hostErr: host.err}
	st := Status{Version: d.cfg.Version, At: d.cfg.Now(), Host: b.host(), Gate: b.gate(d.current())}
	st.Problems, st.Notes = append([]Problem{}, s.plan.Problems...), s.notes
	for _, err := range []error{host.err, gate.err, d.saveProblem()} {
		if err != nil {
			st.Problems = append(st.Problems, problemOf(err))
		}
	}
	st.PFs, st.Guards, st.Pairs = b.pfs(), b.guards(), b.pairStatus()
	st.Gate.Last = last
	d.mu.Lock()
	d.leak.leakStatus(s, &st)
	d.mu.Unlock()
	st.Ports = b.portStatus(st.Pairs)
	if st.State = summary(st); s.intent.Parked && len(s.plan.Steps) == 0 && len(st.Problems) == 0 && st.State != Unsafe {
		st.State = Parked
	}
	return st
}

// summary sums a status up in one word.
func summary(st Status) string {
	worst := OK
	if len(st.Problems) > 0 {
		worst = Degraded
	}
	for _, p := range st.Ports {
		if p.State == StateInvalid {
			return Unsafe // nothing stops it
		}
		if len(p.Problems) > 0 {
			worst = Degraded
		}
	}
	for _, p := range st.Pairs {
		if p.Leak != nil && p.Leak.LeakingIn {
			return Unsafe
		}
		switch p.State {
		case StateUnprotected, StateLeaking:
			return Unsafe
		case StateBlocked:
			worst = Degraded
		}
	}
	return worst
}

type statusMaker struct {
	*scene
	now   *view
	name  func(int) string
	at    time.Time
	pairs map[Pair]trouble
	ike   map[stream]*xfrm.SA // SAs that IKE made
	given map[Pair]bool       // the IKE daemon has these

	hostErr error

	older map[ends][]*xfrm.SA // inbound SAs that nobody wants; made when first asked for
}

func (b *statusMaker) host() HostStatus {
	h := HostStatus{SystemID: b.snapshot.Host.SystemID, Kernel: b.facts.Kernel.Release, OVS: b.snapshot.Host.OVSVersion, Database: "connected"}
	if !b.state.Connected {
		h.Database = "disconnected, the last known rows are in force"
		if b.state.Err != nil {
			h.Database += ": " + b.state.Err.Error()
		}
	}
	return h
}

func (b *statusMaker) gate(s Settings) GateStatus {
	g := GateStatus{HWOffload: b.snapshot.Host.HWOffload, Open: b.observed.GateOpen && b.observed.Holding == "", Held: b.observed.Holding}
	if h := b.snapshot.Host.Hold; h != nil {
		g.Since = &h.Since
	}
	switch {
	case g.Held != "":
		g.Reason = map[Why]string{
			WhyRetrofit: "flows were offloaded before the tables stood", WhyLost: "the tables were lost under the flows",
			WhyStrict: "this kernel takes no SA while flows are in hardware", WhyPark: "the host is parked", WhyRepair: "the operator asked for a repair",
		}[g.Held] + ": traffic goes by the slow path"
	case g.Open:
		g.Reason = "OVS may offload flows"
	case g.HWOffload != "":
		g.Reason = "the operator keeps hw-offload=" + g.HWOffload
	case !s.GateAuto:
		g.Reason = "hw-offload is unset and gate=off leaves it to the operator"
	default:
		g.Reason = "hw-offload is set once the tables stand and a pair is encrypted"
	}
	return g
}

func (b *statusMaker) pfs() []PFStatus {
	ps := []PFStatus{}
	for i := range b.facts.PFs {
		pf := &b.facts.PFs[i]
		r, f := b.now.refs[pf.Ifindex], b.observed.Foreign[pf.Ifindex]
		p := PFStatus{Name: pf.Name, Handle: pf.Handle, Driver: pf.Driver, EswitchMode: pf.EswitchMode, EncapMode: pf.EncapMode,
			Strict: b.observed.Strict[pf.Ifindex], Steering: pf.Steering, TXTable: r.TX+f.TX > 0, RXTable: r.RX+f.RX > 0, OffloadedFlows: b.observed.Flows[pf.Ifindex]}
		for j := range b.observed.SAs {
			if b.observed.SAs[j].Offload.Ifindex == pf.Ifindex {
				p.SAs++
			}
		}
		p.Policies = r.TX + r.RX - p.SAs
		p.Notes = notes(pf, f)
		ps = append(ps, p)
	}
	return ps
}

// notes says what an operator should know about a PF.
func notes(pf *devlink.PF, foreign Refs) []string {
	var ns []string
	for _, n := range pf.Notes() {
		ns = append(ns, n.Text+" ["+n.Code+"]")
	}
	for _, r := range pf.Refusals() {
		ns = append(ns, r.Text+" ["+r.Code+"]")
	}
	if n := foreign.RX + foreign.TX; n > 0 {
		ns = append(ns, fmt.Sprintf("%d offloaded states or policies of others stand on it", n))
	}
	return ns
}

func (b *statusMaker) guards() []GuardStatus {
	gs := []GuardStatus{}
	for _, g := range b.intent.Guards {
		s := GuardStatus{Local: g.Local.String(), Port: g.Port, Stands: "no"}
		out, in := b.now.policies[place{xfrm.Out, g.selector(xfrm.Out)}], b.now.policies[place{xfrm.In, g.selector(xfrm.In)}]
		switch {
		case out == nil || in == nil:
		case out.Offload.Ifindex != 0 && in.Offload.Ifindex != 0:
			s.Stands, s.PF = "hardware", b.name(out.Offload.Ifindex)
		default:
			s.Stands = "host"
		}
		gs = append(gs, s)
	}
	return gs
}

func (b *statusMaker) pairStatus() []PairStatus {
	ps := make([]PairStatus, 0, len(b.intent.Pairs))
	for i := range b.intent.Pairs {
		ps = append(ps, b.pair(&b.intent.Pairs[i]))
	}
	return ps
}

func (b *statusMaker) pair(pi *PairIntent) PairStatus {
	p := PairStatus{Local: pi.Local.String(), Remote: pi.Remote.String(), Port: pi.Port, Ports: pi.Ports, Keys: cmp.Or(pi.Keys.Name, pi.Asked), Problem: pi.Problem, Notes: pi.Notes}
	p.State = b.stateOf(pi)
	if pi.PF != 0 {
		p.PF = b.name(pi.PF)
	}
	if reason := b.reason(pi, p.State); reason != nil {
		p.Problem = reason
	}
	if pi.Keys.Name != "" {
		p.Mode = map[xfrm.Mode]string{xfrm.Transport: "transport", xfrm.Tunnel: "tunnel"}[pi.Mode]
		p.SPIIn, p.SPIOut = spi(pi.Keys.InSPI), spi(pi.Keys.OutSPI)
		rx, tx := pi.ids()
		p.In, p.Out = b.traffic(rx), b.traffic(tx)
	}
	if pi.IKE != nil {
		b.negotiated(pi, &p)
	}
	if p.State == StateEncrypted {
		p.Path = b.path(pi)
		p.Rotation = b.rotation(pi)
	}
	if pi.IKE == nil {
		b.budget(&p, b.sender(pi))
	}
	return p
}

// stateOf says in a word what becomes of a pair's traffic.
func (b *statusMaker) stateOf(pi *PairIntent) string {
	f := b.now.fateOf(pi.Pair, pi.PF)
	switch {
	case pi.Want == Clear && (f == passes || f == leaks && b.now.fateOf(pi.Pair, 0) != blocked):
		return StateClear
	case pi.Want != Clear && b.observed.Strangers.opens(pi.Pair):
		return StateUnprotected
	case f == encrypted:
		return StateEncrypted
	case f == leaks && pi.Want != Clear, f == passes, b.exposed(pi):
		return StateUnprotected
	}
	return StateBlocked
}

// reason returns why a pair has not what it asks for when the intent has no
// answer: its PF cannot be touched, its steps failed, or those of the host did.
func (b *statusMaker) reason(pi *PairIntent, state string) *Problem {
	if b.plan.Stuck[pi.PF] && state != StateEncrypted && state != StateClear {
		return &Problem{"FLOWS_FIRST", "flows of " + b.name(pi.PF) + " were offloaded before its IPsec tables stood: see the problems of the host"}
	}
	if why := b.plan.Deferred[pi.Pair]; why != nil {
		return why
	}
	t, failed := b.pairs[pi.Pair]
	switch {
	case pi.Want == Negotiate && !failed && b.ike[stream{pi.Pair, xfrm.Out}] == nil:
		return keying(pi, &b.scene.ike, b.given[pi.Pair], b.at)
	case pi.Problem != nil || !failed && state != StateUnprotected:
		return nil
	case failed:
		p := problemOf(t.err)
		return &p
	case b.hostErr != nil:
		p := problemOf(b.hostErr)
		return &p
	case len(b.plan.Problems) > 0:
		return &b.plan.Problems[0]
	}
	return nil
}

// exposed tells that flows of a pair that only the host's stack blocks may get
// into a NIC.
func (b *statusMaker) exposed(pi *PairIntent) bool {
	return b.offloads() && !pi.NoPriority && slices.ContainsFunc(b.intent.Guards, func(g GuardIntent) bool { return g.Exposed && g.VTEP == pi.VTEP() })
}

// path tells who encapsulates.
func (b *statusMaker) path(pi *PairIntent) string {
	for i := range b.facts.PFs {
		if pf := &b.facts.PFs[i]; pf.Ifindex == pi.PF && pf.EncapMode == "none" {
			return "NIC encrypts, host encapsulates"
		}
	}
	return "NIC"
}

func spi(v uint32) string { return fmt.Sprintf("0x%08x", v) }

func (b *statusMaker) traffic(id xfrm.SAID) Traffic {
	s, is := b.now.sas[id]
	if !is {
		return Traffic{}
	}
	return Traffic{Packets: s.Stats.Packets, Bytes: s.Stats.Bytes, Dropped: uint64(s.Stats.Auth) + uint64(s.Stats.Replay) + uint64(s.Stats.ReplayWindow)}
}

// portStatus lists the ports that ask for IPsec or stand in the way of one.
func (b *statusMaker) portStatus(pairs []PairStatus) []PortStatus {
	states := make(map[Pair]int, len(pairs))
	for i := range b.intent.Pairs {
		states[b.intent.Pairs[i].Pair] = i
	}
	ps := make([]PortStatus, 0, len(b.intent.Ports))
	for _, t := range b.intent.Ports {
		p := PortStatus{Name: t.Name, Problems: t.Problems}
		if i, is := states[t.Pair]; !is {
			p.State = b.loose(t.Outlet)
		} else {
			p.State = pairs[i].State
			if len(p.Problems) == 0 && pairs[i].Problem != nil {
				p.Problems = []Problem{*pairs[i].Problem}
			}
		}
		ps = append(ps, p)
	}
	return ps
}
