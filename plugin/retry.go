// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"math/rand/v2"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// A driver that finds its eswitch locked by another thread answers EINVAL with
// its general text (mlx5_esw_try_lock). The lock is held for the time of a
// firmware command, so a few short waits, together about a tenth of a second,
// outlast it.
const (
	retryMax   = 5
	retryFirst = 4 * time.Millisecond
)

// retrying carries out operations, and those again that met a lock for a moment.
type retrying struct {
	Kernel
	pause func(context.Context, time.Duration)
	// jitter gives a number in [0, 1), so that two who met do not meet again.
	jitter func() float64
}

// newRetrying returns the kernel of cfg with second tries.
func newRetrying(cfg Config) retrying {
	r := retrying{cfg.Kernel, cfg.Pause, cfg.Jitter}
	if r.pause == nil {
		r.pause = pause
	}
	if r.jitter == nil {
		r.jitter = rand.Float64
	}
	return r
}

// Do carries out ops, which must not depend on each other, and returns a result
// for each. What was refused for a moment only is tried again; a refusal of
// that kind has changed nothing, so the same key may be sent once more.
func (r retrying) Do(ctx context.Context, ops []xfrm.Op) []error {
	errs := r.Kernel.Do(ctx, ops)
	for try := range retryMax {
		again := transient(errs)
		if len(again) == 0 || ctx.Err() != nil {
			break
		}
		wait := retryFirst << try
		r.pause(ctx, wait/2+time.Duration(r.jitter()*float64(wait/2)))
		some := make([]xfrm.Op, len(again))
		for n, i := range again {
			some[n] = ops[i]
		}
		for n, err := range r.Kernel.Do(ctx, some) {
			errs[again[n]] = err
		}
	}
	return errs
}

// transient returns the indexes of errors that pass by themselves.
func transient(errs []error) (is []int) {
	for i, err := range errs {
		if err != nil && xfrm.CodeOf(err) == xfrm.CodeTransient {
			is = append(is, i)
		}
	}
	return is
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
