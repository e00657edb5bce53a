// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memory returns a line of /proc/self/status in MB, as VmRSS or VmHWM.
func memory(tb testing.TB, key string) float64 {
	tb.Helper()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, is := strings.CutPrefix(s.Text(), key+":"); is {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kb / 1024
		}
	}
	tb.Fatalf("no %s in /proc/self/status", key)
	return 0
}

// populated returns a server with n tunnels.
func populated(b *testing.B, n int) *server {
	b.Helper()
	s := startServer(b)
	s.add(tunnels(n)...)
	return s
}

func (w *watched) full(n int) {
	w.tb.Helper()
	w.until("all tunnels", func(s Snapshot, st State) bool { return st.Connected && len(s.Tunnels) == n })
}

// BenchmarkLoad connects and loads all tunnels. Run each size in a process of
// its own to read its memory: go test -bench 'Load/10000' -benchtime 3x. The
// server is another process and does not count.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := populated(b, n)
			at, err := parseEndpoint("unix:" + s.sock)
			if err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var conn *session
			var got Snapshot
			for b.Loop() {
				if conn != nil {
					conn.close()
				}
				conn, err = dial(context.Background(), at, (&logBuffer{}).logger(), limit)
				if err != nil {
					b.Fatal(err)
				}
				hosts, interfaces, ok := conn.read()
				if got = snapshotOf(hosts, portsOf(interfaces)); !ok || len(got.Tunnels) != n {
					b.Fatalf("%d tunnels, %v", len(got.Tunnels), ok)
				}
			}
			b.ReportMetric(memory(b, "VmHWM"), "peak-rss-MB")
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "heap-MB")
			runtime.KeepAlive(got)
			conn.close()
		})
	}
}

// BenchmarkChange changes one tunnel among many and waits for the snapshot,
// with the default settling time left out.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{400, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := populated(b, n)
			w := follow(b, s.sock, func(c *Config) { c.Settle = time.Nanosecond })
			w.full(n)
			i := 0
			for b.Loop() {
				i++
				remote := fmt.Sprintf("10.200.%d.%d", i/250%250, i%250+1)
				s.options("ovn-000007-0", map[string]string{"remote_ip": remote, "ipsec_keys": "a"})
				w.tunnel("ovn-000007-0", "the change", func(t *Tunnel) bool { return t.Remote.String() == remote })
			}
		})
	}
}

// BenchmarkSnapshotOf turns rows into a snapshot.
func BenchmarkSnapshotOf(b *testing.B) {
	rows := make([]*interfaceRow, 10000)
	for i, p := range tunnels(len(rows)) {
		rows[i] = &interfaceRow{UUID: fmt.Sprint(i), Name: p.name, Type: p.kind, Options: p.options, ExternalIDs: p.ids}
	}
	b.ReportAllocs()
	for b.Loop() {
		snapshotOf(nil, portsOf(rows))
	}
}

// BenchmarkReport writes a new state into every row.
func BenchmarkReport(b *testing.B) {
	const n = 10000
	s := populated(b, n)
	w := follow(b, s.sock)
	w.full(n)
	snap, _ := w.Current()
	rs := make([]Report, n)
	i := 0
	for b.Loop() {
		i++
		for k := range rs {
			rs[k] = Report{Tunnel: snap.Tunnels[k].Name, Values: map[string]string{"state": fmt.Sprint(i), "boot": "0a1b2c3d-0000-1111-2222-333344445555"}}
		}
		w.report(rs...)
	}
}
