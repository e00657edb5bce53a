// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
)

// loop is a daemon that runs, in a synctest bubble.
type loop struct {
	*rig
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	rounds []plugin.Status // that ready was called with

	turns chan struct{} // without a bubble: a round was made
}

// start runs the daemon of a hypervisor that setup has prepared.
func start(t *testing.T, setup func(*rig)) *loop {
	t.Helper()
	r := standardRig()
	r.cfg.Now = time.Now
	if setup != nil {
		setup(r)
	}
	r.restart()
	ctx, cancel := context.WithCancel(t.Context())
	l := &loop{rig: r, cancel: cancel, done: make(chan error, 1)}
	go func() { l.done <- r.d.Run(ctx, l.ready) }()
	synctest.Wait()
	return l
}

func (l *loop) ready(s plugin.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds = append(l.rounds, s)
}

// count returns the number of rounds so far.
func (l *loop) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rounds)
}

// pass lets time pass.
func (l *loop) pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func (l *loop) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	if err := <-l.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func (l *loop) state() string { return l.d.Last().State }

// meterRounds is how many rounds the leak meter asks for in an audit period: one
// for its rules, and one before and behind.
const meterRounds = 3

func TestLoopMakesARoundWhenTheDatabaseChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, nil)
		defer l.stop(t)
		l.Keys.Make("ab")
		l.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
		synctest.Wait()
		if got := l.d.Last().Pairs; len(got) != 1 || got[0].State != "encrypted" {
			t.Fatalf("pairs are %+v", got)
		}
		n := l.count()
		l.pass(time.Minute)
		if n = l.count() - n; n < 2 || n > 2+4*meterRounds {
			t.Errorf("%d rounds without a cause in a minute, which has two audits and at most %d rounds of the leak meter", n, 4*meterRounds)
		}
	})
}

func TestLoopPoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, nil)
		defer l.stop(t)
		l.FlushPolicies()
		n := l.count()
		for range 3 {
			l.d.Poke() // three causes, one round
		}
		synctest.Wait()
		if got := l.count() - n; got < 1 || got > 2 {
			t.Errorf("%d rounds for three pokes", got)
		}
		if got := len(l.dump()); got != 4 {
			t.Errorf("%d policies stand, want the four guards", got)
		}
	})
}

// TestLoopBackOff wants a failing pair to be tried after longer and longer
// waits, up to half a minute, and at once again after a success.
func TestLoopBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Duration
		begin := time.Now()
		l := start(t, func(r *rig) {
			r.Keys.Make("ab")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
			r.Faults.Set(fakenic.Fault{Label: "reserve ab", Errno: unix.ENOSPC, Times: fakenic.Always})
		})
		defer l.stop(t)
		for seen := 0; time.Since(begin) < 4*time.Minute; l.pass(50 * time.Millisecond) {
			if n := tally(l.Faults.Seen(), "reserve ab"); n > seen {
				seen = n
				tries = append(tries, time.Since(begin))
			}
		}
		for i := 2; i < len(tries); i++ {
			before, wait := tries[i-1]-tries[i-2], tries[i]-tries[i-1]
			if wait < before-100*time.Millisecond || wait > 40*time.Second {
				t.Errorf("try %d came after %v, the one before after %v", i, wait, before)
			}
		}
		if len(tries) < 8 || len(tries) > 20 {
			t.Errorf("%d tries in four minutes: %v", len(tries), tries)
		}
		l.Faults.Set()
		l.pass(40 * time.Second)
		if l.state() != "ok" {
			t.Errorf("state is %s after the fault", l.state())
		}
	})
}

func tally(labels []string, label string) (n int) {
	for _, l := range labels {
		if l == label {
			n++
		}
	}
	return n
}

func TestLoopRetiresInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, func(r *rig) {
			r.Keys.Make("ab")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
		})
		defer l.stop(t)
		l.OVS.DelPort("vx0")
		synctest.Wait()
		l.pass(5*time.Minute - time.Second)
		if got := l.PF("pf0").Tables(); got.TXStates != 1 || got.RXStates != 1 || got.TXPolicies != 2 {
			t.Errorf("before its time: %+v", got)
		}
		l.pass(time.Second)
		if got := l.PF("pf0").Tables(); got.TXStates != 0 || got.RXStates != 0 || got.TXPolicies != 2 {
			t.Errorf("in time: %+v", got)
		}
	})
}

func TestLoopDatabaseGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, func(r *rig) { r.OVS.SetState(ovsdb.State{Err: unix.ENOENT}) })
		defer l.stop(t)
		if l.state() != "waiting" || len(l.dump()) != 0 {
			t.Fatalf("state is %s with %d objects", l.state(), len(l.dump()))
		}
		l.Keys.Make("ab")
		l.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
		l.OVS.SetState(ovsdb.State{Known: true, Connected: true})
		synctest.Wait()
		if l.state() != "ok" {
			t.Fatalf("state is %s", l.state())
		}
		l.OVS.Reports()
		l.OVS.SetState(ovsdb.State{Known: true, Err: unix.ECONNREFUSED})
		l.FlushPolicies()
		l.pass(time.Minute)
		if got := l.PF("pf0").Tables(); got.TXPolicies != 3 {
			t.Errorf("without the database what it said last is not upheld: %+v", got)
		}
		if w := l.OVS.Reports(); len(w) > 0 {
			t.Errorf("reported into a database that is away: %+v", w)
		}
		if h := l.d.Last().Host.Database; h == "connected" {
			t.Errorf("the status says %q", h)
		}
	})
}

func TestLoopSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, func(r *rig) {
			r.cfg.Settings = plugin.Settings{}
			r.Keys.Make("ab")
		})
		defer l.stop(t)
		if n := len(l.dump()); n != 0 {
			t.Fatalf("%d objects with guard=tunnels", n)
		}
		l.d.SetSettings(plugin.Settings{GuardAuto: true, GuardPorts: []uint16{4789, 8472}})
		synctest.Wait()
		if n := len(l.dump()); n != 8 {
			t.Errorf("%d guards for two addresses and two ports", n)
		}
		l.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
		synctest.Wait()
		if l.d.Last().Gate.Open {
			t.Error("the gate was opened with gate=off")
		}
		l.d.SetSettings(plugin.Settings{GateAuto: true})
		synctest.Wait()
		if !l.d.Last().Gate.Open {
			t.Error("the gate was not opened with gate=auto")
		}
		if n := len(l.dump()); n != 8+3 {
			t.Errorf("%d objects: guards are never taken away", n)
		}
	})
}

func TestLoopReportsOnlyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, func(r *rig) {
			r.Keys.Make("ab")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"), plain("plain", "10.0.0.1", "10.0.0.3"))
		})
		defer l.stop(t)
		want := []ovsdb.Report{
			{Tunnel: "vx0", Values: map[string]string{"state": "encrypted", "boot": "boot-1"}},
			{Tunnel: "", Values: map[string]string{"state": "ok", "boot": "boot-1"}},
		}
		if diff := cmp.Diff(want, l.OVS.Reports()); diff != "" {
			t.Errorf("first reports (-want +got):\n%s", diff)
		}
		l.d.Poke()
		l.pass(2 * time.Minute)
		if w := l.OVS.Reports(); len(w) > 0 {
			t.Errorf("reported again: %+v", w)
		}
		// A port that loses its ipsec options loses what was reported of it.
		l.OVS.SetPort(plain("vx0", "10.0.0.1", "10.0.0.2"))
		synctest.Wait()
		want = []ovsdb.Report{{Tunnel: "vx0"}}
		if diff := cmp.Diff(want, l.OVS.Reports()); diff != "" {
			t.Errorf("reports of a port without options (-want +got):\n%s", diff)
		}
	})
}

// TestLoopReportFails wants a round to do its work although the database takes
// no report, and the report to be made later.
func TestLoopReportFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, func(r *rig) {
			r.Keys.Make("ab")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
			r.Faults.Set(fakenic.Fault{Label: "report", Errno: unix.EPIPE, Times: 3})
		})
		defer l.stop(t)
		if l.state() != "ok" {
			t.Errorf("state is %s", l.state())
		}
		l.pass(3 * time.Minute)
		if w := l.OVS.Reports(); len(w) != 2 {
			t.Errorf("reported %+v", w)
		}
	})
}

// TestLoopCannotObserve wants a daemon that cannot read the kernel to say so,
// to change nothing and to go on when it can.
func TestLoopCannotObserve(t *testing.T) {
	for _, question := range []string{"dump SAs", "dump policies", "dump flows", "read facts"} {
		t.Run(question, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := start(t, func(r *rig) {
					r.Faults.Set(fakenic.Fault{Label: question, Errno: unix.EPERM, Times: fakenic.Always})
				})
				defer l.stop(t)
				if n := len(l.Faults.Seen()); n != 0 {
					t.Errorf("%d operations on an unseen host", n)
				}
				if s := l.d.Last(); len(s.Problems) == 0 || s.State == "ok" {
					t.Errorf("the status says %s, %v", s.State, s.Problems)
				}
				l.pass(5 * time.Minute)
				if n := l.count(); n < 8 || n > 60 {
					t.Errorf("%d rounds in five minutes", n)
				}
				l.Faults.Set()
				l.pass(time.Minute)
				if l.state() != "ok" {
					t.Errorf("state is %s after the fault: %+v", l.state(), l.d.Last().Problems)
				}
			})
		})
	}
}

// TestLoopStopsMidway wants everything left as it is when the daemon is told to
// stop, and the next one to find nothing to do.
func TestLoopStopsMidway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, func(r *rig) {
			r.Keys.Make("ab")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
		})
		before := l.dump()
		l.stop(t)
		if diff := cmp.Diff(before, l.dump()); diff != "" {
			t.Errorf("stopping changed the kernel (-before +after):\n%s", diff)
		}
		l.Faults.Set()
		l.restart()
		if err := l.settle(); err != nil {
			t.Fatal(err)
		}
		if ops := l.Faults.Seen(); len(ops) > 0 {
			t.Errorf("the next daemon did %v", ops)
		}
	})
}

// TestLoopStatusBesideRounds asks for the status while rounds use the ledger,
// for the race detector's eyes: key store and ledger are for one goroutine.
func TestLoopStatusBesideRounds(t *testing.T) {
	const ports = 30
	l := startOutside(t, func(r *rig) {
		for i := range ports {
			r.Keys.Make(fmt.Sprintf("k%d", i))
		}
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 4 * ports {
				if _, err := l.d.Status(t.Context()); err != nil {
					t.Error(err)
				}
				if _, _, _, err := l.d.Preview(t.Context(), false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range ports {
		name := fmt.Sprintf("k%d", i)
		l.OVS.SetPort(secure(name, "10.0.0.1", fmt.Sprintf("10.0.2.%d", i+1), name))
		l.d.Poke()
		<-l.turns
	}
	wg.Wait()
	l.stop(t)
}

// startOutside is start without a bubble: rounds really run beside the test. Each
// sends on turns.
func startOutside(t *testing.T, setup func(*rig)) *loop {
	t.Helper()
	r := standardRig()
	setup(r)
	r.restart()
	ctx, cancel := context.WithCancel(t.Context())
	l := &loop{rig: r, cancel: cancel, done: make(chan error, 1), turns: make(chan struct{}, 1)}
	ready := func(plugin.Status) {
		select {
		case l.turns <- struct{}{}:
		default:
		}
	}
	go func() { l.done <- r.d.Run(ctx, ready) }()
	return l
}
