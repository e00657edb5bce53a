// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Links, addresses and the kernel's version can be read anywhere, by anybody.
func TestReaderOnThisHost(t *testing.T) {
	f, err := NewReader().Facts(t.Context())
	if err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	if lo := f.Addrs[netip.MustParseAddr("127.0.0.1")]; lo != (Link{1, "lo"}) {
		t.Errorf("127.0.0.1 is on %+v, want lo", lo)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if want := unix.ByteSliceToString(u.Release[:]); f.Kernel.Release != want {
		t.Errorf("kernel release %q, want %q", f.Kernel.Release, want)
	}
}

func TestReaderHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewReader().Facts(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Facts: %v, want context canceled", err)
	}
	if _, err := NewReader().Route(ctx, netip.MustParseAddr("127.0.0.1")); !errors.Is(err, context.Canceled) {
		t.Errorf("Route: %v, want context canceled", err)
	}
	if _, err := NewReader().Counters(ctx, "lo"); !errors.Is(err, context.Canceled) {
		t.Errorf("Counters: %v, want context canceled", err)
	}
}

func TestRouteToSelf(t *testing.T) {
	if route, err := NewReader().Route(t.Context(), netip.MustParseAddr("127.0.0.1")); err == nil {
		t.Errorf("route to an own address: %+v, want an error", route)
	}
}

func TestCountersOfMissingDevice(t *testing.T) {
	if _, err := NewReader().Counters(t.Context(), "no-such-dev"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v, want ENODEV", err)
	}
}

func BenchmarkFactsOfThisHost(b *testing.B) {
	r := NewReader()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Facts(b.Context()); err != nil && !errors.Is(err, unix.EPERM) {
			b.Fatal(err)
		}
	}
}

func TestLink(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip(err)
	}
	if got, err := NewReader().Link(t.Context(), lo.Index); err != nil || got != (Link{lo.Index, "lo"}) {
		t.Errorf("the loopback device is %+v, %v", got, err)
	}
	if got, err := NewReader().Link(t.Context(), 1<<30); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an index that nothing has is %+v, %v, want ENODEV", got, err)
	}
}
