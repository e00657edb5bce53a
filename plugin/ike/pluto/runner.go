// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"ovs-ipsec-offload/plugin/ike"
)

// Hands carries out what the Runner decides. Methods with a context return when it ends,
// whatever the command does.
type Hands interface {
	// PID returns pluto's process; an error when none runs.
	PID(ctx context.Context) (int, error)
	// Whack runs whack and returns what it prints.
	Whack(ctx context.Context, args ...string) (string, error)
	// Add gives pluto a connection, in place of one of that name, and keeps text.
	Add(ctx context.Context, name, text string) (string, error)
	// Kept returns what Add kept in the life of pluto's process pid, by name.
	Kept(pid int) map[string]string
	// Forget drops what Add kept.
	Forget(name string)
	// Secrets replaces the file of secrets, and tells whether it was another.
	Secrets(text []byte) (bool, error)
}

// Config says what a Runner works with.
type Config struct {
	Hands   Hands
	Log     *slog.Logger
	Changed func() // as ike.Config.Changed
	Options ike.Options
	Now     func() time.Time
	// Poll is the time between two looks while any Conn is not Up, Idle while all are and
	// while pluto does not answer.
	// Defaults 1 and 2 s.
	Poll, Idle time.Duration
	// Updown is the command that pluto runs when a child SA comes or goes. Its own
	// would add routes and rules, of which transport mode needs none.
	Updown string
	// SoftRX tells that mlx5 decrypts nothing that libreswan's SAs are for: before
	// Linux 6.15 the protocol in an SA's selector takes the place of ESP in what its
	// rule matches.
	SoftRX bool
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Poll, c.Idle = cmp.Or(c.Poll, time.Second), cmp.Or(c.Idle, 2*time.Second)
	c.Options.Parallel, c.Options.Timeout = cmp.Or(c.Options.Parallel, 8), cmp.Or(c.Options.Timeout, 10*time.Second)
	c.Options = c.Options.WithDefaults()
	return c
}

// Runner keeps pluto at the wanted set. Run does the work; Want, Renew,
// Rekey and State may be called from any goroutine. What else the Desk has is for Run.
type Runner struct {
	*ike.Desk
	cfg  Config
	done chan attempt // attempts that ended

	peers   map[string]*peer // of Run alone
	pid     int              // of the pluto that peers speak of
	audited time.Time        // when pluto was last asked what it has
	untold  bool             // pluto may not have read the secrets as they are
	name    string           // such as "libreswan 5.2"
	under   int              // attempts under way
}

type attempt struct {
	conn string
	pid  int
	gone string // the half that pluto did not have
	why  *ike.Problem
}

// New returns a Runner that does nothing until Run is called.
func New(cfg Config) *Runner {
	cfg = cfg.withDefaults()
	return &Runner{Desk: ike.NewDesk(cfg.Log, cfg.Changed, &ike.Problem{Code: ike.CodeDown, Text: "ask pluto: not tried yet"}),
		cfg: cfg, done: make(chan attempt), peers: map[string]*peer{}}
}

// Run keeps pluto at the wanted set until ctx ends, whose error it returns. It leaves
// pluto as it is then, and no goroutine behind. It may be called once.
func (r *Runner) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for r.under > 0 {
			<-r.done
			r.under--
		}
	}()
	for {
		wait := r.cfg.Idle
		if r.Wanted() != nil {
			if r.pass(ctx) {
				wait = r.cfg.Poll
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case a := <-r.done:
			r.under--
			if p := r.peers[a.conn]; p != nil && a.pid == r.pid {
				delete(p.loaded, a.gone)
				p.attempted(a.why, look{now: r.cfg.Now(), o: r.cfg.Options})
			}
		case <-r.News():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass looks at pluto once and does what there is to do. It tells whether any Conn is not
// as it is to be.
func (r *Runner) pass(ctx context.Context) (unsettled bool) {
	sas, why := r.see(ctx)
	if why == nil {
		r.take()
		if why = r.audit(ctx); why == nil {
			why = r.tellSecrets(ctx)
		}
	}
	if why == nil {
		unsettled, why = r.steps(ctx, sas)
	}
	if ctx.Err() != nil {
		return false
	}
	if why != nil {
		r.lose()
	}
	r.publish(why)
	return unsettled
}

// take takes over what others asked for.
func (r *Runner) take() {
	wanted, asked := r.Take()
	for name, c := range wanted {
		p := r.peers[name]
		if p == nil {
			p = newPeer(c, r.cfg.Now())
			r.peers[name] = p
		}
		if !p.conn.Auth.Equal(c.Auth) {
			p.failures, p.problem, p.next = 0, nil, time.Time{}
		}
		p.conn = c
	}
	for name, gone := range asked {
		if p := r.peers[name]; p != nil {
			// What was begun anew a moment ago is not there yet.
			under := r.cfg.Now().Sub(p.renewed) < r.cfg.Options.Attempt
			p.renew, p.rekey = p.renew || gone && !under, p.rekey || !gone
		}
	}
}

// tellSecrets has pluto read the secrets if they are others.
func (r *Runner) tellSecrets(ctx context.Context) *ike.Problem {
	conns := slices.SortedFunc(maps.Values(r.Wanted()), func(a, b ike.Conn) int { return cmp.Compare(a.Name, b.Name) })
	changed, err := r.cfg.Hands.Secrets(secrets(conns))
	if err != nil {
		return &ike.Problem{Code: ike.CodeFailed, Text: fmt.Sprintf("write the secrets for pluto: %v", err)}
	}
	r.untold = r.untold || changed
	if !r.untold {
		return nil
	}
	if _, err = r.whack(ctx, "--rereadsecrets"); err != nil {
		return down(err)
	}
	r.untold = false
	return nil
}

// steps has every Conn do its next step.
// A look that has become old is not acted upon: loading takes long, and what has come up
// meanwhile would be begun anew.
func (r *Runner) steps(ctx context.Context, sas map[string][]*sa) (unsettled bool, why *ike.Problem) {
	seen := r.cfg.Now()
	for _, name := range slices.Sorted(maps.Keys(r.peers)) {
		if r.cfg.Now().Sub(seen) > r.cfg.Poll {
			return true, nil
		}
		p := r.peers[name]
		_, wanted := r.Wanted()[name]
		l := look{now: r.cfg.Now(), sas: sas[name], slot: r.under < r.cfg.Options.Parallel, o: r.cfg.Options, run: r.cfg.Updown, softRX: r.cfg.SoftRX}
		do := p.unload()
		if wanted {
			do = p.step(l)
		}
		for _, a := range do {
			if err := r.act(ctx, p, a); err != nil {
				return true, down(err)
			}
		}
		if !wanted {
			delete(r.peers, name)
		}
		unsettled = unsettled || len(do) > 0 || p.state.Phase != ike.Up
	}
	return unsettled, nil
}

// act does one thing. Its error is that pluto does not answer.
func (r *Runner) act(ctx context.Context, p *peer, a action) error {
	switch a.verb {
	case doAdd:
		return r.add(ctx, p, a)
	case doDelete:
		delete(p.loaded, a.half)
		r.cfg.Hands.Forget(a.half)
		_, err := r.whack(ctx, "--delete", "--name", a.half)
		return err
	case doRekey:
		_, err := r.whack(ctx, "--rekey-child", "--asynchronous", "--name", a.half)
		return err
	case doInitiate:
		r.initiate(ctx, p.conn.Name, a.half)
	}
	return nil
}

func (r *Runner) add(ctx context.Context, p *peer, a action) error {
	c, cancel := context.WithTimeout(ctx, r.cfg.Options.Timeout)
	defer cancel()
	out, err := r.cfg.Hands.Add(c, a.half, a.text)
	if c.Err() != nil {
		return fmt.Errorf("add %s: %w", a.half, errTimeout)
	}
	if err == nil && !strings.Contains(out, "added IKEv2 connection") {
		err = errors.New(lastLine(out))
	}
	if err != nil {
		delete(p.loaded, a.half)
		p.fail(&ike.Problem{Code: ike.CodeRefused, Text: fmt.Sprintf("pluto does not take %s: %v", a.half, err)}, look{now: r.cfg.Now(), o: r.cfg.Options})
		return nil
	}
	p.loaded[a.half] = a.text
	return nil
}

// initiate has pluto set up a child SA, and waits beside for what it says: that is the
// only place in which it tells why it fails.
func (r *Runner) initiate(ctx context.Context, conn, half string) {
	r.under++
	pid := r.pid
	go func() {
		c, cancel := context.WithTimeout(ctx, r.cfg.Options.Attempt)
		defer cancel()
		out, err := r.cfg.Hands.Whack(c, "--initiate", "--name", half)
		a := attempt{conn: conn, pid: pid}
		switch {
		case strings.Contains(out, "no connection or alias named"): // somebody has deleted it
			a.gone, a.why = half, &ike.Problem{Code: ike.CodeFailed, Text: "pluto did not have its connection any more: it gets it again"}
		case strings.Contains(out, "established Child SA"):
		case reason(out) != nil:
			a.why = reason(out)
		case c.Err() != nil:
			a.why = &ike.Problem{Code: ike.CodeNoAnswer, Text: noAnswer}
		case err != nil:
			a.why = &ike.Problem{Code: ike.CodeFailed, Text: cmp.Or(lastLine(out), err.Error())}
		default:
			a.why = &ike.Problem{Code: ike.CodeFailed, Text: "pluto says of no SA: " + lastLine(out)}
		}
		r.done <- a
	}()
}

// lose notes that pluto does not answer: the next one may have nothing.
func (r *Runner) lose() {
	r.pid, r.name = 0, ""
	for _, p := range r.peers {
		if p.state.Phase != ike.Loading {
			p.state = ike.ConnState{Phase: ike.Loading, Since: r.cfg.Now()}
		}
	}
}

// publish makes known what the peers' states are.
func (r *Runner) publish(why *ike.Problem) {
	now := ike.State{Daemon: r.name, Problem: why, Conns: make(map[string]ike.ConnState, len(r.peers))}
	for name, p := range r.peers {
		now.Conns[name] = p.state
	}
	r.Publish(now)
}
