// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// redialMin and redialMax bound the time between two attempts to connect to the
// daemon. To be refused costs next to nothing, and tunnels wait for it.
const redialMin, redialMax = 100 * time.Millisecond, time.Second

// Runner keeps the IKE daemon at the wanted set. Run does the work; the other
// methods may be called from any goroutine.
type Runner struct {
	cfg  Config
	news chan struct{} // holds a value when the wanted set changed

	peers map[string]*peer // of Run alone

	mu     sync.Mutex
	wanted map[string]Conn // nil: nobody has said
	asked  map[string]bool // new SAs are asked for: true because the old are gone
	state  State
}

// New returns a Runner that does nothing until Run is called.
func New(cfg Config) *Runner {
	cfg = cfg.withDefaults()
	return &Runner{
		cfg:   cfg,
		news:  make(chan struct{}, 1),
		peers: map[string]*peer{},
		state: State{Problem: problem(CodeDown, "connect %s: not tried yet", cfg.Socket)},
	}
}

// Want replaces the whole set of wanted Conns and returns at once. A set equal
// to the last one does nothing. The Conns' contents must not be written to
// afterwards.
func (r *Runner) Want(conns []Conn) {
	set := make(map[string]Conn, len(conns))
	for _, c := range conns {
		set[c.Name] = c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted != nil && maps.EqualFunc(r.wanted, set, Conn.Equal) {
		return
	}
	r.wanted = set
	r.wake()
}

// Renew makes new SAs for a Conn: those that the daemon believes to have are gone
// from the kernel, and it hears of no flush. It returns at once.
func (r *Runner) Renew(name string) { r.ask(name, true) }

// Rekey replaces the outbound child of a Conn by a new one. It returns at once.
func (r *Runner) Rekey(name string) { r.ask(name, false) }

func (r *Runner) ask(name string, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = map[string]bool{}
	}
	r.asked[name] = r.asked[name] || gone
	r.wake()
}

func (r *Runner) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// State returns what is known now. It never waits for the IKE daemon.
func (r *Runner) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Run keeps the daemon at the wanted set until ctx ends, whose error it
// returns. It leaves the daemon as it is then, and no goroutine behind. It may
// be called once.
func (r *Runner) Run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := r.cfg.Now()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		r.lose(err)
		if r.cfg.Now().Sub(began) > r.cfg.Options.RetryMax {
			attempt = 0 // it worked for a while
		}
		r.cfg.Pause(ctx, backoff(attempt, redialMin, redialMax, r.cfg.Jitter()))
	}
	return ctx.Err()
}

// follow connects once and keeps the daemon at the wanted set until the
// connection fails.
func (r *Runner) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := r.cfg.Dial(ctx)
	if err != nil {
		cancel()
		return err
	}
	d := daemon{vici.NewSession(conn), r.cfg.Options.Timeout}
	defer func() { _ = d.session.Close() }()
	h := newHeard()
	states, err := r.listen(ctx, h)
	if err != nil {
		cancel()
		return err
	}
	defer func() {
		cancel()
		for range states { // until the listener has ended
		}
	}()
	select {
	case err := <-states:
		if err != nil {
			return err
		}
	case <-time.After(r.cfg.Options.Timeout):
		return silence(r.cfg.Options.Timeout)
	}
	return r.serve(ctx, d, h, states)
}

// serve looks at what there is news of, and at everything now and then.
func (r *Runner) serve(ctx context.Context, d daemon, h *heard, failed <-chan error) error {
	v, err := d.version(ctx)
	if err != nil {
		return err
	}
	if !v.offloads() && !r.cfg.Options.NoOffload {
		return problem(CodeOld, "%s cannot offload IPsec to a NIC: install strongSwan 5.9.10 or later", v)
	}
	p := pass{r: r, d: d, version: v, keys: map[[32]byte]string{}, sas: map[string][]sa{}}
	for {
		wake := r.cfg.Now().Add(r.cfg.Options.Audit)
		if r.told() {
			names, reasons := h.take()
			began := r.cfg.Now()
			if wake, err = p.run(ctx, names, reasons); err != nil {
				return err
			}
			r.rest(ctx, r.cfg.Now().Sub(began))
		}
		timer := time.NewTimer(wake.Sub(r.cfg.Now()))
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-failed:
		case <-r.news:
		case <-h.news:
		case <-timer.C:
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// While more than restAbove Conns are under way a pass is followed by a rest that is
// restTimes as long, and no longer than restMost. charon goes over all its IKE SAs for
// every list, also of one, and waits for those that it is at: a pass for every event of
// every Conn would take the time that setting them up needs.
const (
	restAbove = 4
	restTimes = 3
	restMost  = time.Second
)

func (r *Runner) rest(ctx context.Context, pass time.Duration) {
	busy := 0
	for _, p := range r.peers {
		if p.underWay() {
			busy++
		}
	}
	if busy > restAbove {
		r.cfg.Pause(ctx, min(restTimes*pass, restMost))
	}
}

// lose notes that the daemon does not answer.
func (r *Runner) lose(err error) {
	why, ok := err.(*Problem)
	if _, silent := errors.AsType[silence](err); silent {
		why = problem(CodeStuck, "%v: it tries again for ever what the kernel refuses with EBUSY, and answers nobody meanwhile: a NIC that takes no SA while flows are in it, "+
			"or none any more, does that; what stands goes on", err)
	} else if !ok {
		why = problem(CodeDown, "talk to the IKE daemon at %s: %v: is strongSwan (charon-systemd) running?", r.cfg.Socket, err)
	}
	for _, p := range r.peers {
		p.lost(r.cfg.Now())
	}
	r.publish("", why)
}

// publish makes known what the peers' states are.
func (r *Runner) publish(name string, why *Problem) {
	now := State{Daemon: name, Problem: why, Conns: make(map[string]ConnState, len(r.peers))}
	for conn, p := range r.peers {
		now.Conns[conn] = p.state
	}
	r.mu.Lock()
	was := r.state
	r.state = now
	r.mu.Unlock()
	if r.report(was, now) {
		r.cfg.Changed()
	}
}

// report logs what is new, and tells whether anything is.
func (r *Runner) report(was, now State) bool {
	news := len(was.Conns) != len(now.Conns)
	if was.Daemon != now.Daemon || !was.Problem.equal(now.Problem) {
		news = true
		if now.Problem != nil {
			r.cfg.Log.Warn("no work with the IKE daemon", "code", now.Problem.Code, "reason", now.Problem.Text)
		} else {
			r.cfg.Log.Info("connected to the IKE daemon", "daemon", now.Daemon)
		}
	}
	for name, s := range now.Conns {
		before := was.Conns[name]
		if !before.news(s) {
			continue
		}
		news = true
		if before.Phase == s.Phase && before.Problem.equal(s.Problem) {
			continue
		}
		if s.Problem != nil {
			r.cfg.Log.Warn("tunnel", "conn", name, "phase", s.Phase, "code", s.Problem.Code, "reason", s.Problem.Text)
		} else {
			r.cfg.Log.Info("tunnel", "conn", name, "phase", s.Phase)
		}
	}
	return news
}

// told tells whether anybody has said what is wanted. Before that nothing is known
// to be unwanted: after a restart of this program everything goes on meanwhile.
func (r *Runner) told() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted != nil
}
