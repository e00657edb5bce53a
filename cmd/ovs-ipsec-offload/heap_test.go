// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 4 << 20: 400, 24 << 20: 200, 96 << 20: 50, 200 << 20: 40, 1 << 62: 40} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d", live, got, want)
		}
	}
}

func TestCollectorLeavesGOGCAlone(t *testing.T) {
	t.Setenv("GOGC", "100")
	c := newCollector()
	c.adapt()
	if c.percent != 0 {
		t.Errorf("set to %d %%", c.percent)
	}
}
