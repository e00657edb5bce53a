// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// Rounds make much garbage at once and then nothing for a long time. A small heap may grow
// by heapRoom between two collections, one of many thousand tunnels by leastGC percent:
// there memory is scarcer than time.
const (
	heapRoom         = 48 << 20
	leastGC, mostGC  = 40, 400
	heapLive         = "/gc/heap/live:bytes"
	worthyDifference = 10
)

// collector sets how much the heap may grow. GOGC, if it is set, has the last word.
type collector struct {
	off     bool
	percent int
}

func newCollector() *collector { return &collector{off: os.Getenv("GOGC") != ""} }

// adapt follows the size of the heap, as the last collection left it.
func (c *collector) adapt() {
	if c.off {
		return
	}
	s := []metrics.Sample{{Name: heapLive}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return
	}
	percent := gcPercent(s[0].Value.Uint64())
	if d := percent - c.percent; d <= -worthyDifference || d >= worthyDifference {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// gcPercent returns the percentage by which a heap of live bytes may grow.
func gcPercent(live uint64) int {
	return int(min(max(100*heapRoom/max(live, 1), leastGC), mostGC))
}
