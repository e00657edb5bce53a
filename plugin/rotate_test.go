// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// TestRotationLosesNothing has two operators change the keys of one tunnel again and
// again, neither of them knowing how far the other host is. The daemons look when
// they like, one between two operations of the other's, and die before or after any
// operation. Whenever a packet is sent, by either host and on either way, the other
// one can decrypt it. When all is calm both ends have come to the last keys, unless
// a crash cost one of those, which the status says.
func TestRotationLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newRotated(t)
		t.Repeat(map[string]func(*rapid.T){
			"":        w.lossless,
			"tell":    w.tell,
			"tell-2":  w.tell,
			"round":   w.act,
			"round-2": w.act,
			"both":    w.both,
			"time":    w.time,
			"time-2":  w.time,
			"crash":   w.crash,
			"restart": w.restart,
			"traffic": w.traffic,
		})
		w.calm(t)
	})
}

// TestRotationAfterLoss has one of two hosts lose its SAs. No tunnel carries anything,
// so that only probes tell the other one that it has the new keys, whoever is told
// first.
func TestRotationAfterLoss(t *testing.T) {
	for first := range 2 {
		t.Run(fmt.Sprintf("hv%d first", first+1), func(t *testing.T) {
			w := &rotated{wire: joined(true, false)}
			for i := range w.wire {
				w.name(i)
				w.hear(t, 2)
			}
			w.wire[0].FlushStates()
			w.hear(t, 2)
			w.told = [2]int{1, 1}
			w.name(first)
			w.hear(t, 20)
			w.name(1 - first)
			w.hear(t, 60)
			if err := w.come(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// hear makes rounds of both daemons for n seconds.
func (w *rotated) hear(t testing.TB, n int) {
	t.Helper()
	for range n {
		for _, r := range w.wire {
			r.Clock.Advance(time.Second)
			if err := r.settle(); err != nil {
				t.Fatalf("%v\n%s", err, w.text())
			}
		}
	}
}

// rotated is two hosts with one tunnel, and the number of the set that each one's
// operator has named.
type rotated struct {
	*wire
	told [2]int
	lost []string
}

// probeDue is how long one host may need to answer what the other one sends.
const probeDue = 15 * time.Second

// joined returns two hosts with one address each.
func joined(after, strict bool) *wire {
	w := &wire{}
	for i := range w {
		r := newRig()
		r.AddPF("pf0", 4)
		r.AddAddr(netip.MustParsePrefix([]string{"10.0.0.1/24", "10.0.0.2/24"}[i]), 4)
		r.PF("pf0").Set(func(k *fakenic.Knobs) { k.AfterDecrypt, k.StrictSA = after, strict })
		r.Keys.Far = i == 1
		r.cfg.Settings.DrainForSAs = true
		r.cfg.RetireAfter = 10 * time.Second
		r.restart()
		w[i] = r
	}
	w.join()
	return w
}

func newRotated(t *rapid.T) *rotated {
	w := &rotated{wire: joined(rapid.Bool().Draw(t, "after decrypt"), rapid.IntRange(0, 3).Draw(t, "strict") == 0)}
	for _, r := range w.wire {
		r.watch()
	}
	for i := range w.wire {
		w.name(i)
	}
	for range 2 {
		for i := range w.wire {
			w.settle(t, i)
		}
	}
	for i, r := range w.wire {
		judge := r.Changed
		r.Changed = func(op xfrm.Op) {
			judge(op)
			w.look(fmt.Sprintf("hv%d: %s", i+1, op))
		}
	}
	return w
}

// name has host i's port name its set, which is there on both hosts.
func (w *rotated) name(i int) {
	set := fmt.Sprintf("set-%d", w.told[i])
	for _, r := range w.wire {
		if _, err := r.Keys.Lookup(set); err != nil {
			r.Keys.Make(set)
		}
	}
	w.wire[i].OVS.SetPort(tunnel("v4", i, set))
}

// tell names the next set on one host, unless the other one was not told of this one.
func (w *rotated) tell(t *rapid.T) {
	if i := rapid.IntRange(0, 1).Draw(t, "host"); w.told[i] <= w.told[1-i] {
		w.told[i]++
		w.name(i)
	}
}

// look notes packets that the other host could not decrypt if they were sent now.
func (w *rotated) look(after string) {
	for i, r := range w.wire {
		for way, f := range r.ways(w.pair(i)) {
			if !w.takes(i, f) {
				w.lost = append(w.lost, fmt.Sprintf("hv%d, %s: %s with SPI 0x%x is lost after %s", i+1, way, f.Way, f.SPI, after))
			}
		}
	}
}

// takes tells whether an SA stands at the other end for what host i sends. It does not
// count there: an idle tunnel is the harder case.
func (w *rotated) takes(i int, f fakenic.Fate) bool {
	sas, _ := w.wire[1-i].SAs(context.Background())
	for j := range sas {
		if sas[j].Dir == xfrm.In && sas[j].SPI == f.SPI && f.Way == fakenic.Crypted {
			return true
		}
	}
	return false
}

func (w *rotated) pair(i int) plugin.Pair {
	l := links["v4"]
	return plugin.Pair{Local: netip.MustParseAddr(l.ends[i]), Remote: netip.MustParseAddr(l.ends[1-i]), Port: l.port}
}

func (w *rotated) lossless(t *rapid.T) {
	w.look("an act")
	w.check(t)
	if len(w.lost) > 0 {
		t.Fatalf("%s\n%s", w.lost[0], w.text())
	}
}

// traffic sends packets that count at both ends.
func (w *rotated) traffic(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "host")
	for way, f := range w.wire[i].ways(w.pair(i)) {
		if in := w.deliver(i, f); in.Way != fakenic.Crypted {
			t.Fatalf("hv%d, %s: the other end makes %s of %s with SPI 0x%x\n%s", i+1, way, in.Way, f.Way, f.SPI, w.text())
		}
	}
}

// crash lets a daemon die at one of its next operations.
func (w *rotated) crash(t *rapid.T) {
	w.host(t).Faults.Set(fakenic.Fault{Nth: rapid.IntRange(1, 6).Draw(t, "nth"), Effect: pick(t, "effect", fakenic.Before, fakenic.After), Times: 1})
}

// time passes. A host may sleep through it, but not both.
func (w *rotated) time(t *rapid.T) {
	d := pick(t, "duration", time.Second, time.Second, 3*time.Second, probeDue, time.Minute, time.Hour)
	asleep := rapid.IntRange(0, 4).Draw(t, "asleep")
	for i, r := range w.wire {
		r.Clock.Advance(d)
		if i != asleep {
			w.settle(t, i)
		}
	}
}

// calm lets both sides do what they have left to do. A set that a crash has cost is
// followed by a new one.
func (w *rotated) calm(t *rapid.T) {
	for _, r := range w.wire {
		r.Faults.Set()
	}
	w.told = [2]int{max(w.told[0], w.told[1]) + 1, max(w.told[0], w.told[1]) + 1}
	for i := range w.wire {
		w.name(i)
	}
	for range 90 {
		for i, r := range w.wire {
			r.Clock.Advance(time.Second)
			w.settle(t, i)
		}
		w.lossless(t)
	}
	if err := w.come(); err != nil {
		t.Fatal(err)
	}
}

// come tells whether both hosts have come to their set, and to nothing else.
func (w *rotated) come() error {
	for i, r := range w.wire {
		sas, _ := r.SAs(context.Background())
		p := r.d.Last().Pairs[0]
		if want := fmt.Sprintf("set-%d", w.told[i]); len(sas) != 2 || p.State != "encrypted" || p.Keys != want || p.Rotation != nil || p.Problem != nil {
			return fmt.Errorf("hv%d has not come to %s in time: %d SAs\n%s", i+1, want, len(sas), w.text())
		}
	}
	return nil
}
