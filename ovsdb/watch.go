// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Config says how to watch. Zero values stand for the defaults.
type Config struct {
	// Endpoint is the address of ovsdb-server as "unix:/path" or
	// "tcp:address:port". There is no default.
	Endpoint string
	// Logger gets a line when the connection comes and goes; libovsdb's own
	// messages go to it at level debug, without values from the database.
	Logger *slog.Logger

	// Settle is how long to wait after a change, so that a burst of changes
	// becomes one snapshot. Default 20 ms.
	Settle time.Duration
	// Probe is the time between two questions whether the server still
	// answers. Default 5 s.
	Probe time.Duration
	// Timeout is how long one call may take before the server counts as hung.
	// Default 10 s.
	Timeout time.Duration
	// RetryMin and RetryMax bound the time between two attempts to connect.
	// Defaults 50 ms and 2 s.
	RetryMin, RetryMax time.Duration

	// Now and Rand replace time.Now and math/rand/v2.Float64 in tests.
	Now  func() time.Time
	Rand func() float64
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	c.Settle = cmp.Or(c.Settle, 20*time.Millisecond)
	c.Probe = cmp.Or(c.Probe, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.RetryMin = cmp.Or(c.RetryMin, 50*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 2*time.Second)
	return c
}

// ErrNotTried is in the state's error until the first connection came about or
// failed: there is nothing wrong yet.
var ErrNotTried = errors.New("not tried yet")

// errEnded is the state's error once Run has returned.
var errEnded = errors.New("the watch has ended")

// Watch follows the database. Run does the work; the other methods may be
// called from any goroutine.
type Watch struct {
	cfg     Config
	at      endpoint
	changed chan struct{}
	writer  chan struct{} // holds a value while a transaction runs
	parsed  parsed        // of Run alone

	mu       sync.Mutex
	snapshot Snapshot
	ports    []*interfaceRow // of the snapshot, in the same order
	host     *hostRow        // of the snapshot, nil if there is none
	state    State
	awaited  int64    // CurCfg that somebody waits for
	session  *session // nil while there is no connection
}

// New returns a Watch that does nothing until Run is called.
func New(cfg Config) (*Watch, error) {
	at, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Watch{
		cfg:     cfg,
		at:      at,
		changed: make(chan struct{}, 1),
		writer:  make(chan struct{}, 1),
		state:   State{Since: cfg.Now(), Err: fmt.Errorf("connect %s: %w", at.address, ErrNotTried)},
	}, nil
}

// Current returns the newest snapshot and how far it can be trusted. The
// snapshot is shared: it must not be written to.
func (w *Watch) Current() (Snapshot, State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot, w.state
}

// Changed gets a value when Current gives something new. It has room for one:
// it serves one reader, who calls Current after each value. CurCfg alone is
// news only when it comes to the number that a write of this Watch returned, and
// while a hold stands. What Report wrote is no news.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Run connects, follows the database and connects again whenever the connection
// is lost, until ctx ends. It leaves no goroutine behind. It may be called once.
func (w *Watch) Run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		w.lose(err)
		if time.Since(began) > w.cfg.RetryMax {
			attempt = 0 // it worked for a while
		}
		pause(ctx, retryDelay(attempt, w.cfg.RetryMin, w.cfg.RetryMax, w.cfg.Rand()))
	}
	w.lose(errEnded)
}

// follow connects once and publishes snapshots until the connection is lost,
// and says why it was.
func (w *Watch) follow(ctx context.Context) error {
	s, err := dial(ctx, w.at, w.cfg.Logger, w.cfg.Timeout)
	if err != nil {
		return err
	}
	defer s.close()
	probe := time.NewTicker(w.cfg.Probe)
	defer probe.Stop()
	s.mark() // the first load
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.gone:
			return errClosed
		case err := <-s.broken:
			return err
		case <-s.dirty:
			w.refresh(ctx, s)
		case <-probe.C:
			if err := s.probe(); err != nil {
				return err
			}
		}
	}
}

// refresh publishes the rows as they are after a burst of changes.
func (w *Watch) refresh(ctx context.Context, s *session) {
	if _, state := w.Current(); state.Connected {
		pause(ctx, w.cfg.Settle)
	}
	hosts, interfaces, ok := s.read()
	if !ok {
		s.mark()
		return
	}
	ports := portsOf(interfaces)
	now := w.parsed.snapshot(hosts, ports)
	now.Systems = systemsOf(interfaces)
	w.learn(s, now, theHost(hosts), ports)
}

// learn takes a snapshot that was read over s.
func (w *Watch) learn(s *session, now Snapshot, host *hostRow, ports []*interfaceRow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now = w.withReports(now, host, ports)
	w.session, w.host, w.ports = s, host, ports
	came := !w.state.Connected
	if came {
		w.state = State{Connected: true, Known: true, Since: w.cfg.Now()}
		w.cfg.Logger.Info("connected to ovsdb-server", "address", w.at.address, "tunnels", len(now.Tunnels))
	}
	news := came || !w.snapshot.equal(now) || w.reached(now)
	w.snapshot = now
	if news {
		w.announce()
	}
}

// lose notes that there is no connection. It speaks up when the reason is new.
func (w *Watch) lose(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session = nil
	if w.state.Connected {
		w.state.Connected, w.state.Since = false, w.cfg.Now()
	} else if w.state.Err.Error() == err.Error() {
		return
	}
	w.state.Err = err
	if !errors.Is(err, errEnded) {
		w.cfg.Logger.Warn("no connection to ovsdb-server", "address", w.at.address, "error", err)
	}
	w.announce()
}

func (w *Watch) announce() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// retryDelay returns how long to wait after the attempt-th failure: doubling
// from shortest to longest, spread by random (0 to 1) over its upper half so
// that programs which lost the same server do not come back at once.
func retryDelay(attempt int, shortest, longest time.Duration, random float64) time.Duration {
	d := longest
	if attempt < 30 && shortest<<attempt < longest {
		d = shortest << attempt
	}
	return d/2 + time.Duration(random*float64(d/2))
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
