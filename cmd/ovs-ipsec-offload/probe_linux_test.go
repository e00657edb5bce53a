// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/plugin"
)

// TestProbe receives a probe as the peer's tunnel does, over both families.
func TestProbe(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "::1"} {
		t.Run(a, func(t *testing.T) {
			addr := netip.MustParseAddr(a)
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
			if err != nil {
				t.Skipf("listen: %v", err)
			}
			defer c.Close()
			port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			err = prober{}.Probe(context.Background(), plugin.Pair{Local: addr, Remote: addr, Port: port})
			if errors.Is(err, unix.EACCES) {
				t.Skip("a port below 1024 needs CAP_NET_BIND_SERVICE")
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 64)
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				t.Fatal(err)
			}
			if from.Port() != plugin.ProbePort || from.Addr().Unmap() != addr {
				t.Errorf("it comes from %s", from)
			}
			if n != 8 || b[0]&0x08 != 0 {
				t.Errorf("%d bytes with flags %#x: a tunnel may take it for its own", n, b[0])
			}
		})
	}
}
