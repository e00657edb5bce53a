// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// stale returns the devices of steps that are not any more what they were when
// the plan was made: the driver was loaded anew, the card was reset. The kernel
// must not be asked with such an index: it would look for another device by the
// route (xfrm_dev_state_add), and an index may come back as another device's.
// What is taken away needs no device.
func (r *run) stale(ctx context.Context, steps []Step) map[int]error {
	gone := map[int]error{}
	for i := range steps {
		dev := deviceOf(steps[i].Op)
		was, known := r.links[dev]
		if _, done := gone[dev]; done || !known || !makes(steps[i].Op) {
			continue
		}
		gone[dev] = r.sameLink(ctx, dev, was)
	}
	return gone
}

func (r *run) sameLink(ctx context.Context, dev int, was string) error {
	now, err := r.nic.Link(ctx, dev)
	switch {
	case errors.Is(err, unix.ENODEV):
		return problem("NIC_STALE", "%s was interface %d when this was planned, and is gone: it is planned anew", was, dev)
	case err != nil:
		return fmt.Errorf("look at interface %d: %w", dev, err)
	case now.Name != was:
		return problem("NIC_STALE", "interface %d was %s when this was planned, and is %s now: it is planned anew", dev, was, now.Name)
	}
	return nil
}
