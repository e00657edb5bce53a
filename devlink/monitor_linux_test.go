// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ifinfo builds a link notification.
func ifinfo(t testing.TB, typ netlink.HeaderType, family byte, ifindex int32, flags uint32, name string) netlink.Message {
	b := make([]byte, unix.SizeofIfInfomsg)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(ifindex))
	binary.NativeEndian.PutUint32(b[8:], flags)
	b = append(b, encode(t, func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, name) })...)
	return netlink.Message{Header: netlink.Header{Type: typ}, Data: b}
}

func TestRouteEvent(t *testing.T) {
	ifaddr := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET, 24, 0, 0}, 7)
	tests := []struct {
		name string
		msg  netlink.Message
		want Event
	}{
		{"up", ifinfo(t, unix.RTM_NEWLINK, 0, 7, unix.IFF_UP|unix.IFF_RUNNING, "pf0"), Event{Kind: LinkChanged, Link: Link{7, "pf0"}, Up: true}},
		{"down", ifinfo(t, unix.RTM_NEWLINK, 0, 7, unix.IFF_BROADCAST, "pf0"), Event{Kind: LinkChanged, Link: Link{7, "pf0"}}},
		{"gone, still with its last flags", ifinfo(t, unix.RTM_DELLINK, 0, 7, unix.IFF_UP, "pf0"), Event{Kind: LinkChanged, Link: Link{7, "pf0"}, Gone: true}},
		{"left a bridge", ifinfo(t, unix.RTM_DELLINK, unix.AF_BRIDGE, 7, unix.IFF_UP, "pf0"), Event{}},
		{"address", netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWADDR}, Data: ifaddr}, Event{Kind: AddrChanged, Link: Link{Ifindex: 7}}},
		{"address gone", netlink.Message{Header: netlink.Header{Type: unix.RTM_DELADDR}, Data: ifaddr}, Event{Kind: AddrChanged, Link: Link{Ifindex: 7}}},
		{"short link", netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: []byte{0, 0}}, Event{}},
		{"short address", netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWADDR}, Data: []byte{2, 0}}, Event{}},
		{"route", netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWROUTE}, Data: make([]byte, 64)}, Event{}},
	}
	for _, tt := range tests {
		got, ok := routeEvent(tt.msg)
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != (tt.want.Kind != 0) {
			t.Errorf("%s: event %v (-want +got):\n%s", tt.name, ok, diff)
		}
	}
}

func TestDevlinkEvent(t *testing.T) {
	for cmd, want := range map[uint8]bool{
		unix.DEVLINK_CMD_NEW: true, unix.DEVLINK_CMD_DEL: true, unix.DEVLINK_CMD_PORT_NEW: true, unix.DEVLINK_CMD_PORT_DEL: true,
		unix.DEVLINK_CMD_PARAM_NEW: true, unix.DEVLINK_CMD_FLASH_UPDATE_STATUS: false, unix.DEVLINK_CMD_TRAP_NEW: false,
		unix.DEVLINK_CMD_HEALTH_REPORTER_RECOVER: false,
	} {
		e, got := devlinkEvent(genetlink.Message{Header: genetlink.Header{Command: cmd}})
		if got != want || want && e.Kind != DevlinkChanged {
			t.Errorf("command %#x: event %v %+v, want %v", cmd, got, e, want)
		}
	}
}

func FuzzRouteEvent(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWLINK), ifinfo(f, unix.RTM_NEWLINK, 0, 7, unix.IFF_UP, "pf0").Data)
	f.Add(uint16(unix.RTM_DELADDR), []byte{2, 24, 0, 0, 7, 0, 0, 0})
	f.Fuzz(func(t *testing.T, typ uint16, data []byte) {
		e, ok := routeEvent(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ)}, Data: data})
		if ok == (e.Kind == 0) || e.Up && e.Gone {
			t.Errorf("event %v: %+v", ok, e)
		}
	})
}

// listen tells of lost events and goes on, and ends with any other error.
func TestListenOverrun(t *testing.T) {
	closed := errors.New("closed")
	steps := []error{nil, fmt.Errorf("recvmsg: %w", unix.ENOBUFS), nil, closed}
	var got []EventKind
	receive := func() ([]netlink.Message, error) {
		err := steps[0]
		steps = steps[1:]
		if err != nil {
			return nil, err
		}
		return []netlink.Message{ifinfo(t, unix.RTM_NEWLINK, 0, 7, 0, "pf0")}, nil
	}
	err := listen(receive, routeEvent, func(e Event) { got = append(got, e.Kind) })
	if !errors.Is(err, closed) {
		t.Errorf("ended with %v, want %v", err, closed)
	}
	if diff := cmp.Diff([]EventKind{LinkChanged, Overrun, LinkChanged}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMonitorEndsWithItsContext(t *testing.T) {
	for _, when := range []string{"before", "during"} {
		m, err := NewMonitor()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if when == "before" {
			cancel()
		}
		done := make(chan error)
		go func() { done <- m.Run(ctx, func(Event) {}) }()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("context ended %s: %v", when, err)
		}
	}
}

func TestMonitorClosed(t *testing.T) {
	m, err := NewMonitor()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context(), func(Event) {}); err == nil {
		t.Error("Run on a closed monitor gave no error")
	}
}
