// SPDX-License-Identifier: Apache-2.0

//go:build lab

package xfrm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkLabTunnels adds the states and policies of n tunnels, all offloaded
// and read back, and lets "ip -batch" add the same ones. Run it with
//
//	go test -tags lab -exec "lab/exec --param max_rx_sa=20000" -run - -bench LabTunnels -benchtime 3x ./xfrm
func BenchmarkLabTunnels(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		for _, way := range []string{"client", "ip-batch"} {
			b.Run(fmt.Sprintf("%d/%s", n, way), func(b *testing.B) { benchTunnels(b, n, way) })
		}
	}
}

func benchTunnels(b *testing.B, n int, way string) {
	pf, _ := host(b)
	c := labClient(b)
	ops := tunnels(b, pf, n)
	script := filepath.Join(b.TempDir(), "batch")
	if err := os.WriteFile(script, batchScript(ops), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		switch way {
		case "client":
			mustDo(b, c, ops...)
		default:
			run(b, "ip -batch %s", script)
		}
		b.StopTimer()
		empty(b)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/tunnel")
}

// batchScript returns ops as input of "ip -batch".
func batchScript(ops []Op) []byte {
	var b bytes.Buffer
	for _, op := range ops {
		line := strings.TrimPrefix(op.IP(func(int) string { return "pf0" }), "ip ")
		if op.SA != nil {
			line = strings.Replace(line, "[key]", "0x"+hex.EncodeToString(op.SA.Key.AppendTo(nil)), 1)
		}
		fmt.Fprintln(&b, line)
	}
	return b.Bytes()
}

// empty removes everything and waits for the NIC to be rid of it: the kernel
// tears states down in the background.
func empty(b *testing.B) {
	b.Helper()
	run(b, "ip xfrm policy flush; ip xfrm state flush")
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		left := run(b, "cat /sys/kernel/debug/simnic/*/state | awk '$1 ~ /^(states|policies)$/ {n += $2} END {print n+0}'")
		if strings.TrimSpace(left) == "0" {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s objects are left on the NIC", left)
		}
	}
}

// BenchmarkLabDump lists the states and policies of 10000 tunnels.
func BenchmarkLabDump(b *testing.B) {
	pf, _ := host(b)
	c := labClient(b)
	mustDo(b, c, tunnels(b, pf, 10000)...)
	b.ReportAllocs()
	for b.Loop() {
		states, err1 := c.SAs(b.Context())
		policies, err2 := c.Policies(b.Context())
		if err1 != nil || err2 != nil || len(states) != 20000 || len(policies) != 20000 {
			b.Fatal(err1, err2, len(states), len(policies))
		}
	}
}
