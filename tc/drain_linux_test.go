// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"testing"
)

func TestEvictNothing(t *testing.T) {
	const lo, absent = 1, 1 << 30
	if n, err := (Drain{}).Evict(t.Context(), []int{lo, absent}); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, devs := range [][]int{nil, {lo}} {
		if _, err := (Drain{}).Evict(ctx, devs); !errors.Is(err, context.Canceled) {
			t.Errorf("called off with %v: %v", devs, err)
		}
	}
}
