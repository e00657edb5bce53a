// SPDX-License-Identifier: Apache-2.0

//go:build lab

package xfrm

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func labMonitor(t *testing.T, options ...MonitorOption) *Monitor {
	t.Helper()
	m, err := NewMonitor(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// next receives an event, or fails the test when none comes.
func next(t *testing.T, m *Monitor) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e, err := m.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestLabMonitorTellsOwnFromForeign(t *testing.T) {
	pf, _ := host(t)
	m, c, other := labMonitor(t), labClient(t), labClient(t)
	if c.PortID() == other.PortID() || c.PortID() == 0 {
		t.Fatalf("port ids %d and %d", c.PortID(), other.PortID())
	}
	sa, policy := on(pf, testSA(t, 0x1001, In)), policyOn(pf, testPolicy(2, Out))
	mustDo(t, c, Op{Kind: AddSA, SA: sa}, Op{Kind: AddPolicy, Policy: policy}, Op{Kind: UpdatePolicy, Policy: policy})
	mustDo(t, other, Op{Kind: DeleteSA, SA: sa}, Op{Kind: DeletePolicy, Policy: policy})
	mustDo(t, c, Op{Kind: AddSA, SA: sa}, Op{Kind: AddPolicy, Policy: policy})
	run(t, "ip xfrm state delete src 10.0.0.2 dst 10.0.0.1 proto esp spi 0x1001")
	run(t, "ip xfrm policy flush")
	for i, want := range []struct {
		kind EventKind
		port uint32
	}{
		{SAAdded, c.PortID()}, {PolicyAdded, c.PortID()}, {PolicyUpdated, c.PortID()},
		{SADeleted, other.PortID()}, {PolicyDeleted, other.PortID()},
		{SAAdded, c.PortID()}, {PolicyAdded, c.PortID()},
		{SADeleted, 0}, {PoliciesFlushed, 0},
	} {
		e := next(t, m)
		if e.Kind != want.kind || e.PortID != want.port {
			t.Errorf("event %d: %s by %d, want %s by %d", i, e.Kind, e.PortID, want.kind, want.port)
		}
		switch e.Kind {
		case SAAdded, SADeleted:
			if !sameSA(sa, &e.SA) {
				t.Errorf("event %d: %+v", i, e.SA)
			}
		case PolicyAdded, PolicyUpdated, PolicyDeleted:
			if !samePolicy(policy, &e.Policy) {
				t.Errorf("event %d: %+v", i, e.Policy)
			}
		}
	}
}

func TestLabMonitorHearsFlushAndExpiry(t *testing.T) {
	host(t)
	m := labMonitor(t)
	key := "0x5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
	run(t, "ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x3001 reqid 5 aead 'rfc4106(gcm(aes))' %s 128 limit time-soft 1 limit time-hard 2", key)
	run(t, "ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.2/32 dir out limit time-hard 2")
	seen := map[EventKind]bool{}
	hard := map[EventKind]bool{}
	for !seen[SADeleted] && !hard[SAExpired] || !hard[PolicyExpired] {
		e := next(t, m)
		seen[e.Kind] = true
		switch e.Kind {
		case SAExpired:
			if e.SA.SPI != 0x3001 || e.SA.Reqid != 5 {
				t.Errorf("%+v", e)
			}
			if e.Hard && !seen[SAExpired] {
				t.Error("hard before soft")
			}
			hard[e.Kind] = hard[e.Kind] || e.Hard
		case PolicyExpired:
			hard[e.Kind] = e.Hard
		}
	}
	run(t, "ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x3002 aead 'rfc4106(gcm(aes))' %s 128", key)
	run(t, "ip xfrm state flush")
	for next(t, m).Kind != SAsFlushed {
	}
}

func TestLabMonitorHearsAcquire(t *testing.T) {
	host(t)
	m := labMonitor(t, WithAcquire())
	run(t, "ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.2/32 dir out tmpl src 10.0.0.1 dst 10.0.0.2 proto esp reqid 8 mode transport")
	run(t, "ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev pf0; ping -c1 -W1 10.0.0.2 || true")
	for {
		e := next(t, m)
		if e.Kind != Acquire {
			continue
		}
		if e.SA.Dst.String() != "10.0.0.2" || e.SA.Src.String() != "10.0.0.1" || e.SA.Reqid != 8 || e.Policy.Dir != Out {
			t.Errorf("%+v", e)
		}
		return
	}
}

// TestLabMonitorOverrun does more than the buffer of a monitor holds.
func TestLabMonitorOverrun(t *testing.T) {
	host(t)
	m, c := labMonitor(t), labClient(t)
	if err := m.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	p := policyOn(0, testPolicy(2, Out))
	for range 100 {
		mustDo(t, c, Op{Kind: UpdatePolicy, Policy: p})
	}
	for next(t, m).Kind != Overrun {
	}
	for waiting(t, m) {
		next(t, m)
	}
	mustDo(t, c, Op{Kind: DeletePolicy, Policy: p})
	if e := next(t, m); e.Kind != PolicyDeleted {
		t.Errorf("after the overrun: %+v", e)
	}
}

// waiting tells whether an event is there already.
func waiting(t *testing.T, m *Monitor) (is bool) {
	t.Helper()
	if err := m.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		if err != nil {
			t.Error(err)
		}
		is = n > 0
	}); err != nil {
		t.Fatal(err)
	}
	return is
}

func TestLabMonitorEnds(t *testing.T) {
	host(t)
	m := labMonitor(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := m.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive with a deadline: %v", err)
	}
	run(t, "ip xfrm policy add src 10.0.0.1/32 dst 10.0.0.2/32 dir out")
	if e := next(t, m); e.Kind != PolicyAdded {
		t.Errorf("after a cancelled Receive: %+v", e)
	}
	done := make(chan error)
	go func() {
		_, err := m.Receive(context.Background())
		done <- err
	}()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive of a closed monitor: %v", err)
	}
}
