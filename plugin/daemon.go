// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// Config is what a Daemon is made of.
type Config struct {
	Database Database
	Kernel   Kernel
	NIC      NIC
	Flows    Flows
	Keys     Keys
	Ledger   Ledger
	// IKE may be nil: ports that ask for IKE are refused then. With it Credentials must
	// not be.
	IKE IKE
	// SmallReqids tells that the IKE daemon is libreswan, which takes reqids up to 16383.
	SmallReqids bool
	Credentials Credentials
	Saved       Store // may be nil: the next boot then knows nothing of this one
	Gate        Gate
	// Prober sends what shows a peer that this host has its keys. May be nil: then
	// only traffic shows it.
	Prober Prober
	// Rivals names others who do the same work on this host. May be nil.
	Rivals func() []Problem
	// Released is called once ovs-vswitchd knows that it may offload, so that it
	// can be made to look at its flows again. It must not wait. May be nil.
	Released func()
	// Beside runs a long reading beside the rounds; nil: in the round.
	Beside func(func())

	Settings    Settings
	RetireAfter time.Duration // how long an SA that nobody wants is kept
	AuditEvery  time.Duration // a round is made at least this often
	Report      bool          // write state into external_ids
	BootID      string        // of this boot, for reports
	Parked      bool          // start parked
	Version     string

	Log *slog.Logger
	Now func() time.Time
	// Pause waits, Jitter gives a number in [0, 1) and Rand random bytes; nil is
	// time, math/rand/v2 and crypto/rand.
	Pause  func(context.Context, time.Duration)
	Jitter func() float64
	Rand   io.Reader
}

// Daemon keeps what the NICs hold equal to what the database asks for.
type Daemon struct {
	cfg   Config
	dirty chan struct{}
	alarm atomic.Bool
	haste chan struct{}        // holds a value after an alarm
	shown atomic.Pointer[Seen] // of the last round, for who must not wait

	mu       sync.Mutex
	settings Settings
	pairs    map[Pair]trouble
	host     trouble
	sight    trouble // the host could not be looked at
	gate     trouble // the gate could not be opened
	unwanted map[xfrm.SAID]time.Time
	hold     holding
	consent  time.Time // until when the operator's consent to a repair lasts
	parked   bool
	seen     *scene // of the last round
	begun    Round
	ended    Round
	rounds   chan struct{} // closed when a round is over
	streak   int           // rounds in a row that changed something
	last     Status
	told     map[string]string // last line logged about a subject
	ports    map[string]string // trouble of each port that asked for IPsec at the last round, or ""
	keep     keeper
	leak     leakWatch
	cards    map[cardName]*card  // what NICs have shown
	given    map[Pair]bool       // the IKE daemon has these
	reqids   map[stream]uint32   // of the pairs that IKE keys, with SmallReqids
	lapsed   map[Pair]time.Time  // since when the kernel lacks what it says to have made
	asked    map[xfrm.SAID]bool  // outbound SAs for which new keys were asked for
	audit    audit               // of rounds only
	idle     map[place]time.Time // since when blocks of pairs are not wanted
	rot      rotations
}

// New returns a Daemon. Nothing happens until Run.
func New(cfg Config) *Daemon {
	if cfg.Pause == nil {
		cfg.Pause = pause
	}
	d := &Daemon{cfg: cfg, dirty: make(chan struct{}, 1), haste: make(chan struct{}, 1), settings: cfg.Settings, parked: cfg.Parked, rounds: make(chan struct{}),
		hold:  holding{safe: map[string]bool{}},
		rot:   newRotations(),
		leak:  leakWatch{meter: NewMeter(counterLag, cfg.AuditEvery), blocked: map[Pair]LeakBlock{}},
		pairs: map[Pair]trouble{}, unwanted: map[xfrm.SAID]time.Time{}, told: map[string]string{}, cards: map[cardName]*card{}, last: Status{State: Waiting, Version: cfg.Version,
			Problems: []Problem{}, PFs: []PFStatus{}, Guards: []GuardStatus{}, Pairs: []PairStatus{}, Ports: []PortStatus{}}}
	d.shown.Store(&Seen{Status: d.last, Device: pfNames(nil).of})
	return d
}

// SetSettings takes new settings; the next round uses them.
func (d *Daemon) SetSettings(s Settings) {
	d.mu.Lock()
	d.settings = s
	d.mu.Unlock()
	d.Poke()
}

// Run makes rounds until ctx ends. It calls ready after each round with the
// status that the round left. What stands in the kernel stays when it returns:
// the data plane goes on, and the next start adopts it.
func (d *Daemon) Run(ctx context.Context, ready func(Status)) error {
	for {
		began := d.cfg.Now()
		again := d.round(ctx)
		took := d.cfg.Now().Sub(began)
		if ctx.Err() != nil {
			return nil
		}
		ready(d.Last())
		timer := time.NewTimer(again)
		d.rest(ctx, took, again)
		select {
		case <-ctx.Done():
		case <-d.dirty:
			d.gather(ctx, took)
		case <-d.cfg.Database.Changed():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Last returns the status that the last round left.
func (d *Daemon) Last() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// round observes, plans, checks and applies once, and returns how long the next
// round may wait when nothing happens.
func (d *Daemon) round(ctx context.Context) time.Duration {
	defer d.over(d.begin())
	select {
	case <-d.haste:
	default:
	}
	if d.alarm.Swap(false) {
		d.reflex(ctx)
	}
	s, err := d.look(ctx, d.consents())
	if err != nil {
		return d.blind(ctx, err)
	}
	if d.tryRoom(ctx, s) {
		if s, err = d.look(ctx, d.consents()); err != nil {
			return d.blind(ctx, err)
		}
	}
	d.mu.Lock()
	d.sight = trouble{}
	if !s.intent.OpenGate {
		d.gate = trouble{}
	}
	d.mu.Unlock()
	d.measure(ctx, s)
	d.record(s)
	held := d.waits()
	if v := Check(s.intent, s.observed, s.plan); v != nil {
		held = true
		d.hostTrouble(&Problem{"PLAN_REFUSED", fmt.Sprintf("%v; only guards and what blocks were applied: this is a defect, please report it", v)})
		d.cfg.Log.Error("plan refused", "err", v, "steps", linesOf(s.facts, s.plan))
	}
	if held {
		s.plan.Steps = hostless(s)
	} else {
		d.forget(s.plan)
	}
	changed := d.apply(ctx, s, held)
	if changed {
		if s2, err := d.look(ctx, d.consents()); err == nil {
			s = s2
			d.measure(ctx, s)
		}
	}
	d.remember(s)
	d.hand(s)
	shown := d.askForIKE(ctx, s)
	d.purge(s) // now that everything stands: flows come into hardware by it
	d.protect(s)
	d.publish(ctx, s)
	d.probePeers(ctx, s)
	if again := d.wait(s, changed && len(s.plan.Steps) > 0); !shown {
		return again
	}
	return 0
}

// reflex looks at states and policies only, and at flows where a table is missing,
// and does at once what stops clear text: it holds flows, puts guards back and
// takes away what lets out. Everything else is left to the round that follows.
func (d *Daemon) reflex(ctx context.Context) {
	d.mu.Lock()
	last := d.seen
	d.mu.Unlock()
	if last == nil {
		return
	}
	s := *last
	if err := d.observe(ctx, &s); err != nil {
		d.cfg.Log.Debug("nothing done before the round", "err", err)
		return
	}
	s.plan = MakePlan(s.intent, s.observed)
	if s.plan.Steps = hostless(&s); len(s.plan.Steps) == 0 {
		return
	}
	out := d.applier(s.facts).apply(ctx, s.facts, s.plan)
	d.cfg.Log.Warn("something of ours was gone: what stops clear text was done first", "steps", linesOf(s.facts, s.plan), "done", out.Done)
	d.glance(&s)
	if out.Host != nil {
		d.tell("reflex", out.Host.Error())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bookGate(&s, out)
}

// blind books a round that could not observe.
func (d *Daemon) blind(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	var w *waiting
	d.mu.Lock()
	if !errors.As(err, &w) {
		d.sight = d.sight.after(d.cfg.Now(), "look", err)
	}
	d.last = unseen(d.last, d.cfg.Version, d.cfg.Now(), err)
	shown := *d.shown.Load()
	shown.Status = d.last
	d.shown.Store(&shown)
	wait := d.sight.until.Sub(d.cfg.Now())
	d.mu.Unlock()
	if !errors.Is(err, ovsdb.ErrNotTried) {
		d.tell("observe", err.Error())
	}
	if w != nil {
		return d.cfg.AuditEvery
	}
	return max(wait, backoffFirst)
}

// hostless leaves only guards and what blocks, as far as each is safe by itself:
// while a step of host scope waits for its next try nothing may be built on it. Of
// holds only that is left which ends a leak: another takes its time, for SAs that are
// not made now.
func hostless(s *scene) []Step {
	m := newModel(s.intent, s.observed, s.plan)
	var left []Step
	for i := range s.plan.Steps {
		st := &s.plan.Steps[i]
		if st.Verb == HoldFlows && !st.Drain.Why.Fast() {
			continue
		}
		if st.Phase <= Block && m.take(i, st) == nil {
			left = append(left, *st)
		}
	}
	return left
}

// forget drops the trouble of pairs that may be tried again and need nothing:
// it is over, whoever ended it.
func (d *Daemon) forget(plan Plan) {
	busy := make(map[Pair]bool, len(plan.Steps))
	for i := range plan.Steps {
		busy[plan.Steps[i].Pair] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	maps.DeleteFunc(d.pairs, func(p Pair, t trouble) bool { return !busy[p] && !now.Before(t.until) })
}

// apply carries out the plan and books what came of it. It tells whether anything
// was done. While the host's steps are held back its trouble stays on the books.
func (d *Daemon) apply(ctx context.Context, s *scene, held bool) bool {
	if !held {
		d.mu.Lock()
		defer d.forgive(d.host.count)
		d.mu.Unlock()
	}
	if len(s.plan.Steps) == 0 {
		return false
	}
	out := d.applier(s.facts).apply(ctx, s.facts, s.plan)
	learned := d.learnNoPriority(s, &out)
	d.explain(ctx, &out)
	if d.cfg.Log.Enabled(ctx, slog.LevelDebug) {
		for _, line := range linesOf(s.facts, s.plan) {
			d.cfg.Log.Debug("step", "do", line)
		}
	}
	d.cfg.Log.Info("plan applied", "steps", len(s.plan.Steps), "done", out.Done, "failed_pairs", len(out.Failed))
	if out.Host != nil {
		d.hostTrouble(out.Host)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bookPairs(s, &out)
	shown := d.bookStrict(s)
	d.bookGate(s, out)
	return shown || learned || out.Done > 0 || len(out.NoRoom) > 0
}

func (d *Daemon) applier(facts devlink.Facts) applier {
	a := newApplier(d.cfg, facts)
	a.drain.made = d.made()
	return a
}

// bookPairs books which pairs failed. The caller holds mu.
func (d *Daemon) bookPairs(s *scene, out *Outcome) {
	for _, st := range s.plan.Steps {
		if !st.Hosts() && out.Failed[st.Pair] == nil && out.Host == nil {
			delete(d.pairs, st.Pair)
		}
	}
	for _, p := range out.NoRoom {
		delete(d.pairs, p) // it is admitted when there is room
		delete(out.Failed, p)
	}
	for p, err := range out.Failed {
		d.pairs[p] = d.pairs[p].after(d.cfg.Now(), p.String(), err)
		d.cfg.Log.Error("pair failed", "pair", p.String(), "err", err, "code", problemOf(err).Code, "tries", d.pairs[p].count)
	}
}

// forgive ends the host's trouble when a round added none to the count it began with.
func (d *Daemon) forgive(count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.host.count == count {
		d.host = trouble{}
	}
}

func (d *Daemon) hostTrouble(err error) {
	d.mu.Lock()
	d.host = d.host.after(d.cfg.Now(), "host", err)
	d.mu.Unlock()
	d.tell("host", err.Error())
}

// waits tells whether host-scope steps failed and wait for their next try.
func (d *Daemon) waits() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Now().Before(d.host.until)
}

// settleLimit is how many rounds in a row may change something before the
// daemon says that it does not converge and slows down.
const settleLimit = 8

// wait returns the time to the next round: at once after a change, so that the
// result is looked at; else the next moment at which time itself changes the plan.
func (d *Daemon) wait(s *scene, unfinished bool) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	if !unfinished {
		d.streak = 0
	} else if d.streak++; d.streak < settleLimit {
		return 0
	}
	next := now.Add(d.cfg.AuditEvery)
	earlier := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	for _, t := range d.pairs {
		earlier(t.until)
	}
	earlier(d.host.until)
	earlier(d.gate.until)
	if at := d.leakRound(now, s); at.After(now) {
		earlier(at)
	} else {
		return 0
	}
	for _, c := range d.cards {
		earlier(c.limit.again)
	}
	if ob := &s.observed; ob.Holding == WhyStrict && ob.HeldFor < windowMost {
		earlier(now.Add(windowMost - ob.HeldFor))
	}
	for _, t := range d.lapsed {
		earlier(t.Add(renewAfter))
	}
	for _, t := range d.idle {
		earlier(t.Add(d.cfg.RetireAfter))
	}
	for _, t := range d.unwanted {
		earlier(t.Add(d.cfg.RetireAfter))
	}
	for _, t := range d.rot.tries {
		earlier(t.next)
	}
	if d.streak >= settleLimit {
		earlier(now.Add(backoffFirst))
	}
	return next.Sub(now)
}

// tell logs a line about a subject when it differs from the last one.
func (d *Daemon) tell(subject, line string) {
	d.mu.Lock()
	same := d.told[subject] == line
	d.told[subject] = line
	d.mu.Unlock()
	if !same {
		d.cfg.Log.Warn(line, "about", subject)
	}
}
