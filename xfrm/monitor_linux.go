// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The groups of notifications (XFRMGRP_… of linux/xfrm.h).
const (
	groupAcquire = 1
	groupExpire  = 2
	groupSA      = 4
	groupPolicy  = 8
)

// monitorBuffer is the receive buffer a Monitor asks for, in bytes: room for
// some 3000 events. It is a limit, not memory taken.
const monitorBuffer = 4 << 20

// Monitor receives what happens to states and policies. One goroutine at a
// time may use it, but Close may come from any.
type Monitor struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
	rest []byte // of the datagram at hand
}

// MonitorOption changes what NewMonitor subscribes to.
type MonitorOption func(groups *uint32)

// WithAcquire adds the events of kind Acquire. While such a socket is open the
// kernel waits for a key daemon to answer (net.core.xfrm_acq_expires).
func WithAcquire() MonitorOption {
	return func(groups *uint32) { *groups |= groupAcquire }
}

// NewMonitor subscribes to the events of the network namespace of the calling
// thread: of states, policies and their expiry.
func NewMonitor(options ...MonitorOption) (*Monitor, error) {
	groups := uint32(groupSA | groupPolicy | groupExpire)
	for _, o := range options {
		o(&groups)
	}
	s, _, err := openSocket(groups, monitorBuffer)
	if err != nil {
		return nil, fmt.Errorf("monitor NETLINK_XFRM: %w", err)
	}
	// The runtime's poller takes over the non-blocking socket.
	file := os.NewFile(uintptr(s.fd), "NETLINK_XFRM")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("monitor NETLINK_XFRM: %w", err)
	}
	return &Monitor{file: file, raw: raw, buf: make([]byte, receiveLen)}, nil
}

// Close ends the subscription, and a Receive that waits.
func (m *Monitor) Close() error { return m.file.Close() }

// Receive waits for the next event. Its error is that of ctx, or os.ErrClosed
// after Close, or one of the socket.
func (m *Monitor) Receive(ctx context.Context) (Event, error) {
	for {
		for len(m.rest) > 0 {
			h, body, rest, ok := nextMessage(m.rest)
			if m.rest = rest; !ok {
				break
			}
			e, known := decodeEvent(h, body)
			wipe(body)
			if known {
				return e, nil
			}
		}
		n, err := m.wait(ctx)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return Event{Kind: Overrun}, nil
		case err != nil:
			return Event{}, fmt.Errorf("monitor NETLINK_XFRM: %w", err)
		}
		m.rest = m.buf[:n]
	}
}

// wait receives one datagram. A deadline in the past is what ends the wait
// when ctx does.
func (m *Monitor) wait(ctx context.Context) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if m.file.SetReadDeadline(time.Time{}) != nil {
		return 0, os.ErrClosed // it has no other reason to fail
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		_ = m.file.SetReadDeadline(time.Unix(1, 0)) // fails only when closed
	})
	var received error
	err = m.raw.Read(func(fd uintptr) bool {
		n, received = (&rawSocket{int(fd)}).Receive(m.buf)
		return !errors.Is(received, unix.EAGAIN)
	})
	if !stop() {
		<-over // or its deadline would hit the next wait
	}
	switch {
	case err == nil:
		return n, received
	case ctx.Err() != nil:
		return 0, ctx.Err()
	}
	return 0, os.ErrClosed // nothing else ends the wait (internal/poll)
}
