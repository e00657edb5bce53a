// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// strictRig has a PF that takes no SA while flows are in hardware, a daemon that may
// take them out, and a pair that is encrypted.
func strictRig(t *testing.T, change func(*rig)) *rig {
	t.Helper()
	r := standardRig()
	r.cfg.Settings.DrainForSAs = true
	r.cfg.Pause = func(_ context.Context, d time.Duration) { r.Clock.Advance(d) }
	if change != nil {
		change(r)
	}
	r.restart()
	r.PF("pf0").Set(func(k *fakenic.Knobs) { k.StrictSA = true })
	r.ask(t, "a", "10.0.0.2")
	return r
}

// ask adds a tunnel with a key set of its own and lets the daemon see to it.
func (r *rig) ask(t *testing.T, set, remote string) {
	t.Helper()
	r.Keys.Make(set)
	r.OVS.SetPort(secure("vx"+set, "10.0.0.1", remote, set))
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
}

// live makes rounds for a time, as they come due.
func (r *rig) live(d time.Duration, each func()) {
	for end := r.Clock.Now().Add(d); r.Clock.Now().Before(end); {
		again := r.round()
		if each != nil {
			each()
		}
		r.Clock.Advance(max(again, 10*time.Millisecond))
	}
}

// TestBlocksBeforeItHolds flushes the states of a strict NIC while Open vSwitch is slow:
// what stops clear text does not wait for flows to leave the hardware for SAs.
func TestBlocksBeforeItHolds(t *testing.T) {
	flushed, clear := false, 0
	r := strictRig(t, func(r *rig) {
		pause := r.cfg.Pause
		r.cfg.Pause = func(ctx context.Context, d time.Duration) {
			pause(ctx, d)
			if k, _ := r.OVS.Tunnel("vxa"); flushed && r.SendVF(k).Way == fakenic.Clear {
				clear++
			}
		}
	})
	r.ask(t, "b", "10.0.0.3") // by which the NIC shows that it is strict
	r.Clock.Advance(time.Minute)
	r.OVS.Slow = true
	r.FlushStates()
	flushed = true
	r.d.Alarm()
	r.round()
	if k, _ := r.OVS.Tunnel("vxa"); clear > 0 || r.SendVF(k).Way == fakenic.Clear {
		t.Errorf("%d packets left in clear text beside the hold", clear)
	}
}

// refusing is a kernel that answers EBUSY to the operations that busy picks.
type refusing struct {
	plugin.Kernel
	busy func(xfrm.Op) bool
}

func (k *refusing) Do(ctx context.Context, ops []xfrm.Op) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		if k.busy(op) {
			errs[i] = &xfrm.OpError{Kind: op.Kind, Errno: unix.EBUSY}
			continue
		}
		errs[i] = k.Kernel.Do(ctx, ops[i:i+1])[0]
	}
	return errs
}

// stubborn has flows with one more that comes back whatever is done.
type stubborn struct {
	plugin.Flows
	on bool
}

func (s *stubborn) Offloaded(ctx context.Context, devs []int) (tc.Report, error) {
	rep, err := s.Flows.Offloaded(ctx, devs)
	if s.on {
		rep.Total++
	}
	return rep, err
}

// TestStubbornFlow has a flow that never leaves the hardware: the others are not held
// for ever for an SA's sake, and guards that go meanwhile come back.
func TestStubbornFlow(t *testing.T) {
	s := &stubborn{}
	r := strictRig(t, func(r *rig) {
		s.Flows = r.cfg.Flows
		r.cfg.Flows = s
		r.cfg.Kernel = &refusing{r.cfg.Kernel, func(op xfrm.Op) bool { return s.on && op.Kind == xfrm.AddSA }}
	})
	s.on = true
	r.Keys.Make("b")
	r.OVS.SetPort(secure("vxb", "10.0.0.1", "10.0.0.3", "b"))
	began, held, last := r.Clock.Now(), time.Duration(0), r.Clock.Now()
	r.live(time.Hour, func() {
		if snap, _ := r.cfg.Database.Current(); snap.Host.Hold != nil {
			held += r.Clock.Now().Sub(last)
		}
		last = r.Clock.Now()
	})
	if all := r.Clock.Now().Sub(began); held == 0 || held > all/3 {
		t.Errorf("flows were held for %v of %v", held, all)
	}

	s.on = true
	r.live(10*time.Minute, nil)
	r.FlushPolicies()
	r.d.Alarm()
	r.live(time.Second, nil)
	for _, name := range []string{"vxa", "vxb"} {
		if k, _ := r.OVS.Tunnel(name); r.SendHost(k).Way == fakenic.Clear {
			t.Errorf("%s: clear text a second after the guards went", name)
		}
	}
}

// leaving takes all flows out of hardware at the end of a count: they were there when
// the SA was refused, and are not when the NIC is asked.
type leaving struct {
	plugin.Flows
	r    *rig
	next bool
}

func (l *leaving) Offloaded(ctx context.Context, devs []int) (tc.Report, error) {
	rep, err := l.Flows.Offloaded(ctx, devs)
	if l.next && rep.Total > 0 {
		l.next = false
		l.r.OVS.Stop()
	}
	return rep, err
}

// TestFlowLeavesBeforeTheQuestion: that a strict NIC takes an SA when the last flow has
// just gone does not make it one that is not strict.
func TestFlowLeavesBeforeTheQuestion(t *testing.T) {
	l := &leaving{}
	r := strictRig(t, func(r *rig) {
		l.Flows, l.r = r.cfg.Flows, r
		r.cfg.Flows = l
	})
	l.next = true
	r.ask(t, "b", "10.0.0.3")
	if l.next {
		t.Fatal("nobody has counted flows")
	}
	r.OVS.Start()
	r.live(time.Minute, nil)
	r.ask(t, "c", "10.0.0.4")
	r.live(time.Minute, nil)
	for _, p := range r.d.Last().Pairs {
		if p.State != plugin.StateEncrypted {
			t.Errorf("%s is %s: %v", p.Remote, p.State, p.Problem)
		}
	}
}

// TestAsksOnce has the outbound SAs of many pairs refused in one round.
func TestAsksOnce(t *testing.T) {
	r := standardRig()
	on, trials := false, 0
	r.cfg.Kernel = &refusing{r.cfg.Kernel, func(op xfrm.Op) bool {
		if op.Kind == xfrm.AddSA && op.SA.SPI == plugin.ProbeSPI {
			trials++
			return false
		}
		return on && op.Kind == xfrm.AddSA && op.SA.Dir == xfrm.Out
	}}
	r.restart()
	r.ask(t, "a", "10.0.0.2")
	on = true
	for i := range 50 {
		set := fmt.Sprint("k", i)
		r.Keys.Make(set)
		r.OVS.SetPort(secure("v"+set, "10.0.0.1", fmt.Sprintf("10.0.1.%d", 1+i), set))
	}
	r.round()
	if trials != 1 {
		t.Errorf("the NIC was asked %d times", trials)
	}
}

// TestLimitIsForgotten gives a full card room again, whatever its size: pairs that wait
// get it, though some is kept for rekeys.
func TestLimitIsForgotten(t *testing.T) {
	for _, n := range []int{3, 63, 64, 130} {
		r := standardRig()
		r.PF("pf0").Set(func(k *fakenic.Knobs) { k.MaxRXSA = n })
		for i := range n + 2 {
			set := fmt.Sprint("k", i)
			r.Keys.Make(set)
			r.OVS.SetPort(secure("v"+set, "10.0.0.1", fmt.Sprintf("10.0.1.%d", 1+i), set))
		}
		encrypted := func() (sum int) {
			for _, p := range r.d.Last().Pairs {
				if p.State == plugin.StateEncrypted {
					sum++
				}
			}
			return sum
		}
		r.live(time.Hour, nil)
		if got := encrypted(); got > n || got < n-3 {
			t.Errorf("a card with room for %d has %d", n, got)
		}
		r.PF("pf0").Set(func(k *fakenic.Knobs) { k.MaxRXSA = 2047 })
		r.live(time.Hour, nil)
		if got := encrypted(); got != n+2 {
			t.Errorf("of %d pairs %d are encrypted once there is room", n+2, got)
		}
	}
}
