// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What any Linux host can answer, unprivileged: devices without rules.
func TestScannerOnThisHost(t *testing.T) {
	const lo, absent = 1, 1 << 30
	r, err := Scanner{}.Offloaded(t.Context(), []int{lo, absent})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Report{}, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if ifindex, found, err := (Scanner{}).Any(t.Context(), []int{lo, absent}); found || err != nil {
		t.Errorf("Any: %d, %v, %v", ifindex, found, err)
	}
}

func TestScannerHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Scanner{}).Offloaded(ctx, []int{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Offloaded: %v, want context canceled", err)
	}
	if _, _, err := (Scanner{}).Any(ctx, []int{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Any: %v, want context canceled", err)
	}
}

func TestScannerWithoutDevices(t *testing.T) {
	if r, err := (Scanner{}).Offloaded(t.Context(), nil); err != nil || r.Rules != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
