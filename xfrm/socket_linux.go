// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// clientBuffer is the receive buffer a Client asks for, in bytes: room for the
// answers to a batch several times over.
const clientBuffer = 1 << 20

// New opens a Client in the network namespace of the calling thread. It needs
// CAP_NET_ADMIN in the user namespace that owns it.
func New() (*Client, error) {
	s, port, err := openSocket(0, clientBuffer)
	if err != nil {
		return nil, fmt.Errorf("open NETLINK_XFRM: %w", err)
	}
	c, err := newClient(s, port)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open NETLINK_XFRM: %w", err)
	}
	return c, nil
}

// rawSocket is a non-blocking NETLINK_XFRM socket.
type rawSocket struct{ fd int }

// openSocket opens a socket that is subscribed to groups (a mask of XFRMGRP
// bits) and returns its port id too.
func openSocket(groups uint32, buffer int) (*rawSocket, uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_XFRM)
	if err != nil {
		return nil, 0, os.NewSyscallError("socket", err)
	}
	s := &rawSocket{fd}
	port, err := s.setUp(groups, buffer)
	if err != nil {
		s.Close()
		return nil, 0, err
	}
	return s, port, nil
}

// setUp asks for the drivers' words in errors (EXT_ACK) and against the echo
// of requests in them (CAP_ACK): a refused AddSA must not come back with its
// key. A buffer that cannot be had is no reason to give up.
func (s *rawSocket) setUp(groups uint32, buffer int) (port uint32, err error) {
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1); err != nil {
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return name.(*unix.SockaddrNetlink).Pid, nil
}

// Send gives a datagram to the kernel; an unconnected netlink socket writes
// to port 0, which is the kernel.
func (s *rawSocket) Send(b []byte) error {
	for {
		_, err := unix.Write(s.fd, b)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("send", err)
		}
	}
}

// Receive gives the next datagram.
func (s *rawSocket) Receive(b []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, b)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// Close closes the socket.
func (s *rawSocket) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }
