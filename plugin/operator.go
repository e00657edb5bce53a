// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"time"

	"ovs-ipsec-offload/ovsdb"
)

// consentLasts is how long a repair that finds nothing to do stays allowed.
const consentLasts = time.Minute

// Repair gives the operator's consent to take flows out of hardware once, for
// what is refused while they are there, and tries again what was given up. It
// returns the round to wait for.
func (d *Daemon) Repair() Round {
	return d.act(func() {
		d.consent, d.hold.gaveUp, d.host = d.cfg.Now().Add(consentLasts), false, trouble{}
		clear(d.pairs)
	})
}

// Refresh asks for a look at the host, and tries pairs again at once that failed
// and wait for their next try. It returns the round to wait for.
func (d *Daemon) Refresh() Round { return d.act(func() { clear(d.pairs) }) }

// Park takes everything of ours out of the NICs in order, or puts it back. What
// asks for IPsec is blocked meanwhile. The caller has made the wish durable. It
// returns the round to wait for.
func (d *Daemon) Park(parked bool) Round {
	return d.act(func() { d.parked, d.host = parked, trouble{} })
}

// Round is the number of a round.
type Round int

// act changes what the next round works on and asks for it.
func (d *Daemon) act(change func()) Round {
	d.mu.Lock()
	defer d.hurry()
	defer d.mu.Unlock()
	change()
	return d.begun + 1
}

// Await waits until that round is over and a status is as is wants, or for the
// end of ctx. It returns the last status and whether it is.
func (d *Daemon) Await(ctx context.Context, from Round, is func(Status) bool) (Status, bool) {
	for {
		d.mu.Lock()
		over, last, ended := d.rounds, d.last, d.ended
		d.mu.Unlock()
		if ended >= from && is(last) {
			return last, true
		}
		select {
		case <-over:
		case <-ctx.Done():
			return last, false
		}
	}
}

// consents tells whether the operator's consent is in force.
func (d *Daemon) consents() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Now().Before(d.consent)
}

func (d *Daemon) isParked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.parked
}

// begin counts a round; over tells those who wait that it is over.
func (d *Daemon) begin() Round {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun++
	return d.begun
}

func (d *Daemon) over(r Round) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = r
	close(d.rounds)
	d.rounds = make(chan struct{})
}

func (d *Daemon) made() *ovsdb.Hold {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hold.made
}
