// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"time"

	"ovs-ipsec-offload/devlink"
)

// cardName is what a NIC is known by. A card that was reset, perhaps to other
// firmware, has a netdev with another index, and has to show anew what it can.
type cardName struct {
	handle  string
	ifindex int
}

// card is what a NIC has shown of itself by its answers.
type card struct {
	strict     Strict
	asked      time.Time // when that was found
	noPriority bool      // it takes policies of priority 0 only
	limit      limit
}

// strictLasts is how long a card counts as strict, or not, without being asked again:
// the answer may have had another cause.
const strictLasts = 5 * time.Minute

// isStrict tells whether the card takes no SA while flows are in hardware.
func (c *card) isStrict(now time.Time) bool {
	return c.strict == StrictYes && now.Before(c.asked.Add(strictLasts))
}

// known returns what is known of that, for a refusal to be explained by.
func (c *card) known(now time.Time) Strict {
	if !now.Before(c.asked.Add(strictLasts)) {
		return StrictUnknown
	}
	return c.strict
}

// limit is how many inbound SAs a card has taken and refused. mlx5 in switchdev
// mode has 2047 ids (ESW_IPSEC_RX_MAPPED_ID_MASK in esw/ipsec_fs.c); nothing
// tells of a card's own end, so that is learned from the refusal.
type limit struct {
	most    int       // that ever stood at once
	refused int       // that stood when one more was refused; 0: none was
	again   time.Time // when it is tried whether more fit all the same
	wait    time.Duration
}

// Limits of the wait until it is tried whether more SAs fit. A card may have been
// slow to give ids back (the kernel frees SAs in the background) when its limit
// was learned.
const (
	limitFirst = 5 * time.Second
	limitMost  = 10 * time.Minute
)

// saw notes how many inbound SAs stand.
func (l *limit) saw(n int) {
	if n > l.most {
		l.most, l.wait = n, 0
	}
	if l.refused > 0 && l.most > l.refused {
		l.refused, l.again = 0, time.Time{} // it was not the limit
	}
}

// learn notes that one more was refused while n stood, and tells whether that is
// the card's limit. With fewer than it has shown to hold it is not: ids of SAs
// just deleted are on their way back.
func (l *limit) learn(n int, now time.Time) bool {
	if n == 0 || n < l.most {
		return false
	}
	l.most, l.refused = n, n
	l.put(now)
	return true
}

// put puts off the next try.
func (l *limit) put(now time.Time) {
	l.wait = min(max(2*l.wait, limitFirst), limitMost)
	l.again = now.Add(l.wait)
}

// room returns how many inbound SAs the card takes as far as is known, and false
// when no limit is.
func (l *limit) room() (n int, known bool) { return l.refused, l.refused > 0 }

// cardOf returns what is known of a PF, to be read and changed with d.mu held.
func (d *Daemon) cardOf(pf *devlink.PF) *card {
	name := cardName{pf.Handle, pf.Ifindex}
	c := d.cards[name]
	if c == nil {
		c = &card{}
		d.cards[name] = c
	}
	return c
}
