// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package bench

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/keys"
	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// TestApply compares the time that a daemon takes from a snapshot with n new
// tunnels to the last policy in the NIC (observe, plan, check, ledger, apply,
// read back) with the time of `ip -batch` for the very same objects.
func TestApply(t *testing.T) {
	sh(t, "ip link add wire0 type veth peer name wire1", "ip link set wire0 up", "ip link set wire1 up",
		"ip link add link wire0 name pf0 type simpf", "ip addr add 10.0.0.1/24 dev pf0", "ip link set pf0 up")
	fmt.Printf("%8s %14s %14s %8s %16s\n", "tunnels", "daemon (s)", "ip -batch (s)", "ratio", "daemon µs/tunnel")
	for _, c := range []struct{ tunnels, times int }{{1000, 3}, {10000, 2}} {
		n := c.tunnels
		var ours, theirs []time.Duration
		for range c.times {
			d, lines := applyOnce(t, n)
			ours = append(ours, d)
			flush(t)
			theirs = append(theirs, batch(t, lines))
			flush(t)
		}
		a, b := median(ours), median(theirs)
		fmt.Printf("%8d %14.2f %14.2f %8.2f %16.1f\n", n, a.Seconds(), b.Seconds(), a.Seconds()/b.Seconds(), float64(a.Microseconds())/float64(n))
	}
}

// applyOnce lets a new daemon install n tunnels and returns how long it took,
// and what it did in iproute2's words.
func applyOnce(t *testing.T, n int) (time.Duration, []string) {
	client, err := xfrm.New()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	book, err := keys.OpenLedger(t.TempDir(), time.Now, "bench")
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	world := newWorld(n)
	d := plugin.New(plugin.Config{Database: world, Kernel: client, NIC: devlink.NewReader(), Flows: tc.Scanner{}, Keys: world, Ledger: ledger{book},
		Settings: plugin.Settings{GateAuto: true, GuardAuto: true, GuardPorts: []uint16{4789}}, AuditEvery: time.Hour, RetireAfter: time.Hour,
		Log: slog.New(slog.DiscardHandler), Now: time.Now})
	steps, problems, verdict, err := d.Preview(t.Context(), false)
	if err != nil || verdict != nil || len(problems) > 0 {
		t.Fatal(err, verdict, problems)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last plugin.Status
	start := time.Now()
	var took time.Duration
	err = d.Run(ctx, func(s plugin.Status) {
		last = s
		if took == 0 {
			took = time.Since(start)
		}
		cancel()
	})
	if err != nil || last.State != plugin.OK || len(last.Pairs) != n {
		t.Fatalf("%v: state %q, %d pairs: %v", err, last.State, len(last.Pairs), last.Problems)
	}
	return took, steps
}

// batch feeds the steps to iproute2.
func batch(t *testing.T, steps []string) time.Duration {
	var b bytes.Buffer
	for _, s := range steps {
		if line, is := strings.CutPrefix(s, "ip "); is {
			fmt.Fprintln(&b, strings.Replace(line, "[key]", "0x"+hex.EncodeToString(random(xfrm.KeyLen)), 1))
		}
	}
	if err := os.WriteFile("/tmp/batch", b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if out, err := exec.Command("ip", "-batch", "/tmp/batch").CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
	return time.Since(start)
}

// flush empties SAD and SPD and waits until the NIC has let go of its tables.
func flush(t *testing.T) {
	sh(t, "ip xfrm policy flush", "ip xfrm state flush")
	for end := time.Now().Add(time.Minute); ; {
		state, err := os.ReadFile("/sys/kernel/debug/simnic/simnic.0/state")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(state, []byte("tx_refs 0\n")) && bytes.Contains(state, []byte("rx_refs 0\n")) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the NIC keeps its tables after a flush")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func sh(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		f := strings.Fields(l)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", l, err, out)
		}
	}
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// world is a database and a key store in memory: what is measured is the way
// from them to the NIC.
type world struct {
	snapshot ovsdb.Snapshot
	sets     map[string]material
}

type material struct {
	set     plugin.KeySet
	in, out []byte
}

func newWorld(n int) *world {
	w := &world{sets: make(map[string]material, n)}
	for i := range n {
		m := material{in: random(xfrm.KeyLen), out: random(xfrm.KeyLen)}
		name := fmt.Sprintf("set%05d", i)
		m.set = plugin.KeySet{Name: name, InSPI: rand.Uint32() | 0x100, OutSPI: rand.Uint32() | 0x100,
			InPrint: xfrm.FingerprintOf(m.in), OutPrint: xfrm.FingerprintOf(m.out)}
		w.sets[name] = m
		w.snapshot.Tunnels = append(w.snapshot.Tunnels, ovsdb.Tunnel{
			Name: fmt.Sprintf("vx%05d", i), Type: "vxlan", IPsec: true, Mode: ovsdb.Transport, DstPort: 4789, Keys: name,
			Local: netip.AddrFrom4([4]byte{10, 0, 0, 1}), Remote: netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i%250 + 1)})})
	}
	return w
}

func (w *world) Current() (ovsdb.Snapshot, ovsdb.State) {
	return w.snapshot, ovsdb.State{Known: true, Connected: true}
}
func (w *world) Changed() <-chan struct{}                     { return nil }
func (w *world) Report(context.Context, []ovsdb.Report) error { return nil }
func (w *world) SetHWOffload(_ context.Context, value string) (int64, error) {
	w.snapshot.Host.HWOffload = value
	return 0, nil
}
func (w *world) Hold(context.Context, ovsdb.Hold) (int64, error) { return 0, errors.ErrUnsupported }
func (w *world) Unhold(context.Context) (int64, error)           { return 0, errors.ErrUnsupported }
func (w *world) Lookup(name string) (plugin.KeySet, error)       { return w.sets[name].set, nil }
func (w *world) Material(name string) (in, out xfrm.Key, err error) {
	m := w.sets[name]
	in, _ = xfrm.NewKey(bytes.Clone(m.in))
	out, _ = xfrm.NewKey(bytes.Clone(m.out))
	return in, out, nil
}

// ledger is the real one, on disk.
type ledger struct{ *keys.Ledger }

func (l ledger) Reserve(ctx context.Context, es []plugin.LedgerEntry) error {
	return l.Ledger.Reserve(ctx, entriesOf(es))
}
func (l ledger) Refused(_ context.Context, es []plugin.LedgerEntry) error {
	return l.Ledger.Refused(entriesOf(es))
}
func entriesOf(es []plugin.LedgerEntry) []keys.Entry {
	out := make([]keys.Entry, len(es))
	for i, e := range es {
		out[i] = keys.Entry{Key: e.Print, Name: e.Name, SPI: e.SPI, Pair: e.Pair.String()}
	}
	return out
}
