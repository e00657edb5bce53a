// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"
)

// DefaultSocket is where strongSwan listens for VICI in Debian and Fedora.
const DefaultSocket = "/run/charon.vici"

// Config says how to talk to the IKE daemon. Zero values stand for the defaults.
type Config struct {
	// Socket is the path of the daemon's VICI socket. Default DefaultSocket.
	Socket string
	// Dial connects to the daemon; by default to Socket.
	Dial func(context.Context) (net.Conn, error)
	// Log gets a line when the daemon comes and goes, and when a Conn's phase or
	// problem changes.
	Log *slog.Logger
	// Changed is called, from any goroutine, when State gives something that is new to
	// who wants SAs: not how far an attempt is. It must not block.
	Changed func()

	// Now, Pause and Jitter replace time.Now, a timer and math/rand/v2.Float64
	// in tests. Pause returns early when the context ends.
	Now    func() time.Time
	Pause  func(context.Context, time.Duration)
	Jitter func() float64

	Options Options
}

// Options are how it is done; of them the operator chooses RekeyTime. Zero values stand
// for the defaults.
type Options struct {
	// RekeyTime is how old an outbound child gets before it is rekeyed, less a
	// random part of RandTime. Defaults 1 h, and a sixth of RekeyTime.
	RekeyTime, RandTime time.Duration
	// LifeTime is when the kernel deletes a child that could not be rekeyed. 0,
	// the default, is never: the NIC would send in clear text what leaves after
	// the kernel has deleted an outbound SA and before the daemon has deleted its
	// policy. A peer that is gone is noticed by DPD. At least twice RekeyTime.
	LifeTime time.Duration
	// IKERekeyTime is how old an IKE SA may get before it is rekeyed: for each Conn up to
	// a sixteenth less, and charon takes a random part of about a tenth off. Default 4 h.
	IKERekeyTime time.Duration
	// DPDDelay is how long a peer may be silent before it is asked. Default 10 s.
	DPDDelay time.Duration
	// ReplayWindow is in packets: 32, 64, 128 or 256, which is what mlx5 takes.
	// Default 256.
	ReplayWindow int
	// NoOffload leaves the SAs to the CPU. For tests.
	NoOffload bool

	// Parallel is how many Conns may set up an IKE SA at once. Default 16, with
	// libreswan 8.
	Parallel int
	// TakeOver is how long the end that does not lead waits. Default 5 s.
	TakeOver time.Duration
	// Spread is how far the first attempts are spread in time, with strongSwan.
	// Default 100 ms.
	Spread time.Duration
	// RetryMin and RetryMax bound the time between two attempts at a Conn.
	// Defaults 1 s and 30 s.
	RetryMin, RetryMax time.Duration
	// Attempt is how long an attempt may take before it counts as failed.
	// Default 15 s: charon sends its request at 0, 4 and 11 s, and then less and
	// less often.
	Attempt time.Duration
	// Audit is the time between two looks that no event asked for, or ten times what a
	// look takes. While many are coming up it is up to a minute more. Default 10 s.
	Audit time.Duration
	// Timeout is how long the daemon may take for one answer. Default 5 s, with
	// libreswan 10 s.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	c.Socket = cmp.Or(c.Socket, DefaultSocket)
	if c.Dial == nil {
		path := c.Socket
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Pause == nil {
		c.Pause = pause
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	c.Options = c.Options.WithDefaults()
	return c
}

// WithDefaults returns o with the defaults in the place of zero values.
func (o Options) WithDefaults() Options {
	o.RekeyTime = cmp.Or(o.RekeyTime, time.Hour)
	o.RandTime = min(cmp.Or(o.RandTime, o.RekeyTime/6), o.RekeyTime)
	if o.LifeTime > 0 {
		o.LifeTime = max(o.LifeTime, 2*o.RekeyTime)
	}
	o.IKERekeyTime = cmp.Or(o.IKERekeyTime, 4*time.Hour)
	o.DPDDelay = cmp.Or(o.DPDDelay, 10*time.Second)
	o.ReplayWindow = cmp.Or(o.ReplayWindow, 256)
	o.Parallel = cmp.Or(o.Parallel, 16)
	o.TakeOver = cmp.Or(o.TakeOver, 5*time.Second)
	o.Spread = cmp.Or(o.Spread, 100*time.Millisecond)
	o.RetryMin = cmp.Or(o.RetryMin, time.Second)
	o.RetryMax = cmp.Or(o.RetryMax, 30*time.Second)
	o.Attempt = cmp.Or(o.Attempt, 15*time.Second)
	o.Audit = cmp.Or(o.Audit, 10*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	return o
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

// backoff returns how long to wait after the attempt-th failure: doubling from
// shortest to longest, spread by random (0 to 1) over its upper half so that
// the ends of a pair, and all pairs of a host, do not come back at once.
func backoff(attempt int, shortest, longest time.Duration, random float64) time.Duration {
	d := longest
	if attempt < 30 && shortest<<attempt < longest {
		d = shortest << attempt
	}
	return d/2 + time.Duration(random*float64(d/2))
}
