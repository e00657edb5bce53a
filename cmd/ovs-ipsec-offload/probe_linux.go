// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/plugin"
)

// prober sends probes by UDP sockets of this host.
type prober struct{}

// Probe sends a probe of a pair. It is a VXLAN header without the flag that says that
// it has a VNI (RFC 7348, section 5), and with one that nobody uses, and no frame
// behind it: whatever receives VXLAN drops it.
func (prober) Probe(_ context.Context, p plugin.Pair) error {
	var local, remote unix.Sockaddr
	family := unix.AF_INET
	if p.Local.Is4() {
		local, remote = &unix.SockaddrInet4{Port: plugin.ProbePort, Addr: p.Local.As4()}, &unix.SockaddrInet4{Port: int(p.Port), Addr: p.Remote.As4()}
	} else {
		family = unix.AF_INET6
		local, remote = &unix.SockaddrInet6{Port: plugin.ProbePort, Addr: p.Local.As16()}, &unix.SockaddrInet6{Port: int(p.Port), Addr: p.Remote.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open UDP socket: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, local)
	}
	if err == nil {
		err = unix.Sendto(fd, []byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0}, 0, remote)
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("from %s port %d to %s port %d: %w", p.Local, plugin.ProbePort, p.Remote, p.Port, err)
	}
	return nil
}
