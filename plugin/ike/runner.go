// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"errors"
	"time"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// redialMin and redialMax bound the time between two attempts to connect to the
// daemon. To be refused costs next to nothing, and tunnels wait for it.
const redialMin, redialMax = 100 * time.Millisecond, time.Second

// Runner keeps the IKE daemon at the wanted set. Run does the work; Want, Renew,
// Rekey and State may be called from any goroutine. What else the Desk has is for Run.
type Runner struct {
	*Desk
	cfg   Config
	peers map[string]*peer // of Run alone
}

// New returns a Runner that does nothing until Run is called.
func New(cfg Config) *Runner {
	cfg = cfg.withDefaults()
	return &Runner{
		Desk:  NewDesk(cfg.Log, cfg.Changed, problem(CodeDown, "connect %s: not tried yet", cfg.Socket)),
		cfg:   cfg,
		peers: map[string]*peer{},
	}
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
	conn, err := r.cfg.Dial(ctx)
	if err != nil {
		return err
	}
	d := daemon{vici.NewSession(conn), r.cfg.Options.Timeout}
	defer func() { _ = d.session.Close() }()
	h := newHeard()
	events, err := r.listen(ctx, alwaysEvents, h)
	if err != nil {
		return err
	}
	defer events.close()
	calm := &calmEar{r: r, h: h}
	defer calm.end()
	return r.serve(ctx, d, h, events, calm)
}

// serve looks at what there is news of, and at everything now and then.
func (r *Runner) serve(ctx context.Context, d daemon, h *heard, events *ear, calm *calmEar) error {
	v, err := d.version(ctx)
	if err != nil {
		return err
	}
	if !v.offloads() && !r.cfg.Options.NoOffload {
		return problem(CodeOld, "%s cannot offload IPsec to a NIC: install strongSwan 5.9.10 or later", v)
	}
	p := newPass(r, d, v)
	for {
		wake := r.cfg.Now().Add(r.cfg.Options.Audit)
		if r.Wanted() != nil {
			if wake, err = r.runHearing(ctx, p, calm, h); err != nil {
				return err
			}
		}
		timer := time.NewTimer(wake.Sub(r.cfg.Now()))
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-events.failed:
		case err = <-calm.lost():
		case <-r.News():
		case <-h.news:
		case <-timer.C:
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// runHearing has the pass run. calmEvents are to be listened to before, for what the run
// begins, and after, for what it has found.
func (r *Runner) runHearing(ctx context.Context, p *pass, calm *calmEar, h *heard) (wake time.Time, err error) {
	if err = calm.want(ctx, !p.many()); err != nil {
		return wake, err
	}
	if wake, err = p.run(ctx, h.take()); err != nil {
		return wake, err
	}
	return wake, calm.want(ctx, !p.many())
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
	r.Publish(now)
}
